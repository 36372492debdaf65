//! Reading the records of a query that has succeeded.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit_exporter_core::plugin::{Unit, UnitWriter};
use audit_exporter_core::{Error, Kind, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::client::Client;
use super::errors::{BAD_REQUEST, NOT_FOUND};
use super::record::{self, Page};
use crate::sources::patience;
use crate::sources::slices::Slice;

/// A query whose readings go on to differ is given up to the later passes after so many.
const MOST_READINGS: usize = 6;
/// A page is asked for so often before the unit is put off.
const PAGE_TRIES: u32 = 3;
/// The wait before a page is asked for once more; it doubles.
const PAGE_WAIT: Duration = Duration::from_millis(100);
/// No query has more pages, short of a service that goes round in circles.
const MOST_PAGES: usize = 200_000;
/// Fetches of a unit that break off behind its first page before its time is searched in halves: paging was seen to break
/// off for good after some 20,000 records (reference: graph-audit-queries.md §7).
const MOST_BREAKS: u32 = 3;
/// One whose first page fails for so long is searched in halves too: no outage lasts so long. Each query costs a part of
/// the day's quota.
const LONGEST_FAILURE: Duration = Duration::from_hours(3);
/// Fetches that find the query gone before it is created again: the first may have asked a server that has not heard of
/// it.
const MOST_ABSENCES: u32 = 2;

/// Where a unit's records are, beside its id, which is the query's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Locator {
    /// The time that was searched.
    pub(super) slice: Slice,
    /// The tenant is served by `/beta` alone.
    pub(super) beta: bool,
}

/// What is to be done about a unit that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cure {
    /// Search its time once more: the query is gone.
    Again,
    /// Search its time in halves.
    Split,
}

/// A unit that cannot be read, the time that it stands for, and what is to be done.
pub(super) type Unreadable = (Arc<str>, Slice, Cure);

/// Reads records, and tells the lister of what cannot be read.
pub(super) struct Fetcher {
    client: Arc<Client>,
    read_twice: bool,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// Units whose time is searched anew.
    replaced: HashSet<String>,
    failures: HashMap<Arc<str>, Failures>,
    unreadable: Vec<Unreadable>,
}

/// How fetches of a unit have failed.
struct Failures {
    since: Instant,
    breaks: u32,
    absences: u32,
}

impl Fetcher {
    pub(super) fn new(client: Arc<Client>, read_twice: bool) -> Self {
        Self {
            client,
            read_twice,
            notes: Mutex::default(),
        }
    }

    /// The units that could not be read since this was last asked.
    pub(super) fn unreadable(&self) -> Vec<Unreadable> {
        mem::take(&mut self.notes().unreadable)
    }

