//! The places that values come from, later ones over earlier ones: the file, then each environment variable.

use std::path::Path;
use std::sync::Arc;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Metadata, Profile, Provider};

use super::{keys, message};
use crate::error::{Error, Result};

/// What the name of a variable starts with. `__` goes one table down.
///
/// A name without `__` is none of ours: all keys are in tables, and Kubernetes gives a container
/// `AUDIT_EXPORTER_SERVICE_HOST` and its like as soon as a service is called `audit-exporter`.
const PREFIX: &str = "AUDIT_EXPORTER_";
const SEPARATOR: &str = "__";

/// One table as one place gives it. As a figment provider it says where each of its values comes from.
#[derive(Clone)]
pub(super) struct Layer {
    /// The file's or variable's name, as messages begin with it; empty if there is none to name.
    pub(super) label: Arc<str>,
    /// The path of the table, for messages.
    pub(super) path: String,
    /// Its values belong to one tenant and cover those of the table's other layers.
    pub(super) overlay: bool,
    pub(super) dict: Dict,
    /// The configuration file: figment resolves relative paths by it, those from variables too.
    file: Arc<Path>,
}

impl Layer {
    pub(super) fn toml(label: &str, file: &Path, text: &str) -> Result<Self> {
        let mut dict: Dict = <Toml as Format>::from_str(text).map_err(|error| {
            let at = error.span().map_or_else(String::new, |span| {
                let (line, column) = place(text, span.start);
                format!("line {line}, column {column}: ")
            });
            // Not the error's own display, which shows the line and so perhaps a secret.
            let problem = match error.message().lines().collect::<Vec<_>>().join(", ") {
                nothing if nothing.is_empty() => "no valid TOML".to_owned(),
                problem => problem,
            };
            Error::config(message::line(label, "", &format!("{at}{problem}")))
        })?;
        dict.values_mut().for_each(dates_to_text);
        Ok(Self {
            label: label.into(),
            path: String::new(),
            overlay: false,
            dict,
            file: file.into(),
        })
    }

    /// The file of one tenant as the layer that `[tenants.NAME]` would be. Paths in it start from the folder of the
    /// configuration file, as everywhere.
    pub(super) fn tenant(label: &str, name: &str, text: &str, file: &Self) -> Result<Self> {
        let own = Self::toml(label, &file.file, text)?;
        let tenants = Dict::from([(name.to_owned(), Value::from(own.dict))]);
        Ok(Self {
            dict: Dict::from([("tenants".to_owned(), Value::from(tenants))]),
            ..own
        })
    }

    /// The layer of one environment variable, if it is one of ours. The file gives the keys their spelling.
    pub(super) fn variable(name: &str, value: &str, file: &Self) -> Option<Self> {
        let key = name.strip_prefix(PREFIX)?;
        if !key.contains(SEPARATOR) {
            return None;
        }
        let mut known = Some(&file.dict);
        let mut keys = Vec::new();
        for part in key.split(SEPARATOR) {
            let key = spelling(part, known);
            known = known
                .and_then(|dict| dict.get(&key))
                .and_then(Value::as_dict);
            keys.push(key);
        }
        let mut value = typed(value);
        while keys.len() > 1
            && let Some(key) = keys.pop()
        {
            value = Value::from(Dict::from([(key, value)]));
        }
        Some(Self {
            label: format!("environment variable {name}").into(),
            path: String::new(),
            overlay: false,
            dict: Dict::from([(keys.pop()?, value)]),
            file: Arc::clone(&file.file),
        })
    }

    /// The table `key` of this one; an error if it is something else.
    pub(super) fn table(&self, key: &str) -> Option<Result<Self>> {
        let value = self.dict.get(key)?;
        let path = message::below(&self.path, key);
        let Value::Dict(_, dict) = value else {
            let problem = format!("expected a table, found {}", message::kind(value));
            return Some(Err(Error::config(message::line(
                &self.label,
                &path,
                &problem,
            ))));
        };
        Some(Ok(Self {
            dict: dict.clone(),
            path,
            ..self.clone()
        }))
    }

    /// Whether it gives the value below these keys, or a list that the value would be in.
    pub(super) fn gives(&self, keys: &[&str]) -> bool {
        let mut dict = &self.dict;
        for key in keys {
            match dict.get(*key) {
                Some(Value::Dict(_, inner)) => dict = inner,
                Some(_) => return true,
                None => return false,
            }
        }
        true
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        let path = self.path.clone();
        Metadata::from(self.label.to_string(), &*self.file)
            .interpolater(move |_, keys| message::join(&path, keys))
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

/// The variable that was meant by one that lacks the second underscore: `AUDIT_EXPORTER_JOURNAL_PATH`.
///
/// Only the engine's own keys, since anything else may be another program's.
pub(super) fn misspelled(name: &str) -> Option<Error> {
    let key = name.strip_prefix(PREFIX)?;
    let meant = keys::ENGINE
        .iter()
        .flat_map(|(table, keys)| keys.iter().map(move |key| (*table, *key)))
        .find(|(table, known)| format!("{table}_{known}").eq_ignore_ascii_case(key))
        .map(|(table, key)| format!("{table}{SEPARATOR}{key}").to_uppercase())?;
    Some(Error::config(format!(
        "environment variable {name}: has no effect; did you mean {PREFIX}{meant}?"
    )))
}

/// Lists and tables are read as such. Everything else stays text until it is known what is expected: a secret of
/// digits must not lose its zeros.
fn typed(text: &str) -> Value {
    match text.parse() {
        Ok(value @ (Value::Dict(..) | Value::Array(..))) => value,
        _ => Value::String(Tag::Default, text.to_owned()),
    }
}

/// A date without quotes arrives as a table with one key, which no message could explain.
fn dates_to_text(value: &mut Value) {
    let text = match value {
        Value::Dict(_, dict) => {
            dict.values_mut().for_each(dates_to_text);
            dict.remove("$__toml_private_datetime")
        }
        Value::Array(_, values) => {
            values.iter_mut().for_each(dates_to_text);
            None
        }
        _ => None,
    };
    if let Some(text) = text {
        *value = text;
    }
}

/// Variables are upper case and know no hyphen, so `MY_ARCHIVE` means the `my-archive` that the file has.
fn spelling(part: &str, known: Option<&Dict>) -> String {
    let lower = part.to_lowercase();
    match known {
        Some(dict) if !dict.contains_key(&lower) => dict
            .keys()
            .find(|key| key.to_lowercase().replace('-', "_") == lower.replace('-', "_"))
            .cloned()
            .unwrap_or(lower),
        _ => lower,
    }
}

fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}
