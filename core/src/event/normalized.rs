//! The normalized form of an event: one JSON object with the same names for every kind of record, and the record
//! itself, untouched, as its last member. `docs/normalized-event.md` describes it to those who read it.
//!
//! The object is written straight into the output. The record is read once more for the fields that are no header
//! fields, and checked once, for a record that is no JSON must not spoil the line: it is written as a string instead.
//! The check and the look-up take about a third of the time each. The check is not left out for speed: a line that
//! cannot be read may stop whoever reads the file.

use std::fmt::Display;
use std::io::Write as _;

use serde_json::value::RawValue;

use super::header::top_level_texts;
use super::ndjson::write_raw_line;
use super::{AuditEvent, address, text, time};

/// Appends the normalized form of `event` to `out`: one line, without the line break.
pub fn write(event: &AuditEvent, out: &mut Vec<u8>) {
    let raw = event.raw();
    out.reserve(raw.len() + 1024);
    let [
        user_type,
        client_ip,
        client_ip_address,
        object_id,
        result_status,
    ] = top_level_texts(
        raw,
        [
            "UserType",
            address::FIELDS[0],
            address::FIELDS[1],
            "ObjectId",
            "ResultStatus",
        ],
    );
    let client = address::first(&[client_ip, client_ip_address]);
    let origin = event.origin();

    let mut object = Object::open(out);
    object.text("id", event.id().as_deref());
    if let Some(created) = event.created() {
        object.key("time");
        object.out.push(b'"');
        time::write(created, object.out);
        object.out.push(b'"');
    }
    object.text("operation", event.operation().as_deref());
    if let Some(record_type) = event.record_type() {
        object.number("record_type", record_type.0);
        object.text("record_type_name", record_type.name());
    }
    object.text("workload", event.workload().as_deref());
    object.text("user_id", event.user_id().as_deref());
    object.text("user_type", user_type.as_deref().and_then(user_type_name));
    object.text("organization_id", event.organization_id().as_deref());
    if let Some((address, port)) = client {
        object.key("client_ip");
        object.out.push(b'"');
        display(address, object.out);
        object.out.push(b'"');
        if let Some(port) = port {
            object.number("client_port", port);
        }
    }
    object.text("object_id", object_id.as_deref());
    object.text("result_status", result_status.as_deref());
    object.text("tenant_id", Some(&origin.tenant));
    object.text("tenant", Some(&origin.tenant_name));
    object.text("source", Some(&origin.source));
    object.text("content_type", Some(&origin.content_type));
    object.text("content_blob", Some(&origin.unit));
    if is_json(raw) {
        object.key("raw");
        write_raw_line(raw, object.out);
    } else {
        object.text("raw_text", Some(&String::from_utf8_lossy(raw)));
    }
    out.push(b'}');
}

/// Whether `raw` is one JSON value in UTF-8. Builds nothing.
fn is_json(raw: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(raw).is_ok()
}

/// The audit schema's `UserType` in snake case: by number, by numeric string, or by name, where Graph's spelling
/// (`DcAdmin`) differs from the schema's (`DCAdmin`) in case alone.
fn user_type_name(user_type: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 11] = [
        ("Regular", "regular"),
        ("Reserved", "reserved"),
        ("Admin", "admin"),
        ("DcAdmin", "dc_admin"),
        ("System", "system"),
        ("Application", "application"),
        ("ServicePrincipal", "service_principal"),
        ("CustomPolicy", "custom_policy"),
        ("SystemPolicy", "system_policy"),
        ("PartnerTechnician", "partner_technician"),
        ("Guest", "guest"),
    ];
    let user_type = user_type.trim_ascii();
    let known = match user_type.parse::<usize>() {
        Ok(number) => NAMES.get(number),
        Err(_) => NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(user_type)),
    };
    known.map(|(_, name)| *name)
}

/// An object that is being written. Its keys are ours and need no escapes.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    before_key: u8,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            before_key: b'{',
        }
    }

    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(&[self.before_key, b'"']);
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.before_key = b',';
    }

    /// A text that is absent or empty is left out.
    fn text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.key(key);
            text::encode(value, self.out);
        }
    }

    fn number(&mut self, key: &str, value: impl Into<i64>) {
        self.key(key);
        display(value.into(), self.out);
    }
}

fn display(value: impl Display, out: &mut Vec<u8>) {
    // A Vec takes everything.
    write!(out, "{value}").unwrap_or_default();
}

#[cfg(test)]
mod tests;
