//! How problems with the configuration are told: where, which key, what was expected, what was meant perhaps.

use figment::error::{Actual, Error, Kind};
use figment::value::Value;

/// `label: path: problem`, without what is empty.
pub(super) fn line(label: &str, path: &str, problem: &str) -> String {
    [label, path, problem]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

/// The full path of a key: `sinks.archive.headers[0].name`.
pub(super) fn join<K: AsRef<str>>(path: &str, keys: &[K]) -> String {
    let mut path = path.to_owned();
    for key in keys.iter().map(AsRef::as_ref) {
        if key.bytes().all(|byte| byte.is_ascii_digit()) && !key.is_empty() {
            path.extend(["[", key, "]"]);
        } else {
            path = below(&path, key);
        }
    }
    path
}

/// The full path of a table's key, quoted where TOML would need it.
pub(super) fn below(path: &str, key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let dot = if path.is_empty() { "" } else { "." };
    if !key.is_empty() && key.bytes().all(bare) {
        format!("{path}{dot}{key}")
    } else {
        format!("{path}{dot}{key:?}")
    }
}

/// The keys of a dotted path: `tls.ca`, `tenants[0]`.
pub(super) fn keys(path: &str) -> Vec<&str> {
    path.split(['.', '['])
        .map(|key| key.trim_end_matches(']'))
        .collect()
}

/// The table that an error was found in.
pub(super) struct Table<'a> {
    /// What to begin with if figment does not know: the file's name.
    pub(super) label: &'a str,
    /// The table's path.
    pub(super) path: &'a str,
    /// Keys that are ours, beside those of the type that was asked for.
    pub(super) common: &'a [&'static str],
}

impl Table<'_> {
    /// figment's error in our words, a line for each.
    pub(super) fn render(&self, error: Error) -> String {
        error
            .into_iter()
            .map(|error| self.render_one(error))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn render_one(&self, mut error: Error) -> String {
        let top = error.path.len() <= 1;
        let missing = match &error.kind {
            Kind::MissingField(key) => Some(key.to_string()),
            _ => None,
        };
        if let Some(key) = missing {
            // Nothing gives it, so the table's own path and the file are where it should have been.
            error.path.push(key);
            error.metadata = None;
        }
        let problem = self.problem(error.kind, top);
        match error.metadata {
            Some(origin) => {
                let path = origin.interpolate(&figment::Profile::Default, &error.path);
                line(&origin.name, &path, &problem)
            }
            None => line(self.label, &join(self.path, &error.path), &problem),
        }
    }

    fn problem(&self, kind: Kind, top: bool) -> String {
        match kind {
            Kind::UnknownField(key, _) if top && self.common.contains(&key.as_str()) => {
                "cannot differ by tenant".to_owned()
            }
            Kind::UnknownField(key, valid) => {
                let common = if top { self.common } else { &[] };
                let valid: Vec<_> = valid.iter().chain(common).copied().collect();
                format!("unknown key{}", hint(&key, &valid, "valid keys"))
            }
            Kind::MissingField(_) => "required, but not set".to_owned(),
            Kind::UnknownVariant(found, valid) => unknown_variant(&found, valid),
            Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
                let expected = plain(&expected);
                let found = describe(&found, &expected);
                format!("expected {expected}, found {found}")
            }
            Kind::InvalidLength(found, expected) => {
                format!("expected {}, found {found} entries", plain(&expected))
            }
            other => other.to_string(),
        }
    }
}

/// `; did you mean "x"?` if one is near, else the choices after `intro`.
pub(super) fn hint(found: &str, valid: &[&str], intro: &str) -> String {
    if let Some(near) = nearest(found, valid) {
        return format!("; did you mean \"{near}\"?");
    }
    if valid.is_empty() {
        return String::new();
    }
    format!("; {intro}: {}", quoted(valid).join(", "))
}

fn quoted(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("\"{name}\"")).collect()
}

fn unknown_variant(found: &str, valid: &[&str]) -> String {
    let expected = match &*quoted(valid) {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    };
    let near = nearest(found, valid).map(|_| hint(found, valid, ""));
    format!(
        "expected {expected}, found {found:?}{}",
        near.unwrap_or_default()
    )
}

/// The name that was meant, if it is near enough that offering it helps.
pub(super) fn nearest<'a>(found: &str, valid: &[&'a str]) -> Option<&'a str> {
    let found = found.to_lowercase().replace('-', "_");
    valid
        .iter()
        .map(|name| {
            let plain = name.to_lowercase().replace('-', "_");
            (strsim::damerau_levenshtein(&found, &plain), *name)
        })
        .filter(|(distance, name)| *distance <= 1.max(name.chars().count() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// What a value is, without showing it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "text",
        Value::Bool(..) => "a boolean",
        Value::Num(..) => "a number",
        Value::Empty(..) => "nothing",
        Value::Dict(..) => "a table",
        Value::Array(..) => "a list",
    }
}

/// serde's words for what it expected, in ours.
fn plain(expected: &str) -> String {
    match expected {
        "u16" => "a whole number from 0 to 65535",
        "u8" => "a whole number from 0 to 255",
        "u32" | "u64" | "u128" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number of at least 1"
        }
        "f32" | "f64" => "a number",
        "a string" | "path string" | "a character" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
    .to_owned()
}

fn describe(found: &Actual, expected: &str) -> String {
    match found {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        // Text in place of a table or list may be a header or a secret.
        Actual::Str(_) if matches!(expected, "a table" | "a list") => "text".to_owned(),
        Actual::Str(value) => format!("{value:?}"),
        Actual::Char(value) => format!("\"{value}\""),
        Actual::Unit | Actual::Option => "nothing".to_owned(),
        Actual::Seq => "a list".to_owned(),
        Actual::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}
