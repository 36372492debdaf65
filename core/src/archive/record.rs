//! From a line of an archive to an event: the record as Microsoft sent it, or the normalized form around it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::config::{Config, Tenant};
use crate::event::header::{top_level, top_level_text};
use crate::event::{AuditEvent, Origin};

/// What an event's source is called if the line does not say.
const SOURCE: &str = "archive";

/// Makes events of lines.
pub(super) struct Records {
    tenants: HashMap<Arc<str>, Tenant>,
    /// Whose a record is that does not name a tenant of the configuration.
    tenant: Option<Tenant>,
    content_type: Arc<str>,
    /// Most lines have the same as the one before.
    last: Option<Arc<Origin>>,
}

impl Records {
    pub(super) fn new(config: &Config, tenant: Option<Tenant>, content_type: &str) -> Self {
        let tenants = config.tenants.iter();
        Self {
            tenants: tenants.map(|t| (Arc::clone(&t.id), t.clone())).collect(),
            tenant,
            content_type: content_type.into(),
            last: None,
        }
    }

    /// The event of a line of `file`, or why it is none.
    pub(super) fn event(&mut self, line: Vec<u8>, file: &str) -> Result<AuditEvent, String> {
        if line.trim_ascii().is_empty() {
            return Err("an empty line".to_owned());
        }
        serde_json::from_slice::<&RawValue>(&line).map_err(|error| format!("not JSON: {error}"))?;
        if !line.trim_ascii_start().starts_with(b"{") {
            return Err("not a JSON object".to_owned());
        }
        let line = Bytes::from(line);
        let text = |names: &[&str]| top_level_text(&line, names);
        let normalized = text(&["tenant_id"]).is_some() && text(&["content_blob"]).is_some();
        let raw = if normalized {
            inside(&line)?
        } else {
            line.clone()
        };
        let named = if normalized {
            text(&["tenant_id"])
        } else {
            text(&["OrganizationId"])
        };
        let tenant = self.tenant(named.as_deref())?;
        let or = |name: &str, other: &str| match text(&[name]) {
            Some(value) if normalized => value.into_owned(),
            _ => other.to_owned(),
        };
        let origin = Origin {
            tenant: tenant.id,
            tenant_name: tenant.name,
            source: or("source", SOURCE).into(),
            content_type: or("content_type", &self.content_type).into(),
            unit: or("content_blob", file).into(),
        };
        let origin = match &self.last {
            Some(last) if **last == origin => Arc::clone(last),
            _ => Arc::new(origin),
        };
        self.last = Some(Arc::clone(&origin));
        Ok(AuditEvent::new(raw, origin))
    }

    fn tenant(&self, named: Option<&str>) -> Result<Tenant, String> {
        let known = named.and_then(|id| self.tenants.get(id.to_ascii_lowercase().as_str()));
        known.or(self.tenant.as_ref()).cloned().ok_or_else(|| {
            let named = named.map_or("no tenant".to_owned(), |id| {
                format!("tenant {id}, which is none of the configuration's")
            });
            format!("it names {named}; --tenant says whose it is")
        })
    }
}

/// The record in a normalized event.
fn inside(line: &Bytes) -> Result<Bytes, String> {
    if let Some(raw) = top_level(line, "raw") {
        return Ok(line.slice_ref(raw));
    }
    // A record that is no JSON is kept as text.
    let text =
        top_level(line, "raw_text").and_then(|text| serde_json::from_slice::<String>(text).ok());
    text.map(Bytes::from)
        .ok_or_else(|| "a normalized event without its record".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::event::normalized;

    const ID: &str = "11111111-1111-1111-1111-111111111111";

    fn records(tenant: bool) -> Records {
        let text = format!(
            "[tenants.contoso]\nid = \"{ID}\"\n[sources.a]\ntype = \"a\"\n[sinks.s]\ntype = \"s\"\n"
        );
        let config = Config::from_toml(&text, Path::new("/")).unwrap();
        let fallback = tenant.then(|| config.tenants[0].clone());
        Records::new(&config, fallback, "Audit.General")
    }

    #[test]
    fn a_record_and_a_normalized_event_become_the_same_event() {
        for record in [
            format!(r#"{{"Id":"1","OrganizationId":"{}"}}"#, ID.to_uppercase()),
            r#"{"Id": no JSON"#.to_owned(),
        ] {
            let origin = Origin {
                tenant: ID.into(),
                tenant_name: "contoso".into(),
                source: "activity".into(),
                content_type: "Audit.Exchange".into(),
                unit: "blob".into(),
            };
            let event = AuditEvent::new(record.clone().into(), origin.clone().into());
            let mut line = Vec::new();
            normalized::write(&event, &mut line);
            let back = records(false).event(line, "f").unwrap();
            assert_eq!(
                (&**back.raw(), &**back.origin()),
                (record.as_bytes(), &origin)
            );
        }
        let record = format!(r#"{{"Id":"1","OrganizationId":"{}"}}"#, ID.to_uppercase());
        let event = records(false)
            .event(record.clone().into(), "f.ndjson")
            .unwrap();
        let origin = event.origin();
        assert_eq!(*event.raw(), record);
        assert_eq!(
            [
                &origin.tenant_name,
                &origin.content_type,
                &origin.unit,
                &origin.source
            ]
            .map(|s| &**s),
            ["contoso", "Audit.General", "f.ndjson", "archive"]
        );
    }

    #[test]
    fn what_is_no_event_is_told_why() {
        let none = "it names no tenant; --tenant says whose it is";
        let other =
            "it names tenant 2, which is none of the configuration's; --tenant says whose it is";
        for (line, tenant, why) in [
            (" ", true, "an empty line"),
            (
                "{\"Id\":",
                true,
                "not JSON: EOF while parsing a value at line 1 column 6",
            ),
            ("[1]", true, "not a JSON object"),
            ("{}", false, none),
            ("{\"OrganizationId\":\"2\"}", false, other),
            (
                r#"{"tenant_id":"1","content_blob":"b"}"#,
                true,
                "a normalized event without its record",
            ),
        ] {
            let refused = records(tenant).event(line.into(), "f").unwrap_err();
            assert_eq!(refused, why);
        }
        assert!(records(true).event("{}".into(), "f").is_ok());
    }
}
