//! A tenant's events in the order in which they happened, whatever blobs they came in.
//!
//! An event is one that the ledger does not call a repetition. Its bytes are made again when they are asked for, so
//! the index holds what can be searched by, and no more.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::value::RawValue;

use crate::{
    catalogue::{Blob, Content},
    ledger,
};

/// One event.
pub(crate) struct Event {
    /// `CreationTime`; of an event without one, when its blob was made.
    pub(crate) at: DateTime<Utc>,
    /// When it can be found.
    pub(super) visible_at: DateTime<Utc>,
    pub(crate) id: String,
    pub(super) operation: String,
    pub(super) user: String,
    pub(crate) record_type: i64,
    blob: Arc<Blob>,
    place: usize,
}

/// All events of a tenant, of as many of its blobs as were read.
#[derive(Default)]
pub(super) struct Index {
    events: Vec<Event>,
    blobs: usize,
    /// Given records that were met; generated ones know what they repeat.
    seen: HashSet<Bytes>,
}

/// Which events are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
    /// In lower case; none = any.
    pub(crate) operations: Vec<String>,
    /// The same.
    pub(crate) users: Vec<String>,
}

impl Filter {
    fn takes(&self, event: &Event, now: DateTime<Utc>) -> bool {
        let one_of = |wanted: &[String], text: &str| {
            wanted.is_empty() || wanted.contains(&text.to_lowercase())
        };
        (self.from..self.to).contains(&event.at)
            && event.visible_at <= now
            && one_of(&self.operations, &event.operation)
            && one_of(&self.users, &event.user)
    }
}

impl Index {
    /// How many of the tenant's blobs it holds.
    pub(super) fn blobs(&self) -> usize {
        self.blobs
    }

    /// Adds the events of further blobs.
    pub(super) fn extend(&mut self, blobs: Vec<Arc<Blob>>) {
        self.blobs += blobs.len();
        for blob in blobs {
            let mut add =
                |record: &[u8], place| self.events.push(Event::read(record, &blob, place));
            match &blob.content {
                Content::Generated(recipe, number) => {
                    let mut place = 0;
                    recipe.each(*number, |record, written| {
                        if written.same_as.is_none() {
                            add(record, place);
                        }
                        place += 1;
                        true
                    });
                }
                Content::Records(records) => {
                    for (place, record) in records.iter().enumerate() {
                        if self.seen.insert(record.clone()) || !ledger::identity(record).1 {
                            add(record, place);
                        }
                    }
                }
                // What comes again is the same, and what is no record is not in the log.
                Content::Again(_) | Content::Body(_) => {}
            }
        }
    }

    /// The numbers of the events that a filter takes, in the order of their times.
    pub(super) fn find(&self, filter: &Filter, now: DateTime<Utc>) -> Vec<usize> {
        let takes = |number: &usize| filter.takes(&self.events[*number], now);
        let mut found: Vec<usize> = (0..self.events.len()).filter(takes).collect();
        found.sort_by_key(|number| self.events[*number].at);
        found
    }

    /// The events of these numbers, each with its record.
    pub(super) fn records(&self, numbers: &[usize]) -> Vec<(&Event, Bytes)> {
        let mut wanted: HashMap<&str, (&Arc<Blob>, BTreeMap<usize, Bytes>)> = HashMap::new();
        for number in numbers {
            let event = &self.events[*number];
            let (_, places) = wanted
                .entry(&event.blob.id)
                .or_insert_with(|| (&event.blob, BTreeMap::new()));
            places.insert(event.place, Bytes::new());
        }
        for (blob, places) in wanted.values_mut() {
            fill(blob, places);
        }
        let record = |number: &usize| {
            let event = &self.events[*number];
            let record = wanted[&*event.blob.id].1[&event.place].clone();
            (event, record)
        };
        numbers.iter().map(record).collect()
    }
}

/// Makes the records at these places of a blob.
fn fill(blob: &Blob, places: &mut BTreeMap<usize, Bytes>) {
    match &blob.content {
        Content::Generated(recipe, number) => {
            let last = places.last_key_value().map_or(0, |(place, _)| *place);
            let mut here = 0;
            recipe.each(*number, |record, _| {
                if let Some(place) = places.get_mut(&here) {
                    *place = Bytes::copy_from_slice(record);
                }
                here += 1;
                here <= last
            });
        }
        Content::Records(records) => {
            for (place, record) in places {
                *record = records[*place].clone();
            }
        }
        Content::Again(_) | Content::Body(_) => {}
    }
}

impl Event {
    fn read(record: &[u8], blob: &Arc<Blob>, place: usize) -> Self {
        let fields: HashMap<String, &RawValue> = serde_json::from_slice(record).unwrap_or_default();
        let text = |name: &str| {
            let field = fields.get(name)?;
            serde_json::from_str::<String>(field.get()).ok()
        };
        let number = |name: &str| {
            let field = fields.get(name)?;
            field.get().trim_matches('"').parse().ok()
        };
        Self {
            at: text("CreationTime")
                .and_then(|text| time(&text))
                .unwrap_or(blob.created),
            visible_at: blob.visible_at,
            id: text("Id").unwrap_or_default(),
            operation: text("Operation").unwrap_or_default(),
            user: text("UserId").unwrap_or_default(),
            record_type: number("RecordType").unwrap_or_default(),
            blob: Arc::clone(blob),
            place,
        }
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    let zone_less = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .ok()
        .or_else(|| {
            let read = |form| NaiveDateTime::parse_from_str(text, form).ok();
            zone_less
                .into_iter()
                .find_map(read)
                .map(|time| time.and_utc())
        })
}
