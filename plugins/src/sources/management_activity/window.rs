//! Time windows and what is left of them to list (reference: management-activity-api.md §4).
//!
//! Listing is by the time at which content became available, in half-open windows of at most 24 hours that begin at
//! most seven days ago. Here it is cut into windows of at most 23 hours, because some tenants refuse a whole day.

use std::time::Duration;

use audit_exporter_core::plugin::{Pass, Reach};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// What the first listing covers at once; the rest of the past follows behind it.
const NEWEST: TimeDelta = TimeDelta::hours(1);
/// A backlog is listed in steps of this, so that the newest content is never long in coming.
const STEP: TimeDelta = TimeDelta::hours(6);
/// How far back the API lists, less five minutes for clocks and slow requests.
const LISTABLE: TimeDelta = TimeDelta::minutes(7 * 24 * 60 - 5);
/// How far back a plan begins at most: what is about to fall out could not be listed in time.
const FIRST: TimeDelta = TimeDelta::minutes(7 * 24 * 60 - 10);
/// A checkpoint this far in the future comes from a wrong clock.
const TRUSTED_AHEAD: TimeDelta = TimeDelta::hours(1);

/// How long after an hour it is listed again, for content that showed up in it late. The last comes twelve hours
/// before the API stops listing the hour.
const SWEEPS: [TimeDelta; 5] = [
    TimeDelta::hours(1),
    TimeDelta::hours(6),
    TimeDelta::hours(24),
    TimeDelta::hours(72),
    TimeDelta::hours(6 * 24 + 12),
];

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
    swept_to: [DateTime<Utc>; SWEEPS.len()],
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
    /// How far each sweep is (in the order of [`SWEEPS`]).
    #[serde(default)]
    swept_to: Vec<DateTime<Utc>>,
    /// From when on there is content to collect: the first listing's beginning, or the start of the subscription.
    #[serde(default)]
    since: Option<DateTime<Utc>>,
    /// How far the first listing and each sweep have come, to the last page. The plans run ahead of this.
    #[serde(default)]
    passed: Vec<DateTime<Utc>>,
    /// When the subscription last started.
    #[serde(default)]
    subscribed: Option<DateTime<Utc>>,
    /// When the subscription was last asked to start.
    #[serde(default)]
    pub(super) start_requested: Option<DateTime<Utc>>,
}

impl Progress {
    /// What to list at `now`.
    pub(super) fn plan(&self, now: DateTime<Utc>, overlap: Duration, start: Duration) -> Plan {
        let now = seconds(now);
        let floor = now - FIRST;
        let trusted = self.listed_to.filter(|to| *to <= now + TRUSTED_AHEAD);
        let from = match (trusted, self.listed_to) {
            (Some(to), _) => to.min(now) - delta(overlap),
            // By a wrong clock. Where listing truly stopped is not known, but it was under way: `start` is of no use.
            (None, Some(_)) => now - FIRST,
            (None, None) => now - delta(start).min(FIRST),
        };
        let gone = trusted.and_then(|to| Window::new(to, floor));
        let last = self.trusted_sweep(SWEEPS.len() - 1, now);
        let unswept = last.zip(trusted);
        let unswept = unswept.and_then(|(swept, listed)| Window::new(swept, listed.min(floor)));
        let from = seconds(from.max(floor)).min(now - TimeDelta::seconds(1));
        let whole = now - from <= NEWEST * 2 + delta(overlap);
        let newest_from = if whole { from } else { now - NEWEST };
        let (swept_to, sweeps) = self.sweeps(now, from);
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

    /// How far a sweep is. Further than it can be by now, and not where it began, it came too early by a wrong clock.
    fn trusted_sweep(&self, index: usize, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let possible = now - *SWEEPS.get(index)? + TRUSTED_AHEAD;
        let to = self.swept_to.get(index).copied();
        to.filter(|to| *to <= possible || self.since.is_some_and(|since| *to <= since))
    }

    /// The hours that are due to be listed again, each sweep from where it was.
    fn sweeps(
        &self,
        now: DateTime<Utc>,
        first: DateTime<Utc>,
    ) -> ([DateTime<Utc>; SWEEPS.len()], Vec<Window>) {
        let floor = now - FIRST;
        let mut due = Vec::new();
        let mut index = 0;
        let swept_to = SWEEPS.map(|lag| {
            let from = self.trusted_sweep(index, now).unwrap_or(first).max(floor);
            index += 1;
            let hour = now - lag;
            let to = hour.duration_trunc(TimeDelta::hours(1)).unwrap_or(hour);
            due.extend(Window::new(from, to));
            from.max(to)
        });
        (swept_to, due)
    }

    /// The newest window is listed to its last page.
    pub(super) fn newest_listed(&mut self, plan: &Plan) {
        let trusted = self
            .listed_to
            .filter(|to| *to <= plan.newest.to + TRUSTED_AHEAD);
        self.listed_to = Some(trusted.map_or(plan.newest.to, |to| to.max(plan.newest.to)));
        self.swept_to = plan.swept_to.to_vec();
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
        let planned = self.listed_to.iter().chain(&self.swept_to).enumerate();
        self.passed = planned
            .map(|(index, planned)| {
                let before = self.passed.get(index).filter(|to| *to <= planned);
                let now = unlisted.map_or(*planned, |from| from.min(*planned));
                before.map_or(now, |before| now.max(*before))
            })
            .collect();
    }

    /// A subscription started: before this there is nothing, or it is noted as a gap.
    pub(super) fn subscribed(&mut self, at: DateTime<Utc>) {
        self.since.get_or_insert(seconds(at));
        self.subscribed = Some(seconds(at));
    }

    /// What became available after the last listing and before a subscription started `at` this time, and was not noted.
    pub(super) fn unsubscribed(&self, at: DateTime<Utc>) -> Option<Window> {
        let noted = self.subscribed.unwrap_or(DateTime::<Utc>::MIN_UTC);
        Window::new(self.listed_to?.max(noted), seconds(at))
    }

    /// How far each pass has come, once there is a beginning.
    pub(super) fn known_reach(&self, content_type: &str, start: Duration) -> Option<Reach> {
        let since = self.since?;
        Some(self.reach(content_type, since, start))
    }

    /// How far each pass has come; before the first listing at `now`, nowhere.
    pub(super) fn reach(&self, content_type: &str, now: DateTime<Utc>, start: Duration) -> Reach {
        let since = self.since.unwrap_or(seconds(now) - delta(start));
        let lags = std::iter::once(TimeDelta::zero()).chain(SWEEPS);
        let passes = lags.enumerate().map(|(index, lag)| Pass {
            lag: lag.to_std().unwrap_or_default(),
            to: self.passed.get(index).copied().unwrap_or(since),
        });
        Reach {
            content_type: content_type.into(),
            since,
            passes: passes.collect(),
            kept: LISTABLE.to_std().unwrap_or_default(),
        }
    }
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
