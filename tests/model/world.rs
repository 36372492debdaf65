//! A history while it runs: the time, what was asked so far, and what the account needs to know about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use audit_exporter_core::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::history::{Call, DAY, HOUR, History, MINUTE, Millis, What};
use super::random::start;

/// A history that runs.
pub(crate) struct World {
    pub(crate) history: History,
    began: Instant,
    seen: Mutex<Seen>,
    /// The call at which the present life ends is under way.
    pub(crate) reached: Notify,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    calls: BTreeMap<Call, usize>,
    /// How many more calls of a kind until the present life ends.
    trigger: Option<(Call, usize)>,
    /// From when to when something kept the exporter from its work. Not sorted.
    pub(crate) disruptions: Vec<(Millis, Millis)>,
    pub(crate) subscribed: BTreeSet<(usize, &'static str)>,
    /// Windows that were listed to their last page.
    pub(crate) listings: Vec<Listing>,
    /// By blob.
    pub(crate) fetches: BTreeMap<usize, Fetches>,
    /// What no client may do.
    pub(crate) offences: Vec<String>,
}

/// A window that was listed to its last page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing {
    pub(crate) tenant: usize,
    pub(crate) content_type: &'static str,
    pub(crate) from: Millis,
    pub(crate) to: Millis,
    /// When its first page was asked for.
    pub(crate) at: Millis,
}

/// How the fetches of a blob went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fetches {
    pub(crate) asked: u32,
    /// Bodies that were served, whole.
    pub(crate) whole: u32,
    /// Bodies that broke off.
    pub(crate) broken: u32,
    /// Answers that it has expired.
    pub(crate) gone: u32,
}

impl World {
    pub(crate) fn new(history: History) -> Self {
        Self {
            history,
            began: Instant::now(),
            seen: Mutex::default(),
            reached: Notify::new(),
        }
    }

    /// Microsoft's time.
    pub(crate) fn now(&self) -> Millis {
        self.began.elapsed().as_millis() as Millis
    }

    /// The exporter's clock.
    pub(crate) fn clock(&self) -> Clock {
        Clock::starting_at(time(self.now() + self.history.skew))
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the life at the `nth` call of this kind from now on.
    pub(crate) fn end_at(&self, trigger: Option<(Call, usize)>) {
        self.seen().trigger = trigger;
    }

    /// Counts a call, and says what it suffers.
    pub(crate) fn call(&self, call: Call) -> Option<What> {
        let mut seen = self.seen();
        let count = seen.calls.entry(call).or_default();
        let nth = *count;
        *count += 1;
        if let Some((kind, left)) = &mut seen.trigger
            && *kind == call
        {
            if *left == 0 {
                seen.trigger = None;
                self.reached.notify_one();
            } else {
                *left -= 1;
            }
        }
        drop(seen);
        let faults = &self.history.faults;
        let fault = faults
            .iter()
            .find(|fault| fault.call == call && fault.nth == nth);
        let fault = fault.map(|fault| fault.what);
        let now = self.now();
        if call != Call::Deliver && self.is_back_after_days() {
            return None;
        }
        let mut outages = self.history.outages.iter();
        if outages.any(|(from, to)| (*from..*to).contains(&now)) && call != Call::Deliver {
            return Some(What::Unavailable);
        }
        fault
    }

    /// Whether the exporter was away for days until an hour ago. What has expired for two days is given up at the first
    /// failure, whatever failed; whether Microsoft was asked for it would be left to chance.
    fn is_back_after_days(&self) -> bool {
        let (now, seen) = (self.now(), self.seen());
        let mut disruptions = seen.disruptions.iter();
        disruptions.any(|(from, to)| to - from > 2 * DAY && (*to - HOUR..*to + HOUR).contains(&now))
    }

    /// Something keeps the exporter from its work.
    pub(crate) fn disrupt(&self, from: Millis, to: Millis) {
        self.seen().disruptions.push((from, to));
    }

    /// A fault, and the longest back-off that it may cause.
    pub(crate) fn suffer(&self, what: What) {
        let longest = match what {
            What::Throttled429(Some(seconds)) => Millis::from(seconds) * 1_000 + MINUTE,
            What::Throttled403 | What::Throttled429(None) => 11 * MINUTE,
            // Refused credentials are tried again ever more slowly.
            What::Unauthorized => 70 * MINUTE,
            _ => 16 * MINUTE,
        };
        let now = self.now();
        self.disrupt(now, now + longest);
    }

    /// What no client may do.
    pub(crate) fn offence(&self, what: String) {
        self.seen().offences.push(what);
    }

    /// A number that looks random, the same for the same question.
    pub(crate) fn chance(&self, question: usize, of: u64) -> u64 {
        let mixed = (self.history.seed ^ (question as u64).rotate_left(32))
            .wrapping_add(0x9e37_79b9_7f4a_7c15)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 29)) % of
    }

    /// How many calls of all kinds there were.
    pub(crate) fn calls(&self) -> usize {
        self.seen().calls.values().sum()
    }
}

/// A moment of the model's as a time.
pub(crate) fn time(at: Millis) -> DateTime<Utc> {
    start() + TimeDelta::milliseconds(at)
}

/// A tenant's id.
pub(crate) fn tenant_id(tenant: usize) -> String {
    format!("{:08x}-1111-4111-8111-111111111111", tenant + 1)
}

/// A blob's `contentId`.
pub(crate) fn blob_id(blob: usize) -> String {
    format!("blob{blob}$blob{blob}$audit$Audit")
}
