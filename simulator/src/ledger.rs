//! The truth about what a tenant shows: one entry for each record in each blob, written by the
//! generator and never read from a served body.

use std::{collections::HashMap, sync::Arc, vec};

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    catalogue::{Blob, Content},
    state::State,
};

/// One occurrence of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Tenant id.
    pub tenant: String,
    /// Name of the feed.
    pub content_type: String,
    /// Content id of the blob.
    pub blob: String,
    /// Place in the blob, from 0.
    pub index: usize,
    /// The record's `Id`; `None` when missing or empty.
    pub id: Option<String>,
    /// SHA-256 of the record's exact bytes, in hexadecimal.
    pub sha256: String,
    /// The earlier occurrence that this one repeats: same tenant, `Id`, `CreationTime` (to the
    /// second), `Operation` and bytes. Records that lack one of them repeat nothing. Earlier means
    /// earlier in the ledger, not in listings: a late blob may show what a later one repeats.
    pub repeats: Option<Position>,
    /// When the blob appears in listings.
    pub visible_at: DateTime<Utc>,
}

/// A place in a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Content id.
    pub blob: String,
    /// Place in the blob, from 0.
    pub index: usize,
}

/// Writes the ledger anew, blob by blob; holds one blob's entries at a time.
pub struct Ledger {
    blobs: vec::IntoIter<(String, Arc<Blob>)>,
    ready: vec::IntoIter<Entry>,
    /// First occurrences of given records; generated ones know theirs.
    seen: HashMap<(String, [u8; 32]), Position>,
}

impl Ledger {
    /// The ledger of all tenants, with every blob that exists now, listed yet or not.
    pub(crate) fn new(state: &State) -> Self {
        let blobs: Vec<(String, Arc<Blob>)> = state
            .tenants
            .iter()
            .flat_map(|tenant| {
                tenant
                    .blobs()
                    .into_iter()
                    .map(|blob| (tenant.id.to_string(), blob))
            })
            .collect();
        Self {
            blobs: blobs.into_iter(),
            ready: Vec::new().into_iter(),
            seen: HashMap::new(),
        }
    }

    fn entries(&mut self, tenant: &str, blob: &Arc<Blob>) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut add = |id: Option<String>, digest: [u8; 32], repeats: Option<Position>| {
            entries.push(Entry {
                tenant: tenant.to_owned(),
                content_type: blob.content_type.name().to_owned(),
                blob: blob.id.to_string(),
                index: entries.len(),
                id,
                sha256: hex(&digest),
                repeats,
                visible_at: blob.visible_at,
            });
        };
        match &blob.content {
            Content::Generated(recipe, number) => recipe.each(*number, |bytes, written| {
                let position = |(blob, index)| Position {
                    blob: recipe.content_id(blob),
                    index,
                };
                add(
                    written.meta.id,
                    Sha256::digest(bytes).into(),
                    written.same_as.map(position),
                );
                true
            }),
            Content::Records(records) => {
                for (index, record) in records.iter().enumerate() {
                    let digest: [u8; 32] = Sha256::digest(record).into();
                    let (id, identified) = identity(record);
                    let here = Position {
                        blob: blob.id.to_string(),
                        index,
                    };
                    let repeats = match self.seen.entry((tenant.to_owned(), digest)) {
                        std::collections::hash_map::Entry::Occupied(first) => {
                            identified.then(|| first.get().clone())
                        }
                        std::collections::hash_map::Entry::Vacant(first) => {
                            first.insert(here);
                            None
                        }
                    };
                    add(id, digest, repeats);
                }
            }
            Content::Body(_) => {}
            Content::Again(first) => return self.again(tenant, blob, first),
        }
        entries
    }

    /// A blob that came before under another id: everything in it that can repeat does.
    fn again(&mut self, tenant: &str, blob: &Arc<Blob>, first: &Arc<Blob>) -> Vec<Entry> {
        let identified = identified(first);
        let mut entries = self.entries(tenant, first);
        for (entry, identified) in entries.iter_mut().zip(identified) {
            if entry.repeats.is_none() && identified {
                entry.repeats = Some(Position {
                    blob: first.id.to_string(),
                    index: entry.index,
                });
            }
            entry.blob = blob.id.to_string();
            entry.visible_at = blob.visible_at;
        }
        entries
    }
}

impl Iterator for Ledger {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.ready.next() {
                return Some(entry);
            }
            let (tenant, blob) = self.blobs.next()?;
            self.ready = self.entries(&tenant, &blob).into_iter();
        }
    }
}

/// For each record of a blob, whether a second copy of it can be told.
fn identified(blob: &Blob) -> Vec<bool> {
    let mut all = Vec::new();
    match &blob.content {
        Content::Generated(recipe, number) => recipe.each(*number, |_, written| {
            all.push(written.meta.identified);
            true
        }),
        Content::Records(records) => all.extend(records.iter().map(|record| identity(record).1)),
        Content::Body(_) => {}
        Content::Again(first) => return identified(first),
    }
    all
}

/// The parts of a given record's identity.
#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "Id", default)]
    id: serde_json::Value,
    #[serde(rename = "CreationTime", default)]
    time: serde_json::Value,
    #[serde(rename = "Operation", default)]
    operation: serde_json::Value,
}

/// A given record's Id, and whether it has everything that tells a second copy.
pub(crate) fn identity(record: &Bytes) -> (Option<String>, bool) {
    let Ok(parts) = serde_json::from_slice::<Identity>(record) else {
        return (None, false);
    };
    let id = parts
        .id
        .as_str()
        .filter(|id| !id.is_empty())
        .map(str::to_owned);
    let timed = parts.time.as_str().is_some_and(readable);
    let identified = id.is_some() && timed && parts.operation.is_string();
    (id, identified)
}

fn readable(time: &str) -> bool {
    let zone_less = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    DateTime::parse_from_rfc3339(time).is_ok()
        || zone_less
            .iter()
            .any(|form| NaiveDateTime::parse_from_str(time, form).is_ok())
}

fn hex(digest: &[u8; 32]) -> String {
    digest
        .iter()
        .fold(String::with_capacity(64), |mut text, byte| {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
            text
        })
}
