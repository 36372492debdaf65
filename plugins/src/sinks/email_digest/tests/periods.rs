//! Which time a mail covers, and when it is due.

use chrono::{DateTime, TimeDelta, Utc};
use croner::parser::{CronParser, Seconds};
use proptest::prelude::*;

use super::super::period::{Calendar, Period, Unit};

fn calendar(zone: &str, schedule: &str, unit: Unit) -> Calendar {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).build();
    Calendar {
        zone: zone.parse().unwrap(),
        schedule: parser.parse(schedule).unwrap(),
        unit,
        settle: TimeDelta::hours(6),
    }
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn shown(period: &Period) -> [String; 3] {
    [period.start, period.end, period.due]
        .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}

#[test]
fn a_day_of_the_zone_is_23_or_25_hours_long_when_clocks_change() {
    let berlin = calendar("Europe/Berlin", "0 7 * * *", Unit::Day);
    let spring = berlin.next(at("2026-03-28T23:00:00Z")).unwrap();
    assert_eq!(
        shown(&spring),
        [
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
            "2026-03-30T05:00:00Z"
        ]
    );
    let autumn = berlin.next(at("2026-10-24T22:00:00Z")).unwrap();
    assert_eq!(
        shown(&autumn),
        [
            "2026-10-24T22:00:00Z",
            "2026-10-25T23:00:00Z",
            "2026-10-26T06:00:00Z"
        ]
    );
}

#[test]
fn a_day_without_midnight_begins_when_the_clocks_have_gone_forward() {
    // Egypt's clocks go from 0:00 to 1:00.
    let cairo = calendar("Africa/Cairo", "0 7 * * *", Unit::Day);
    let start = cairo.midnight("2026-04-24".parse().unwrap());
    assert_eq!(start, at("2026-04-23T22:00:00Z"));
    assert_eq!(cairo.floor(at("2026-04-24T12:00:00Z")), start);
    assert_eq!(cairo.ceil(at("2026-04-23T12:00:00Z")), start);
}

#[test]
fn a_mail_at_a_time_that_does_not_exist_is_sent_all_the_same() {
    let berlin = calendar("Europe/Berlin", "30 2 * * *", Unit::Day);
    let period = berlin.next(at("2026-03-27T23:00:00Z")).unwrap();
    assert_eq!(period.end, at("2026-03-28T23:00:00Z"));
    // Six hours after the day's end, which is later than half past two.
    assert_eq!(period.due, at("2026-03-29T05:00:00Z"));
}

#[test]
fn a_day_that_was_left_out_as_a_whole_has_no_mail() {
    // Samoa went over the date line: after 29 December 2011 came the 31st.
    let apia = calendar("Pacific/Apia", "0 7 * * *", Unit::Hour);
    let ends = [
        "2011-12-29T17:00:00Z",
        // The 30th's, when the 31st begins.
        "2011-12-30T10:00:00Z",
        "2011-12-30T17:00:00Z",
    ];
    let mut start = at("2011-12-28T17:00:00Z");
    for end in ends {
        let period = apia.next(start).unwrap();
        assert_eq!(period.end, at(end));
        start = period.end;
    }
    let monthly = calendar("Pacific/Apia", "0 7 30 * *", Unit::Day);
    let period = monthly.next(at("2011-12-01T10:00:00Z")).unwrap();
    assert_eq!(period.end, at("2011-12-30T10:00:00Z"));
}

#[test]
fn a_mail_waits_until_its_day_has_settled() {
    let utc = calendar("UTC", "0 3 * * *", Unit::Day);
    let period = utc.next(at("2026-11-19T00:00:00Z")).unwrap();
    assert_eq!(
        shown(&period),
        [
            "2026-11-19T00:00:00Z",
            "2026-11-20T00:00:00Z",
            "2026-11-20T06:00:00Z"
        ]
    );
}

#[test]
fn a_schedule_says_how_much_is_in_a_mail() {
    let lengths = |schedule: &str, mails: usize| {
        let calendar = calendar("UTC", schedule, Unit::Day);
        // A Monday.
        let mut start = at("2026-11-02T00:00:00Z");
        let mut days = Vec::new();
        for _ in 0..mails {
            let period = calendar.next(start).unwrap();
            days.push((period.end - period.start).num_days());
            start = period.end;
        }
        days
    };
    assert_eq!(lengths("0 7 * * *", 3), [1, 1, 1]);
    assert_eq!(lengths("0 7 * * MON", 2), [7, 7]);
    // Working days: Monday's mail has the weekend.
    assert_eq!(lengths("0 7 * * MON-FRI", 6), [1, 1, 1, 1, 3, 1]);
    assert_eq!(lengths("0 7 1 * *", 3), [29, 31, 31]);
    // Twice a day makes no half days.
    assert_eq!(lengths("0 7,19 * * *", 2), [1, 1]);
}

