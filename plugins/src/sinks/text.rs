//! Text with placeholders that an event fills.

use std::borrow::Cow;

use audit_exporter_core::Result;
use audit_exporter_core::config::Options;
use audit_exporter_core::event::AuditEvent;

/// Text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Plain(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Tenant,
    TenantId,
    ContentType,
    Workload,
    Operation,
    RecordType,
}

/// The placeholders by name.
const FIELDS: [(&str, Field); 6] = [
    ("tenant", Field::Tenant),
    ("tenant_id", Field::TenantId),
    ("content_type", Field::ContentType),
    ("workload", Field::Workload),
    ("operation", Field::Operation),
    ("record_type", Field::RecordType),
];

impl Text {
    /// Reads `text`, the value of `key`.
    pub(super) fn parse(options: &Options, key: &str, text: &str) -> Result<Self> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| options.invalid(key, "a } for every {", &format!("{text:?}")))?;
            let field = FIELDS.iter().find(|(known, _)| *known == name);
            let (_, field) = field.ok_or_else(|| {
                let names = FIELDS.iter().map(|(name, _)| *name);
                options.unknown_value(key, "a placeholder", name, names)
            })?;
            if !before.is_empty() {
                parts.push(Part::Plain(before.to_owned()));
            }
            parts.push(Part::Field(*field));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Plain(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text for `event`; a field that it lacks is empty.
    pub(super) fn fill<'a>(&'a self, event: &'a AuditEvent) -> Cow<'a, str> {
        match &self.0[..] {
            [] => Cow::Borrowed(""),
            [only] => only.fill(event),
            parts => Cow::Owned(parts.iter().map(|part| part.fill(event)).collect()),
        }
    }
}

impl Part {
    fn fill<'a>(&'a self, event: &'a AuditEvent) -> Cow<'a, str> {
        let origin = event.origin();
        let field = match self {
            Self::Plain(text) => return Cow::Borrowed(text),
            Self::Field(field) => field,
        };
        match field {
            Field::Tenant => Cow::Borrowed(&*origin.tenant_name),
            Field::TenantId => Cow::Borrowed(&*origin.tenant),
            Field::ContentType => Cow::Borrowed(&*origin.content_type),
            Field::Workload => event.workload().unwrap_or_default(),
            Field::Operation => event.operation().unwrap_or_default(),
            Field::RecordType => event
                .record_type()
                .map_or(Cow::Borrowed(""), |number| Cow::Owned(number.0.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TENANT_ID, event};

    fn parse(text: &str) -> Result<Text> {
        let options = Options::from_toml("sinks.splunk", &format!("host = {text:?}"));
        Text::parse(&options, "host", text)
    }

    #[test]
    fn an_event_fills_the_placeholders() {
        let event =
            event(r#"{"Operation":"Create\"Flow","RecordType":"30","Workload":"MicrosoftFlow"}"#);
        for (text, filled) in [
            ("", ""),
            ("plain", "plain"),
            ("{tenant}", "contoso"),
            ("m365:{tenant_id}", &format!("m365:{TENANT_ID}")),
            ("{content_type}/{workload}", "Audit.General/MicrosoftFlow"),
            ("{operation} {record_type}!", "Create\"Flow 30!"),
        ] {
            assert_eq!(parse(text).unwrap().fill(&event), filled);
        }
        let lacking = crate::testing::event("{}");
        assert_eq!(
            parse("<{operation}{record_type}>").unwrap().fill(&lacking),
            "<>"
        );
    }

    #[test]
    fn what_is_no_placeholder_is_named() {
        for (text, problem) in [
            ("{tenent}", "did you mean \"tenant\"?"),
            ("{tenant", "expected a } for every {, found \"{tenant\""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("sinks.splunk.host: "), "{error}");
            assert!(error.contains(problem), "{error}");
        }
    }
}
