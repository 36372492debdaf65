//! A page of a listing, as units to fetch (reference: management-activity-api.md §3.4).
//!
//! An entry that is not understood is not passed over: it becomes a unit too, which is then counted as lost by name.

use std::collections::HashMap;
use std::sync::Arc;

use audit_exporter_core::plugin::{LaneKind, Unit};
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

/// Content is live while it is younger than this.
const LIVE: TimeDelta = TimeDelta::hours(1);
/// How long content can be fetched if its listing does not say.
const KEPT: TimeDelta = TimeDelta::days(7);

/// A time further away from the present is a mistake, and is treated as missing. Content is kept for days.
const PLAUSIBLE: TimeDelta = TimeDelta::days(366);

/// The locator of an entry that names neither an id nor an address.
pub(super) const NOWHERE: &str = "";

/// What is of use of an entry. Each field is read by itself: one that is not a text takes no other with it.
#[derive(Default)]
struct Entry {
    id: Option<String>,
    uri: Option<String>,
    created: Option<String>,
    expiration: Option<String>,
}

impl Entry {
    fn read(raw: &RawValue) -> Self {
        let fields: HashMap<String, &RawValue> =
            serde_json::from_str(raw.get()).unwrap_or_default();
        let text = |name: &str| serde_json::from_str(fields.get(name)?.get()).ok();
        Self {
            id: text("contentId"),
            uri: text("contentUri"),
            created: text("contentCreated"),
            expiration: text("contentExpiration"),
        }
    }
}

/// The content blobs of a page, seen at `now`. Fails if the page is not a JSON array: it was cut off, or is no page.
pub(super) fn units(
    page: &[u8],
    content_type: &Arc<str>,
    now: DateTime<Utc>,
    uri_of: impl Fn(&str) -> String,
) -> Result<Vec<Unit>> {
    let entries: Vec<&RawValue> = serde_json::from_slice(page).map_err(|error| {
        Error::unavailable("the page is not a list of content").with_cause(error)
    })?;
    let unit = |raw: &RawValue| {
        let entry = Entry::read(raw);
        let uri = entry.uri.filter(|uri| !uri.trim().is_empty());
        let id = entry
            .id
            .filter(|id| !id.trim().is_empty())
            .or_else(|| uri.as_deref().and_then(last_segment).map(str::to_owned));
        let locator = uri.or_else(|| id.as_deref().map(&uri_of));
        let id = id.unwrap_or_else(|| nameless(content_type, raw.get()));
        if locator.is_none() {
            tracing::error!(%content_type, unit = id, "the service listed content that it does not name");
        }
        let time = |text: &String| time(text, now);
        let created = entry.created.as_ref().and_then(time).unwrap_or(now);
        let kept = || created.checked_add_signed(KEPT).unwrap_or(created);
        Unit {
            id: id.into(),
            content_type: Arc::clone(content_type),
            locator: locator.unwrap_or_else(|| NOWHERE.to_owned()),
            created,
            expires: entry
                .expiration
                .as_ref()
                .and_then(time)
                .unwrap_or_else(kept),
            lane: if now.signed_duration_since(created) < LIVE {
                LaneKind::Live
            } else {
                LaneKind::CatchUp
            },
        }
    };
    Ok(entries.into_iter().map(unit).collect())
}

fn last_segment(uri: &str) -> Option<&str> {
    let path = uri.split(['?', '#']).next()?;
    path.rsplit('/')
        .next()
        .filter(|segment| !segment.is_empty())
}

/// The same entry gets the same name in each listing, by this version or another: FNV-1a, because the standard
/// library's hasher may change with any release.
fn nameless(content_type: &str, entry: &str) -> String {
    let hash = entry.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("nameless-{content_type}-{hash:016x}")
}

/// RFC 3339, or the same without a zone, which then is UTC. Nothing that is not near `now`.
pub(super) fn time(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let text = text.trim();
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .or_else(|_| text.parse::<NaiveDateTime>().map(|time| time.and_utc()))
        .ok()
        .filter(|time| time.signed_duration_since(now).abs() <= PLAUSIBLE)
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
