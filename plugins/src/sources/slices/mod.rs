//! Searching an audit log by the time of its events, slice by slice: which slices are due, and how far that is.
//!
//! A service that can only be asked "what happened from A to B" has no list of what is new. So time is cut into slices.
//! A slice is first searched when its end has settled; because records show up late, each time is searched again in
//! later passes, the later the wider. What this promises:
//!
//! - Slices of one pass lie side by side: no second is left out, whatever stops, fails or waits.
//! - A later pass does the work of the earlier ones too: after a standstill nothing is searched twice for nothing, and
//!   what has piled up comes in slices as long as the schedule allows.
//! - Nothing counts as searched before its slice is finished, those that came before it included.
//!
//! No protocol is in here. A source keeps a [`Plan`] in its checkpoint, with whatever it must remember of a search that
//! is under way as each slice's state.

mod plan;

pub(crate) use plan::Plan;

use std::fmt;

use audit_exporter_core::plugin::LaneKind;
use chrono::{DateTime, DurationRound, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How many seconds after a time it is searched; 0 is the first search.
pub(crate) type Lag = i64;

/// The pass of what somebody asked for beside: behind all others, and none of theirs.
const BACKFILL: Lag = Lag::MAX;

/// What a first search finds is live if it is no older than this.
const LIVE: TimeDelta = TimeDelta::hours(3);

/// When what is searched, by the options.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// How long a slice of the first search is; longer only if more has piled up.
    pub(crate) slice: TimeDelta,
    /// How long a slice may become at most.
    pub(crate) longest: TimeDelta,
    /// How long after its end a slice is first searched.
    pub(crate) settle: TimeDelta,
    /// After which lags each time is searched again. Rising.
    pub(crate) again: Vec<Lag>,
    /// How far back the first search of all begins.
    pub(crate) start: TimeDelta,
    /// How far back the service can search.
    pub(crate) kept: TimeDelta,
}

impl Schedule {
    /// The length of a pass's usual slices. A later pass waits until as much has come together as its lag is long: it
    /// is as late as before, at most twice, and asks seldom.
    fn usual(&self, pass: Lag) -> TimeDelta {
        if pass == 0 {
            return self.slice;
        }
        TimeDelta::seconds(pass).clamp(self.slice, self.longest.max(self.slice))
    }

    /// Up to where a pass is due at `now`: whole slices of its usual length alone.
    fn due_to(&self, pass: Lag, now: DateTime<Utc>) -> DateTime<Utc> {
        let lag = if pass == 0 {
            self.settle
        } else {
            TimeDelta::seconds(pass)
        };
        floor(now - lag, self.usual(pass))
    }

    /// All passes, the first search first.
    fn passes(&self) -> impl DoubleEndedIterator<Item = Lag> {
        std::iter::once(0).chain(self.again.iter().copied())
    }

    /// How many searches a day of ordinary running takes.
    pub(crate) fn searches_a_day(&self) -> i64 {
        let day = TimeDelta::days(1).num_seconds();
        let searches = |pass| day / self.usual(pass).num_seconds().clamp(1, day);
        self.passes().map(searches).sum()
    }
}

/// A stretch of event time to search: from `from` (included) to `to` (excluded), in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// Where it begins.
    pub(crate) from: DateTime<Utc>,
    /// Where it ends.
    pub(crate) to: DateTime<Utc>,
    /// The first of the passes whose work it does: 0 if any of it was never searched before.
    pub(crate) pass: Lag,
}

impl Slice {
    /// Its two halves; none if it is too short to have any.
    pub(crate) fn halves(self) -> Option<[Self; 2]> {
        let middle = self.from + TimeDelta::seconds((self.to - self.from).num_seconds() / 2);
        let halves = [
            Self { to: middle, ..self },
            Self {
                from: middle,
                ..self
            },
        ];
        (self.from < middle).then_some(halves)
    }

    /// The moment that a unit with its records counts for: its last. An hour's events are settled when the content of
    /// the day after it is, so a slice of up to a day that waits keeps all of its hours open.
    pub(crate) fn moment(self) -> DateTime<Utc> {
        self.to - TimeDelta::milliseconds(1)
    }

    /// Which pass it is, in words.
    pub(crate) fn which(self) -> String {
        match self.pass {
            BACKFILL => "by request".to_owned(),
            pass => format!("after {pass} s"),
        }
    }

    /// Live, or catch-up.
    pub(crate) fn lane(self, now: DateTime<Utc>) -> LaneKind {
        if self.pass == 0 && now - self.to <= LIVE {
            LaneKind::Live
        } else {
            LaneKind::CatchUp
        }
    }
}

/// `2026-07-16T09:00:00Z/2026-07-16T09:30:00Z`, as in ISO 8601.
impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        write!(f, "{}/{}", time(self.from), time(self.to))
    }
}

/// The last multiple of `step` that is not after `time`.
fn floor(time: DateTime<Utc>, step: TimeDelta) -> DateTime<Utc> {
    time.duration_trunc(step).unwrap_or(time)
}

#[cfg(test)]
mod tests;
