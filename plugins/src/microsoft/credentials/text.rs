//! A secret as the configuration gives it: like any other secret, or by its name in Azure Key Vault.

use std::fmt;

use audit_exporter_core::config::Secret;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What a reference to Key Vault begins with in the settings of App Service.
pub(crate) const REFERENCE: &str = "@Microsoft.KeyVault(";

/// A secret, or where it is in Key Vault.
#[derive(Debug)]
pub(crate) enum Text {
    /// Any secret of the configuration.
    Here(Secret),
    /// A name, an address or a reference.
    Vault(String),
}

struct TextVisitor;

impl TextVisitor {
    fn delegate<'de, E: serde::de::Error>(from: impl IntoDeserializer<'de, E>) -> Result<Text, E> {
        Secret::deserialize(from.into_deserializer()).map(Text::Here)
    }
}

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a secret: text, { env = \"NAME\" }, { file = \"PATH\" } or { key_vault = \"NAME\" }",
        )
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Text, E> {
        if value.trim_start().starts_with(REFERENCE) {
            return Ok(Text::Vault(value.to_owned()));
        }
        Self::delegate(value)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Text, E> {
        Self::delegate(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Text, E> {
        Self::delegate(value)
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Text, E> {
        Self::delegate(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Text, E> {
        Self::delegate(value)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Text, E> {
        Self::delegate(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Text, E> {
        Self::delegate(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        let first = map.next_key()?;
        if !matches!(first, Some(Key::Vault)) {
            let whole = MapAccessDeserializer::new(Begun { first, rest: map });
            return Secret::deserialize(whole).map(Text::Here);
        }
        let name = map.next_value()?;
        match map.next_key::<Key>()? {
            None => Ok(Text::Vault(name)),
            Some(_) => Err(A::Error::custom(ONE)),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextVisitor)
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Env,
    File,
    #[serde(rename = "key_vault")]
    Vault,
}

const ONE: &str = "expected only one of env, file and key_vault";

/// A table for a secret of the configuration, whose first key was looked at.
struct Begun<A> {
    first: Option<Key>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Begun<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let key = match self.first.take() {
            Some(key) => Some(key),
            None => self.rest.next_key()?,
        };
        let name = match key {
            None => return Ok(None),
            Some(Key::Env) => "env",
            Some(Key::File) => "file",
            Some(Key::Vault) => return Err(A::Error::custom(ONE)),
        };
        let name: StrDeserializer<'_, A::Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.rest.next_value_seed(seed)
    }
}
