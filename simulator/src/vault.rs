//! Azure Key Vault: secrets, and certificates with their keys as the secrets of the same names (authentication
//! reference, "Azure Key Vault").

use std::sync::{Arc, Mutex};

use axum::{
    body::Body,
    extract::{Path, RawQuery, State as Shared},
    http::{HeaderMap, Response, StatusCode, header},
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    answer::Answer,
    chance::part,
    server::send,
    state::{State, lock},
};

/// What the tokens of a vault are for.
const AUDIENCE: &str = "https://vault.azure.net";

/// The vault's configuration: what is in it, and who may read it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultConfig {
    /// The secrets at the start, the newest version of a name last.
    pub secrets: Vec<VaultSecret>,
    /// Client ids of the applications and identities that have the role Key Vault Secrets User.
    pub readers: Vec<String>,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultSecret {
    /// Its name.
    pub name: String,
    /// What is kept: text, a PFX in base64, or PEM.
    pub value: String,
    /// `text/plain`, `application/x-pkcs12` or `application/x-pem-file`.
    #[serde(default = "VaultSecret::text")]
    pub content_type: String,
    /// Whether it can be read.
    #[serde(default = "VaultSecret::yes")]
    pub enabled: bool,
}

impl VaultSecret {
    /// A secret of this name and text.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            content_type: Self::text(),
            enabled: true,
        }
    }

    fn text() -> String {
        "text/plain".to_owned()
    }

    fn yes() -> bool {
        true
    }

    /// The version's id: 32 hexadecimal digits that follow from what it is.
    #[must_use]
    pub fn version(&self) -> String {
        Uuid::from_u64_pair(part(&self.name), part(&self.value))
            .simple()
            .to_string()
    }
}

/// What is in the vault now.
pub(crate) struct Vault(Mutex<Vec<VaultSecret>>);

impl Vault {
    pub(crate) fn new(config: &VaultConfig) -> Self {
        Self(Mutex::new(config.secrets.clone()))
    }

    /// A new version.
    pub(crate) fn put(&self, secret: VaultSecret) {
        lock(&self.0).push(secret);
    }

    fn get(&self, name: &str, version: Option<&str>) -> Option<VaultSecret> {
        let secrets = lock(&self.0);
        let is_meant = |secret: &&VaultSecret| {
            secret.name.eq_ignore_ascii_case(name)
                && version.is_none_or(|version| version == secret.version())
        };
        secrets.iter().rev().find(is_meant).cloned()
    }
}

/// `GET /secrets/{name}`.
pub(crate) async fn newest(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    read(&state, &name, None, query.as_deref(), &headers)
}

/// `GET /secrets/{name}/{version}`.
pub(crate) async fn version(
    Shared(state): Shared<Arc<State>>,
    Path((name, version)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let version = Some(version.as_str()).filter(|version| !version.is_empty());
    read(&state, &name, version, query.as_deref(), &headers)
}

fn read(
    state: &State,
    name: &str,
    version: Option<&str>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Response<Body> {
    let answer = find(state, name, version, query, headers).unwrap_or_else(|refused| *refused);
    state.counts.request("key_vault", &answer.outcome);
    send(state, answer)
}

fn find(
    state: &State,
    name: &str,
    version: Option<&str>,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Answer, Box<Answer>> {
    let share = state.faults().tokens.vault_unavailable;
    if state.fails("key vault", share) {
        return Err(Box::new(Answer::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/html",
            "",
        )));
    }
    let reader = state
        .bearer(headers)
        .filter(|claims| claims.aud.trim_end_matches('/') == AUDIENCE)
        .ok_or_else(|| Box::new(challenge(state)))?;
    let is_reader = |known: &String| known.eq_ignore_ascii_case(&reader.appid);
    if !state.config.vault.readers.iter().any(is_reader) {
        let text = "Caller is not authorized to perform action on resource.";
        return Err(refuse(403, "Forbidden", text, Some("ForbiddenByRbac")));
    }
    if !query.unwrap_or_default().contains("api-version=") {
        let text = "api-version must be specified";
        return Err(refuse(400, "BadParameter", text, None));
    }
    let Some(secret) = state.vault.get(name, version) else {
        let text = format!("A secret with (name/id) {name} was not found in this key vault.");
        return Err(refuse(404, "SecretNotFound", &text, None));
    };
    if !secret.enabled {
        let text = "Operation get is not allowed on a disabled secret.";
        return Err(refuse(403, "Forbidden", text, Some("SecretDisabled")));
    }
    let id = format!("{}/secrets/{}/{}", state.url, secret.name, secret.version());
    let body = json!({
        "value": secret.value,
        "contentType": secret.content_type,
        "id": id,
        "attributes": {"enabled": true, "recoveryLevel": "Recoverable+Purgeable"},
        "tags": {},
    });
    Ok(Answer::json(StatusCode::OK, body.to_string()))
}

/// Who asks without a token, or with another API's, learns where to get one.
fn challenge(state: &State) -> Answer {
    let tenant = state.tenants.first().map(|tenant| tenant.id.to_string());
    let authority = format!("{}/{}", state.url, tenant.unwrap_or_default());
    let wanted = format!("Bearer authorization=\"{authority}\", resource=\"{AUDIENCE}\"");
    let text = "AKV10000: Request is missing a Bearer or PoP token.";
    let answer = *refuse(401, "Unauthorized", text, None);
    answer.with(header::WWW_AUTHENTICATE, &wanted)
}

fn refuse(status: u16, code: &str, message: &str, inner: Option<&str>) -> Box<Answer> {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    let mut error = json!({"code": code, "message": message});
    if let Some(inner) = inner {
        error["innererror"] = json!({"code": inner});
    }
    let mut answer = Answer::json(status, json!({"error": error}).to_string());
    inner.unwrap_or(code).clone_into(&mut answer.outcome);
    Box::new(answer)
}

impl State {
    /// Whether tokens for this audience are issued: for the APIs, and for the vault.
    pub(crate) fn issues_for(&self, audience: &str) -> bool {
        self.accepts_audience(audience) || audience.trim_end_matches('/') == AUDIENCE
    }
}
