//! How far the searches of one audit log are. Stored as a part of a checkpoint.

use std::collections::BTreeMap;

use audit_exporter_core::plugin::{Gap, Pass, Reach};
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{BACKFILL, Lag, Schedule, Slice, floor};

/// A checkpoint this far in the future comes from a wrong clock.
const TRUSTED_AHEAD: TimeDelta = TimeDelta::hours(1);
/// Why there is a gap, and what can be done.
const GONE: &str = "this time was not searched before the service had forgotten it; nothing of it can be had any more";

/// A slice that is due and not finished, with what its source remembers of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Open<S> {
    /// The slice.
    pub(crate) slice: Slice,
    /// What is known of its search. The default is a slice that nothing was done about yet.
    pub(crate) state: S,
    /// It was made by the source out of a longer one, so it is not put together again.
    #[serde(default)]
    apart: bool,
}

/// What is searched, what is being searched, and how far each pass is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan<S> {
    /// Where the first search of all began.
    since: Option<DateTime<Utc>>,
    /// How far slices were made, by the lag of the pass: the options may name others tomorrow.
    planned: BTreeMap<Lag, DateTime<Utc>>,
    /// How far each pass has come, all before it finished.
    passed: BTreeMap<Lag, DateTime<Utc>>,
    /// The slices that are due and not finished.
    open: Vec<Open<S>>,
    /// Nothing becomes due by the schedule: what was asked for is all.
    #[serde(default)]
    alone: bool,
}

impl<S> Default for Plan<S> {
    fn default() -> Self {
        Self {
            since: None,
            planned: BTreeMap::new(),
            passed: BTreeMap::new(),
            open: Vec::new(),
            alone: false,
        }
    }
}

impl<S: Default + PartialEq> Plan<S> {
    /// Fixes where the first search begins, if that is not on record yet: that nothing could be searched at first moves no
    /// beginning. Returns whether it was not.
    pub(crate) fn begin(&mut self, now: DateTime<Utc>, schedule: &Schedule) -> bool {
        let is_first = self.since.is_none() && self.planned.is_empty();
        if is_first {
            self.since = Some(floor(now - schedule.start, schedule.slice));
        }
        is_first
    }

    /// Opens all slices that were due `until` then, which is `now` or before. Returns the time that can no longer be
    /// searched, as gaps of `content_type`.
    pub(crate) fn advance(
        &mut self,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        schedule: &Schedule,
        content_type: &str,
    ) -> Vec<Gap> {
        if self.alone {
            return Vec::new();
        }
        let horizon = floor(now - schedule.kept, schedule.slice);
        let gaps = self.give_up(horizon, content_type);
        let begin = floor(now - schedule.start, schedule.slice);
        let since = self.since.get_or_insert(begin.max(horizon));
        if self.planned.is_empty() {
            // It was fixed before the service's time was known, by a clock that may have been ahead.
            *since = begin.min(*since);
        }
        let since = *since;
        let planned = self.trusted(now, since);
        let mut due = Vec::new();
        let mut later = since.max(horizon);
        // The latest pass first: what it does, the earlier ones need not do.
        for pass in schedule.passes().rev() {
            let before = planned.get(&pass).copied();
            // A pass that is new to the options has nothing to do with what was finished without it.
            let new = (pass > 0 && !planned.is_empty()).then(|| schedule.due_to(pass, until));
            let from = later.max(before.or(new).unwrap_or(since));
            let to = schedule.due_to(pass, until).max(from);
            cut(from, to, schedule.longest, |from, to| {
                let is_behind = |(_, at): &(&Lag, &DateTime<Utc>)| **at < to;
                let first = planned.iter().find(is_behind).map(|(lag, _)| *lag);
                let pass = if planned.contains_key(&0) {
                    first.unwrap_or(pass).min(pass)
                } else {
                    0
                };
                due.push(Slice { from, to, pass });
            });
            later = to;
            self.planned.insert(pass, to);
        }
        self.planned
            .retain(|lag, _| *lag == 0 || schedule.again.contains(lag));
        if !due.is_empty() {
            self.join(schedule.longest);
        }
        self.open.extend(due.into_iter().map(|slice| Open {
            slice,
            state: S::default(),
            apart: false,
        }));
        self.confirm();
        gaps
    }

