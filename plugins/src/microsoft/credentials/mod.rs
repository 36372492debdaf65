//! How an app proves to an authority who it is (reference: auth.md §2 to §5).
//!
//! | credential | proof | changes without a restart |
//! | --- | --- | --- |
//! | client secret | itself | the file or vault is read for each token |
//! | certificate | an assertion signed with its key | likewise |
//! | federated token | an assertion that somebody else has signed | likewise |
//! | managed identity | none: the machine's own endpoint gives tokens | by Azure |
//!
//! Nothing here shows a secret, a key or an assertion: not in errors, logs, or debug output.

mod assertion;
mod certificate;
mod federated;
mod file;
mod grant;
mod managed_identity;
mod text;

use std::sync::Arc;

use audit_exporter_core::config::{Options, Secret};
use audit_exporter_core::{Error, Result};
use url::Url;

pub(crate) use self::certificate::{Certificate, CertificateOptions};
pub(crate) use self::federated::{Federated, FederatedOptions, Subject};
pub(crate) use self::grant::{Issuer, Proven};
pub(crate) use self::managed_identity::{IdentityOptions, ManagedIdentity};
pub(crate) use self::text::{REFERENCE, Text};
use super::cloud::TokenVersion;
use super::key_vault::{Address, Vaults};

/// An app as an authority knows it: who asks for tokens, where, and with which proof.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// The tenant that the tokens are for, a GUID.
    pub(crate) tenant: Arc<str>,
    /// Where tokens are asked for: scheme and host.
    pub(crate) authority: Url,
    /// Which of its endpoints.
    pub(crate) token_version: TokenVersion,
    /// Who it is.
    pub(crate) credential: Credential,
}

/// Who asks for tokens.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// A registered app, which proves itself to the authority.
    App {
        /// The application (client) ID.
        client_id: String,
        /// How it proves itself.
        proof: Proof,
    },
    /// The identity that Azure has given to this machine.
    ManagedIdentity(ManagedIdentity),
}

/// How an app proves who it is.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// A client secret.
    Secret(Place<Secret>),
    /// A certificate with its key.
    Certificate(Place<certificate::Files>),
    /// A token that somebody else issues.
    Federated(Federated),
}

/// Where something secret is kept.
#[derive(Clone, Debug)]
pub(crate) enum Place<T> {
    /// On this machine.
    Here(T),
    /// In Azure Key Vault.
    Vault(Address),
}

/// The keys of a table that give a credential.
pub(crate) struct Given {
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<Text>,
    pub(crate) certificate: Option<CertificateOptions>,
    pub(crate) federated_token: Option<FederatedOptions>,
    pub(crate) managed_identity: Option<IdentityOptions>,
}

impl Given {
    /// Whether nothing at all is given.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys().is_empty() && self.client_id.is_none()
    }

    /// The keys that are set.
    fn keys(&self) -> Vec<&'static str> {
        let given = [
            (self.client_secret.is_some(), "client_secret"),
            (self.certificate.is_some(), "certificate"),
            (self.federated_token.is_some(), "federated_token"),
            (self.managed_identity.is_some(), "managed_identity"),
        ];
        let keys = given.into_iter().filter(|(is_given, _)| *is_given);
        keys.map(|(_, key)| key).collect()
    }
}

impl Credential {
    /// The one credential of the table `prefix` of `options`: empty, or a name with a dot. Secrets and certificates may
    /// be in `vaults`, if there are any.
    pub(crate) fn of(
        options: &Options,
        prefix: &str,
        given: Given,
        vaults: Option<&Vaults>,
    ) -> Result<Self> {
        let at = |key: &str| format!("{prefix}{key}");
        match *given.keys() {
            [_] => {}
            [] => {
                let problem = "required, but not set; certificate, federated_token or managed_identity will do as well";
                return Err(options.problem(&at("client_secret"), problem));
            }
            [first, second, ..] => {
                let problem =
                    format!("only one credential can be given, and there is {first} already");
                return Err(options.problem(&at(second), &problem));
            }
        }
        let place = |key: &str, name: &str| match vaults {
            Some(vaults) => vaults.address(options, &at(key), name),
            None => Err(options.problem(
                &at(key),
                "what reads the key vault cannot itself be in a key vault",
            )),
        };
        if let Some(identity) = given.managed_identity {
            if given.client_id.is_some() {
                return Err(options.problem(
                    &at("client_id"),
                    "a managed identity needs none; one that was assigned by a user is \
                     managed_identity = { client_id = \"…\" }",
                ));
            }
            let identity =
                ManagedIdentity::of(options, &at("managed_identity"), identity, &variable)?;
            return Ok(Self::ManagedIdentity(identity));
        }
        let proof = match (
            given.client_secret,
            given.certificate,
            given.federated_token,
        ) {
            (Some(Text::Here(secret)), ..) => Proof::Secret(Place::Here(secret)),
            (Some(Text::Vault(name)), ..) => {
                Proof::Secret(Place::Vault(place("client_secret", &name)?))
            }
            (_, Some(given), _) => {
                Proof::Certificate(given.place(options, &at("certificate"), place)?)
            }
            (.., Some(given)) => Proof::Federated(Federated::of(options, given, &variable)),
            (None, None, None) => return Err(Error::bug("a credential was given and is gone")),
        };
        let default = match proof {
            Proof::Federated(_) => variable(federated::CLIENT_ID),
            _ => None,
        };
        let client_id = client_id(options, &at("client_id"), given.client_id.or(default))?;
        Ok(Self::App { client_id, proof })
    }

    /// The application (client) ID, if it is known: a machine need not know that of its own identity.
    pub(crate) fn client_id(&self) -> Option<&str> {
        match self {
            Self::App { client_id, .. } => Some(client_id),
            Self::ManagedIdentity(_) => None,
        }
    }

    /// Where it is in a key vault, if it is.
    pub(crate) fn vault(&self) -> Option<&Address> {
        match self {
            Self::App {
                proof:
                    Proof::Secret(Place::Vault(address)) | Proof::Certificate(Place::Vault(address)),
                ..
            } => Some(address),
            _ => None,
        }
    }
}

fn client_id(options: &Options, key: &str, given: Option<String>) -> Result<String> {
    let given = given.ok_or_else(|| options.problem(key, "required, but not set"))?;
    match given.trim() {
        "" => Err(options.invalid(key, "the app's client ID", "nothing")),
        id => Ok(id.to_owned()),
    }
}

/// A variable of the environment; an empty one is none.
fn variable(name: &str) -> Option<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests;
