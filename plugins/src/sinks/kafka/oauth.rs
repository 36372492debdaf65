//! Tokens for SASL OAUTHBEARER, by `OpenID` Connect's client credentials.
//!
//! librdkafka can ask for tokens itself, but only with libcurl built in. The client that all plugins share does as well,
//! knows the machine's proxies, and reads a secret's file anew for each token.

use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Secret;
use audit_exporter_core::{Error, Result, http, printable};
use rdkafka::client::OAuthToken;
use reqwest::{Method, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::runtime::Handle;

/// The whole time that a token request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// No token answer is larger, short of a fault.
const ANSWER_CAP: usize = 256 << 10;
/// The life of a token whose answer does not tell it.
const UNKNOWN_LIFE: u64 = 300;
/// No token lives longer. An answer that says more is wrong.
const LONGEST_LIFE: u64 = 24 * 60 * 60;

/// Where tokens come from, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) url: Url,
    pub(super) client_id: String,
    pub(super) client_secret: Secret,
    pub(super) scope: Option<String>,
}

/// Asks a provider.
#[derive(Clone)]
pub(super) struct Tokens {
    pub(super) provider: Provider,
    pub(super) http: http::Client,
    pub(super) clock: Clock,
    /// librdkafka asks from threads of its own.
    pub(super) runtime: Handle,
}

#[derive(Deserialize)]
struct Answer {
    access_token: SecretString,
    expires_in: Option<u64>,
}

/// What OAuth 2.0 says instead of a token (RFC 6749, 5.2).
#[derive(Default, Deserialize)]
struct Refusal {
    error: Option<String>,
    error_description: Option<String>,
}

impl Tokens {
    /// A new token. Blocks: not for threads that run tasks.
    pub(super) fn get(&self) -> Result<OAuthToken> {
        let asked = async { tokio::time::timeout(REQUEST_TIMEOUT, self.ask()).await };
        let host = self.provider.url.host_str().unwrap_or_default();
        match self.runtime.block_on(asked) {
            Ok(answer) => answer.map_err(|error| error.context(host)),
            Err(_) => Err(Error::unavailable(format!(
                "{host} did not answer the token request within {} s",
                REQUEST_TIMEOUT.as_secs()
            ))),
        }
    }

    async fn ask(&self) -> Result<OAuthToken> {
        let Provider {
            url,
            client_id,
            client_secret,
            scope,
        } = &self.provider;
        let secret = client_secret.read()?;
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_id", client_id),
            ("client_secret", secret.expose_secret()),
        ];
        form.extend(scope.as_deref().map(|scope| ("scope", scope)));
        let now = self.clock.now().timestamp_millis();
        let request = self.http.request(Method::POST, url.clone()).form(&form);
        let response = self.http.send(request).await?;
        let status = response.status();
        let body = read(response).await?;
        if !status.is_success() {
            let said: Refusal = serde_json::from_slice(&body).unwrap_or_default();
            let parts = [said.error, said.error_description];
            let said = parts.into_iter().flatten().collect::<Vec<_>>().join(": ");
            return Err(Error::auth(format!(
                "no token, HTTP status {}: {}",
                status.as_u16(),
                printable(&said)
            )));
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| {
            Error::unavailable("the answer to the token request is something else than a token")
        })?;
        let life = answer.expires_in.unwrap_or(UNKNOWN_LIFE).min(LONGEST_LIFE);
        Ok(OAuthToken {
            token: answer.access_token.expose_secret().to_owned(),
            principal_name: client_id.clone(),
            lifetime_ms: now + 1000 * i64::try_from(life).unwrap_or_default(),
        })
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(http::broken_off)? {
        if body.len() + chunk.len() > ANSWER_CAP {
            return Err(Error::unavailable("the answer is too large to be a token"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
