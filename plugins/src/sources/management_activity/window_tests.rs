use chrono::TimeZone;
use proptest::prelude::*;

use super::*;

const OVERLAP: Duration = Duration::from_mins(30);
const WEEK: Duration = Duration::from_hours(7 * 24);
const USUAL: [Lag; 5] = [3600, 6 * 3600, 24 * 3600, 72 * 3600, 156 * 3600];

fn usual(start: Duration) -> Schedule {
    Schedule {
        overlap: OVERLAP,
        start,
        relist_after: USUAL.to_vec(),
    }
}

fn at(minutes: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 1, 0, 0, 30).unwrap() + TimeDelta::minutes(minutes)
}

fn window(from: i64, to: i64) -> Window {
    Window {
        from: at(from),
        to: at(to),
    }
}

/// Lists everything that is due at `now`, and returns the windows.
fn list_all(progress: &mut Progress, now: DateTime<Utc>) -> Vec<Window> {
    let plan = progress.plan(now, &usual(WEEK));
    progress.newest_listed(&plan);
    let mut listed = vec![plan.newest];
    while let Some(window) = progress.oldest_unlisted() {
        listed.extend(window.clamp(now).0);
        progress.settled(window);
    }
    listed
}

#[test]
fn the_first_listing_takes_the_last_hour_and_leaves_the_week() {
    let plan = Progress::default().plan(at(0), &usual(WEEK));
    assert_eq!(plan.newest, window(-60, 0));
    assert_eq!(plan.rest[0], window(10 - 7 * 24 * 60, -60));
    assert_eq!(plan.gone, None);
}

#[test]
fn a_short_start_is_one_window() {
    let plan = Progress::default().plan(at(0), &usual(Duration::from_mins(10)));
    assert_eq!(plan.newest, window(-10, 0));
    let plan = Progress::default().plan(at(0), &usual(Duration::ZERO));
    assert_eq!(plan.newest.to - plan.newest.from, TimeDelta::seconds(1));
}

#[test]
fn a_first_try_that_fails_moves_no_beginning() {
    let day = usual(Duration::from_hours(24));
    let mut progress = Progress::default();
    assert!(progress.tries(at(0)));
    assert!(!progress.tries(at(60)), "that was not the first");
    let plan = progress.plan(at(36 * 60), &day);
    assert_eq!(plan.from, at(-24 * 60));
    assert_eq!(plan.gone, None);
    let reach = progress.reach("Audit.General", at(36 * 60), &day);
    assert_eq!(reach.since, at(-24 * 60));

    // What was asked for and fell out meanwhile is on record; what was older than the first try is not missed.
    let late = progress.plan(at(8 * 24 * 60), &day);
    assert_eq!(late.gone, Some(window(0, 24 * 60 + 10)));
    assert_eq!(progress.plan(at(60), &usual(WEEK)).gone, None);

    // Before a subscription there was nothing to miss.
    progress.subscribed(at(8 * 24 * 60));
    assert_eq!(progress.plan(at(8 * 24 * 60), &day).gone, None);
    // After it there was, if nothing was listed for a week.
    let late = progress.plan(at(16 * 24 * 60), &day);
    assert_eq!(late.gone, Some(window(8 * 24 * 60, 9 * 24 * 60 + 10)));

    let mut wrong = Progress::default();
    wrong.tries(at(5 * 366 * 24 * 60));
    assert_eq!(wrong.plan(at(0), &day).from, at(-24 * 60));
}

#[test]
fn a_poll_overlaps_the_last_and_a_restart_tiles_from_it() {
    let mut progress = Progress::default();
    list_all(&mut progress, at(0));
    let plan = progress.plan(at(1), &usual(WEEK));
    assert_eq!(plan.newest, window(-30, 1));
    let plan = progress.plan(at(48 * 60), &usual(WEEK));
    assert_eq!(plan.newest, window(47 * 60, 48 * 60));
    assert_eq!(plan.rest[0], window(-30, 47 * 60));
    assert_eq!(plan.gone, None);
}

#[test]
fn a_downtime_of_more_than_a_week_is_reported_as_gone() {
    let mut progress = Progress::default();
    list_all(&mut progress, at(0));
    let plan = progress.plan(at(8 * 24 * 60), &usual(WEEK));
    assert_eq!(plan.gone, Some(window(0, 24 * 60 + 10)));
    assert_eq!(plan.rest[0].from, at(24 * 60 + 10));
}

#[test]
fn an_unfinished_window_is_planned_again() {
    let progress = Progress::default();
    assert_eq!(
        progress.plan(at(0), &usual(WEEK)),
        progress.plan(at(0), &usual(WEEK))
    );
    let mut progress = Progress::default();
    let plan = progress.plan(at(0), &usual(WEEK));
    progress.newest_listed(&plan);
    assert_eq!(progress.oldest_unlisted(), progress.oldest_unlisted());
    assert!(progress.oldest_unlisted().is_some());
}

