//! Secrets that cannot be printed.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use crate::error::{Error, Result};

/// Where a secret comes from. Never prints the secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Secret {
    /// `{ env = "NAME" }`
    Env {
        /// The variable's name.
        env: String,
    },
    /// `{ file = "PATH" }`
    File {
        /// The file's path.
        file: PathBuf,
    },
    /// The secret itself.
    Literal(SecretString),
}

impl Secret {
    /// Reads the secret now. A file is read again each time, so that it can be rotated.
    pub fn read(&self) -> Result<SecretString> {
        match self {
            Self::Literal(secret) => Ok(secret.clone()),
            Self::Env { env } => std::env::var(env)
                .map(SecretString::from)
                .map_err(|_| Error::config(format!("environment variable {env} is not set"))),
            Self::File { file } => Ok(std::fs::read_to_string(file)?.trim().to_owned().into()),
        }
    }
}
