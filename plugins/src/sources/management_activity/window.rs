//! Time windows and what is left of them to list (reference: management-activity-api.md §4).
//!
//! Listing is by the time at which content became available, in half-open windows of at most 24 hours that begin at
//! most seven days ago. Here it is cut into windows of at most 23 hours, because some tenants refuse a whole day.

mod subscription;

use std::collections::BTreeMap;
use std::time::Duration;

use audit_exporter_core::plugin::{Pass, Reach};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use self::subscription::Absence;

/// What the first listing covers at once; the rest of the past follows behind it.
const NEWEST: TimeDelta = TimeDelta::hours(1);
/// A backlog is listed in steps of this, so that the newest content is never long in coming.
const STEP: TimeDelta = TimeDelta::hours(6);
/// How far back the API lists, less five minutes for clocks and slow requests.
pub(super) const LISTABLE: TimeDelta = TimeDelta::minutes(7 * 24 * 60 - 5);
/// A beginning that is noted to be longer ago was noted by a wrong clock.
const BELIEVED: TimeDelta = TimeDelta::days(400);
/// How far back a plan begins at most: what is about to fall out could not be listed in time.
const FIRST: TimeDelta = TimeDelta::minutes(7 * 24 * 60 - 10);
/// A checkpoint this far in the future comes from a wrong clock.
const TRUSTED_AHEAD: TimeDelta = TimeDelta::hours(1);

/// Time is listed again in steps of this, so that what is due at the same time shares a window.
const SWEEP_STEP: TimeDelta = TimeDelta::hours(1);

/// How many seconds after a time it is listed again.
pub(super) type Lag = i64;

/// What is listed when, by the options.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// How far back each listing begins before the end of the last.
    pub(super) overlap: Duration,
    /// How far back the first listing begins.
    pub(super) start: Duration,
    /// The sweeps: after which lags each time is listed again, for content that showed up in it late. Rising.
    pub(super) relist_after: Vec<Lag>,
}

impl Schedule {
    /// An hour, or less if the first sweep comes sooner.
    fn step(&self) -> TimeDelta {
        let first = self.relist_after.first().copied().map(TimeDelta::seconds);
        first.map_or(SWEEP_STEP, |first| first.min(SWEEP_STEP))
    }
}

/// From `from` (included) to `to` (excluded), in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
}

impl Window {
    fn new(from: DateTime<Utc>, to: DateTime<Utc>) -> Option<Self> {
        (from < to).then_some(Self { from, to })
    }

    /// The part that can still be listed at `now`, and the part that cannot.
    pub(super) fn clamp(self, now: DateTime<Utc>) -> (Option<Self>, Option<Self>) {
        self.cut(seconds(now) - LISTABLE)
    }

    /// What both windows have of it.
    fn common(self, other: Self) -> Option<Self> {
        Self::new(self.from.max(other.from), self.to.min(other.to))
    }

    /// What it has that `other` has not.
    pub(super) fn without(self, other: Self) -> impl Iterator<Item = Self> {
        let before = Self::new(self.from, self.to.min(other.from));
        let after = Self::new(self.from.max(other.to), self.to);
        before.into_iter().chain(after)
    }

    /// The part from `floor` on, and the part before it.
    pub(super) fn cut(self, floor: DateTime<Utc>) -> (Option<Self>, Option<Self>) {
        let kept = Self::new(self.from.max(floor), self.to);
        let gone = Self::new(self.from, self.to.min(floor));
        (kept, gone)
    }
}

/// What a poll lists first, and what it leaves for afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The newest window.
    pub(super) newest: Window,
    /// Joins the backlog when the newest window is listed to its last page.
    pub(super) rest: Vec<Window>,
    /// What of `rest` was never listed.
    unlisted: Option<Window>,
    /// Was never listed and cannot be any more.
    pub(super) gone: Option<Window>,
    /// Was listed, but cannot be any more for the last time.
    pub(super) unswept: Option<Window>,
    /// From when on everything is listed, if this is the first listing.
    from: DateTime<Utc>,
    /// How far the sweeps will be when `rest` is listed.
    swept_to: BTreeMap<Lag, DateTime<Utc>>,
}

/// How far one content type is. Stored as a part of the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Everything before this is listed, but for the backlog.
    listed_to: Option<DateTime<Utc>>,
    /// Windows that are still to be listed to their last page; sorted, disjoint.
    #[serde(default)]
    backlog: Vec<Window>,
    /// What of the backlog was never listed; sorted, disjoint.
    #[serde(default)]
    unlisted: Vec<Window>,
    /// How far each sweep is planned, by its lag: the options may name others tomorrow.
    #[serde(default)]
    swept_to: BTreeMap<Lag, DateTime<Utc>>,
    /// When listing was first tried. That nothing could be listed then moves no beginning.
    #[serde(default)]
    tried: Option<DateTime<Utc>>,
    /// From when on there is content to collect: the first listing's beginning, or the start of the subscription.
    #[serde(default)]
    since: Option<DateTime<Utc>>,
    /// How far the first listing (0) and each sweep have come, to the last page. The plans run ahead of this.
    #[serde(default)]
    passed: BTreeMap<Lag, DateTime<Utc>>,
    /// When the subscription last started.
    #[serde(default)]
    subscribed: Option<DateTime<Utc>>,
    /// That the subscription was found not to be enabled.
    #[serde(default)]
    absence: Option<Absence>,
    /// When the subscription was last asked to start.
    #[serde(default)]
    pub(super) start_requested: Option<DateTime<Utc>>,
    /// The address of the webhook that it was last asked to have: that one is ours to take away.
    #[serde(default)]
    pub(super) webhook: Option<String>,
}

