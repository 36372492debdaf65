//! One event as one message (RFC 5424, 6).

use std::fmt::Write as _;

use audit_exporter_core::event::AuditEvent;
use chrono::{DateTime, Datelike as _, SecondsFormat, Utc};

use crate::sinks::line::Format;
use crate::sinks::template::Template;

/// The lengths that the header's fields may have.
const HOSTNAME: usize = 255;
const APP_NAME: usize = 48;
const MSGID: usize = 32;
/// `informational`.
const SEVERITY: u8 = 6;

/// How messages look.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) facility: u8,
    pub(super) hostname: Template,
    pub(super) app_name: Template,
    /// The name of the structured data, as `audit@32473`.
    pub(super) data_id: String,
    pub(super) format: Format,
    /// The most bytes that the server takes in a message.
    pub(super) message_bytes: usize,
}

impl Layout {
    /// Appends the event's message with its length before it; an error says why it cannot be sent.
    pub(super) fn write(&self, event: &AuditEvent, out: &mut Vec<u8>) -> Result<(), String> {
        let mut message = self.header(event).into_bytes();
        self.format.write(event, &mut message);
        // A line's end, which is none of the message.
        message.pop();
        if message.len() > self.message_bytes {
            return Err(format!(
                "the message has {} bytes, more than message_size allows; a server would cut it",
                message.len()
            ));
        }
        out.extend_from_slice(format!("{} ", message.len()).as_bytes());
        out.append(&mut message);
        Ok(())
    }

    fn header(&self, event: &AuditEvent) -> String {
        let mut header = format!(
            "<{}>1 {} {} {} - {} ",
            self.facility * 8 + SEVERITY,
            event.created().map_or_else(nothing, timestamp),
            word(&self.hostname.text(event), HOSTNAME),
            word(&self.app_name.text(event), APP_NAME),
            word(&event.operation().unwrap_or_default(), MSGID),
        );
        let record_type = event.record_type().map(|number| number.0.to_string());
        let origin = event.origin();
        header.push('[');
        header.push_str(&self.data_id);
        for (name, value) in [
            ("tenant", &*origin.tenant_name),
            ("tenantId", &*origin.tenant),
            ("contentType", &*origin.content_type),
            ("workload", &*event.workload().unwrap_or_default()),
            ("operation", &*event.operation().unwrap_or_default()),
            ("recordType", record_type.as_deref().unwrap_or_default()),
        ] {
            if !value.is_empty() {
                parameter(name, value, &mut header);
            }
        }
        header.push_str("] ");
        header
    }
}

/// The nil value.
fn nothing() -> String {
    "-".to_owned()
}

fn timestamp(time: DateTime<Utc>) -> String {
    if (0..=9999).contains(&time.year()) {
        time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    } else {
        nothing()
    }
}

/// A field of the header: printable ASCII without spaces.
fn word(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let word: String = text.chars().map(plain).take(most).collect();
    if word.is_empty() { nothing() } else { word }
}

/// Appends ` name="value"`. Nothing of a value can end it, or a line.
fn parameter(name: &str, value: &str, header: &mut String) {
    // Text takes everything.
    write!(header, " {name}=\"").unwrap_or_default();
    for character in value.chars() {
        match character {
            '"' | '\\' | ']' => header.extend(['\\', character]),
            control if control.is_control() => header.push(' '),
            other => header.push(other),
        }
    }
    header.push('"');
}

#[cfg(test)]
mod tests {
    use audit_exporter_core::config::Options;

    use super::*;
    use crate::testing::{TENANT_ID, event};

    fn message(record: &str, format: Format) -> Result<String, String> {
        let template =
            |text| Template::parse(&Options::from_toml("sinks.s", ""), "host", text).unwrap();
        let layout = Layout {
            facility: 13,
            hostname: template("{tenant}"),
            app_name: template("audit exporter"),
            data_id: "audit@32473".to_owned(),
            format,
            message_bytes: 1000,
        };
        let mut out = Vec::new();
        layout.write(&event(record), &mut out)?;
        let text = String::from_utf8(out).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()));
        Ok(message.to_owned())
    }

    #[test]
    fn a_message_has_the_fields_of_rfc_5424() {
        let record = "{\"CreationTime\":\"2026-03-01T10:00:00.25\",\n\"Operation\":\"CreateFlow\",\"RecordType\":30,\"Workload\":\"MicrosoftFlow\"}";
        let expected = format!(
            "<110>1 2026-03-01T10:00:00.250Z contoso audit_exporter - CreateFlow \
             [audit@32473 tenant=\"contoso\" tenantId=\"{TENANT_ID}\" contentType=\"Audit.General\" \
             workload=\"MicrosoftFlow\" operation=\"CreateFlow\" recordType=\"30\"] {}",
            record.replace('\n', " ")
        );
        assert_eq!(message(record, Format::Raw), Ok(expected));
        let normalized = message(record, Format::Normalized).unwrap();
        assert!(
            normalized.contains("] {\"time\":\"2026-03-01T10:00:00.25"),
            "{normalized}"
        );
    }

    #[test]
    fn nothing_of_a_record_can_leave_its_place() {
        let record =
            r#"{"Operation":"a\"] \\\n[x é and thirty-two more characters of it","Workload":""}"#;
        let message = message(record, Format::Raw).unwrap();
        let header =
            "<110>1 - contoso audit_exporter - a\"]_\\_[x___and_thirty-two_more_c [audit@32473 ";
        assert!(message.starts_with(header), "{message}");
        let data = r#" operation="a\"\] \\ [x é and thirty-two more characters of it"] {"#;
        assert!(message.contains(data), "{message}");
        assert!(!message.contains("workload"));
    }

    #[test]
    fn a_message_that_a_server_would_cut_is_refused() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
        let reason = message(&long, Format::Raw).unwrap_err();
        assert!(reason.starts_with("the message has 1"), "{reason}");
    }
}
