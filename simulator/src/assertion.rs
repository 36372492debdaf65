//! Assertions in place of a secret: signed by a certificate of the application, or by an issuer that it trusts
//! (authentication reference, "Certificate assertion" and "Workload identity federation").

use std::{collections::HashMap, sync::Mutex};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use x509_parser::prelude::parse_x509_certificate;

use crate::{
    state::{State, Tenant, lock},
    token::{Refusal, refuse},
};

/// How far two clocks may be apart.
const SKEW_SECONDS: i64 = 300;
/// The one kind of assertion.
const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An issuer whose tokens stand for an application.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederatedCredential {
    /// `iss` of the token.
    pub issuer: String,
    /// `sub` of the token.
    pub subject: String,
    /// `aud` of the token.
    #[serde(default = "FederatedCredential::audience")]
    pub audience: String,
}

impl FederatedCredential {
    fn audience() -> String {
        "api://AzureADTokenExchange".to_owned()
    }
}

/// The names (`jti`) of assertions that were used, and when they end.
#[derive(Default)]
pub(crate) struct Used(Mutex<HashMap<String, i64>>);

impl Used {
    /// Whether this is the first use.
    fn first(&self, jti: &str, exp: i64, now: i64) -> bool {
        let mut used = lock(&self.0);
        used.retain(|_, ends| *ends + SKEW_SECONDS > now);
        used.insert(jti.to_owned(), exp).is_none()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(rename = "x5t#S256")]
    thumbprint: Option<String>,
    /// By SHA-1, which older clients send.
    x5t: Option<String>,
}

impl Header {
    /// Whether it names this certificate.
    fn names(&self, der: &CertificateDer<'_>) -> bool {
        let encode = |hash: &[u8]| Some(BASE64_URL_SAFE_NO_PAD.encode(hash));
        match &self.thumbprint {
            Some(_) => self.thumbprint == encode(Sha256::digest(der).as_slice()),
            None => self.x5t == encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
        }
    }
}

/// What an assertion claims; a federated token has no need of `jti`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default)]
    pub(crate) nbf: i64,
    pub(crate) exp: i64,
}

impl Claims {
    /// Those of a token of an issuer outside.
    pub(crate) fn federated(credential: &FederatedCredential, nbf: i64, exp: i64) -> Self {
        Self {
            iss: credential.issuer.clone(),
            sub: credential.subject.clone(),
            aud: credential.audience.clone(),
            jti: None,
            nbf,
            exp,
        }
    }
}

fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

fn invalid(text: &str) -> Refusal {
    refuse(700_027, "invalid_client", text)
}

/// Verifies the assertion that a request for a token at `endpoint` brings for the tenant's first application.
pub(crate) fn check(
    state: &State,
    tenant: &Tenant,
    endpoint: &str,
    form: &HashMap<String, String>,
    assertion: &str,
) -> Result<(), Refusal> {
    if form.get("client_assertion_type").map(String::as_str) != Some(TYPE) {
        let text =
            "The request body must contain the following parameter: 'client_assertion_type'.";
        return Err(refuse(900_144, "invalid_request", text));
    }
    let broken = || {
        refuse(
            50_027,
            "invalid_request",
            "JWT token is invalid or malformed.",
        )
    };
    let (signed, signature) = assertion.rsplit_once('.').ok_or_else(broken)?;
    let (header, claims) = signed.split_once('.').ok_or_else(broken)?;
    let header: Header = part(header).ok_or_else(broken)?;
    let claims: Claims = part(claims).ok_or_else(broken)?;
    let client_id = &tenant.config.client_id;
    let now = state.clock.now().timestamp();
    if &claims.iss != client_id {
        federated(state, tenant, assertion, &claims)?;
        return in_time(&claims, now);
    }
    let signature = BASE64_URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| broken())?;
    certificate(tenant, &header, signed, &signature, now)?;
    if &claims.sub != client_id {
        let text = "Client assertion application identifier doesn't match 'client_id' parameter.";
        return Err(refuse(700_021, "invalid_client", text));
    }
    if claims.aud != endpoint {
        let text = "Client assertion audience claim does not match Realm issuer.";
        return Err(refuse(700_023, "invalid_client", text));
    }
    in_time(&claims, now)?;
    // No source says what Entra answers to the same assertion again; this one does not take it.
    match &claims.jti {
        Some(jti) if state.used.first(jti, claims.exp, now) => Ok(()),
        _ => Err(refuse(
            50_012,
            "invalid_client",
            "Client assertion has no identifier of its own (jti), or was used before.",
        )),
    }
}

