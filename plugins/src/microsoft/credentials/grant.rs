//! One request for a token, with whatever proof the credential has (reference: auth.md §2 to §5).

use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::{Error, Kind, http};
use chrono::{DateTime, Utc};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;
use url::Url;

use super::{App, Certificate, Credential, Place, Proof, assertion};
use crate::http::body::read_capped;
use crate::http::headers;
use crate::microsoft::cloud::TokenVersion;
use crate::microsoft::key_vault::Vault;
use crate::microsoft::refusal::{Refusal, refusal};

/// No token answer is larger, short of a fault.
pub(super) const ANSWER_CAP: usize = 256 * 1024;
/// The whole time that a token request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// What says that the assertion beside it is a signed token (RFC 7523).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A token as it was issued.
pub(crate) struct Grant {
    /// The token.
    pub(crate) token: SecretString,
    /// How long it lives, if the answer told that.
    pub(crate) life: Option<Duration>,
}

/// What an app proves itself with, at this moment.
pub(crate) enum Proven {
    /// A client secret.
    Secret(SecretString),
    /// A certificate that can sign.
    Certificate(Box<Certificate>),
    /// A token that somebody else has signed.
    Federated(SecretString),
}

/// Asks for tokens for one audience, once each time that it is told to.
pub(crate) struct Issuer {
    http: http::Client,
    app: Arc<App>,
    audience: String,
    vault: Option<Box<Vault>>,
    clock: Clock,
}

impl Issuer {
    /// Tokens of `app` for `audience`; `vault` reads what the app's credential has in a key vault.
    pub(crate) fn new(
        http: http::Client,
        app: Arc<App>,
        audience: String,
        vault: Option<Vault>,
        clock: Clock,
    ) -> Self {
        Self {
            http,
            app,
            audience,
            vault: vault.map(Box::new),
            clock,
        }
    }

    /// The time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Who asks.
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// Who is asked, for messages.
    pub(crate) fn host(&self) -> &str {
        match &self.app.credential {
            Credential::App { .. } => self.app.authority.authority(),
            Credential::ManagedIdentity(identity) => identity.host(),
        }
    }

    /// One token.
    pub(crate) async fn ask(&self) -> Result<Grant, Refusal> {
        match &self.app.credential {
            Credential::App { client_id, proof } => {
                let proven = self.prove(proof).await?;
                within(self.host(), self.exchange(client_id, &proven)).await
            }
            Credential::ManagedIdentity(identity) => {
                let answer = identity.ask(&self.http, &self.audience, &self.clock);
                within(identity.host(), answer).await
            }
        }
    }

    /// What the proof is at this moment: it may have been replaced since the last.
    pub(crate) async fn prove(&self, proof: &Proof) -> Result<Proven, Refusal> {
        let unusable = |problem| Refusal::without_code(Kind::Auth, problem);
        Ok(match proof {
            Proof::Secret(Place::Here(secret)) => Proven::Secret(
                secret
                    .read()
                    .map_err(|error| unusable(format!("client_secret cannot be read: {error}")))?,
            ),
            Proof::Secret(Place::Vault(_)) => Proven::Secret(self.stored().await?.1),
            Proof::Certificate(Place::Here(files)) => {
                Proven::Certificate(Box::new(files.read().map_err(unusable)?))
            }
            Proof::Certificate(Place::Vault(_)) => {
                let (place, stored) = self.stored().await?;
                let certificate = Certificate::from_vault(stored.expose_secret())
                    .map_err(|problem| unusable(format!("certificate: {place} {problem}")))?;
                Proven::Certificate(Box::new(certificate))
            }
            Proof::Federated(federated) => Proven::Federated(federated.read().map_err(unusable)?),
        })
    }

    /// What the vault holds, after the name of its place.
    async fn stored(&self) -> Result<(String, SecretString), Refusal> {
        let vault = self.vault.as_ref().ok_or_else(|| {
            Refusal::without_code(Kind::Bug, "a secret is in no vault after all".to_owned())
        })?;
        let stored = vault.read().await.map_err(|error| Refusal::of(&error))?;
        Ok((vault.place(), stored))
    }

    async fn exchange(&self, client_id: &str, proven: &Proven) -> Result<Grant, Refusal> {
        let host = self.host();
        let unreachable = |error: Error| Refusal::unavailable(format!("{host}: {error}"));
        let (url, parameter, value) = self.endpoint();
        let signed;
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            (parameter, &value),
        ];
        match proven {
            Proven::Secret(secret) => form.push(("client_secret", secret.expose_secret())),
            Proven::Federated(token) => {
                form.push(("client_assertion_type", ASSERTION_TYPE));
                form.push(("client_assertion", token.expose_secret()));
            }
            Proven::Certificate(certificate) => {
                signed = assertion::sign(certificate, client_id, url.as_str(), self.clock.now())
                    .map_err(|problem| Refusal::without_code(Kind::Auth, problem))?;
                form.push(("client_assertion_type", ASSERTION_TYPE));
                form.push(("client_assertion", signed.expose_secret()));
            }
        }
        let request = self.http.request(Method::POST, url.clone()).form(&form);
        let response = self.http.send(request).await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let retry_after = headers::retry_after(response.headers(), self.clock.now());
        let body = read_capped(response, ANSWER_CAP)
            .await
            .map_err(unreachable)?;
        if status != 200 {
            return Err(refusal(host, status, &body, retry_after));
        }
        Ok(Answer::read(&body, host)?.grant(&self.clock))
    }

    /// The token endpoint, and how it wants to hear what the token is for.
    fn endpoint(&self) -> (Url, &'static str, String) {
        let (path, parameter, value) = match self.app.token_version {
            TokenVersion::V1 => ("oauth2/token", "resource", self.audience.clone()),
            TokenVersion::V2 => (
                "oauth2/v2.0/token",
                "scope",
                format!("{}/.default", self.audience),
            ),
        };
        let mut url = self.app.authority.clone();
        url.set_path(&format!("/{}/{path}", self.app.tenant));
        (url, parameter, value)
    }
}

async fn within<T>(
    host: &str,
    request: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    timeout(REQUEST_TIMEOUT, request).await.unwrap_or_else(|_| {
        let seconds = REQUEST_TIMEOUT.as_secs();
        Err(Refusal::unavailable(format!(
            "{host} did not answer the token request within {seconds} s"
        )))
    })
}

/// A token in an answer: numbers as integers, or as strings.
#[derive(Deserialize)]
pub(super) struct Answer {
    access_token: SecretString,
    #[serde(default, deserialize_with = "number_or_text")]
    expires_in: Option<u64>,
    /// Seconds since 1970. Some endpoints of managed identities tell this alone.
    #[serde(default, deserialize_with = "number_or_text")]
    expires_on: Option<u64>,
}

impl Answer {
    /// What `host` has answered.
    pub(super) fn read(body: &[u8], host: &str) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map_err(|_| {
            Refusal::unavailable(format!(
                "{host} answered the token request with something else than a token"
            ))
        })
    }

    /// The token, and how long it lives.
    pub(super) fn grant(self, clock: &Clock) -> Grant {
        let now = clock.now().timestamp().unsigned_abs();
        let until = self.expires_on.map(|moment| moment.saturating_sub(now));
        Grant {
            token: self.access_token,
            life: self.expires_in.or(until).map(Duration::from_secs),
        }
    }
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Number(number) => Some(number),
        Either::Text(text) => text.trim().parse().ok(),
        Either::Other(_) => None,
    })
}
