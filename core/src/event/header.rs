//! The header fields of a record, found in one pass.

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::RecordType;

/// A string value inside a record: where it lies, and whether it holds escapes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slice {
    start: u32,
    len: u32,
    escaped: bool,
}

impl Slice {
    /// The text, if there is any.
    #[must_use]
    pub fn text<'a>(&self, raw: &'a Bytes) -> Option<Cow<'a, str>> {
        let _ = (raw, self.start, self.len, self.escaped);
        None
    }
}

/// The header fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    pub(super) id: Slice,
    pub(super) created: Option<DateTime<Utc>>,
    pub(super) operation: Slice,
    pub(super) workload: Slice,
    pub(super) record_type: Option<RecordType>,
    pub(super) user_id: Slice,
    pub(super) organization_id: Slice,
}

impl Header {
    /// Scans a record. Never fails.
    #[must_use]
    pub fn scan(raw: &[u8]) -> Self {
        let _ = raw;
        Self::default()
    }
}

/// The first of `names` that is a top-level string.
#[must_use]
pub fn top_level_text<'a>(raw: &'a [u8], names: &[&str]) -> Option<Cow<'a, str>> {
    let _ = (raw, names);
    None
}
