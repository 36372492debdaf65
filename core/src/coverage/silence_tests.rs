use proptest::prelude::*;

use super::*;

/// A Thursday, as 1970 began with one; hours of the week are counted from it.
const BEGIN: Hour = 490_000 / WEEK * WEEK;

/// A week in which people work from 9 to 17 on weekdays, and nothing else happens.
fn is_office_hour(hour: Hour) -> bool {
    let (day, of_day) = ((hour - BEGIN).div_euclid(24) % 7, hour.rem_euclid(24));
    // Thursday is day 0: Saturday and Sunday are 2 and 3.
    !matches!(day, 2 | 3) && (9..17).contains(&of_day)
}

fn weeks(weeks: i64, rate: impl Fn(Hour) -> i64) -> BTreeMap<Hour, i64> {
    let hours = BEGIN..BEGIN + weeks * WEEK;
    let busy = hours.map(|hour| (hour, rate(hour)));
    busy.filter(|(_, count)| *count > 0).collect()
}

fn office(hour: Hour) -> i64 {
    if is_office_hour(hour) { 200 } else { 0 }
}

/// The hours of a week at which a silence that begins in hour `from` of it is an alarm.
fn alarms(history: &BTreeMap<Hour, i64>, from: Hour, hours: i64) -> Vec<Hour> {
    let mut counts = history.clone();
    counts.retain(|hour, _| *hour < from);
    (from..from + hours)
        .filter(|until| judge(&counts, *until).0 == Mood::Silent)
        .map(|hour| hour - from)
        .collect()
}

#[test]
fn nights_and_weekends_are_no_alarm() {
    let counts = weeks(8, office);
    for until in BEGIN + 3 * WEEK..BEGIN + 8 * WEEK {
        let (mood, _) = judge(&counts, until);
        assert!(
            matches!(mood, Mood::Active | Mood::Quiet),
            "{mood:?} at {}",
            until - BEGIN
        );
    }
}

#[test]
fn a_silence_in_working_hours_is_an_alarm_the_same_day_and_one_over_the_weekend_on_monday() {
    let history = weeks(4, office);
    // From Tuesday, 9 o'clock: day 5 of a week that begins on Thursday.
    let tuesday = BEGIN + 3 * WEEK + 5 * 24 + 9;
    let first = alarms(&history, tuesday, 24)[0];
    assert!((6..=10).contains(&first), "after {first} hours");
    // From Friday evening.
    let friday = BEGIN + 3 * WEEK + 24 + 17;
    let first = alarms(&history, friday, 80)[0];
    assert!(
        (2 * 24 + 16 + 6..80).contains(&first),
        "after {first} hours"
    );
}

#[test]
fn a_holiday_that_was_seen_makes_the_next_one_no_alarm() {
    let monday = 4 * 24;
    let with_holiday = |hour: Hour| {
        let is_holiday = (BEGIN + WEEK + monday..BEGIN + WEEK + monday + 24).contains(&hour);
        if is_holiday { 0 } else { office(hour) }
    };
    // The whole next Monday, and the night after it.
    let next = BEGIN + 3 * WEEK + monday;
    assert_eq!(
        alarms(&weeks(4, with_holiday), next, 24),
        Vec::<Hour>::new()
    );
    assert!(
        !alarms(&weeks(4, office), next, 24).is_empty(),
        "without the holiday"
    );
    assert!(
        !alarms(&weeks(4, with_holiday), next, 72).is_empty(),
        "not for ever"
    );
}

#[test]
fn a_trickle_of_what_usually_comes_is_silence_too() {
    let breaks = BEGIN + 3 * WEEK + 5 * 24 + 9;
    let counts = weeks(4, |hour| match office(hour) {
        _ if hour < breaks => office(hour),
        0 => 0,
        _ => 3,
    });
    assert_eq!(judge(&counts, breaks + 10).0, Mood::Silent);
}

#[test]
fn nothing_is_usual_in_the_first_two_weeks() {
    let counts = weeks(2, office);
    for until in BEGIN..BEGIN + 2 * WEEK {
        assert_eq!(judge(&counts, until).0, Mood::Learning);
    }
    assert_eq!(judge(&BTreeMap::new(), BEGIN), (Mood::Learning, None));
}

#[test]
fn what_a_source_cannot_list_is_broken_not_silent() {
    let silent = BEGIN + 3 * WEEK + 5 * 24 + 20;
    let listed = (silent + DELAY_HOURS) * MS_PER_HOUR;
    let mut counts = weeks(4, office);
    counts.retain(|hour, _| *hour < silent - 12);
    let mut account = Account {
        lines: vec![Line {
            passes: vec![(0, listed)],
            ..Line::default()
        }],
        activity: [("Exchange".to_owned(), counts)].into(),
        ..Account::default()
    };
    let moods = |account: &Account, now: i64| -> Vec<_> {
        let judged = workloads(account, now);
        judged.into_iter().map(|w| (w.workload, w.mood)).collect()
    };
    let all = |mood| vec![(ALL.to_owned(), mood), ("Exchange".to_owned(), mood)];
    assert_eq!(moods(&account, listed), all(Mood::Silent));
    let waits = super::super::Content {
        pending: 1,
        ..super::super::Content::default()
    };
    account.lines[0].hours.insert(silent - 2, waits.clone());
    assert_eq!(
        moods(&account, listed),
        all(Mood::Unknown),
        "a blob of that time waits"
    );
    account.lines[0].hours = [(silent - 60, waits)].into();
    assert_eq!(
        moods(&account, listed),
        all(Mood::Silent),
        "it is older than the silence"
    );
    let late = listed + 4 * MS_PER_HOUR;
    assert_eq!(moods(&account, late), all(Mood::Unknown), "not listed");
    account.troubles.push(super::super::Trouble {
        source: "activity".to_owned(),
        kind: "unavailable".to_owned(),
        error: "Audit.Exchange: there is no enabled subscription".to_owned(),
        since_ms: 0,
    });
    assert_eq!(
        moods(&account, listed),
        all(Mood::Silent),
        "it fails now and then"
    );
    assert_eq!(
        moods(&account, late),
        all(Mood::Broken),
        "one content type alone"
    );
    account.troubles[0].kind = "auth".to_owned();
    assert_eq!(
        moods(&account, listed),
        all(Mood::Broken),
        "the whole tenant"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever hours a tenant keeps, and however lively it is: a week like those before is no alarm, and three days of
    /// nothing are one where something came in every third hour at least.
    #[test]
    fn a_week_like_those_before_is_no_alarm_and_an_end_is_one(
        pattern in prop::collection::vec(0_i64..1000, WEEK as usize),
        noise in prop::collection::vec(50_i64..150, 97),
        from in 0_i64..WEEK,
    ) {
        let rate = |hour: Hour| {
            let usual = pattern[slot(hour)];
            let usual = if usual < 300 { 0 } else { usual };
            usual * noise[hour.rem_euclid(97) as usize] / 100
        };
        let counts = weeks(7, rate);
        for until in (BEGIN + 5 * WEEK..BEGIN + 7 * WEEK).step_by(3) {
            prop_assert_ne!(judge(&counts, until).0, Mood::Silent, "at {}", until - BEGIN);
        }
        let from = BEGIN + 5 * WEEK + from;
        prop_assert!(!alarms(&counts, from, 72).is_empty());
    }
}