#[test]
fn a_clock_that_was_ahead_does_not_hide_the_present() {
    let mut progress = Progress::default();
    list_all(&mut progress, at(1_000_000));
    let listed = list_all(&mut progress, at(0));
    assert_eq!(merged(listed), [window(10 - 7 * 24 * 60, 0)]);
    // A few minutes are no reason to begin anew.
    list_all(&mut progress, at(5));
    assert_eq!(progress.plan(at(0), &usual(WEEK)).newest, window(-30, 0));
}

#[test]
fn a_clock_that_was_ahead_does_not_cut_the_past_to_a_short_start() {
    let hour = Duration::from_hours(1);
    let mut progress = Progress::default();
    let plan = progress.plan(at(0), &usual(hour));
    assert_eq!(plan.newest, window(-60, 0));
    progress.newest_listed(&plan);
    // One listing by a clock that is a day ahead, then the clock is right again.
    let plan = progress.plan(at(24 * 60), &usual(hour));
    progress.newest_listed(&plan);
    let plan = progress.plan(at(10), &usual(hour));
    assert_eq!(plan.newest, window(-50, 10));
    assert_eq!(plan.rest[0], window(20 - 7 * 24 * 60, -50));
}

#[test]
fn what_was_not_listed_for_the_last_time_before_a_downtime_is_reported() {
    let mut progress = Progress::default();
    list_all(&mut progress, at(0));
    let swept = *progress.swept_to.values().last().unwrap();
    // Twelve hours later the last sweep still comes to all, a day later not.
    assert_eq!(progress.plan(at(11 * 60), &usual(WEEK)).unswept, None);
    let plan = progress.plan(at(24 * 60), &usual(WEEK));
    let floor = seconds(at(24 * 60)) - FIRST;
    assert_eq!(plan.unswept, Window::new(swept, floor));
    assert_eq!(plan.gone, None);
    // After more than a week, only what had been listed.
    let plan = progress.plan(at(9 * 24 * 60), &usual(WEEK));
    assert_eq!(plan.unswept, Window::new(swept, at(0)));
    assert_eq!(plan.gone.unwrap().from, at(0));
}

#[test]
fn a_pass_has_come_as_far_as_its_last_page_and_never_goes_back() {
    let to = |progress: &Progress| -> Vec<i64> {
        let reach = progress.reach("Audit.General", at(0), &usual(WEEK));
        reach
            .passes
            .iter()
            .map(|pass| (pass.to - at(0)).num_minutes())
            .collect()
    };
    let mut progress = Progress::default();
    let week = -7 * 24 * 60;
    assert_eq!(to(&progress), [week + 10; 6], "nothing is listed");
    let plan = progress.plan(at(0), &usual(WEEK));
    progress.newest_listed(&plan);
    assert_eq!(to(&progress), [week + 10; 6], "the backlog is first");
    let oldest = progress.oldest_unlisted().unwrap();
    progress.settled(oldest);
    assert_eq!(to(&progress)[0], week + 10 + 6 * 60);
    list_all(&mut progress, at(0));
    let listed = to(&progress);
    assert_eq!(listed[..2], [0, -60]);
    // An hour later all sweeps are due again: until they are done, each is where it was.
    let plan = progress.plan(at(61), &usual(WEEK));
    progress.newest_listed(&plan);
    assert_eq!(to(&progress), listed);
    list_all(&mut progress, at(61));
    assert_eq!(to(&progress)[..2], [61, 0]);
    // By a clock that was a day ahead, a sweep came too early.
    let mut wrong = progress.clone();
    list_all(&mut wrong, at(25 * 60));
    list_all(&mut wrong, at(62));
    assert_eq!(to(&wrong)[5], to(&progress)[5]);
}

#[test]
fn each_hour_is_listed_again_at_each_sweep() {
    let mut progress = Progress::default();
    let mut listed = Vec::new();
    let minutes = 9 * 24 * 60;
    for now in (0..minutes).step_by(10) {
        let windows = list_all(&mut progress, at(now));
        listed.extend(windows.into_iter().map(|window| (at(now), window)));
    }
    let hour = window(24 * 60, 25 * 60);
    for lag in USUAL.map(TimeDelta::seconds) {
        let due = hour.to + lag;
        let soon = due + TimeDelta::minutes(75);
        let swept = listed.iter().filter(|(now, _)| *now >= due && *now <= soon);
        let swept = merged(swept.map(|(_, window)| *window).collect());
        assert!(
            swept
                .iter()
                .any(|window| window.from <= hour.from && window.to >= hour.to),
            "not again after {lag}"
        );
    }
    let requests = listed.len() as i64;
    assert!(
        requests < minutes / 10 + 6 * minutes / 60 + 40,
        "{requests} requests"
    );
}