#[test]
fn hours_and_minutes_are_of_the_zone_too() {
    let kathmandu = calendar("Asia/Kathmandu", "0 * * * *", Unit::Hour);
    assert_eq!(
        kathmandu.floor(at("2026-11-20T10:20:30.5Z")),
        at("2026-11-20T10:15:00Z")
    );
    let minutes = calendar("UTC", "* * * * *", Unit::Minute);
    let period = minutes.next(at("2026-11-20T10:20:00Z")).unwrap();
    assert_eq!(period.end, at("2026-11-20T10:21:00Z"));
}

#[test]
fn after_a_downtime_each_mail_comes_and_the_oldest_are_one() {
    let utc = calendar("UTC", "0 7 * * *", Unit::Day);
    let now = at("2026-11-20T08:00:00Z");
    let days = |most| {
        let due = utc.due(at("2026-11-10T00:00:00Z"), now, most).unwrap();
        let days = due
            .iter()
            .map(|period| (period.end - period.start).num_days());
        assert_eq!(due.last().unwrap().end, at("2026-11-20T00:00:00Z"));
        days.collect::<Vec<_>>()
    };
    assert_eq!(days(100), [1; 10]);
    assert_eq!(days(3), [8, 1, 1]);
    assert_eq!(days(1), [10]);
    assert_eq!(utc.due(at("2026-11-20T00:00:00Z"), now, 7).unwrap(), []);
}

#[test]
fn periods_are_said_as_people_say_them() {
    let berlin = calendar("Europe/Berlin", "0 7 * * *", Unit::Day);
    for (days, said) in [
        ("2026-11-20", "Friday, 20 November 2026"),
        ("2026-10-25", "Sunday, 25 October 2026"),
        ("2026-11-16..2026-11-22", "Mon 16 – Sun 22 Nov 2026"),
        ("2026-10-26..2026-11-01", "Mon 26 Oct – Sun 1 Nov 2026"),
        ("2026-12-28..2027-01-03", "Mon 28 Dec 2026 – Sun 3 Jan 2027"),
    ] {
        let (start, end) = berlin.parse(days).unwrap();
        assert_eq!(berlin.describe(start, end), said);
    }
    let hour = (at("2026-11-20T10:00:00Z"), at("2026-11-20T11:00:00Z"));
    assert_eq!(
        berlin.describe(hour.0, hour.1),
        "Fri 20 Nov 2026, 11:00 – 12:00"
    );
    for wrong in ["yesterday", "2026-11-31", "2026-11-20..2026-11-19", ""] {
        assert!(berlin.parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_time_that_comes_twice_makes_one_mail() {
    // Cuba's clocks go from 1:00 back to 0:00.
    let havana = calendar("America/Havana", "0 0 * * *", Unit::Hour);
    let first = havana.next(at("2013-11-02T04:00:00Z")).unwrap();
    assert_eq!(first.end, at("2013-11-03T04:00:00Z"));
    let second = havana.next(first.end).unwrap();
    assert_eq!(second.end, at("2013-11-04T05:00:00Z"));
}

proptest! {
    #[test]
    fn periods_have_no_gaps_and_no_overlaps(
        zone in prop::sample::select(vec!["Europe/Berlin", "America/Havana", "Africa/Cairo", "Asia/Kathmandu", "Pacific/Apia", "UTC"]),
        schedule in prop::sample::select(vec!["0 7 * * *", "0 0 * * *", "30 2 * * MON-FRI", "0 7 1 * *", "15 * * * *"]),
        hours in any::<bool>(),
        start in 1_200_000_000_i64..1_900_000_000,
    ) {
        let calendar = calendar(zone, schedule, if hours { Unit::Hour } else { Unit::Day });
        let mut next = calendar.floor(DateTime::from_timestamp(start, 0).unwrap());
        prop_assert_eq!(calendar.floor(next), next);
        for _ in 0..40 {
            let period = calendar.next(next).unwrap();
            prop_assert_eq!(period.start, next);
            prop_assert!(period.end > period.start && period.due >= period.end);
            prop_assert_eq!(calendar.floor(period.end), period.end);
            next = period.end;
        }
    }
}
