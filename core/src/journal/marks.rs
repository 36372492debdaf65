//! What the thread that writes needs to know of each event, found out where the events are at hand.

use std::collections::BTreeMap;

use super::Journal;
use super::commit::{Commit, Hour, hour_of};
use crate::dedupe::Fingerprint;

/// The workload of events that name none, or whose name is none: records are foreign text, and each name is a row.
pub(super) const OTHER: &str = "other";
/// Microsoft's names are shorter, and of letters and digits.
const LONGEST_NAME: usize = 48;

/// One event's.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) fingerprint: Fingerprint,
    /// What it counts for: one of [`Marks::kinds`].
    pub(super) kind: u32,
}

/// What an event counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CountsFor {
    pub(super) hour: Hour,
    /// The number of its workload.
    pub(super) workload: u32,
}

/// Those of a batch.
#[derive(Debug, Default)]
pub(super) struct Marks {
    pub(super) events: Vec<Mark>,
    /// All that its events count for. They are many, these are few.
    pub(super) kinds: Vec<CountsFor>,
    workloads: Vec<Box<str>>,
}

impl Marks {
    /// The name of a workload.
    pub(super) fn workload(&self, number: u32) -> &str {
        self.workloads
            .get(number as usize)
            .map_or(OTHER, |name| name)
    }
}

impl Journal {
    /// Marks a batch's events. This is most of the work, and it reads foreign bytes: not for the one thread that writes.
    pub(super) fn marks(&self, commit: &Commit) -> Marks {
        let mut marks = Marks::default();
        marks.events.reserve_exact(commit.events.len());
        let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
        let mut kinds: BTreeMap<CountsFor, u32> = BTreeMap::new();
        // Most events of a batch are of the workload and the hour of the one before.
        let mut last: Option<(&[u8], u32)> = None;
        let mut last_kind: Option<(CountsFor, u32)> = None;
        for (offset, event) in commit.events.iter().enumerate() {
            let bytes = event.raw_workload();
            let workload = match last {
                Some((before, number)) if before == bytes => number,
                _ => {
                    let name = name_of(bytes);
                    *numbers.entry(name).or_insert_with(|| {
                        marks.workloads.push(name.into());
                        marks.workloads.len() as u32 - 1
                    })
                }
            };
            last = Some((bytes, workload));
            let hour = hour_of(event);
            let counts_for = CountsFor { hour, workload };
            let kind = match last_kind {
                Some((before, number)) if before == counts_for => number,
                _ => *kinds.entry(counts_for).or_insert_with(|| {
                    marks.kinds.push(counts_for);
                    marks.kinds.len() as u32 - 1
                }),
            };
            last_kind = Some((counts_for, kind));
            let (stream, index) = (commit.stream.number, commit.first_index + offset as u64);
            marks.events.push(Mark {
                fingerprint: self.fingerprinter.of(event, stream, index),
                kind,
            });
        }
        marks
    }
}

fn name_of(workload: &[u8]) -> &str {
    let is_name = (1..=LONGEST_NAME).contains(&workload.len())
        && workload.iter().all(u8::is_ascii_alphanumeric);
    let name = is_name
        .then(|| std::str::from_utf8(workload).ok())
        .flatten();
    name.unwrap_or(OTHER)
}
