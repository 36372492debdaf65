//! TLS and SASL: options, and the properties of librdkafka that they become.

use std::path::PathBuf;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Secret};
use audit_exporter_core::error::ResultExt;
use rdkafka::ClientConfig;
use reqwest::Url;
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::oauth::Provider;
use crate::http::is_loopback;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsOptions {
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<Secret>,
    key_password: Option<Secret>,
}

/// How brokers are recognised, and how they recognise us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<Secret>,
    key_password: Option<Secret>,
}

impl Tls {
    pub(super) fn read(options: &Options, given: TlsOptions) -> Self {
        let resolve = |path: PathBuf| options.resolve_path(&path);
        Self {
            ca: given.ca.map(resolve),
            certificate: given.certificate.map(resolve),
            key: given.key,
            key_password: given.key_password,
        }
    }

    fn apply(&self, config: &mut ClientConfig) -> Result<()> {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        // Unless told, the machine's own: where they lie is found out at run time.
        let ca = self.ca.as_ref().map_or_else(|| "probe".to_owned(), path);
        config.set("ssl.ca.location", ca);
        if let Some(certificate) = &self.certificate {
            config.set("ssl.certificate.location", path(certificate));
        }
        secret(config, "ssl.key.pem", "tls.key", self.key.as_ref())?;
        let password = self.key_password.as_ref();
        secret(config, "ssl.key.password", "tls.key_password", password)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mechanism {
    Plain,
    #[serde(rename = "scram_sha_256")]
    ScramSha256,
    #[serde(rename = "scram_sha_512")]
    ScramSha512,
    Oauthbearer,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SaslOptions {
    mechanism: Mechanism,
    username: Option<String>,
    password: Option<Secret>,
    token_url: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scope: Option<String>,
}

/// How we say who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sasl {
    /// A name and a password.
    Password {
        mechanism: &'static str,
        username: String,
        password: Secret,
    },
    /// A token of an `OpenID` provider's, by client credentials.
    Token(Provider),
}

impl Sasl {
    pub(super) fn read(options: &Options, given: SaslOptions) -> Result<Self> {
        let mechanism = match given.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
            Mechanism::Oauthbearer => return Self::token(options, given),
        };
        for (key, given) in [
            ("token_url", given.token_url.is_some()),
            ("client_id", given.client_id.is_some()),
            ("client_secret", given.client_secret.is_some()),
            ("scope", given.scope.is_some()),
        ] {
            unused(options, key, given, "oauthbearer")?;
        }
        Ok(Self::Password {
            mechanism,
            username: needed(options, "username", given.username)?,
            password: needed(options, "password", given.password)?,
        })
    }

    fn token(options: &Options, given: SaslOptions) -> Result<Self> {
        let passwords = "plain and the SCRAM mechanisms";
        unused(options, "username", given.username.is_some(), passwords)?;
        unused(options, "password", given.password.is_some(), passwords)?;
        let url: String = needed(options, "token_url", given.token_url)?;
        let url = Url::parse(&url)
            .ok()
            .filter(|url| match (url.scheme(), url.host_str()) {
                ("https", Some(_)) => true,
                // The secret goes there.
                ("http", Some(host)) => is_loopback(host),
                _ => false,
            })
            .ok_or_else(|| {
                let found = format!("{url:?}");
                options.invalid(
                    "sasl.token_url",
                    "an address that begins with https://",
                    &found,
                )
            })?;
        Ok(Self::Token(Provider {
            url,
            client_id: needed(options, "client_id", given.client_id)?,
            client_secret: needed(options, "client_secret", given.client_secret)?,
            scope: given.scope,
        }))
    }

    fn apply(&self, config: &mut ClientConfig) -> Result<()> {
        match self {
            Self::Password {
                mechanism,
                username,
                password,
            } => {
                config.set("sasl.mechanism", *mechanism);
                config.set("sasl.username", username);
                secret(config, "sasl.password", "sasl.password", Some(password))
            }
            Self::Token(_) => {
                config.set("sasl.mechanism", "OAUTHBEARER");
                Ok(())
            }
        }
    }
}

/// Sets the properties. Secrets are read now: a file may have been rotated.
pub(super) fn apply(
    tls: Option<&Tls>,
    sasl: Option<&Sasl>,
    config: &mut ClientConfig,
) -> Result<()> {
    let protocol = match (tls, sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = tls {
        tls.apply(config)?;
    }
    if let Some(sasl) = sasl {
        sasl.apply(config)?;
    }
    Ok(())
}

fn secret(
    config: &mut ClientConfig,
    property: &str,
    key: &str,
    secret: Option<&Secret>,
) -> Result<()> {
    if let Some(secret) = secret {
        config.set(property, secret.read().context(key)?.expose_secret());
    }
    Ok(())
}

fn needed<T>(options: &Options, key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| options.problem(&format!("sasl.{key}"), "missing, this mechanism needs it"))
}

fn unused(options: &Options, key: &str, given: bool, mechanisms: &str) -> Result<()> {
    if !given {
        return Ok(());
    }
    Err(options.problem(&format!("sasl.{key}"), &format!("only for {mechanisms}")))
}
