use audit_exporter_core::plugin::{Gap, Reach};
use proptest::prelude::*;

use super::*;

type TestPlan = Plan<Option<&'static str>>;

/// Half-hour slices of at most a day, searched again after two hours, a day and a week.
fn schedule() -> Schedule {
    Schedule {
        slice: TimeDelta::minutes(30),
        longest: TimeDelta::hours(24),
        settle: TimeDelta::minutes(15),
        again: vec![2 * 3600, 24 * 3600, 7 * 24 * 3600],
        start: TimeDelta::days(7),
        kept: TimeDelta::days(180),
    }
}

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-07-{text}:00Z").parse().unwrap()
}

/// Opens all that is due at `now`.
fn advance<S: Default + PartialEq>(
    plan: &mut Plan<S>,
    now: DateTime<Utc>,
    schedule: &Schedule,
) -> Vec<Gap> {
    plan.advance(now, now, schedule, "log")
}

/// Advances to `now` and finishes everything. Returns what was due, as `from-to +pass`.
fn search(plan: &mut TestPlan, now: DateTime<Utc>, schedule: &Schedule) -> Vec<String> {
    assert_eq!(advance(plan, now, schedule), []);
    let due: Vec<_> = plan.open().map(|open| open.slice).collect();
    for slice in &due {
        plan.finish(*slice);
    }
    let time = |time: DateTime<Utc>| time.format("%dT%H:%M");
    let text = |slice: &Slice| format!("{}-{} +{}", time(slice.from), time(slice.to), slice.pass);
    due.iter().map(text).collect()
}

/// How far each pass is, as `16T09:00`.
fn passed(plan: &TestPlan, now: DateTime<Utc>) -> Vec<String> {
    let Reach { passes, .. } = plan.reach("log", now, &schedule());
    let text = |pass: &audit_exporter_core::plugin::Pass| pass.to.format("%dT%H:%M").to_string();
    passes.iter().map(text).collect()
}

#[test]
fn a_first_search_takes_the_newest_first_and_the_week_behind_it_in_days() {
    let (mut plan, schedule) = (TestPlan::default(), schedule());
    let due = search(&mut plan, at("16T09:47"), &schedule);
    assert_eq!(due[0], "16T06:00-16T09:30 +0");
    assert_eq!(due.last().unwrap(), "09T09:30-10T00:00 +0");
    assert_eq!(due.len(), 9, "{due:?}");
    // What is old enough needs no later pass.
    let now = at("16T09:50");
    assert_eq!(search(&mut plan, now, &schedule), Vec::<String>::new());
    assert_eq!(
        passed(&plan, now),
        ["16T09:30", "16T06:00", "15T00:00", "09T09:30"]
    );
}

#[test]
fn a_slice_is_due_when_it_has_settled_and_each_pass_when_its_lag_has_come_together() {
    let (mut plan, schedule) = (TestPlan::default(), schedule());
    search(&mut plan, at("16T09:47"), &schedule);
    for (now, due) in [
        ("16T10:14", &[][..]),
        ("16T10:15", &["16T09:30-16T10:00 +0"]),
        ("16T10:45", &["16T10:00-16T10:30 +0"]),
        ("16T11:20", &["16T10:30-16T11:00 +0"]),
        ("16T11:59", &["16T11:00-16T11:30 +0"]),
        ("16T12:00", &[]),
        ("16T12:15", &["16T11:30-16T12:00 +0"]),
    ] {
        let mut found = search(&mut plan, at(now), &schedule);
        found.retain(|slice| slice.ends_with("+0"));
        assert_eq!(found, due, "{now}");
    }
    // Two hours after 12:00 the slices since 10:00 are searched once more, as one.
    let due = search(&mut plan, at("16T14:00"), &schedule);
    assert_eq!(due, ["16T12:00-16T13:30 +0", "16T10:00-16T12:00 +7200"]);
    let due = search(&mut plan, at("17T00:00"), &schedule);
    assert!(
        due.contains(&"15T00:00-16T00:00 +86400".to_owned()),
        "{due:?}"
    );
}

