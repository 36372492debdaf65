//! The envelope around a record.

use std::io::Write as _;

use audit_exporter_core::event::AuditEvent;
use chrono::{DateTime, Utc};

use crate::sinks::post::{write_string, write_value};
use crate::sinks::template::Template;

/// The last second that is written with ten digits or fewer. Splunk takes longer numbers for milliseconds.
const LAST_SECOND: i64 = 9_999_999_999;

/// What stands around a record. The keys are fixed: one that Splunk does not know would make it drop, in silence, what
/// comes behind.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) host: Template,
    pub(super) source: Template,
    pub(super) sourcetype: Template,
    /// The token's own without.
    pub(super) index: Option<String>,
    /// Indexed fields.
    pub(super) fields: Vec<(String, Template)>,
}

impl Envelope {
    /// Appends the envelope with the record in it; an error says why Splunk cannot have it.
    pub(super) fn write(&self, event: &AuditEvent, body: &mut Vec<u8>) -> Result<(), String> {
        let raw = event.raw();
        if raw.trim_ascii().is_empty() {
            return Err("the record is empty, which Splunk does not take".to_owned());
        }
        body.reserve(raw.len() + 256);
        body.push(b'{');
        if let Some(created) = event.created() {
            write_time(created, body);
        }
        let metadata = [
            ("host", &self.host),
            ("source", &self.source),
            ("sourcetype", &self.sourcetype),
        ];
        for (key, template) in metadata {
            write_member(key, &template.text(event), body);
        }
        write_member("index", self.index.as_deref().unwrap_or_default(), body);
        self.write_fields(event, body);
        body.extend_from_slice(b"\"event\":");
        write_value(raw, |json| json.starts_with('{'), body)?;
        body.push(b'}');
        Ok(())
    }

    fn write_fields(&self, event: &AuditEvent, body: &mut Vec<u8>) {
        let before = body.len();
        body.extend_from_slice(b"\"fields\":{");
        let empty = body.len();
        for (name, template) in &self.fields {
            write_member(name, &template.text(event), body);
        }
        if body.len() == empty {
            body.truncate(before);
            return;
        }
        // In the place of the last comma.
        body.pop();
        body.extend_from_slice(b"},");
    }
}

/// Appends `"key":"value",` unless the value is empty.
fn write_member(key: &str, value: &str, body: &mut Vec<u8>) {
    if !value.is_empty() {
        write_string(key, body);
        body.push(b':');
        write_string(value, body);
        body.push(b',');
    }
}

/// Appends `"time":SECONDS,` in plain decimals. A time that Splunk would misread is left out: it takes its own then.
fn write_time(created: DateTime<Utc>, body: &mut Vec<u8>) {
    let seconds = created.timestamp();
    if (0..=LAST_SECOND).contains(&seconds) {
        let micros = created.timestamp_subsec_micros();
        // A Vec takes everything.
        let written = if micros == 0 {
            write!(body, "\"time\":{seconds},")
        } else {
            write!(body, "\"time\":{seconds}.{micros:06},")
        };
        written.unwrap_or_default();
    }
}
