//! Authentication reference, "Certificate assertion", "Workload identity federation", "Managed identity", "Azure Key
//! Vault" and the checklist.

use std::path::Path;

use audit_exporter_simulator::{
    Config, Faults, FederatedCredential, ManagedIdentity, Simulator, TenantConfig, TokenFaults,
    VaultConfig, VaultSecret,
};
use base64::{Engine, prelude::BASE64_URL_SAFE, prelude::BASE64_URL_SAFE_NO_PAD};
use reqwest::{Client, RequestBuilder};
use ring::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, digest},
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair},
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::{http, read};

const MACHINE: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const STRANGER: &str = "aaaaaaaa-0000-4000-8000-000000000002";

fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/certificates");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn federation() -> FederatedCredential {
    FederatedCredential {
        issuer: "https://oidc.example/".to_owned(),
        subject: "exporter".to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
    }
}

struct Stage {
    simulator: Simulator,
    http: Client,
    tenant: TenantConfig,
}

async fn stage(faults: Faults) -> Stage {
    let identity = |client_id: &str, system| ManagedIdentity {
        client_id: client_id.to_owned(),
        object_id: String::new(),
        resource_id: String::new(),
        system,
        roles: Vec::new(),
    };
    let tenant = TenantConfig {
        certificates: vec![fixture("other.crt"), fixture("app.crt")],
        federated: vec![federation()],
        identities: vec![identity(MACHINE, true), identity(STRANGER, false)],
        ..TenantConfig::default()
    };
    let config = Config {
        tenants: vec![tenant.clone()],
        vault: VaultConfig {
            secrets: vec![VaultSecret::new("o365", "s3cret")],
            readers: vec![MACHINE.to_owned()],
        },
        faults,
        ..Config::default()
    };
    Stage {
        simulator: Simulator::start(config).await.unwrap(),
        http: http(),
        tenant,
    }
}

/// Signs as a client does.
fn sign(header: &Value, claims: &Value, key: &str, scheme: &'static dyn RsaEncoding) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let key = PrivatePkcs8KeyDer::from_pem_slice(fixture(key).as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        scheme,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn thumbprint(certificate: &str) -> Vec<u8> {
    let pem = fixture(certificate);
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    Sha256::digest(der).to_vec()
}

/// `x5t`, by SHA-1.
fn legacy_thumbprint(certificate: &str) -> String {
    let pem = fixture(certificate);
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &der))
}

impl Stage {
    fn endpoint(&self) -> String {
        format!(
            "{}/{}/oauth2/v2.0/token",
            self.simulator.url(),
            self.tenant.id
        )
    }

    /// What a good assertion says.
    fn assertion(&self) -> (Value, Value) {
        let now = chrono::Utc::now().timestamp();
        let client_id = &self.tenant.client_id;
        let header = json!({
            "alg": "PS256", "typ": "JWT",
            "x5t#S256": BASE64_URL_SAFE_NO_PAD.encode(thumbprint("app.crt")),
        });
        let claims = json!({
            "aud": self.endpoint(), "iss": client_id, "sub": client_id,
            "jti": format!("{now}-{}", self.simulator.stats().tokens_issued),
            "nbf": now, "iat": now, "exp": now + 600,
        });
        (header, claims)
    }

    /// The code of a request with this assertion; 0 for a token.
    async fn code(&self, assertion: &str) -> u64 {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.tenant.client_id),
            ("scope", "https://manage.office.com/.default"),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
        ];
        let answer = self
            .http
            .post(self.endpoint())
            .form(&form)
            .send()
            .await
            .unwrap();
        let (status, body) = read(answer).await;
        assert_eq!(status == 200, body["access_token"].is_string());
        body["error_codes"][0].as_u64().unwrap_or_default()
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.simulator.url()))
    }

    async fn identity(&self, resource: &str, more: &str) -> Value {
        let path = format!(
            "/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}{more}"
        );
        let answer = self
            .get(&path)
            .header("Metadata", "true")
            .send()
            .await
            .unwrap();
        read(answer).await.1
    }
}

type Change = fn(&mut Value, &mut Value);