#[test]
fn after_a_standstill_nothing_is_searched_twice_and_what_piled_up_comes_in_long_slices() {
    let (mut plan, schedule) = (TestPlan::default(), schedule());
    search(&mut plan, at("16T09:47"), &schedule);
    let due = search(&mut plan, at("19T09:47"), &schedule);
    assert_eq!(
        due,
        [
            "19T06:00-19T09:30 +0",
            "19T00:00-19T06:00 +0",
            "18T00:00-19T00:00 +0",
            "17T00:00-18T00:00 +0",
            "16T00:00-17T00:00 +0",
            "15T00:00-16T00:00 +86400",
            "11T00:00-12T00:00 +604800",
            "10T00:00-11T00:00 +604800",
            "09T09:30-10T00:00 +604800",
        ]
    );
    assert_eq!(
        search(&mut plan, at("19T09:48"), &schedule),
        Vec::<String>::new()
    );
}

#[test]
fn a_slice_that_is_not_finished_holds_back_its_passes_and_no_earlier_one() {
    let (mut plan, schedule) = (TestPlan::default(), schedule());
    search(&mut plan, at("16T09:47"), &schedule);
    search(&mut plan, at("16T11:46"), &schedule);
    let now = at("16T12:16");
    advance(&mut plan, now, &schedule);
    let open: Vec<_> = plan.open().map(|open| open.slice).collect();
    assert_eq!((open[0].pass, open[1].pass), (0, 7200));
    plan.finish(open[0]);
    assert_eq!(passed(&plan, now)[..2], ["16T12:00", "16T08:00"]);
    plan.finish(open[1]);
    assert_eq!(passed(&plan, now)[..2], ["16T12:00", "16T10:00"]);
}

#[test]
fn slices_that_wait_are_joined_and_those_under_way_or_split_are_not() {
    let (mut plan, schedule) = (TestPlan::default(), schedule());
    search(&mut plan, at("16T00:30"), &schedule);
    for hour in ["16T01:00", "16T01:30", "16T02:00"] {
        advance(&mut plan, at(hour), &schedule);
    }
    // The newest was opened after the others had been joined.
    let lengths = |plan: &mut TestPlan| -> Vec<i64> {
        plan.open()
            .filter(|open| open.slice.pass == 0)
            .map(|open| (open.slice.to - open.slice.from).num_minutes())
            .collect()
    };
    assert_eq!(lengths(&mut plan), [30, 60]);
    plan.open().for_each(|open| open.state = Some("under way"));
    advance(&mut plan, at("16T02:30"), &schedule);
    advance(&mut plan, at("16T03:00"), &schedule);
    advance(&mut plan, at("16T03:30"), &schedule);
    assert_eq!(lengths(&mut plan), [30, 60, 30, 60]);
    let longest = plan.open().map(|open| open.slice).nth(1).unwrap();
    assert!(plan.split(longest));
    advance(&mut plan, at("16T04:00"), &schedule);
    assert_eq!(lengths(&mut plan), [30, 30, 30, 30, 30, 60]);
}

#[test]
fn halves_make_the_whole_and_a_second_has_none() {
    let slice = Slice {
        from: at("16T09:00"),
        to: at("16T09:00") + TimeDelta::seconds(3),
        pass: 7200,
    };
    let [first, second] = slice.halves().unwrap();
    assert_eq!((first.from, first.to), (slice.from, second.from));
    assert_eq!((second.to, first.pass, second.pass), (slice.to, 7200, 7200));
    assert!(first.halves().is_none());
    assert!(second.halves().is_some());
}

#[test]
fn a_slice_whose_results_are_gone_counts_as_behind_until_it_is_finished_again() {
    let (mut plan, schedule) = (TestPlan::default(), schedule());
    let now = at("16T10:20");
    advance(&mut plan, now, &schedule);
    let slices: Vec<_> = plan.open().map(|open| open.slice).collect();
    for slice in &slices {
        plan.finish(*slice);
    }
    plan.reopen(slices[0]);
    plan.reopen(slices[0]);
    assert_eq!(plan.open().count(), 1);
    assert_eq!(
        passed(&plan, now)[0],
        slices[0].from.format("%dT%H:%M").to_string()
    );
    plan.finish(slices[0]);
    assert_eq!(passed(&plan, now)[0], "16T10:00");
}

