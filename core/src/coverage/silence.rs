//! Tells quiet from silent: learns how lively each workload usually is at each hour of the week.
//!
//! An hour is *still* if much less than usual happened in it. A row of still hours is as long as the liveliness that is
//! missing in it: a still hour counts by how rarely that hour of the week is still. So a night or a weekend adds nothing,
//! and a busy hour adds one. A workload is silent when more is missing than in any row of still hours in the weeks
//! before, by half, and more than a few busy hours: a lull that was seen before is no alarm. Too little was seen before
//! two weeks have passed.
//!
//! Nothing but the counts is stored, and the present row of still hours teaches nothing until it has ended.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Account, Hour, Line, MS_PER_HOUR};

/// From so many hours the usual rate is learned: five weeks.
pub const LEARNED_HOURS: i64 = 5 * WEEK;
const WEEK: i64 = 7 * 24;
/// Before so many hours nothing is usual.
const ENOUGH_HOURS: i64 = 2 * WEEK;
/// Busy hours that may be missing at any time.
const TOLERATED: f64 = 6.0;
/// How much more than ever before may be missing.
const MARGIN: f64 = 1.5;
/// An hour is still with less than this part of what its hour of the week usually has.
const STILL: f64 = 0.05;
/// The newest hours say little: events take an hour or two to show up.
const DELAY_HOURS: i64 = 3;
/// Less liveliness than this is missing by chance.
const NOTICEABLE: f64 = 1.0;
/// The name under which all workloads together are judged.
pub const ALL: &str = "(all)";
/// Workloads that are told, the liveliest first; there are some thirty.
const MOST: usize = 40;

/// How lively a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mood {
    /// Nothing is usual yet.
    Learning,
    /// As ever.
    Active,
    /// Less than usual, but no more so than it was before.
    Quiet,
    /// Much less than ever.
    Silent,
    /// Not known: what there may be has not been listed or fetched.
    Unknown,
    /// Not known, for the source cannot list: subscription disabled, auditing off, permission revoked.
    Broken,
}

impl Mood {
    /// Its name for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Active => "active",
            Self::Quiet => "quiet",
            Self::Silent => "silent",
            Self::Unknown => "unknown",
            Self::Broken => "broken",
        }
    }
}

/// How lively one workload is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// Its name; [`ALL`] for all together.
    pub workload: String,
    /// How lively it is.
    pub mood: Mood,
    /// When its last hour with as much as usual ended, in milliseconds since 1970.
    pub active_ms: Option<i64>,
}

/// Judges each workload of a tenant, and all together.
pub(super) fn workloads(account: &Account, now_ms: i64) -> Vec<Workload> {
    let mut all: BTreeMap<Hour, i64> = BTreeMap::new();
    for (hour, count) in account.activity.values().flatten() {
        *all.entry(*hour).or_default() += count;
    }
    if all.is_empty() {
        return Vec::new();
    }
    let standing = standing(account, now_ms);
    let until = account.lines.iter().filter_map(Line::listed_to).min();
    let until = until.unwrap_or(now_ms).div_euclid(MS_PER_HOUR) - DELAY_HOURS;
    let judged = |name: &str, counts: &BTreeMap<Hour, i64>| {
        let (mood, active) = judge(counts, until);
        let since = active.map_or(until, |hour| hour + 1).min(until);
        let waits = |line: &Line| {
            line.hours
                .range(since..until)
                .any(|(_, hour)| hour.pending > 0)
        };
        let mood = match mood {
            // What is missing may be in there.
            Mood::Silent if account.lines.iter().any(waits) => Mood::Unknown,
            mood => mood,
        };
        Workload {
            workload: name.to_owned(),
            mood: standing.unwrap_or(mood),
            active_ms: active.map(|hour| (hour + 1) * MS_PER_HOUR),
        }
    };
    let mut named: Vec<_> = account.activity.iter().collect();
    named.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.values().sum::<i64>()));
    let named = named.into_iter().take(MOST);
    let named = named.map(|(name, counts)| judged(name, counts));
    std::iter::once(judged(ALL, &all)).chain(named).collect()
}