#[test]
fn a_day_takes_a_listing_a_minute_and_five_an_hour() {
    let mut progress = Progress::default();
    list_all(&mut progress, at(0));
    list_all(&mut progress, at(1));
    // The numbers that docs/sources.md names.
    let day = (2..2 + 24 * 60).map(|now| list_all(&mut progress, at(now)).len());
    assert_eq!(day.sum::<usize>(), 1440 + 120);
}

#[test]
fn passes_of_seconds_come_after_seconds() {
    let schedule = Schedule {
        relist_after: vec![20, 480],
        ..usual(Duration::from_mins(10))
    };
    let at = |seconds: i64| at(0) + TimeDelta::seconds(seconds);
    let mut progress = Progress::default();
    for now in 0..600 {
        let plan = progress.plan(at(now), &schedule);
        progress.newest_listed(&plan);
        while let Some(window) = progress.oldest_unlisted() {
            progress.settled(window);
        }
    }
    let reach = progress.reach("Audit.General", at(600), &schedule);
    let behind = reach
        .passes
        .iter()
        .map(|pass| (at(599) - pass.to).num_seconds());
    // In steps of the first.
    assert_eq!(behind.collect::<Vec<_>>(), [0, 29, 489]);
}

#[test]
fn a_pass_that_is_new_to_the_options_begins_with_what_no_later_one_has_done() {
    let mut progress = Progress::default();
    list_all(&mut progress, at(0));
    list_all(&mut progress, at(24 * 60));
    let plan = |lags: &[Lag]| {
        let schedule = Schedule {
            relist_after: lags.to_vec(),
            ..usual(WEEK)
        };
        progress.plan(at(24 * 60 + 1), &schedule)
    };
    let day = Window {
        from: progress.swept_to[&(24 * 3600)],
        to: plan(&[12 * 3600]).swept_to[&(12 * 3600)],
    };
    assert_eq!(
        plan(&[12 * 3600]).rest,
        [day],
        "the pass after a day did the rest"
    );
    let floor = at(24 * 60 + 1) - FIRST;
    assert_eq!(
        plan(&[160 * 3600]).rest[0].from,
        floor,
        "nothing was listed so late"
    );
    // One that the options name no longer is gone with its progress.
    let without = plan(&[3600]);
    progress.newest_listed(&without);
    assert_eq!(progress.swept_to.keys().collect::<Vec<_>>(), [&3600]);
    assert_eq!(
        progress.plan(at(24 * 60 + 2), &usual(WEEK)).rest[0].from,
        floor + TimeDelta::minutes(1)
    );
}

#[test]
fn what_was_there_before_the_subscription_is_no_straggler_to_the_first_listing() {
    let mut progress = Progress::default();
    progress.subscribed(at(0));
    let reach = progress.known_reach("Audit.General", &usual(WEEK)).unwrap();
    assert_eq!(reach.since, at(0));
    let backfilled = at(-22 * 60);
    assert!(reach.passes.iter().all(|pass| pass.to < backfilled));
}

#[test]
fn a_checkpoint_survives_being_stored() {
    let mut progress = Progress {
        start_requested: Some(at(3)),
        ..Progress::default()
    };
    progress.newest_listed(&progress.clone().plan(at(0), &usual(WEEK)));
    progress.start_is_asked();
    let stored = serde_json::to_string(&progress).unwrap();
    assert_eq!(serde_json::from_str::<Progress>(&stored).unwrap(), progress);
    assert_eq!(
        serde_json::from_str::<Progress>("{}").unwrap(),
        Progress::default()
    );
}

#[test]
fn what_is_listed_again_is_not_planned_so_late_that_a_second_of_it_falls_out_of_reach() {
    let mut progress = Progress::default();
    list_all(&mut progress, at(0));
    // Away for so long that the last pass over the oldest hours cannot come any more.
    let now = at(30 * 60);
    let plan = progress.plan(now, &usual(WEEK));
    let soon = now + TimeDelta::minutes(4);
    for window in plan.rest {
        assert_eq!(window.clamp(soon).1, None, "{window:?}");
    }
}

