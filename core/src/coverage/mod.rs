//! The completeness account: what is known of each hour, and whether more of it may still come.
//!
//! There are two accounts of each tenant. *Content*, by the hour in which Microsoft made it available: what was listed,
//! and what became of it. *Events*, by the hour of `CreationTime`: what was journaled, and what each sink made of it.
//! The journal keeps the figures, in the transactions of what they count; here they are judged, and nothing else: the
//! judgement is a pure function of the figures and of the time.
//!
//! An hour is settled when the last pass has been over every content hour that could hold its events, and everything
//! that was listed in them is fetched. That is "everything that Microsoft has listed", never "everything that happened".

mod assess;
mod balance;
mod reasons;
pub mod silence;
#[cfg(test)]
mod tests;
mod view;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::Serialize;

pub use assess::assess;
pub(crate) use balance::unbalanced;
pub use view::{ContentRow, Coverage, Passes, Reason, Row, Span, TenantCoverage};

use crate::journal::{Lag, SinkStatus};

/// Hours since 1970.
pub type Hour = i64;

pub(crate) const MS_PER_HOUR: i64 = 3_600_000;
/// Content is at risk this long before it expires: time enough for a person to do something.
pub const RISK_MS: i64 = 3 * 24 * MS_PER_HOUR;
/// Tries after which content counts as failing: half an hour of growing waits.
pub const FAILING: i64 = 10;
/// Events are in content that becomes available within so many hours of their time, in general: the core workloads take
/// an hour or two, some take a day. An event that takes longer is delivered and counted all the same.
pub const DELAY_HOURS: i64 = 24;
/// Days that are shown if nobody says which.
pub const USUAL_DAYS: u64 = 30;

/// What is known of a span of time, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Everything that was listed is fetched, and no pass is still to come.
    Settled,
    /// As settled as it will ever be, for it was not collected from its beginning, or not to its end.
    Partial,
    /// More may come: something waits to be fetched, or a pass is still to come.
    Open,
    /// What waits expires soon, or fails again and again.
    AtRisk,
    /// Some of it was not listed, and cannot be any more.
    Gap,
    /// Content was listed and could not be had.
    Lost,
    /// The figures contradict each other: the account itself is wrong.
    Unbalanced,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Settled,
        Self::Partial,
        Self::Open,
        Self::AtRisk,
        Self::Gap,
        Self::Lost,
        Self::Unbalanced,
    ];

    /// Whether a person should look at it.
    #[must_use]
    pub fn is_bad(self) -> bool {
        self >= Self::AtRisk
    }

    /// Its name for people and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Partial => "partial",
            Self::Open => "open",
            Self::AtRisk => "at risk",
            Self::Gap => "gap",
            Self::Lost => "lost",
            Self::Unbalanced => "unbalanced",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of a pass, as `+6d12h`; of one without a lag, `poll`.
#[must_use]
pub fn pass_name(lag: Lag) -> Cow<'static, str> {
    match (lag / 3600, lag % 3600) {
        (_, 1..) => Cow::Owned(format!("+{lag}s")),
        (..=0, _) => Cow::Borrowed("poll"),
        (hours @ ..=72, _) => Cow::Owned(format!("+{hours}h")),
        (hours, _) => match hours % 24 {
            0 => Cow::Owned(format!("+{}d", hours / 24)),
            rest => Cow::Owned(format!("+{}d{rest}h", hours / 24)),
        },
    }
}

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The tenant's id; every tenant if there is none.
    pub tenant: Option<String>,
    /// The first day; a month before the last if there is none.
    pub from: Option<NaiveDate>,
    /// The last day; today if there is none.
    pub to: Option<NaiveDate>,
    /// Hours rather than days.
    pub hours: bool,
    /// The time now.
    pub now: DateTime<Utc>,
}

impl Question {
    /// About everything of the last month, day by day.
    #[must_use]
    pub fn usual(now: DateTime<Utc>) -> Self {
        Self {
            tenant: None,
            from: None,
            to: None,
            hours: false,
            now,
        }
    }

    /// The first and the last day, given how far sources have listed: their clock may be ahead of ours.
    fn days(&self, listed_to_ms: i64) -> (NaiveDate, NaiveDate) {
        let listed_to = DateTime::from_timestamp_millis(listed_to_ms).unwrap_or(self.now);
        let to = self
            .to
            .unwrap_or_else(|| listed_to.max(self.now).date_naive());
        let from = self
            .from
            .or_else(|| to.checked_sub_days(Days::new(USUAL_DAYS - 1)));
        (from.unwrap_or(to), to)
    }
}