#[tokio::test]
async fn an_assertion_is_verified_to_the_last_claim() {
    let stage = stage(Faults::default()).await;
    let cases: [(Change, u64); 13] = [
        (|_, _| {}, 0),
        (|header, _| header["typ"] = Value::Null, 0),
        (|header, _| header["alg"] = "none".into(), 700_027),
        (|header, _| header["alg"] = "RS256".into(), 700_027),
        (
            |header, _| {
                let padded = BASE64_URL_SAFE.encode(thumbprint("app.crt"));
                header["x5t#S256"] = padded.into();
            },
            700_027,
        ),
        (
            |header, _| {
                let other = BASE64_URL_SAFE_NO_PAD.encode(thumbprint("other.crt"));
                header["x5t#S256"] = other.into();
            },
            700_027,
        ),
        (|_, claims| claims["sub"] = "another".into(), 700_021),
        (|_, claims| claims["iss"] = "another".into(), 700_211),
        (
            |_, claims| claims["aud"] = "https://login.microsoftonline.com/".into(),
            700_023,
        ),
        (
            |_, claims| claims["exp"] = (chrono::Utc::now().timestamp() - 400).into(),
            700_024,
        ),
        (
            |_, claims| claims["nbf"] = (chrono::Utc::now().timestamp() + 400).into(),
            700_024,
        ),
        (|_, claims| claims["jti"] = Value::Null, 50_012),
        (|_, claims| claims["exp"] = "soon".into(), 50_027),
    ];
    for (number, (change, code)) in cases.into_iter().enumerate() {
        let (mut header, mut claims) = stage.assertion();
        change(&mut header, &mut claims);
        let assertion = sign(&header, &claims, "app.key", &RSA_PSS_SHA256);
        assert_eq!(stage.code(&assertion).await, code, "case {number}");
    }
    let (mut header, mut claims) = stage.assertion();
    let wrong_key = sign(&header, &claims, "other.key", &RSA_PSS_SHA256);
    assert_eq!(stage.code(&wrong_key).await, 700_027);
    header["alg"] = "RS256".into();
    let older = sign(&header, &claims, "app.key", &RSA_PKCS1_SHA256);
    assert_eq!(stage.code(&older).await, 0);
    assert_eq!(stage.code(&older).await, 50_012, "used twice");
    header = json!({"alg": "RS256", "x5t": legacy_thumbprint("app.crt")});
    claims["jti"] = "another".into();
    let oldest = sign(&header, &claims, "app.key", &RSA_PKCS1_SHA256);
    assert_eq!(stage.code(&oldest).await, 0);
    for broken in ["", "a", "a.b.c", "e30.e30.e30"] {
        let code = stage.code(broken).await;
        assert!([50_027, 7_000_218].contains(&code), "{broken}: {code}");
    }
}

#[tokio::test]
async fn a_federated_token_needs_a_credential_that_matches() {
    let stage = stage(Faults::default()).await;
    let control = stage.simulator.control();
    let with = |change: fn(&mut FederatedCredential), life| {
        let mut credential = federation();
        change(&mut credential);
        control.federated_token(&credential, life)
    };
    for (token, code) in [
        (with(|_| {}, 600), 0),
        (with(|_| {}, -600), 700_024),
        (with(|it| it.issuer.clear(), 600), 700_211),
        (with(|it| it.audience.clear(), 600), 700_212),
        (with(|it| it.subject.clear(), 600), 700_213),
        (with(|_| {}, 600) + "A", 50_027),
    ] {
        assert_eq!(stage.code(&token).await, code);
    }
}

