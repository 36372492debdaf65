//! Random histories. What is likely to matter is likely to come: content on the edge of an hour, content that shows up
//! so late that one pass alone can find it, an end in the middle of a call.

use std::sync::Arc;

use chrono::DateTime;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::history::{
    Blob, Call, DAY, End, Event, FarSide, Fate, Fault, HOUR, History, Life, MINUTE, Millis, Place,
    Record, SECOND, START, Trouble, What,
};

const CONTENT_TYPES: [&str; 3] = ["Audit.General", "Audit.Exchange", "DLP.All"];
const OPERATIONS: [&str; 4] = ["FileRead", "FileDeleted", "UserLoggedIn", "MailSent"];
/// The last pass over an hour, after its end.
pub(crate) const LAST_PASS: Millis = 6 * DAY + 12 * HOUR;

/// A history to each number.
pub(crate) fn history(seed: u64) -> History {
    let rng = &mut StdRng::seed_from_u64(seed);
    // Only a week shows what content that is late by days becomes.
    let is_long = rng.random_bool(0.3);
    let active = if is_long {
        rng.random_range(6..60) * HOUR
    } else {
        rng.random_range(2..20) * HOUR
    };
    let polls: &[Millis] = if is_long {
        &[60, 180, 180]
    } else {
        &[10, 30, 60, 180]
    };
    let poll = *polls.choose(rng).unwrap_or(&60) * MINUTE;
    let count = if rng.random_bool(0.3) { 2 } else { 1 };
    let tenants: Vec<Vec<&'static str>> = (0..count)
        .map(|_| CONTENT_TYPES[..*[1, 1, 1, 1, 2, 3].choose(rng).unwrap_or(&1)].to_vec())
        .collect();
    let blobs = blobs(rng, &tenants, active, is_long);
    let newest = blobs
        .iter()
        .map(|blob| blob.created.max(blob.visible - DAY));
    let last_pass = if is_long { LAST_PASS } else { DAY };
    let span = newest.max().unwrap_or(0).max(0) + last_pass + HOUR + 3 * poll + 4 * HOUR;
    History {
        seed,
        faults: faults(rng),
        outages: outages(rng, span),
        lives: lives(rng, active, is_long),
        sinks: sinks(rng, tenants.len(), span),
        back: *[DAY, 2 * DAY, 7 * DAY].choose(rng).unwrap_or(&DAY),
        begin: rng.random_range(0..HOUR),
        poll,
        skew: skew(rng),
        page: *[1, 2, 3, 10, 200].choose(rng).unwrap_or(&1),
        small_batches: rng.random_bool(0.5),
        span,
        tenants,
        blobs,
    }
}

fn skew(rng: &mut StdRng) -> Millis {
    match rng.random_range(0..4) {
        0 => rng.random_range(-20 * HOUR..20 * HOUR),
        1 => rng.random_range(-10 * MINUTE..10 * MINUTE),
        _ => 0,
    }
}

