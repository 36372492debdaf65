//! What is kept of an event until its mail is sent: a small row, whatever the record looked like.

use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::printable;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

/// No name that a person gave is longer; what is cut ends with an ellipsis.
const MOST_CHARS: usize = 300;
/// Connectors of a large flow still fit.
const MOST_LIST_CHARS: usize = 1000;

/// One event of a digest. Texts are one line, without anything that steers a reader's screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    #[serde(rename = "t")]
    pub(super) at: DateTime<Utc>,
    #[serde(rename = "o")]
    pub(super) operation: String,
    #[serde(rename = "u", default, skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    pub(super) status: String,
    #[serde(rename = "w", default, skip_serializing_if = "String::is_empty")]
    pub(super) workload: String,
    #[serde(rename = "e", default, skip_serializing_if = "String::is_empty")]
    pub(super) environment: String,
    /// The id of the flow, the app, or whatever it was done to.
    #[serde(rename = "i", default, skip_serializing_if = "String::is_empty")]
    pub(super) item: String,
    /// Its name, if the record has it.
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(rename = "c", default, skip_serializing_if = "String::is_empty")]
    pub(super) connectors: String,
    /// An `https` address or nothing.
    #[serde(rename = "l", default, skip_serializing_if = "String::is_empty")]
    pub(super) link: String,
    #[serde(rename = "p", default, skip_serializing_if = "String::is_empty")]
    pub(super) sharing: String,
    /// With whom it was shared.
    #[serde(rename = "r", default, skip_serializing_if = "String::is_empty")]
    pub(super) recipient: String,
}

impl Row {
    /// What a digest shows of an event. `now` stands in for a time that cannot be read.
    pub(super) fn of(event: &AuditEvent, now: DateTime<Utc>) -> Self {
        let record: Value = serde_json::from_slice(event.raw()).unwrap_or_default();
        let text = |key: &str| line(record.get(key), MOST_CHARS);
        let header = |value: Option<std::borrow::Cow<'_, str>>| {
            value.map_or_else(String::new, |value| one_line(&value, MOST_CHARS))
        };
        let link = https(&text("FlowDetailsUrl"));
        let environment = first([
            after(&link, "environments"),
            text("EnvironmentId"),
            in_additional_info(&record, "environmentName"),
            property(&record, "powerplatform.analytics.resource.environment.id"),
        ]);
        Self {
            at: event.created().unwrap_or(now),
            operation: header(event.operation()),
            user: first([header(event.user_id()), text("UserUPN")]),
            status: text("ResultStatus"),
            workload: header(event.workload()),
            environment,
            item: first([
                after(&link, "flows"),
                property(&record, "powerplatform.analytics.resource.power_app.id"),
                text("AppName"),
                text("ObjectId"),
            ]),
            name: first([
                text("FlowDisplayName"),
                property(
                    &record,
                    "powerplatform.analytics.resource.power_app.display_name",
                ),
                text("AppDisplayName"),
            ]),
            connectors: connectors(&line(record.get("FlowConnectorNames"), MOST_LIST_CHARS)),
            link,
            sharing: sharing(&text("SharingPermission")),
            recipient: text("RecipientUPN"),
        }
    }

    /// What the item is called: its name, or else its id.
    pub(super) fn called(&self) -> &str {
        if self.name.is_empty() {
            &self.item
        } else {
            &self.name
        }
    }
}

fn first<const N: usize>(candidates: [String; N]) -> String {
    let mut found = candidates.into_iter().filter(|text| !text.is_empty());
    found.next().unwrap_or_default()
}

/// A scalar as one line; nothing for anything else.
fn line(value: Option<&Value>, most: usize) -> String {
    match value {
        Some(Value::String(text)) => one_line(text, most),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => String::new(),
    }
}

/// Text of others as one line of at most `most` characters, in harmless characters.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let safe = printable(text.trim()).replace(['\n', '\t', '\u{2028}', '\u{2029}'], " ");
    if safe.chars().count() <= most {
        return safe;
    }
    safe.chars().take(most - 1).chain(['…']).collect()
}

/// An address that a mail may link to.
fn https(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.username().is_empty() => url.to_string(),
        _ => String::new(),
    }
}

/// The path segment that follows `name`.
fn after(link: &str, name: &str) -> String {
    let Ok(url) = Url::parse(link) else {
        return String::new();
    };
    let mut segments = url.path_segments().into_iter().flatten();
    segments
        .find(|segment| segment.eq_ignore_ascii_case(name))
        .and_then(|_| segments.next())
        .unwrap_or_default()
        .to_owned()
}

/// The value of an entry of `PropertyCollection`, as records of type 256 have them.
fn property(record: &Value, name: &str) -> String {
    let entries = record.get("PropertyCollection").and_then(Value::as_array);
    let found = entries
        .into_iter()
        .flatten()
        .find(|entry| entry.get("Name").and_then(Value::as_str) == Some(name));
    line(found.and_then(|entry| entry.get("Value")), MOST_CHARS)
}

/// A member of `AdditionalInfo`, which is an object or a text that holds one.
fn in_additional_info(record: &Value, key: &str) -> String {
    match record.get("AdditionalInfo") {
        Some(Value::String(text)) => {
            let inner: Value = serde_json::from_str(text).unwrap_or_default();
            line(inner.get(key), MOST_CHARS)
        }
        Some(info) => line(info.get(key), MOST_CHARS),
        None => String::new(),
    }
}

/// Each connector once, in its order: a flow that calls one ten times names it ten times.
fn connectors(list: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in list.split(',').map(str::trim) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

/// `SharingPermission` by name.
fn sharing(number: &str) -> String {
    match number {
        "1" => "none",
        "2" => "read only",
        "3" => "read and write",
        other => other,
    }
    .to_owned()
}
