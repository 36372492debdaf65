//! One month through each source alone and through all together: the same ids, and the same normalized events, field by
//! field.
//!
//! The Management Activity API lists seven days, so its month is collected in steps while the simulator's clock goes on.
//! The sources that search get it at its end, as far back as it reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::thread;

use audit_exporter_simulator::{Config, Generated, GraphAuditConfig, Records, TenantConfig};
use chrono::{TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::exporter::Home;
use crate::microsoft::Microsoft;

/// Events of the month, unless `MONTH_EVENTS` says otherwise.
const EVENTS: u64 = 3_000;
const DAYS: i64 = 30;
/// So much of it is past when the first collection begins; then the clock goes on in such steps.
const STEP: i64 = 6;

/// Nothing runs between two steps, so later passes would find their time gone, and say so.
const ACTIVITY: &str = r#"
[sources.activity]
type = "management_activity"
relist_after = ["1h"]
"#;
const QUERIES: &str = r#"
[sources.queries]
type = "graph_audit_query"
start = "40d"
settle = "0s"
search_again_after = []
poll_interval = "20ms"
concurrent_queries = 50
read_twice = false
"#;
const SEARCH: &str = r#"
[sources.search]
type = "search_unified_audit_log"
start = "40d"
slice = "1h"
settle = "0s"
search_again_after = []
requests_per_minute = 10000
"#;
const ARCHIVE: &str = r#"
[sinks.archive]
type = "file"
path = "archive/events.ndjson"
format = "normalized"
"#;

/// Where an event was found, which is another place at each source. Everything else is the same
/// (docs/sources.md, "What differs").
const PLACE: [&str; 3] = ["source", "content_type", "content_blob"];

/// A tenant that has a month of events, most of which is to come.
fn month() -> Microsoft {
    let events = std::env::var("MONTH_EVENTS").ok();
    let records = Records::Generated(Generated {
        events: events.map_or(EVENTS, |events| events.parse().unwrap()),
        days: DAYS as f64,
        // Only an Id says that two sources have the same event.
        oddities: 0.0,
        ..Generated::default()
    });
    Microsoft::start(Config {
        anchor: Some(Utc::now() + TimeDelta::days(DAYS - STEP)),
        tenants: vec![TenantConfig {
            records,
            ..TenantConfig::default()
        }],
        graph_audit: GraphAuditConfig {
            run_seconds: 0,
            ..GraphAuditConfig::default()
        },
        ..Config::default()
    })
}

fn home(microsoft: &Microsoft, sources: &[&str]) -> Home {
    let url = microsoft.url();
    let more =
        format!("graph_api = \"{url}\"\nexchange_api = \"{url}\"\nrequests_per_minute = 100000");
    let tenant = microsoft.tenant(0, "contoso", &more);
    Home::new(&format!("{tenant}{}{ARCHIVE}", sources.concat()))
}

fn collect(home: &Home) {
    let ended = home.ask(&["run", "--once"]);
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// The normalized events by their ids. Fails if one came twice.
fn events(home: &Home) -> BTreeMap<String, Map<String, Value>> {
    let archive = std::fs::File::open(home.path("archive/events.ndjson")).unwrap();
    let mut events = BTreeMap::new();
    for line in BufReader::new(archive).lines() {
        let mut event: Map<String, Value> = serde_json::from_str(&line.unwrap()).unwrap();
        for member in PLACE {
            assert!(event.remove(member).is_some(), "{member}: {event:?}");
        }
        let id = event["id"].as_str().unwrap().to_owned();
        let before = events.insert(id, event);
        assert!(before.is_none(), "twice: {before:?}");
    }
    events
}

/// The ids of all records that the tenant has shown.
fn shown(microsoft: &Microsoft) -> BTreeSet<String> {
    let ledger = crate::http::get(microsoft.address(), "/ledger").unwrap();
    let entries = ledger.lines().map(|line| {
        let entry: Value = serde_json::from_str(line).unwrap();
        entry["id"].as_str().unwrap().to_owned()
    });
    entries.collect()
}

#[test]
fn each_source_alone_and_all_together_have_the_same_events_field_by_field() {
    let microsoft = month();
    let (activity, together) = (
        home(&microsoft, &[ACTIVITY]),
        home(&microsoft, &[ACTIVITY, QUERIES, SEARCH]),
    );
    for step in 0..=DAYS / STEP {
        thread::scope(|scope| {
            for home in [&activity, &together] {
                scope.spawn(move || collect(home));
            }
        });
        if step < DAYS / STEP {
            microsoft.control("clock", &json!({"advance_seconds": STEP * 86_400}));
        }
    }
    let (queries, search) = (home(&microsoft, &[QUERIES]), home(&microsoft, &[SEARCH]));
    thread::scope(|scope| {
        for home in [&queries, &search] {
            scope.spawn(move || collect(home));
        }
    });
    let expected = events(&activity);
    let ids: BTreeSet<String> = expected.keys().cloned().collect();
    assert_eq!(ids, shown(&microsoft));
    let span = expected
        .values()
        .map(|event| event["time"].as_str().unwrap());
    let days: BTreeSet<&str> = span.map(|time| &time[..10]).collect();
    assert!(days.len() as i64 >= DAYS, "{days:?}");
    for (name, home) in [
        ("queries", &queries),
        ("search", &search),
        ("together", &together),
    ] {
        let found = events(home);
        let found_ids: BTreeSet<String> = found.keys().cloned().collect();
        let differ: Vec<&String> = found_ids.symmetric_difference(&ids).collect();
        assert!(differ.is_empty(), "{name}: {differ:?}");
        for (id, event) in &found {
            for (member, value) in &expected[id] {
                assert_eq!(event.get(member), Some(value), "{name}: {member} of {id}");
            }
            assert_eq!(event.len(), expected[id].len(), "{name}: {id}");
        }
    }
}