    /// Opens slices for what somebody asks for beside. They come after all others, and no pass waits for them. Refuses
    /// what the service does not keep; what has not settled is left to the schedule.
    pub(crate) fn backfill(
        &mut self,
        spans: &[(DateTime<Utc>, DateTime<Utc>)],
        now: DateTime<Utc>,
        schedule: &Schedule,
    ) -> Result<()> {
        kept(spans, now, schedule)?;
        for (from, to) in spans {
            self.ask_for(*from, (*to).min(schedule.due_to(0, now)), schedule);
        }
        Ok(())
    }

    /// A plan for these times alone, settled or not. Refuses what the service does not keep.
    pub(crate) fn alone(
        spans: &[(DateTime<Utc>, DateTime<Utc>)],
        now: DateTime<Utc>,
        schedule: &Schedule,
    ) -> Result<Self> {
        kept(spans, now, schedule)?;
        let mut plan = Self {
            since: spans.iter().map(|(from, _)| *from).min(),
            alone: true,
            ..Self::default()
        };
        for (from, to) in spans {
            plan.ask_for(*from, *to, schedule);
        }
        Ok(plan)
    }

    fn ask_for(&mut self, from: DateTime<Utc>, to: DateTime<Utc>, schedule: &Schedule) {
        let second = TimeDelta::seconds(1);
        let (from, to) = (floor(from, second), floor(to, second));
        cut(from, to, schedule.longest, |from, to| {
            let pass = BACKFILL;
            self.add_apart(Slice { from, to, pass });
        });
    }

    /// The slices that are not finished, in the order in which to see to them: first searches before repeated ones,
    /// and of each the newest first.
    pub(crate) fn open(&mut self) -> impl Iterator<Item = &mut Open<S>> {
        self.open
            .sort_by_key(|open| (open.slice.pass, std::cmp::Reverse(open.slice.to)));
        self.open.iter_mut()
    }

    /// A slice is finished: what it holds is registered.
    pub(crate) fn finish(&mut self, slice: Slice) {
        self.open.retain(|open| open.slice != slice);
        self.confirm();
    }

    /// Searches a slice in two halves instead. False, and nothing is changed, if it is too short.
    pub(crate) fn split(&mut self, slice: Slice) -> bool {
        let Some(halves) = slice.halves() else {
            return false;
        };
        self.open.retain(|open| open.slice != slice);
        for half in halves {
            self.add_apart(half);
        }
        true
    }

    /// Searches a slice again that was finished: its results are gone. Its passes count as behind until it is done.
    pub(crate) fn reopen(&mut self, slice: Slice) {
        for (lag, passed) in &mut self.passed {
            if *lag >= slice.pass {
                *passed = (*passed).min(slice.from);
            }
        }
        self.add_apart(slice);
    }

    fn add_apart(&mut self, slice: Slice) {
        if !self.open.iter().any(|open| open.slice == slice) {
            self.open.push(Open {
                slice,
                state: S::default(),
                apart: true,
            });
        }
    }

    /// How far each pass has come; before the first search, nowhere.
    pub(crate) fn reach(
        &self,
        content_type: &str,
        now: DateTime<Utc>,
        schedule: &Schedule,
    ) -> Reach {
        let begin = floor(now - schedule.start, schedule.slice);
        let since = self.since.unwrap_or(begin);
        let passes = schedule.passes().map(|lag| Pass {
            lag: std::time::Duration::from_secs(lag.unsigned_abs()),
            to: self.passed.get(&lag).copied().unwrap_or(since),
        });
        Reach {
            content_type: content_type.into(),
            since,
            passes: passes.collect(),
            kept: schedule.kept.to_std().unwrap_or_default(),
        }
    }

