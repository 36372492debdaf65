use super::*;
use crate::journal::{NO_HOUR, OLD_HOUR};

/// Midnight of the first of March 2026, in hours since 1970.
const DAY: Hour = 492_312;
const WEEK: i64 = 7 * 24 * MS_PER_HOUR;

fn hours(hours: Hour) -> i64 {
    (DAY + hours) * MS_PER_HOUR
}

/// Collected since the day before; listed to hour `first`, for the last time to hour `last` of the first of March.
fn line(first: Hour, last: Hour) -> Line {
    Line {
        source: "activity".to_owned(),
        content_type: "Audit.General".to_owned(),
        since_ms: Some(hours(-24)),
        kept_ms: WEEK,
        passes: vec![
            (0, hours(first)),
            (3600, hours(first - 1)),
            (561_600, hours(last)),
        ],
        ..Line::default()
    }
}

fn account(lines: Vec<Line>) -> Account {
    Account {
        tenant: "t".to_owned(),
        lines,
        ..Account::default()
    }
}

/// The states of the first of March and the day before it, at this hour after its midnight.
fn days(account: &Account, now: Hour) -> Vec<State> {
    let question = Question {
        to: Some("2026-03-01".parse().unwrap()),
        ..Question::usual(DateTime::from_timestamp_millis(hours(now)).unwrap())
    };
    let coverage = assess(account.clone(), &question, "contoso".to_owned());
    coverage.rows.iter().filter_map(|row| row.state).collect()
}

fn content(listed: i64, fetched: i64, lost: i64) -> Content {
    Content {
        listed,
        fetched,
        lost,
        pending: listed - fetched - lost,
        ..Content::default()
    }
}

#[test]
fn what_a_person_should_look_at_begins_with_what_is_at_risk() {
    let looked_at = State::ALL.map(|state| (state, state.is_bad()));
    let expected = [
        (State::Settled, false),
        (State::Partial, false),
        (State::Open, false),
        (State::AtRisk, true),
        (State::Gap, true),
        (State::Lost, true),
        (State::Unbalanced, true),
    ];
    assert_eq!(looked_at, expected);
}

#[test]
fn the_first_of_march_is_where_the_tests_think_it_is() {
    let time = DateTime::from_timestamp(DAY * 3600, 0).unwrap();
    assert_eq!(time.to_rfc3339(), "2026-03-01T00:00:00+00:00");
}

#[test]
fn a_day_is_settled_when_every_content_hour_that_could_hold_its_events_is() {
    let late = 9 * 24;
    // The last event of the day may be in content of the whole day after, to the end of the hour that it falls in.
    let settled = 24 + DELAY_HOURS;
    let states = |last| days(&account(vec![line(late, last)]), late);
    assert_eq!(states(settled), [State::Settled; 2]);
    assert_eq!(states(settled - 1), [State::Settled, State::Open]);
    assert_eq!(states(DELAY_HOURS - 1), [State::Open; 2]);
}

#[test]
fn one_pass_or_one_content_type_that_was_missed_keeps_every_hour_open() {
    let late = 9 * 24;
    let mut missed = line(late, 100);
    missed.passes[1].1 = hours(-24);
    assert_eq!(days(&account(vec![missed]), late), [State::Open; 2]);
    let other = line(late, -24);
    assert_eq!(
        days(&account(vec![line(late, 100), other]), late),
        [State::Open; 2]
    );
    let mut silent = line(late, 100);
    (silent.since_ms, silent.passes) = (None, Vec::new());
    assert_eq!(
        days(&account(vec![silent]), late),
        Vec::<State>::new(),
        "nothing is known of it"
    );
    assert_eq!(
        days(&account(vec![line(late, 100), Line::default()]), late),
        [State::Open; 2]
    );
}

#[test]
fn what_was_never_collected_is_never_settled() {
    let mut began = line(9 * 24, 100);
    began.since_ms = Some(hours(5));
    assert_eq!(days(&account(vec![began]), 9 * 24), [State::Partial]);
}

#[test]
fn a_content_type_that_left_is_counted_on_no_longer_but_was_cut_off() {
    let late = 9 * 24;
    let mut left = line(-20, -22);
    left.ended_ms = Some(hours(-20));
    let rest = line(late, 100);
    assert_eq!(
        days(&account(vec![rest, left]), late),
        [State::Partial, State::Settled]
    );
}

