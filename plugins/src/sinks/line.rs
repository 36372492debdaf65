//! One event as one line of NDJSON.

use audit_exporter_core::event::{AuditEvent, ndjson, normalized};
use serde::Deserialize;

/// What a line holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    /// The record exactly as Microsoft sent it, on one line.
    #[default]
    Raw,
    /// The normalized form, with the record inside.
    Normalized,
}

impl Format {
    /// Appends the event's line, line break included.
    pub(super) fn write(self, event: &AuditEvent, out: &mut Vec<u8>) {
        match self {
            Self::Raw => ndjson::write_raw_line(event.raw(), out),
            Self::Normalized => normalized::write(event, out),
        }
        out.push(b'\n');
    }
}