/// One hour of one content type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Content {
    /// Units that were listed.
    pub listed: i64,
    /// Of these: fetched.
    pub fetched: i64,
    /// Of these: lost.
    pub lost: i64,
    /// Of these: waiting.
    pub pending: i64,
    /// Of those that were listed: found by a later pass.
    pub stragglers: i64,
    /// When the first of those that wait expires, in milliseconds since 1970.
    pub next_expiry_ms: Option<i64>,
    /// How often one of those that wait was tried, at most.
    pub attempts: i64,
}

impl Content {
    fn add(&mut self, other: &Self) {
        self.listed += other.listed;
        self.fetched += other.fetched;
        self.lost += other.lost;
        self.pending += other.pending;
        self.stragglers += other.stragglers;
        self.attempts = self.attempts.max(other.attempts);
        let expiries = [self.next_expiry_ms, other.next_expiry_ms];
        self.next_expiry_ms = expiries.into_iter().flatten().min();
    }

    fn is_at_risk(&self, now_ms: i64) -> bool {
        self.attempts >= FAILING || self.next_expiry_ms.is_some_and(|at| at - now_ms < RISK_MS)
    }
}

/// One hour of a tenant's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Events {
    /// Events that were journaled.
    pub journaled: i64,
    /// Events that were dropped because they were journaled before.
    pub repeats: i64,
    /// Of those journaled: with an identity that was known, and other bytes.
    pub variants: i64,
    /// Of those journaled: from stragglers.
    pub late: i64,
}

impl Events {
    fn add(&mut self, other: &Self) {
        self.journaled += other.journaled;
        self.repeats += other.repeats;
        self.variants += other.variants;
        self.late += other.late;
    }
}

/// What became of one hour's events at one sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fates {
    /// Dropped by the sink's filters.
    pub filtered: i64,
    /// At the destination.
    pub delivered: i64,
    /// Refused for good.
    pub dead: i64,
    /// Skipped because the journal was full.
    pub skipped: i64,
    /// Waiting.
    pub pending: i64,
}

impl Fates {
    fn add(&mut self, other: &Self) {
        self.filtered += other.filtered;
        self.delivered += other.delivered;
        self.dead += other.dead;
        self.skipped += other.skipped;
        self.pending += other.pending;
    }

    /// All of them.
    fn sum(&self) -> i64 {
        self.filtered + self.delivered + self.dead + self.skipped + self.pending
    }
}

/// A time that was not listed and cannot be any more, in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Where it begins.
    pub from_ms: i64,
    /// Where it ends; not part of it.
    pub to_ms: i64,
    /// Why.
    pub reason: String,
}

/// One content type of one source: what was listed, and how far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// From when on it is collected; nothing if the source does not say.
    pub since_ms: Option<i64>,
    /// When it was last collected, if it is no longer.
    pub ended_ms: Option<i64>,
    /// How long the source can list what became available.
    pub kept_ms: i64,
    /// How far each pass is, in milliseconds since 1970, the first listing first.
    pub passes: Vec<(Lag, i64)>,
    /// Its hours.
    pub hours: BTreeMap<Hour, Content>,
    /// What was not listed.
    pub gaps: Vec<Missed>,
    /// Why the unit failed that was tried most often of those that wait.
    pub failure: Option<String>,
    /// Why the first unit was lost.
    pub loss: Option<String>,
}

/// Why a source cannot list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The source's name.
    pub source: String,
    /// The error's kind: `auth` and `config` wait for a person.
    pub kind: String,
    /// The error.
    pub error: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

/// What came late, by the pass that found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stragglers {
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// The pass.
    pub pass: String,
    /// Units.
    pub units: i64,
    /// When the first was found, in milliseconds since 1970.
    pub first_ms: i64,
    /// When the last was found.
    pub last_ms: i64,
}

/// Events that came late, by workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LateEvents {
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// The pass that found them.
    pub pass: String,
    /// The workload; `other` if it is none that is known.
    pub workload: String,
    /// How many.
    pub events: i64,
}

/// A tenant's figures, as the journal holds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The tenant's id.
    pub tenant: String,
    /// Its content.
    pub lines: Vec<Line>,
    /// Its events.
    pub events: BTreeMap<Hour, Events>,
    /// All that were ever journaled.
    pub journaled: i64,
    /// What became of them at each sink.
    pub sinks: BTreeMap<String, BTreeMap<Hour, Fates>>,
    /// The whole account of each sink.
    pub totals: Vec<SinkStatus>,
    /// What came late in the last 400 days.
    pub stragglers: Vec<Stragglers>,
    /// The events in it, of all time.
    pub late: Vec<LateEvents>,
    /// Events by workload and hour, of the last weeks.
    pub activity: BTreeMap<String, BTreeMap<Hour, i64>>,
    /// Why sources cannot list.
    pub troubles: Vec<Trouble>,
    /// Hours before this are folded into the first of their day.
    pub folded_to: Hour,
}

/// A moment, in milliseconds since 1970, to the minute.
fn time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%MZ").to_string()
}