/// Why silence would say nothing about the tenant.
fn standing(account: &Account, now_ms: i64) -> Option<Mood> {
    let mut collected = account.lines.iter().filter(|line| line.ended_ms.is_none());
    let is_behind = collected.any(|line| {
        let listed = line.listed_to().unwrap_or_default();
        now_ms - listed > DELAY_HOURS * MS_PER_HOUR
    });
    let mut troubles = account.troubles.iter();
    if troubles.any(|trouble| is_behind || matches!(&*trouble.kind, "auth" | "config")) {
        return Some(Mood::Broken);
    }
    is_behind.then_some(Mood::Unknown)
}

/// How lively a workload with these counts is in the hours before `until`, and its last hour that was not still.
fn judge(counts: &BTreeMap<Hour, i64>, until: Hour) -> (Mood, Option<Hour>) {
    let from = until - LEARNED_HOURS;
    let begin = counts.range(from..until).find(|(_, count)| **count > 0);
    let Some((begin, _)) = begin.map(|(hour, count)| (*hour, count)) else {
        // Nothing for weeks: there is nothing to miss.
        return (Mood::Learning, None);
    };
    let usual = Usual::learn(counts, begin, until);
    let is_still = |hour: &Hour| usual.is_still(*hour, counts);
    let active = (begin..until).rev().find(|hour| !is_still(hour));
    let end = active.map_or(begin, |hour| hour + 1);
    if end - begin < ENOUGH_HOURS {
        return (Mood::Learning, active);
    }
    // Learned anew from the hours before the present row.
    let usual = Usual::learn(counts, begin, end);
    let (mut row, mut longest) = (0.0_f64, 0.0_f64);
    for hour in begin..end {
        row = if usual.is_still(hour, counts) {
            row + usual.liveliness(hour)
        } else {
            0.0
        };
        longest = longest.max(row);
    }
    let missing: f64 = (end..until).map(|hour| usual.liveliness(hour)).sum();
    let mood = if missing > TOLERATED.max(MARGIN * longest) {
        Mood::Silent
    } else if missing > NOTICEABLE {
        Mood::Quiet
    } else {
        Mood::Active
    };
    (mood, active)
}

/// What each hour of the week usually has.
struct Usual {
    /// Events.
    mean: Vec<f64>,
    /// The part of these hours that was not still.
    lively: Vec<f64>,
}

impl Usual {
    fn learn(counts: &BTreeMap<Hour, i64>, begin: Hour, end: Hour) -> Self {
        let slots = WEEK as usize;
        let (mut sum, mut hours) = (vec![0.0; slots], vec![0.0; slots]);
        for hour in begin..end {
            sum[slot(hour)] += count(counts, hour);
            hours[slot(hour)] += 1.0;
        }
        let mean = sum
            .iter()
            .zip(&hours)
            .map(|(sum, hours)| sum / f64::max(*hours, 1.0));
        let mut usual = Self {
            mean: mean.collect(),
            lively: Vec::new(),
        };
        let mut lively = vec![0.0; slots];
        for hour in begin..end {
            lively[slot(hour)] += f64::from(!usual.is_still(hour, counts));
        }
        // With its neighbours: five weeks are few samples, and people are not punctual.
        let near = |slot: usize, all: &[f64]| -> f64 {
            [slots - 1, 0, 1]
                .iter()
                .map(|by| all[(slot + by) % slots])
                .sum()
        };
        usual.lively = (0..slots)
            .map(|slot| near(slot, &lively) / near(slot, &hours).max(1.0))
            .collect();
        usual
    }

    fn is_still(&self, hour: Hour, counts: &BTreeMap<Hour, i64>) -> bool {
        let count = count(counts, hour);
        count < 1.0 || count < self.mean[slot(hour)] * STILL
    }

    fn liveliness(&self, hour: Hour) -> f64 {
        self.lively[slot(hour)]
    }
}

fn count(counts: &BTreeMap<Hour, i64>, hour: Hour) -> f64 {
    counts.get(&hour).map_or(0.0, |count| *count as f64)
}

fn slot(hour: Hour) -> usize {
    usize::try_from(hour.rem_euclid(WEEK)).unwrap_or_default()
}

#[cfg(test)]
#[path = "silence_tests.rs"]
mod tests;