#[test]
fn what_waits_is_open_and_at_risk_when_it_expires_soon_or_fails_again_and_again() {
    let late = 9 * 24;
    let with = |pending: Content| {
        let mut line = line(late, 100);
        line.hours.insert(DAY + 30, pending);
        // Content of the second of March, which may hold events of the first from six o'clock on.
        days(&account(vec![line]), late)
    };
    let waits = |expiry: i64, attempts: i64| Content {
        next_expiry_ms: Some(hours(late) + expiry),
        attempts,
        ..content(2, 1, 0)
    };
    assert_eq!(with(content(2, 2, 0)), [State::Settled; 2]);
    assert_eq!(with(waits(RISK_MS, 1)), [State::Settled, State::Open]);
    assert_eq!(with(waits(RISK_MS - 1, 0)), [State::Settled, State::AtRisk]);
    assert_eq!(with(waits(WEEK, FAILING)), [State::Settled, State::AtRisk]);
    assert_eq!(with(content(2, 1, 1)), [State::Settled, State::Lost]);
}

#[test]
fn a_gap_is_a_gap_whatever_the_passes_say() {
    let mut line = line(9 * 24, 100);
    line.gaps.push(Missed {
        from_ms: hours(47) + 1,
        to_ms: hours(47) + 2,
        reason: "down".to_owned(),
    });
    assert_eq!(
        days(&account(vec![line.clone()]), 9 * 24),
        [State::Settled, State::Gap]
    );
    line.gaps[0].from_ms = hours(48);
    line.gaps[0].to_ms = hours(49);
    let states = days(&account(vec![line]), 9 * 24);
    assert_eq!(
        states,
        [State::Settled; 2],
        "more than a day after the last event"
    );
}

#[test]
fn a_time_that_was_not_listed_is_at_risk_before_it_cannot_be_listed_any_more() {
    let unlisted = account(vec![line(0, -24)]);
    assert_eq!(days(&unlisted, 3 * 24), [State::Open; 2]);
    assert_eq!(days(&unlisted, 4 * 24 + 1), [State::AtRisk; 2]);
}

#[test]
fn events_that_belong_to_no_hour_are_told_and_have_no_state() {
    let mut account = account(vec![line(9 * 24, 100)]);
    for (hour, journaled) in [(NO_HOUR, 3), (OLD_HOUR, 5), (DAY, 7)] {
        let events = Events {
            journaled,
            ..Events::default()
        };
        account.events.insert(hour, events);
    }
    let question = Question::usual(DateTime::from_timestamp_millis(hours(9 * 24)).unwrap());
    let coverage = assess(account, &question, "contoso".to_owned());
    let rows = coverage.rows.iter();
    let told: Vec<_> = rows
        .filter(|row| row.events.journaled > 0)
        .map(|row| (row.span.to_string(), row.state, row.events.journaled))
        .collect();
    assert_eq!(
        told,
        [
            ("older".to_owned(), None, 5),
            ("undated".to_owned(), None, 3),
            ("2026-03-01".to_owned(), Some(State::Settled), 7),
        ]
    );
}

#[test]
fn reasons_come_gravest_first_and_name_what_they_concern() {
    let mut general = line(48, -10);
    general.hours.insert(DAY + 4, content(3, 1, 2));
    general.loss = Some("blob-1: gone".to_owned());
    let mut exchange = line(48, -10);
    exchange.content_type = "Audit.Exchange".to_owned();
    exchange.hours.insert(
        DAY + 5,
        Content {
            next_expiry_ms: Some(hours(60)),
            attempts: 12,
            ..content(1, 0, 0)
        },
    );
    exchange.failure = Some("blob-2: HTTP 500".to_owned());
    exchange.gaps.push(Missed {
        from_ms: hours(1),
        to_ms: hours(2),
        reason: "down".to_owned(),
    });
    let question = Question {
        from: Some("2026-03-01".parse().unwrap()),
        ..Question::usual(DateTime::from_timestamp_millis(hours(48)).unwrap())
    };
    let coverage = assess(
        account(vec![general, exchange]),
        &question,
        "contoso".to_owned(),
    );
    let reasons = coverage.reasons.iter();
    let told: Vec<_> = reasons
        .map(|reason| format!("{}: {}", reason.state, reason.text))
        .collect();
    assert_eq!(
        told,
        [
            "lost: Audit.General (activity): 2 content blobs lost of 2026-03-01T04:00Z to 2026-03-01T05:00Z: blob-1: gone",
            "gap: Audit.Exchange (activity): 2026-03-01T01:00Z to 2026-03-01T02:00Z: down",
            "at risk: Audit.Exchange (activity): 1 content blob not fetched, the first expires 2026-03-03T12:00Z, 12 tries: \
             blob-2: HTTP 500",
            "open: Audit.General (activity), Audit.Exchange (activity): may still get more: the last pass (+6d12h) has come \
             to 2026-02-28T14:00Z",
        ]
    );
    assert_eq!(coverage.state, State::Lost);
}