    /// What was planned, but for what a wrong clock planned: where that stopped is not known, so it begins anew.
    fn trusted(&self, now: DateTime<Utc>, since: DateTime<Utc>) -> BTreeMap<Lag, DateTime<Utc>> {
        let planned = self.planned.iter().map(|(lag, at)| {
            let trusted = *at <= now + TRUSTED_AHEAD;
            (*lag, if trusted { *at } else { since.min(now) })
        });
        planned.collect()
    }

    /// Drops what lies before `horizon`, which the service has forgotten. What was never searched, or was asked for beside,
    /// is a gap.
    fn give_up(&mut self, horizon: DateTime<Utc>, content_type: &str) -> Vec<Gap> {
        let unplanned = self.planned.get(&0).map(|from| (*from, horizon));
        let wanted = |open: &&Open<S>| [0, BACKFILL].contains(&open.slice.pass);
        let open = self.open.iter().filter(wanted);
        let open = open.map(|open| (open.slice.from, open.slice.to.min(horizon)));
        let gaps = unplanned
            .into_iter()
            .chain(open)
            .filter(|(from, to)| from < to)
            .map(|(from, to)| Gap {
                content_type: content_type.into(),
                from,
                to,
                reason: GONE.to_owned(),
            })
            .collect();
        for open in &mut self.open {
            open.slice.from = open.slice.from.max(horizon);
        }
        self.open.retain(|open| open.slice.from < open.slice.to);
        gaps
    }

    /// Makes one of slices that wait and touch, as long as it is not too long: fewer searches for what has piled up.
    fn join(&mut self, longest: TimeDelta) {
        let is_waiting = |open: &Open<S>| open.state == S::default() && !open.apart;
        self.open.sort_by_key(|open| open.slice.from);
        let mut joined: Vec<Open<S>> = Vec::with_capacity(self.open.len());
        for open in std::mem::take(&mut self.open) {
            match joined.last_mut() {
                Some(last)
                    if is_waiting(last)
                        && is_waiting(&open)
                        && last.slice.pass == open.slice.pass
                        && last.slice.to == open.slice.from
                        && open.slice.to - last.slice.from <= longest =>
                {
                    last.slice.to = open.slice.to;
                }
                _ => joined.push(open),
            }
        }
        self.open = joined;
    }

    /// Each pass has come as far as it was planned, but for the slices that do its work and are not finished; and never
    /// goes back.
    fn confirm(&mut self) {
        let passed = self.planned.iter().map(|(lag, planned)| {
            let open = self.open.iter().filter(|open| open.slice.pass <= *lag);
            let first = open.map(|open| open.slice.from).min();
            let now = first.map_or(*planned, |first| first.min(*planned));
            let before = self.passed.get(lag).filter(|before| *before <= planned);
            (*lag, before.map_or(now, |before| now.max(*before)))
        });
        self.passed = passed.collect();
    }
}

/// Refuses times that the service does not keep.
fn kept(
    spans: &[(DateTime<Utc>, DateTime<Utc>)],
    now: DateTime<Utc>,
    schedule: &Schedule,
) -> Result<()> {
    let horizon = now - schedule.kept;
    let text = |time: DateTime<Utc>| time.format("%Y-%m-%d %H:%M UTC").to_string();
    match spans.iter().find(|(from, _)| *from < horizon) {
        None => Ok(()),
        Some((from, _)) => Err(Error::config(format!(
            "the service does not keep {}; it can be searched from {} on",
            text(*from),
            text(horizon)
        ))),
    }
}

/// Cuts a stretch of time at the multiples of `longest`.
fn cut(
    mut from: DateTime<Utc>,
    to: DateTime<Utc>,
    longest: TimeDelta,
    mut each: impl FnMut(DateTime<Utc>, DateTime<Utc>),
) {
    while from < to {
        let next = (floor(from, longest) + longest).min(to);
        each(from, next);
        from = next;
    }
}
