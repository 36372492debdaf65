//! Workload identity federation: a token that somebody else issues (Kubernetes, a build service) stands for the app's
//! own proof (reference: auth.md §4).

use std::path::PathBuf;

use audit_exporter_core::config::Options;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::file;

/// The variable that names the token's file on AKS.
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
/// Where it is on AKS if the variable does not say.
const AKS_FILE: &str = "/var/run/secrets/azure/tokens/azure-identity-token";
/// The variable that names the app on AKS.
pub(super) const CLIENT_ID: &str = "AZURE_CLIENT_ID";

/// The options as they stand in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FederatedOptions {
    file: Option<PathBuf>,
}

/// Where somebody else's token is found.
#[derive(Clone, Debug)]
pub(crate) struct Federated {
    file: PathBuf,
}

/// What a token says of itself: what the app's federated credential must name.
#[derive(Debug, Deserialize)]
pub(crate) struct Subject {
    /// Who issued it.
    pub(crate) iss: String,
    /// Whom it stands for.
    pub(crate) sub: String,
    /// Whom it is for: one, or a list.
    aud: serde_json::Value,
    /// When it ends, in seconds since 1970.
    pub(crate) exp: i64,
}

impl Subject {
    /// Reads it from a token, without verifying that; `None` if it cannot be read.
    pub(crate) fn of(token: &SecretString) -> Option<Self> {
        let payload = token.expose_secret().split('.').nth(1)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice(&payload).ok()
    }

    /// Whom it is for.
    pub(crate) fn audience(&self) -> String {
        match &self.aud {
            serde_json::Value::String(one) => one.clone(),
            serde_json::Value::Array(all) => {
                let all: Vec<&str> = all.iter().filter_map(serde_json::Value::as_str).collect();
                all.join(", ")
            }
            _ => String::new(),
        }
    }
}

impl Federated {
    /// The file of the options, or else the environment's.
    pub(super) fn of(
        options: &Options,
        given: FederatedOptions,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Self {
        let file = match given.file {
            Some(file) => options.resolve_path(&file),
            None => variable(TOKEN_FILE).map_or_else(|| AKS_FILE.into(), PathBuf::from),
        };
        Self { file }
    }

    /// The token of this moment: whoever issues it replaces it every hour or so. The error says what is wrong with the
    /// file.
    pub(crate) fn read(&self) -> Result<SecretString, String> {
        let name = self.file.display();
        let bytes = file::read(&self.file)
            .map_err(|error| format!("federated_token: file {name} cannot be read: {error}"))?;
        let token = String::from_utf8(bytes).unwrap_or_default();
        match token.trim() {
            "" => Err(format!("federated_token: file {name} is empty")),
            token if token.split('.').count() != 3 => Err(format!(
                "federated_token: file {name} holds no token: three parts with dots between them"
            )),
            token => Ok(token.into()),
        }
    }
}