#[test]
fn what_falls_due_after_its_end_is_left_and_begun_with_by_the_next() {
    let (mut plan, schedule) = (TestPlan::default(), schedule());
    let until = at("16T09:47");
    search(&mut plan, until, &schedule);
    for now in ["16T10:15", "16T12:15", "18T09:47"] {
        assert_eq!(plan.advance(at(now), until, &schedule, "log"), []);
        assert_eq!(plan.open().count(), 0, "{now}");
    }
    assert_eq!(passed(&plan, at("18T09:47"))[0], "16T09:30");
    let due = search(&mut plan, at("16T10:15"), &schedule);
    assert_eq!(due, ["16T09:30-16T10:00 +0", "16T06:00-16T08:00 +7200"]);
}

#[test]
fn what_the_service_forgets_is_a_gap_however_far_back_the_end_is() {
    let (mut plan, mut schedule) = (TestPlan::default(), schedule());
    schedule.kept = TimeDelta::days(10);
    let until = at("10T00:20");
    advance(&mut plan, until, &schedule);
    let gaps = plan.advance(at("16T00:20"), until, &schedule, "log");
    assert_eq!(
        (gaps[0].from, gaps.last().unwrap().to),
        (at("03T00:00"), at("06T00:00"))
    );
}

#[test]
fn time_that_the_service_has_forgotten_is_a_gap() {
    let (mut plan, mut schedule) = (TestPlan::default(), schedule());
    schedule.kept = TimeDelta::days(10);
    search(&mut plan, at("01T00:20"), &schedule);
    let gaps = advance(&mut plan, at("16T00:20"), &schedule);
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].from, gaps[0].to), (at("01T00:00"), at("06T00:00")));
    assert_eq!(&*gaps[0].content_type, "log");
    let first = plan.open().map(|open| open.slice.from).min();
    assert_eq!(first, Some(at("06T00:00")));
}

#[test]
fn a_plan_by_a_wrong_clock_is_taken_back() {
    let (mut plan, schedule) = (TestPlan::default(), schedule());
    search(&mut plan, at("16T09:47"), &schedule);
    search(&mut plan, at("30T09:47"), &schedule);
    let due = search(&mut plan, at("16T10:17"), &schedule);
    assert_eq!(due[0], "16T08:00-16T10:00 +0");
    assert_eq!(due.last().unwrap(), "09T09:30-10T00:00 +0");
}

#[test]
fn a_pass_that_is_new_to_the_options_begins_with_what_is_not_yet_so_old() {
    let (mut plan, mut schedule) = (TestPlan::default(), schedule());
    search(&mut plan, at("16T09:47"), &schedule);
    schedule.again.insert(1, 6 * 3600);
    assert_eq!(
        search(&mut plan, at("16T09:48"), &schedule),
        Vec::<String>::new()
    );
    search(&mut plan, at("16T17:59"), &schedule);
    let due = search(&mut plan, at("16T18:00"), &schedule);
    assert!(
        due.contains(&"16T06:00-16T12:00 +21600".to_owned()),
        "{due:?}"
    );
}

#[test]
fn the_searches_of_a_day_are_known_beforehand() {
    assert_eq!(schedule().searches_a_day(), 48 + 12 + 1 + 1);
}

proptest! {
    /// Whenever it runs, and whatever is finished in between: each pass has been over every second when it says so, and
    /// every second is searched after its lag.
    #[test]
    fn no_second_is_left_out(steps in prop::collection::vec((1_i64..3000, any::<bool>()), 1..60)) {
        let (mut plan, schedule) = (TestPlan::default(), schedule());
        let begin = at("16T09:47");
        let mut now = begin;
        let mut searched: Vec<(Slice, DateTime<Utc>)> = Vec::new();
        for (minutes, finishes) in steps {
            now += TimeDelta::minutes(minutes);
            advance(&mut plan, now, &schedule);
            let due: Vec<_> = plan.open().map(|open| open.slice).collect();
            for slice in due.into_iter().filter(|_| finishes) {
                plan.finish(slice);
                searched.push((slice, now));
            }
            let reach = plan.reach("log", now, &schedule);
            for pass in reach.passes {
                let lag = TimeDelta::from_std(pass.lag).unwrap();
                let mut time = reach.since;
                while time < pass.to {
                    let after = |(slice, when): &&(Slice, DateTime<Utc>)| {
                        slice.from <= time && time < slice.to && *when >= time + lag
                    };
                    let next = searched.iter().filter(after).map(|(slice, _)| slice.to).max();
                    prop_assert!(next.is_some(), "{time} was not searched after {lag}");
                    time = next.unwrap_or(pass.to);
                }
            }
        }
    }
}

