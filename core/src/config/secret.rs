//! Secrets: written down, or better named, and never printed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use figment::value::magic::RelativePathBuf;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Unexpected, Visitor};

use crate::error::{Error, Result};

/// More than any key or certificate chain; a mistaken path (a device, a log) must not fill the memory.
const MAX_BYTES: u64 = 256 * 1024;

/// What Azure App Service leaves in place of a secret that it could not fetch.
const UNRESOLVED: &str = "@Microsoft.KeyVault(";

const EXPECTED: &str = "a secret: text, { env = \"NAME\" } or { file = \"PATH\" }";

/// Where a secret comes from. Neither its `Debug` nor any error shows the secret.
#[derive(Clone)]
pub struct Secret(Place);

#[derive(Clone)]
enum Place {
    Literal(SecretString),
    Env(String),
    File(PathBuf),
}

impl Secret {
    /// A secret given as such, for tests and examples.
    pub fn literal(secret: impl Into<String>) -> Self {
        Self(Place::Literal(secret.into().into()))
    }

    /// Reads the secret now. Read it each time it is needed: a file may have been rotated.
    ///
    /// An environment variable cannot change while we run, so what is wrong with it is [`Config`]; what is wrong
    /// with a file may pass and is [`Auth`]. A file is small and local, so this may be called on the runtime.
    ///
    /// [`Config`]: crate::error::Kind::Config
    /// [`Auth`]: crate::error::Kind::Auth
    pub fn read(&self) -> Result<SecretString> {
        match &self.0 {
            Place::Literal(secret) => Ok(secret.clone()),
            Place::Env(name) => {
                let value = std::env::var(name).map_err(|error| {
                    Error::config(match error {
                        std::env::VarError::NotPresent => format!("{self} is not set"),
                        std::env::VarError::NotUnicode(_) => format!("{self} is not UTF-8"),
                    })
                })?;
                checked(value).map_err(|problem| Error::config(format!("{self} {problem}")))
            }
            Place::File(path) => {
                let value = read_file(path).map_err(|error| {
                    Error::auth(format!("{self} cannot be read")).with_cause(error)
                })?;
                checked(value).map_err(|problem| Error::auth(format!("{self} {problem}")))
            }
        }
    }

    /// Where the secret comes from, for messages: `environment variable X`, `file Y`, `the configuration`.
    #[must_use]
    pub fn describe(&self) -> String {
        self.to_string()
    }
}

/// Whether what somebody gave is the secret; how long it takes does not tell how much of it was right.
#[must_use]
pub fn same_secret(given: &[u8], secret: &[u8]) -> bool {
    let pairs = given.iter().zip(secret);
    let different = pairs.fold(0, |different, (given, secret)| different | (given ^ secret));
    given.len() == secret.len() && different == 0
}

fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other("it is too large to be a secret"));
    }
    Ok(text)
}

/// Editors, `echo` and Kubernetes secrets leave a newline at the end, which no secret means.
fn checked(mut value: String) -> Result<SecretString, &'static str> {
    value.truncate(value.trim_end_matches(['\r', '\n']).len());
    match problem(&value) {
        Some(problem) => Err(problem),
        None => Ok(value.into()),
    }
}

fn problem(value: &str) -> Option<&'static str> {
    if value.trim().is_empty() {
        Some("is empty")
    } else if value.trim_start().starts_with(UNRESOLVED) {
        Some(
            "is a Key Vault reference that was not resolved: \
             check the vault's name and that this program's identity may read its secrets",
        )
    } else {
        None
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Literal(_) => f.write_str("the configuration"),
            Place::Env(name) => write!(f, "environment variable {name}"),
            Place::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(from {self})")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Literal(one), Place::Literal(two)) => {
                one.expose_secret() == two.expose_secret()
            }
            (Place::Env(one), Place::Env(two)) => one == two,
            (Place::File(one), Place::File(two)) => one == two,
            _ => false,
        }
    }
}

impl Eq for Secret {}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Key {
    Env,
    File,
}

struct SecretVisitor;