fn in_time(claims: &Claims, now: i64) -> Result<(), Refusal> {
    if (claims.nbf - SKEW_SECONDS..=claims.exp + SKEW_SECONDS).contains(&now) {
        return Ok(());
    }
    let text = format!(
        "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {}, expiry \
         time of assertion {}.",
        claims.nbf, claims.exp
    );
    Err(refuse(700_024, "invalid_client", text))
}

/// The signature, by the certificate that the header names.
fn certificate(
    tenant: &Tenant,
    header: &Header,
    signed: &str,
    signature: &[u8],
    now: i64,
) -> Result<(), Refusal> {
    let unknown = || {
        let shown = header.thumbprint.as_deref().unwrap_or_default();
        invalid(&format!(
            "The certificate with identifier used to sign the client assertion is not registered on application. \
             [Reason - The key was not found., Thumbprint of key used by client: '{shown}']"
        ))
    };
    let algorithm: &'static dyn VerificationAlgorithm = match header.alg.as_str() {
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        other => {
            return Err(invalid(&format!(
                "The algorithm '{other}' is not supported."
            )));
        }
    };
    let der = tenant
        .config
        .certificates
        .iter()
        .filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok())
        .find(|der| header.names(der))
        .ok_or_else(unknown)?;
    let (_, parsed) = parse_x509_certificate(&der).map_err(|_| unknown())?;
    if parsed.validity().not_after.timestamp() < now {
        return Err(invalid("[Reason - The key used is expired.]"));
    }
    let key = &parsed.public_key().subject_public_key.data;
    UnparsedPublicKey::new(algorithm, key)
        .verify(signed.as_bytes(), signature)
        .map_err(|_| {
            invalid(
                "Client assertion contains an invalid signature. [Reason - The provided signature value did not match \
                 the expected signature value.]",
            )
        })
}

/// The one credential of the application that names this issuer, audience and subject.
fn federated(
    state: &State,
    tenant: &Tenant,
    assertion: &str,
    claims: &Claims,
) -> Result<(), Refusal> {
    let missing = |number, what: &str| {
        let text = format!(
            "No matching federated identity record found for presented assertion {what}. Please check your federated \
             identity credential Subject, Audience and Issuer against the presented assertion."
        );
        Err(refuse(number, "invalid_request", text))
    };
    let known = &tenant.config.federated;
    if known.is_empty() {
        return missing(70_021, &format!("issuer '{}'", claims.iss));
    }
    let mut matching: Vec<&FederatedCredential> = known.iter().collect();
    matching.retain(|credential| credential.issuer == claims.iss);
    if matching.is_empty() {
        return missing(700_211, &format!("issuer '{}'", claims.iss));
    }
    matching.retain(|credential| credential.audience == claims.aud);
    if matching.is_empty() {
        return missing(700_212, &format!("audience '{}'", claims.aud));
    }
    matching.retain(|credential| credential.subject == claims.sub);
    if matching.is_empty() {
        return missing(700_213, &format!("subject '{}'", claims.sub));
    }
    if state.signer.is_ours(assertion) {
        return Ok(());
    }
    let text = "Invalid JWT token: external ID token from issuer failed signature verification.";
    Err(refuse(50_027, "invalid_request", text))
}