#[test]
fn what_is_asked_for_beside_comes_last_and_no_pass_waits_for_it() {
    let schedule = Schedule {
        slice: TimeDelta::minutes(30),
        longest: TimeDelta::hours(24),
        settle: TimeDelta::zero(),
        again: vec![3600],
        start: TimeDelta::hours(1),
        kept: TimeDelta::days(180),
    };
    let now: DateTime<Utc> = "2026-03-10T12:00:00Z".parse().unwrap();
    let mut plan: Plan<u8> = Plan::default();
    advance(&mut plan, now, &schedule);
    let scheduled: Vec<Slice> = plan.open().map(|open| open.slice).collect();
    let day = TimeDelta::days(1);
    plan.backfill(&[(now - day * 2, now + day)], now, &schedule)
        .unwrap();
    let open: Vec<Slice> = plan.open().map(|open| open.slice).collect();
    assert_eq!(open[..scheduled.len()], scheduled);
    let asked = &open[scheduled.len()..];
    assert_eq!(
        asked.first().unwrap().to,
        now,
        "what is to come is not asked for"
    );
    assert_eq!(asked.last().unwrap().from, now - day * 2);
    assert!(
        asked
            .iter()
            .all(|slice| slice.lane(now) == LaneKind::CatchUp)
    );
    for slice in scheduled {
        plan.finish(slice);
    }
    let reach = plan.reach("log", now, &schedule);
    assert_eq!(reach.passes[0].to, now);
    let error = plan.backfill(&[(now - day * 181, now)], now, &schedule);
    assert_eq!(
        error.unwrap_err().to_string(),
        "the service does not keep 2025-09-10 12:00 UTC; it can be searched from 2025-09-11 12:00 UTC on"
    );
    let gaps = advance(&mut plan, now + day * 179, &schedule);
    assert!(gaps.iter().any(|gap| gap.from == now - day * 2), "{gaps:?}");
}

#[test]
fn a_first_search_that_fails_moves_no_beginning() {
    let now = at("10T12:10");
    let mut plan = TestPlan::default();
    assert!(plan.begin(now, &schedule()));
    let later = now + TimeDelta::days(2);
    assert!(!plan.begin(later, &schedule()), "it is on record");
    advance(&mut plan, later, &schedule());
    let first = plan.open().map(|open| open.slice.from).min();
    assert_eq!(first, Some(at("03T12:00")));
}

#[test]
fn a_beginning_by_a_clock_that_was_ahead_leaves_nothing_out() {
    for ahead in [TimeDelta::hours(5), TimeDelta::days(30)] {
        let now = at("10T12:10");
        let mut plan = TestPlan::default();
        plan.begin(now + ahead, &schedule());
        advance(&mut plan, now, &schedule());
        let first = plan.open().map(|open| open.slice.from).min();
        assert_eq!(first, Some(at("03T12:00")));
        let reach = plan.reach("log", now, &schedule());
        assert_eq!(reach.since, at("03T12:00"));
    }
}

#[test]
fn a_plan_for_a_day_alone_searches_that_day_and_nothing_else() {
    let (schedule, now) = (schedule(), at("16T09:47"));
    let day = |day: &str| at(&format!("{day}T00:00"));
    let mut plan = TestPlan::alone(&[(day("15"), day("16"))], now, &schedule).unwrap();
    let backfill = Lag::MAX;
    assert!(!plan.begin(now, &schedule), "it has begun");
    assert_eq!(
        search(&mut plan, now, &schedule),
        [format!("15T00:00-16T00:00 +{backfill}")]
    );
    assert_eq!(search(&mut plan, day("30"), &schedule), [""; 0]);
    let shorter = Schedule {
        longest: TimeDelta::hours(6),
        ..schedule.clone()
    };
    let mut plan = TestPlan::alone(&[(day("15"), day("16"))], now, &shorter).unwrap();
    assert_eq!(search(&mut plan, now, &shorter).len(), 4);
    let old = now - TimeDelta::days(181);
    let error = TestPlan::alone(&[(old, day("16"))], now, &schedule);
    assert!(error.unwrap_err().to_string().contains("does not keep"));
}