impl SecretVisitor {
    /// A number or a list may be the secret itself, so the message must not repeat it.
    fn refuse<T, E: serde::de::Error>(self, found: &str) -> Result<T, E> {
        Err(E::invalid_type(Unexpected::Other(found), &self))
    }
}

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Secret, E> {
        match problem(value) {
            Some(problem) => Err(E::custom(format_args!("the secret {problem}"))),
            None => Ok(Secret::literal(value)),
        }
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Secret, E> {
        self.refuse("a boolean")
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
        self.refuse("a number; put it in quotes")
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Secret, E> {
        self.refuse("a number; put it in quotes")
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Secret, E> {
        self.refuse("a number; put it in quotes")
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Secret, E> {
        self.refuse("a number; put it in quotes")
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
        self.refuse("a number; put it in quotes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key()? {
            let place = match key {
                Key::Env => Place::Env(map.next_value()?),
                Key::File => Place::File(map.next_value::<RelativePathBuf>()?.relative()),
            };
            if found.replace(place).is_some() {
                return Err(A::Error::custom("expected only one of env and file"));
            }
        }
        match found {
            Some(Place::Env(name)) if name.is_empty() => {
                Err(A::Error::custom("expected the name of a variable in env"))
            }
            Some(place) => Ok(Secret(place)),
            None => self.refuse("an empty table"),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SecretVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Options};
    use crate::error::Kind;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Keys {
        key: Secret,
    }

    fn secret(text: &str) -> Result<Secret> {
        let keys: Keys = Options::from_toml("sinks.s", &format!("key = {text}")).parse()?;
        Ok(keys.key)
    }

    fn read(text: &str) -> Result<String, String> {
        let value = secret(text).and_then(|secret| secret.read());
        value
            .map(|value| value.expose_secret().to_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_literal_is_itself() {
        assert_eq!(read("\" hunter2\"").as_deref(), Ok(" hunter2"));
    }

    #[test]
    fn problems_do_not_show_the_secret() {
        let expected =
            "sinks.s.key: expected a secret: text, { env = \"NAME\" } or { file = \"PATH\" }";
        for (text, problem) in [
            (
                "12345",
                format!("{expected}, found a number; put it in quotes"),
            ),
            (
                "1.5",
                format!("{expected}, found a number; put it in quotes"),
            ),
            ("true", format!("{expected}, found a boolean")),
            ("[\"hunter2\"]", format!("{expected}, found a list")),
            ("{}", format!("{expected}, found an empty table")),
            ("\"\"", "sinks.s.key: the secret is empty".to_owned()),
            (
                "\"@Microsoft.KeyVault(VaultName=v;SecretName=s)\"",
                "sinks.s.key: the secret is a Key Vault reference that was not resolved: \
                 check the vault's name and that this program's identity may read its secrets"
                    .to_owned(),
            ),
            (
                "{ fil = \"hunter2\" }",
                "sinks.s.key.fil: unknown key; did you mean \"file\"?".to_owned(),
            ),
            (
                "{ file = \"a\", env = \"b\" }",
                "sinks.s.key: expected only one of env and file".to_owned(),
            ),
            (
                "{ env = \"\" }",
                "sinks.s.key: expected the name of a variable in env".to_owned(),
            ),
            (
                "{ env = \"AUDIT_EXPORTER_TEST_UNSET\" }",
                "environment variable AUDIT_EXPORTER_TEST_UNSET is not set".to_owned(),
            ),
        ] {
            assert_eq!(read(text), Err(problem), "for {text}");
        }
    }

    #[test]
    fn a_variable_is_read() {
        assert_eq!(
            read("{ env = \"CARGO_PKG_NAME\" }").as_deref(),
            Ok("audit-exporter-core")
        );
    }

    #[test]
    fn a_file_is_read_each_time_from_the_configurations_folder() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let text = "[tenants.a]\nid = \"8f1c7f4e-6f3a-4c39-9d3b-2c1f0e9a7b55\"\n\
             key = { file = \"a.key\" }\n\
             [sources.a]\ntype = \"x\"\n[sinks.a]\ntype = \"x\"";
        let config = Config::from_toml(text, dir.path())?;
        let Keys { key } = config.tenants[0].options.parse()?;
        let path = dir.path().join("a.key");
        let name = format!("file {}", path.display());
        assert_eq!(key.describe(), name);
        assert_eq!(format!("{key:?}"), format!("Secret(from {name})"));

        let missing = key.read().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(missing, Err(Kind::Auth));
        std::fs::write(&path, "one\r\n")?;
        assert_eq!(key.read()?.expose_secret(), "one");
        std::fs::write(&path, "two")?;
        assert_eq!(key.read()?.expose_secret(), "two");
        for (content, problem) in [
            (String::from("\n"), format!("{name} is empty")),
            (
                "x".repeat(MAX_BYTES as usize + 1),
                format!("{name} cannot be read: it is too large to be a secret"),
            ),
        ] {
            std::fs::write(&path, content)?;
            let found = key.read().map(|_| ()).map_err(|error| error.to_string());
            assert_eq!(found, Err(problem));
        }
        Ok(())
    }

    #[test]
    fn only_the_whole_secret_is_the_same() {
        assert!(same_secret(b"hunter2", b"hunter2"));
        for wrong in ["", "hunter", "hunter22", "Hunter2", "hunter3"] {
            assert!(!same_secret(wrong.as_bytes(), b"hunter2"), "{wrong}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(
            format!("{:?}", Secret::literal("hunter2")),
            "Secret(from the configuration)"
        );
    }
}