#[test]
fn what_could_not_be_listed_again_in_time_was_listed_nevertheless() {
    let mut progress = Progress::default();
    list_all(&mut progress, at(0));
    // The newest is listed, but not the backlog, before the process is away for days.
    let plan = progress.plan(at(20 * 60), &usual(WEEK));
    progress.newest_listed(&plan);
    let backlog = progress.backlog.clone();
    let unlisted = backlog
        .iter()
        .flat_map(|window| progress.never_listed(*window));
    assert_eq!(unlisted.collect::<Vec<_>>(), [window(0, 19 * 60)]);
    let beyond = window(19 * 60, 21 * 60);
    assert_eq!(progress.never_listed(beyond), [window(20 * 60, 21 * 60)]);
    assert_eq!(Progress::default().never_listed(beyond), [beyond]);
}

/// Rising, of seconds to days.
fn lags() -> impl Strategy<Value = Vec<Lag>> {
    let lag = prop_oneof![
        1_i64..3600,
        1_i64..167 * 3600,
        prop::sample::select(USUAL.to_vec())
    ];
    prop::collection::btree_set(lag, 1..6).prop_map(|lags| lags.into_iter().collect())
}

proptest! {
    /// Whatever fails, and whenever the process is away: everything up to the watermark is listed, or still to be
    /// listed, or reported as gone; no window is wider than 23 hours or begins before what the API lists.
    #[test]
    fn nothing_is_passed_over(
        steps in prop::collection::vec((1_i64..3000, any::<bool>(), 0_usize..40, prop::option::weighted(0.1, lags())), 1..60),
        first_lags in lags(),
        overlap in 0_u64..720,
        start in 0_u64..15_000,
    ) {
        let (overlap, start) = (Duration::from_mins(overlap), Duration::from_mins(start));
        let mut schedule = Schedule { overlap, start, relist_after: first_lags };
        let mut progress = Progress::default();
        let mut dealt_with = Vec::new();
        let (mut listed, mut unlistable) = (Vec::new(), Vec::new());
        let mut first = None;
        let mut now = at(0);
        for (minutes, works, backlog_steps, new_lags) in steps {
            now += TimeDelta::seconds(minutes * 37);
            schedule.relist_after = new_lags.unwrap_or(schedule.relist_after);
            // A pass that was never promised before cannot come to what is out of reach by then.
            let last = progress.swept_to.keys().next_back().copied();
            let is_new = last.is_some_and(|last| schedule.relist_after.iter().any(|lag| *lag > last));
            let plan = progress.plan(now, &schedule);
            let mut asked = vec![plan.newest];
            if works {
                first.get_or_insert(plan.rest.iter().map(|window| window.from).fold(plan.newest.from, DateTime::min));
                progress.newest_listed(&plan);
                dealt_with.push(plan.newest);
                dealt_with.extend(plan.gone);
                listed.push((now, plan.newest));
                unlistable.extend(plan.gone.into_iter().chain(plan.unswept));
                let too_old = first.filter(|_| is_new).and_then(|first| Window::new(first, seconds(now) - FIRST));
                unlistable.extend(too_old);
                for _ in 0..backlog_steps {
                    let Some(window) = progress.oldest_unlisted() else { break };
                    let (kept, gone) = window.clamp(now);
                    asked.extend(kept);
                    listed.extend(kept.map(|window| (now, window)));
                    unlistable.extend(gone);
                    dealt_with.extend(kept.into_iter().chain(gone));
                    progress.settled(window);
                }
            }
            for window in asked {
                prop_assert!(window.from < window.to);
                prop_assert!(window.to - window.from <= TimeDelta::hours(23));
                prop_assert!(window.from >= seconds(now) - LISTABLE);
                prop_assert!(window.to <= now);
            }
            let Some((first, listed_to)) = first.zip(progress.listed_to) else { continue };
            let accounted = merged(dealt_with.iter().chain(&progress.backlog).copied().collect());
            prop_assert!(
                accounted.iter().any(|window| window.from <= first && window.to >= listed_to),
                "{accounted:?} does not hold {first} to {listed_to}"
            );
            prop_assert!(progress.backlog.len() < 30);
            // No pass claims what it has not listed, late enough.
            let lags = std::iter::once(&0).chain(&schedule.relist_after);
            let reach = progress.reach("Audit.General", now, &schedule);
            for (lag, pass) in lags.zip(&reach.passes) {
                let (lag, passed) = (TimeDelta::seconds(*lag), &pass.to);
                let late_enough = |(at, window): &(DateTime<Utc>, Window)| Window::new(window.from, window.to.min(*at - lag));
                let by_it = listed.iter().filter_map(late_enough).chain(unlistable.iter().copied());
                let by_it = merged(by_it.collect());
                prop_assert!(
                    first >= *passed || by_it.iter().any(|window| window.from <= first && window.to >= *passed),
                    "the pass after {lag} is not at {passed}: {by_it:?}"
                );
            }
        }
    }
}