impl Progress {
    /// What to list at `now`.
    pub(super) fn plan(&self, now: DateTime<Utc>, schedule: &Schedule) -> Plan {
        let now = seconds(now);
        let overlap = delta(schedule.overlap);
        let floor = now - FIRST;
        let trusted = self.listed_to.filter(|to| *to <= now + TRUSTED_AHEAD);
        let from = match (trusted, self.listed_to) {
            (Some(to), _) => to.min(now) - overlap,
            // By a wrong clock. Where listing truly stopped is not known, but it was under way: `start` is of no use.
            (None, Some(_)) => now - FIRST,
            (None, None) => self.beginning(now, schedule),
        };
        // What is older than the first try was to be had as far as Microsoft still had it; than the subscription, never.
        let first = self.since.or(self.tried);
        let first = first.filter(|first| self.listed_to.is_none() && is_believed(*first, now));
        let wanted = trusted.or(first);
        let gone = wanted.and_then(|from| Window::new(from, floor));
        let unswept = self.swept_for_the_last_time(schedule, now).zip(trusted);
        let unswept = unswept.and_then(|(swept, listed)| Window::new(swept, listed.min(floor)));
        let from = seconds(from.max(floor)).min(now - TimeDelta::seconds(1));
        let whole = now - from <= NEWEST * 2 + overlap;
        let newest_from = if whole { from } else { now - NEWEST };
        let (swept_to, sweeps) = self.sweeps(now, from, schedule);
        let rest = Window::new(from, newest_from).into_iter().chain(sweeps);
        let unlisted_from = trusted.map_or(from, |to| to.max(from));
        Plan {
            newest: Window {
                from: newest_from,
                to: now,
            },
            rest: rest.collect(),
            unlisted: Window::new(unlisted_from, newest_from),
            gone,
            unswept,
            from,
            swept_to,
        }
    }

    /// That of a content type of which all before `from` counts as listed.
    pub(super) fn listed_to(from: DateTime<Utc>) -> Self {
        Self {
            listed_to: Some(seconds(from)),
            since: Some(seconds(from)),
            ..Self::default()
        }
    }

    /// Notes that listing is tried for the first time. Returns whether it is.
    pub(super) fn tries(&mut self, now: DateTime<Utc>) -> bool {
        let is_first = self.tried.is_none() && self.listed_to.is_none();
        if is_first {
            self.tried = Some(seconds(now));
        }
        is_first
    }

    /// Whether anything was listed, so that what was not kept since then is missed.
    pub(super) fn was_listed(&self) -> bool {
        self.listed_to.is_some()
    }

    /// Where the first listing begins.
    fn beginning(&self, now: DateTime<Utc>, schedule: &Schedule) -> DateTime<Utc> {
        seconds(self.tried(now).unwrap_or(now)) - delta(schedule.start)
    }

    fn tried(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.tried.filter(|tried| is_believed(*tried, now))
    }

    /// How far a sweep is, or one that comes even later, for that has been late enough for both. Further than it can be by
    /// now, and not where it began, it came too early by a wrong clock.
    fn trusted_sweep(&self, lag: Lag, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let sweeps = self.swept_to.range(lag..);
        let trusted = sweeps.filter(|(lag, to)| {
            let possible = now - TimeDelta::seconds(**lag) + TRUSTED_AHEAD;
            **to <= possible || self.since.is_some_and(|since| **to <= since)
        });
        trusted.map(|(_, to)| *to).max()
    }

    /// How far the last sweep is; if it is new to the options, the one that was the last before.
    fn swept_for_the_last_time(
        &self,
        schedule: &Schedule,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let last = *schedule.relist_after.last()?;
        let before = *self.swept_to.keys().next_back()?;
        self.trusted_sweep(last.min(before), now)
    }

    /// The time that is due to be listed again, each sweep from where it was. One that is new to the options begins where
    /// there is first something to collect, but for what a later one has done.
    fn sweeps(
        &self,
        now: DateTime<Utc>,
        first: DateTime<Utc>,
        schedule: &Schedule,
    ) -> (BTreeMap<Lag, DateTime<Utc>>, Vec<Window>) {
        let floor = now - FIRST;
        let begin = self.since.map_or(first, |since| since.min(first));
        let mut due = Vec::new();
        let sweep = |lag: &Lag| {
            let from = self.trusted_sweep(*lag, now).unwrap_or(begin).max(floor);
            let time = now - TimeDelta::seconds(*lag);
            let to = time.duration_trunc(schedule.step()).unwrap_or(time);
            due.extend(Window::new(from, to));
            (*lag, from.max(to))
        };
        (schedule.relist_after.iter().map(sweep).collect(), due)
    }

