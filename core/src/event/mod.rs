//! An audit event: the exact bytes that Microsoft sent, and the few header fields that everything needs.
//!
//! Records arrive as a JSON array in a body that may be large, late, broken or odd. [`cut`] takes the body apart as
//! a stream without parsing or copying records; [`header`] finds the header fields in one pass over a record. A
//! record that is not understood is still an event: its bytes are delivered, its fields are simply absent.

mod address;
pub mod cut;
mod guid;
pub mod header;
mod lex;
mod marks;
pub mod ndjson;
pub mod normalized;
pub mod record_type;
mod text;
pub mod time;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};

pub use guid::is_guid;
pub use header::Header;
pub use record_type::RecordType;

/// Where an event came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The tenant's id (a GUID), in lower case.
    pub tenant: Arc<str>,
    /// The tenant's name in the configuration.
    pub tenant_name: Arc<str>,
    /// The source's name in the configuration.
    pub source: Arc<str>,
    /// The content type (`Audit.General`), or what the source has in its place.
    pub content_type: Arc<str>,
    /// The unit that held it: the content blob's id, a query's page.
    pub unit: Arc<str>,
}

/// One audit event. Cheap to clone: bytes and origin are shared.
#[derive(Clone)]
pub struct AuditEvent {
    raw: Bytes,
    header: Header,
    origin: Arc<Origin>,
}

impl AuditEvent {
    /// Takes a record as it was cut from a body. Never fails: fields that cannot be read are absent.
    #[must_use]
    pub fn new(raw: Bytes, origin: Arc<Origin>) -> Self {
        let header = Header::scan(&raw);
        Self::with_header(raw, header, origin)
    }

    /// Takes a record whose header is known. `header` is that of `raw`.
    pub(crate) fn with_header(raw: Bytes, header: Header, origin: Arc<Origin>) -> Self {
        debug_assert_eq!(header, Header::scan(&raw));
        Self {
            raw,
            header,
            origin,
        }
    }

    /// The same event with its bytes in another place. `raw` holds the same bytes.
    pub(crate) fn moved_to(&self, raw: Bytes) -> Self {
        debug_assert_eq!(self.raw, raw);
        Self {
            raw,
            header: self.header,
            origin: Arc::clone(&self.origin),
        }
    }

    /// The record's bytes, exactly as Microsoft sent them.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// `Id`, if there is one that is not empty. Usually a GUID, but not always, and not always unique.
    #[must_use]
    pub fn id(&self) -> Option<Cow<'_, str>> {
        self.header.id.text(&self.raw)
    }

    /// `CreationTime` in UTC (audit schema: the value has no zone and means UTC).
    #[must_use]
    pub fn created(&self) -> Option<DateTime<Utc>> {
        self.header.created
    }

    /// `Operation`: the activity's name, as `CreateFlow`.
    #[must_use]
    pub fn operation(&self) -> Option<Cow<'_, str>> {
        self.header.operation.text(&self.raw)
    }

    /// `Workload`: the service, as `MicrosoftFlow`.
    #[must_use]
    pub fn workload(&self) -> Option<Cow<'_, str>> {
        self.header.workload.text(&self.raw)
    }

    /// `Workload` as it stands in the record, escapes and all; empty if there is none.
    pub(crate) fn raw_workload(&self) -> &[u8] {
        self.header.workload.bytes(&self.raw)
    }

    /// `RecordType`, from an integer, a numeric string or a known name.
    #[must_use]
    pub fn record_type(&self) -> Option<RecordType> {
        self.header.record_type
    }

    /// `UserId`: a user's principal name in general, but may be a GUID, a SID or a service's name.
    #[must_use]
    pub fn user_id(&self) -> Option<Cow<'_, str>> {
        self.header.user_id.text(&self.raw)
    }

    /// `OrganizationId`: the tenant as the record itself names it.
    #[must_use]
    pub fn organization_id(&self) -> Option<Cow<'_, str>> {
        self.header.organization_id.text(&self.raw)
    }

    /// The client's address, and its port if there is one: of `ClientIP`, or of `ClientIPAddress` if that holds no
    /// address. Read on demand.
    #[must_use]
    pub fn client(&self) -> Option<(IpAddr, Option<u16>)> {
        address::first(&header::top_level_texts(&self.raw, address::FIELDS))
    }
}

impl fmt::Debug for AuditEvent {
    /// Never the record itself: records hold personal data and matched secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditEvent")
            .field("id", &self.id())
            .field("operation", &self.operation())
            .field("bytes", &self.raw.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod real_records;
#[cfg(test)]
mod speed;