    /// The units that need not be read, because their time is searched anew.
    pub(super) fn replace<'u>(&self, units: impl Iterator<Item = &'u String>) {
        self.notes().replaced = units.cloned().collect();
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a unit until a reading brings nothing new.
    pub(super) async fn fetch(&self, unit: &Unit, out: &mut UnitWriter) -> Result<()> {
        if self.notes().replaced.contains(&*unit.id) {
            return Ok(());
        }
        let locator: Locator = serde_json::from_str(&unit.locator).map_err(|error| {
            Error::lost("where the query's records are was written by another version")
                .with_cause(error)
        })?;
        if locator.beta {
            self.client.set_beta(true);
        }
        let mut seen = Seen::new();
        let read = self.read(unit, &mut seen, out).await;
        match &read {
            Ok(()) => {
                self.notes().failures.remove(&unit.id);
            }
            Err(error) => {
                if let Some(cure) = self.cure(unit, error, seen.broke_off) {
                    let unreadable = (Arc::clone(&unit.id), locator.slice, cure);
                    self.notes().unreadable.push(unreadable);
                    out.list_again();
                }
            }
        }
        read
    }

    /// What is to be done about a unit, beside reading it again, after an error.
    pub(super) fn cure(&self, unit: &Unit, error: &Error, broke_off: bool) -> Option<Cure> {
        if error.kind() != Kind::Unavailable {
            return None;
        }
        let is_absent = error.code() == Some(NOT_FOUND);
        let mut notes = self.notes();
        let failures = notes.failures.entry(Arc::clone(&unit.id));
        let failures = failures.or_insert_with(|| Failures {
            since: Instant::now(),
            breaks: 0,
            absences: 0,
        });
        failures.absences += u32::from(is_absent);
        failures.breaks += u32::from(broke_off && !is_absent);
        if failures.absences >= MOST_ABSENCES {
            return Some(Cure::Again);
        }
        let is_hopeless = failures.breaks >= MOST_BREAKS
            || (!is_absent && failures.since.elapsed() >= LONGEST_FAILURE);
        is_hopeless.then_some(Cure::Split)
    }

    async fn read(&self, unit: &Unit, seen: &mut Seen, out: &mut UnitWriter) -> Result<()> {
        for reading in 1..=MOST_READINGS {
            let new = self.reading(unit, seen, out).await?;
            if !self.read_twice || (reading > 1 && new == 0) {
                return Ok(());
            }
            if reading > 1 {
                tracing::info!(query = %unit.id, reading, new, "another reading of the query brought more records");
            }
        }
        tracing::warn!(query = %unit.id, "the readings of the query go on to differ; the later passes search its time again");
        Ok(())
    }

    /// Reads all pages and writes what is new. Returns how much that was.
    async fn reading(&self, unit: &Unit, seen: &mut Seen, out: &mut UnitWriter) -> Result<usize> {
        let mut url = self.client.records(&unit.id);
        let mut new = 0;
        for number in 1..=MOST_PAGES {
            // What fails from here on is the paging; below, it would be the journal.
            seen.broke_off = number > 1;
            let body = self.page(&url, out).await?;
            out.has_read_a_page();
            seen.broke_off = true;
            let page = Page::read(&body)?;
            seen.broke_off = false;
            for row in page.rows {
                if seen.is_new(row.get()) {
                    new += 1;
                    out.record(record::clean(row)).await?;
                }
            }
            seen.broke_off = true;
            fail::fail_point!("source::fetch");
            let Some(next) = page.next else {
                return Ok(new);
            };
            let next = self.client.handed_out(&next, &unit.id)?;
            if next == url {
                return Err(Error::unavailable(
                    "a page of records names itself as the next",
                ));
            }
            url = next;
        }
        let message = format!("the query has more than {MOST_PAGES} pages");
        Err(Error::unavailable(message))
    }

    /// A page, asked for again if the service fails.
    async fn page(&self, url: &Url, out: &mut UnitWriter) -> Result<Bytes> {
        let mut tries = 0;
        loop {
            let error = match patience::page(out, || self.client.page(url.clone())).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            // An address of a page that has expired: the reading begins anew.
            if error.code() == Some(BAD_REQUEST) {
                return Err(Error::unavailable(error.to_string()).with_code(BAD_REQUEST));
            }
            tries += 1;
            let asked_for = error.retry_after();
            let wait = asked_for.unwrap_or(PAGE_WAIT * (1 << tries));
            let is_passing = error.kind() == Kind::Unavailable && error.code() != Some(NOT_FOUND);
            if !is_passing || tries >= PAGE_TRIES || wait > Duration::from_mins(1) {
                return Err(error);
            }
            match asked_for {
                Some(wait) => out.wait(wait).await?,
                None => tokio::time::sleep(wait).await,
            }
        }
    }
}

/// The records that a fetch has met, by a hash that nobody can prepare collisions for.
struct Seen {
    seed: u64,
    hashes: HashSet<u128>,
    /// What fails now, fails behind the first page, or because of what a page holds.
    broke_off: bool,
}

impl Seen {
    fn new() -> Self {
        Self {
            seed: rand::random(),
            hashes: HashSet::new(),
            broke_off: false,
        }
    }

    fn is_new(&mut self, row: &str) -> bool {
        self.hashes
            .insert(xxh3_128_with_seed(row.as_bytes(), self.seed))
    }
}