fn blobs(
    rng: &mut StdRng,
    tenants: &[Vec<&'static str>],
    active: Millis,
    is_long: bool,
) -> Vec<Blob> {
    let mut known: Vec<Vec<Event>> = vec![Vec::new(); tenants.len()];
    let mut blobs: Vec<Blob> = Vec::new();
    let (mut doomed, mut number) = (0, 0);
    for _ in 0..rng.random_range(3..30) {
        let tenant = rng.random_range(0..tenants.len());
        let created = on_edge(rng, active);
        let late = match rng.random_range(0..10) {
            0..5 => 0,
            5 => rng.random_range(0..20 * MINUTE),
            6 | 7 => rng.random_range(0..20 * HOUR),
            _ if is_long => rng.random_range(0..6 * DAY),
            _ => rng.random_range(0..20 * HOUR),
        };
        let trouble = match rng.random_range(0..40) {
            0..8 => Trouble::Fails(rng.random_range(1..5)),
            // It would be asked for over days.
            8..11 if late > 4 * DAY && doomed < 3 => Trouble::UntilExpiry,
            11 if is_long && doomed < 1 => Trouble::UntilExpiry,
            12 if late > 4 * DAY && doomed < 1 => Trouble::ForEver,
            _ => Trouble::None,
        };
        let mut blob = Blob {
            tenant,
            content_type: tenants[tenant].choose(rng).copied().unwrap_or_default(),
            created,
            visible: created + late,
            expires: created + if rng.random_bool(0.5) { 20 } else { 7 } * DAY,
            trouble,
            listed_twice: rng.random_bool(0.1),
            gzip: rng.random_bool(0.5),
            records: Vec::new(),
        };
        if blob.is_doomed() {
            doomed += 1;
            blob.expires = created + 7 * DAY;
        }
        let again = blobs.iter().filter(|blob| blob.tenant == tenant);
        let again: Vec<&Blob> = again.collect();
        blob.records = match again.choose(rng) {
            // The same content under another name.
            Some(again) if rng.random_bool(0.1) => again.records.clone(),
            _ => (0..rng.random_range(1..12))
                .map(|_| record(rng, tenant, created, &mut known[tenant], &mut number))
                .collect(),
        };
        blobs.push(blob);
    }
    blobs
}

/// When a blob becomes available: often at a whole hour or second, or a millisecond before it.
fn on_edge(rng: &mut StdRng, active: Millis) -> Millis {
    let at = rng.random_range(-DAY..active);
    match rng.random_range(0..8) {
        0 | 1 => at - at.rem_euclid(HOUR),
        2 => at - at.rem_euclid(HOUR) - 1,
        3 => at - at.rem_euclid(HOUR) - SECOND,
        4 => at - at.rem_euclid(SECOND),
        _ => at,
    }
}

fn record(
    rng: &mut StdRng,
    tenant: usize,
    created: Millis,
    known: &mut Vec<Event>,
    number: &mut u32,
) -> Event {
    *number += 1;
    let fresh = || format!("0b1cf0ad-1f43-4bdd-9a1b-{number:012x}");
    let at = (created - rng.random_range(0..8 * HOUR)).div_euclid(SECOND) * SECOND;
    let operation = *OPERATIONS.choose(rng).unwrap_or(&"FileRead");
    let poison = rng.random_bool(0.05);
    let before = known.choose(rng).cloned();
    let identity = |record: &Event| record.identity.clone();
    let made = match (rng.random_range(0..20), before) {
        (0..3, Some(before)) => return before,
        // Other bytes, or another operation, of the same Id.
        (3, Some(before)) => match identity(&before) {
            Some((_, id, at, operation)) => event(tenant, &id, at, operation, poison, *number),
            None => event(tenant, &fresh(), at, operation, poison, *number),
        },
        (4, Some(before)) => match identity(&before) {
            Some((_, id, at, _)) => event(tenant, &id, at, operation, poison, *number),
            None => event(tenant, &fresh(), at, operation, poison, *number),
        },
        (5, _) => event(tenant, "", at, operation, poison, *number),
        (6, _) => event(tenant, "sanitized", at, operation, poison, *number),
        _ => event(tenant, &fresh(), at, operation, poison, *number),
    };
    let made = Arc::new(made);
    if made.identity.is_some() {
        known.push(Arc::clone(&made));
    }
    made
}

/// An event; one without an Id if that is empty, and then sometimes without a time.
fn event(
    tenant: usize,
    id: &str,
    at: Millis,
    operation: &'static str,
    poison: bool,
    number: u32,
) -> Record {
    let is_timeless = id.is_empty() && number.is_multiple_of(2);
    let time = start().timestamp_millis() + at;
    let text = DateTime::from_timestamp_millis(time).unwrap_or_default();
    let mut fields = Vec::new();
    if !id.is_empty() {
        fields.push(format!(r#""Id":"{id}""#));
    }
    if !is_timeless {
        fields.push(format!(
            r#""CreationTime":"{}""#,
            text.format("%Y-%m-%dT%H:%M:%S")
        ));
    }
    fields.push(format!(r#""Operation":"{operation}","Number":{number}"#));
    if poison {
        fields.push(r#""Poison":true"#.to_owned());
    }
    // Several make a small batch.
    fields.push(format!(
        r#""Padding":"{}""#,
        "x".repeat((number as usize * 37) % 500)
    ));
    Record {
        raw: format!("{{{}}}", fields.join(",")),
        identity: (!id.is_empty()).then(|| (tenant, id.to_owned(), at, operation)),
        operation,
        hour: if is_timeless {
            -1
        } else {
            time.div_euclid(HOUR)
        },
        poison,
    }
}

/// The model's start as a time.
pub(crate) fn start() -> DateTime<chrono::Utc> {
    START.parse().unwrap_or_default()
}

fn faults(rng: &mut StdRng) -> Vec<Fault> {
    let mut faults = Vec::new();
    for _ in 0..rng.random_range(0..14) {
        let (call, most) = *[
            (Call::Page, 150),
            (Call::Page, 30),
            (Call::Fetch, 60),
            (Call::Fetch, 15),
            (Call::Token, 4),
            (Call::Subscriptions, 4),
            (Call::Start, 3),
        ]
        .choose(rng)
        .unwrap_or(&(Call::Page, 30));
        let what = match rng.random_range(0..13) {
            0 => What::Unavailable,
            1 => What::Gateway,
            2 => What::Internal,
            3 => What::Throttled403,
            4 => What::Throttled429(None),
            5 => What::Throttled429(Some(rng.random_range(1..3600))),
            6 => What::Unauthorized,
            7 => What::Unreachable,
            8 => What::Silence,
            9 => What::Truncated,
            10 if call == Call::Page => What::StalePage,
            _ => What::CutOff,
        };
        let nth = rng.random_range(0..most);
        faults.push(Fault { call, nth, what });
    }
    faults
}

fn outages(rng: &mut StdRng, span: Millis) -> Vec<(Millis, Millis)> {
    let outage = |rng: &mut StdRng| {
        let from = rng.random_range(0..span);
        (from, from + rng.random_range(MINUTE..4 * HOUR))
    };
    let count = *[0, 0, 0, 1, 2].choose(rng).unwrap_or(&0);
    (0..count).map(|_| outage(rng)).collect()
}

fn lives(rng: &mut StdRng, active: Millis, is_long: bool) -> Vec<Life> {
    let life = |rng: &mut StdRng| {
        let end = match rng.random_range(0..5) {
            0 => End::Graceful,
            1 => End::Crash,
            _ => End::CrashAt {
                call: *[Call::Page, Call::Fetch, Call::Deliver]
                    .choose(rng)
                    .unwrap_or(&Call::Page),
                nth: rng.random_range(0..30),
                turns: rng.random_range(0..60),
            },
        };
        let down = match rng.random_range(0..20) {
            0..10 => rng.random_range(0..10 * MINUTE),
            10..17 => rng.random_range(0..6 * HOUR),
            17 | 18 => rng.random_range(0..40 * HOUR),
            _ if is_long => rng.random_range(7 * DAY..9 * DAY),
            _ => 0,
        };
        let up = if is_long && rng.random_bool(0.2) {
            rng.random_range(0..7 * DAY)
        } else {
            rng.random_range(0..active)
        };
        Life { up, end, down }
    };
    (0..rng.random_range(0..5)).map(|_| life(rng)).collect()
}

fn sinks(rng: &mut StdRng, tenants: usize, span: Millis) -> Vec<FarSide> {
    let mut sinks = Vec::new();
    for name in ["all", "file", "log", "some"] {
        // The first shows what there is, so it is always there and takes all.
        let is_first = name == "all";
        if !is_first && rng.random_bool(0.5) {
            continue;
        }
        let chance = |rng: &mut StdRng, odds: f64| !is_first && rng.random_bool(odds);
        let fate = |rng: &mut StdRng| match rng.random_range(0..6) {
            0 => Fate::Half,
            1 | 2 => Fate::LoseAnswer,
            3 => Fate::Slow(rng.random_range(1..600)),
            4 if !is_first => Fate::RefuseAll,
            _ => Fate::Fail,
        };
        let from = rng.random_range(0..span);
        sinks.push(FarSide {
            name,
            place: match name {
                "file" => Place::Receipt,
                "log" => Place::Position,
                _ => Place::None,
            },
            tenant: chance(rng, 0.3).then(|| rng.random_range(0..tenants)),
            without: chance(rng, 0.4).then(|| *OPERATIONS.choose(rng).unwrap_or(&"FileRead")),
            picky: chance(rng, 0.5),
            // A far side that stores positions does not know parts of a batch.
            batch_events: match name {
                "log" => *[12, 500].choose(rng).unwrap_or(&500),
                _ => *[1, 3, 10, 500].choose(rng).unwrap_or(&10),
            },
            fates: (0..rng.random_range(0..6))
                .map(|_| (rng.random_range(0..25), fate(rng)))
                .collect(),
            down: rng
                .random_bool(0.2)
                .then(|| (from, from + rng.random_range(MINUTE..6 * HOUR))),
        });
    }
    sinks
}