#[tokio::test]
async fn the_metadata_service_answers_text_and_wants_its_header() {
    let stage = stage(Faults::default()).await;
    let resource = "https%3A%2F%2Fmanage.office.com";
    let body = stage.identity(resource, "").await;
    assert_eq!(body["expires_in"], "3599");
    assert_eq!(body["refresh_token"], "");
    assert_eq!(body["resource"], "https://manage.office.com");
    assert!(body["expires_on"].is_string() && body["not_before"].is_string());
    let path =
        format!("/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}");
    for request in [
        stage.get(&path),
        stage.get(&path).header("Metadata", "True"),
        stage
            .get(&path)
            .header("Metadata", "true")
            .header("X-Forwarded-For", "10.0.0.1"),
    ] {
        let (status, body) = read(request.send().await.unwrap()).await;
        assert_eq!(
            (status.as_u16(), &body["error"]),
            (400, &json!("bad_request_102"))
        );
    }
    let unknown = stage.identity(resource, "&client_id=nobody").await;
    assert_eq!(unknown["error_description"], "Identity not found");
    let invalid = stage.identity("https%3A%2F%2Fnowhere.example", "").await;
    assert_eq!(invalid["error"], "invalid_resource");
}

#[tokio::test]
async fn app_service_has_a_header_of_its_own_and_tells_no_life() {
    let stage = stage(Faults::default()).await;
    let path = "/msi/token?api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net";
    let header = Config::default().identity_header;
    let (status, body) = read(stage.get(path).send().await.unwrap()).await;
    assert_eq!(status, 401, "{body}");
    let request = stage.get(path).header("X-IDENTITY-HEADER", header);
    let (status, body) = read(request.send().await.unwrap()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["client_id"], MACHINE);
    assert!(body.get("expires_in").is_none());
    assert!(body["expires_on"].is_string());
}

#[tokio::test]
async fn an_endpoint_that_is_updated_answers_410_for_a_while() {
    let stage = stage(Faults {
        most_in_a_row: 2,
        tokens: TokenFaults {
            identity_updating: 1.0,
            ..TokenFaults::default()
        },
        ..Faults::default()
    })
    .await;
    let path = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanage.office.com";
    for status in [410, 410, 200] {
        let request = stage.get(path).header("Metadata", "true");
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn the_vault_challenges_who_has_no_token_and_gives_secrets_to_its_readers() {
    let stage = stage(Faults::default()).await;
    let path = "/secrets/o365?api-version=7.4";
    let answer = stage.get(path).send().await.unwrap();
    let challenge = answer.headers()["www-authenticate"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        challenge.contains("resource=\"https://vault.azure.net\""),
        "{challenge}"
    );
    assert_eq!(answer.status(), 401);

    let token = async |more: &str| {
        let body = stage.identity("https%3A%2F%2Fvault.azure.net", more).await;
        body["access_token"].as_str().unwrap().to_owned()
    };
    let reader = token("").await;
    let version = VaultSecret::new("o365", "s3cret").version();
    for path in [
        path.to_owned(),
        format!("/secrets/o365/{version}?api-version=7.4"),
    ] {
        let answer = stage.get(&path).bearer_auth(&reader).send().await.unwrap();
        let (status, body) = read(answer).await;
        assert_eq!((status.as_u16(), &body["value"]), (200, &json!("s3cret")));
        assert!(body["id"].as_str().unwrap().ends_with(&version));
    }
    let stranger = token(&format!("&client_id={STRANGER}")).await;
    let elsewhere = stage.identity("https%3A%2F%2Fmanage.office.com", "").await;
    let elsewhere = elsewhere["access_token"].as_str().unwrap();
    for (path, token, status, code) in [
        (path, stranger.as_str(), 403, "Forbidden"),
        (path, elsewhere, 401, "Unauthorized"),
        (
            "/secrets/nothing?api-version=7.4",
            &reader,
            404,
            "SecretNotFound",
        ),
        (
            "/secrets/o365/0?api-version=7.4",
            &reader,
            404,
            "SecretNotFound",
        ),
        ("/secrets/o365", &reader, 400, "BadParameter"),
    ] {
        let answer = stage.get(path).bearer_auth(token).send().await.unwrap();
        let (got, body) = read(answer).await;
        assert_eq!(
            (got.as_u16(), &body["error"]["code"]),
            (status, &json!(code)),
            "{path}"
        );
    }
    stage
        .simulator
        .control()
        .put_secret(VaultSecret::new("o365", "newer"));
    let answer = stage.get(path).bearer_auth(&reader).send().await.unwrap();
    assert_eq!(read(answer).await.1["value"], "newer");
}