/// The state of an account, and of its row of the first day.
fn state_of(account: &Account) -> (State, State) {
    let now = DateTime::from_timestamp_millis(hours(48)).unwrap();
    let question = Question::usual(now);
    let coverage = assess(account.clone(), &question, "contoso".to_owned());
    let rows = &coverage.rows;
    (coverage.state, rows[0].state.unwrap())
}

#[test]
fn an_account_that_does_not_add_up_is_told() {
    let total = SinkStatus {
        sink: "a".to_owned(),
        tenant: "t".to_owned(),
        orphan_since: None,
        paused_since: None,
        journaled: 10,
        filtered: 1,
        delivered: 6,
        dead: 1,
        skipped: 1,
        pending: 1,
        oldest_pending_ms: None,
    };
    let hour = Fates {
        filtered: 1,
        delivered: 6,
        dead: 1,
        skipped: 1,
        pending: 1,
    };
    let journaled = Events {
        journaled: 10,
        ..Events::default()
    };
    let good = Account {
        journaled: 10,
        events: [(DAY, journaled)].into(),
        sinks: [("a".to_owned(), [(DAY, hour)].into())].into(),
        totals: vec![total],
        ..account(Vec::new())
    };
    assert_eq!(unbalanced(&good), Vec::<String>::new());
    assert_eq!(state_of(&good), (State::Open, State::Open));
    let mut one_less = good.clone();
    one_less.totals[0].delivered = 5;
    assert_eq!(
        unbalanced(&one_less).len(),
        2,
        "{:?}",
        unbalanced(&one_less)
    );
    assert_eq!(
        state_of(&one_less),
        (State::Unbalanced, State::Open),
        "in sum"
    );
    let mut by_hour = good.clone();
    by_hour.sinks.clear();
    assert_eq!(
        unbalanced(&by_hour)[1],
        "figures of single hours: 1 of them, the first is 2026-03-01T00:00Z"
    );
    assert_eq!(state_of(&by_hour), (State::Unbalanced, State::Unbalanced));
    let mut too_much = good.clone();
    too_much.totals[0].journaled = 9;
    let hours = too_much.sinks.get_mut("a").unwrap();
    hours.get_mut(&DAY).unwrap().delivered = 7;
    assert_eq!(
        state_of(&too_much).1,
        State::Unbalanced,
        "more than was journaled"
    );
    let mut later = good.clone();
    later.totals[0].journaled = 9;
    later.totals[0].delivered = 5;
    let hours = later.sinks.get_mut("a").unwrap();
    hours.get_mut(&DAY).unwrap().delivered = 5;
    assert_eq!(unbalanced(&later), Vec::<String>::new());
    assert_eq!(
        state_of(&later),
        (State::Open, State::Open),
        "a sink that began later"
    );
    let mut unjournaled = good;
    unjournaled.events.clear();
    assert_eq!(
        unbalanced(&unjournaled)[0],
        "10 events were journaled, by hour 0"
    );
}

#[test]
fn passes_are_named_by_their_lag() {
    let names = [
        0,
        3600,
        6 * 3600,
        24 * 3600,
        72 * 3600,
        156 * 3600,
        96 * 3600,
        90,
    ];
    let names = names.map(|lag| pass_name(lag).into_owned());
    assert_eq!(
        names,
        [
            "poll", "+1h", "+6h", "+24h", "+72h", "+6d12h", "+4d", "+90s"
        ]
    );
}