    /// The newest window is listed to its last page.
    pub(super) fn newest_listed(&mut self, plan: &Plan) {
        let trusted = self
            .listed_to
            .filter(|to| *to <= plan.newest.to + TRUSTED_AHEAD);
        self.listed_to = Some(trusted.map_or(plan.newest.to, |to| to.max(plan.newest.to)));
        self.swept_to.clone_from(&plan.swept_to);
        self.backlog.extend(&plan.rest);
        self.backlog = merged(std::mem::take(&mut self.backlog));
        self.unlisted.extend(plan.unlisted);
        self.unlisted = merged(std::mem::take(&mut self.unlisted));
        self.since.get_or_insert(plan.from);
        self.confirm();
    }

    /// What of a window was never listed.
    pub(super) fn never_listed(&self, window: Window) -> Vec<Window> {
        let beyond = match self.listed_to {
            Some(to) => window.cut(to).0,
            None => Some(window),
        };
        let unlisted = self.unlisted.iter();
        let within = unlisted.filter_map(|unlisted| unlisted.common(window));
        within.chain(beyond).collect()
    }

    /// The oldest window that is still to be listed: the one that will first be out of reach.
    pub(super) fn oldest_unlisted(&self) -> Option<Window> {
        let oldest = self.backlog.first()?;
        Window::new(oldest.from, oldest.to.min(oldest.from + STEP))
    }

    /// A window of the backlog is listed to its last page, or is given up.
    pub(super) fn settled(&mut self, window: Window) {
        for windows in [&mut self.backlog, &mut self.unlisted] {
            *windows = windows
                .iter()
                .flat_map(|unlisted| unlisted.without(window))
                .collect();
        }
        self.confirm();
    }

    /// Each pass has come as far as it was planned, but for the backlog; and never goes back, for what is added to the
    /// backlog later is another pass's. Only a plan by a wrong clock is taken back.
    fn confirm(&mut self) {
        let unlisted = self.backlog.first().map(|window| window.from);
        let first = self.listed_to.map(|to| (0, to));
        let planned = first.into_iter().chain(self.swept_to.clone());
        self.passed = planned
            .map(|(lag, planned)| {
                let before = self.passed(lag, planned);
                let now = unlisted.map_or(planned, |from| from.min(planned));
                (lag, before.map_or(now, |before| now.max(before)))
            })
            .collect();
    }

    /// How far a pass has come, or one that comes even later, but not beyond what is `planned`.
    fn passed(&self, lag: Lag, planned: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let passed = self.passed.range(lag..).map(|(_, to)| *to);
        passed.filter(|to| *to <= planned).max()
    }

    /// How far each pass has come, once there is a beginning.
    pub(super) fn known_reach(&self, content_type: &str, schedule: &Schedule) -> Option<Reach> {
        let since = self.since?;
        Some(self.reach(content_type, since, schedule))
    }

    /// How far each pass has come; before the first listing at `now`, nowhere: what it finds is no straggler, even if it was
    /// there before the subscription.
    pub(super) fn reach(
        &self,
        content_type: &str,
        now: DateTime<Utc>,
        schedule: &Schedule,
    ) -> Reach {
        let nowhere = self.beginning(now, schedule);
        let since = self.since.unwrap_or(nowhere);
        let lags = std::iter::once(&0).chain(&schedule.relist_after);
        let passes = lags.map(|lag| Pass {
            lag: Duration::from_secs(lag.unsigned_abs()),
            to: self
                .passed(*lag, DateTime::<Utc>::MAX_UTC)
                .unwrap_or(since.min(nowhere)),
        });
        Reach {
            content_type: content_type.into(),
            since,
            passes: passes.collect(),
            kept: LISTABLE.to_std().unwrap_or_default(),
        }
    }
}

/// Whether this may be when the first try, or the subscription, was.
fn is_believed(time: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    time <= now && now - time < BELIEVED
}

/// Whole seconds: the API takes no fractions.
fn seconds(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TimeDelta::seconds(1)).unwrap_or(time)
}

fn delta(span: Duration) -> TimeDelta {
    // Longer than the API's own limits is all the same.
    TimeDelta::from_std(span).unwrap_or(FIRST).min(FIRST)
}

/// Sorted and disjoint, with windows that touch or overlap made one.
fn merged(mut windows: Vec<Window>) -> Vec<Window> {
    windows.sort_by_key(|window| window.from);
    let mut merged: Vec<Window> = Vec::with_capacity(windows.len());
    for window in windows {
        match merged.last_mut() {
            Some(last) if window.from <= last.to => last.to = last.to.max(window.to),
            _ => merged.push(window),
        }
    }
    merged
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
