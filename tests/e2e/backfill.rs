//! What is older than the Management Activity API lists, brought in by a source that searches.

use audit_exporter_simulator::{Config, Generated, GraphAuditConfig, Records, TenantConfig};
use chrono::{SecondsFormat, TimeDelta, Utc};
use serde_json::json;

use crate::exporter::{Ended, Home, wait_until};
use crate::microsoft::Microsoft;

const ACTIVITY: &str = r#"
[sources.activity]
type = "management_activity"
poll_interval = "1s"
"#;
const SEARCH: &str = r#"
[sources.search]
type = "search_unified_audit_log"
settle = "0s"
start = "1h"
poll_interval = "1s"
requests_per_minute = 10000
"#;
const QUERIES: &str = r#"
[sources.queries]
type = "graph_audit_query"
settle = "0s"
start = "1h"
poll_interval = "20ms"
concurrent_queries = 50
"#;
const ARCHIVE: &str = r#"
[sinks.archive]
type = "file"
path = "archive/{tenant}.ndjson"
"#;

/// A tenant with events of twenty days, of which the Management Activity API lists seven. A query takes so long.
fn setup(run_seconds: u64, sources: &[&str]) -> (Microsoft, Home) {
    let records = Records::Generated(Generated {
        events: 2_000,
        days: 20.0,
        // Only an Id says that two sources have the same event.
        oddities: 0.0,
        ..Generated::default()
    });
    let microsoft = Microsoft::start(Config {
        tenants: vec![TenantConfig {
            records,
            ..TenantConfig::default()
        }],
        graph_audit: GraphAuditConfig {
            run_seconds,
            ..GraphAuditConfig::default()
        },
        ..Config::default()
    });
    let home = Home::new(&config(&microsoft, sources));
    (microsoft, home)
}

fn config(microsoft: &Microsoft, sources: &[&str]) -> String {
    let url = microsoft.url();
    let more = format!("exchange_api = \"{url}\"\ngraph_api = \"{url}\"");
    let tenant = microsoft.tenant(0, "contoso", &more);
    format!("{tenant}{}{ARCHIVE}", sources.concat())
}

/// Asks for the last `days` days.
fn backfill(home: &Home, days: i64, more: &[&str]) -> Ended {
    let from = (Utc::now() - TimeDelta::days(days)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let to = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let words = [
        "backfill", "--tenant", "contoso", "--from", &from, "--to", &to,
    ];
    home.ask(&[&words, more].concat())
}

fn count(home: &Home) -> usize {
    let archive = std::fs::read(home.path("archive/contoso.ndjson")).unwrap_or_default();
    memchr::memchr_iter(b'\n', &archive).count()
}

#[test]
fn what_is_older_than_a_week_comes_in_and_nothing_comes_twice() {
    for (via, source) in [("search", SEARCH), ("graph", QUERIES)] {
        let (microsoft, home) = setup(0, &[ACTIVITY, source]);
        let ended = home.ask(&["run", "--once"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let week = count(&home);
        assert!((400..1_000).contains(&week), "{week}");

        let asked = backfill(&home, 34, &["--via", via]);
        assert_eq!(asked.code, 0, "{asked:?}");
        assert!(asked.stdout.contains("the next run does it"), "{asked:?}");
        assert_eq!(count(&home), week, "nothing runs");
        let ended = home.ask(&["run", "--once"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        microsoft.judge(&home.path("archive"), None);
    }
}

#[test]
fn by_queries_that_take_an_hour_live_events_go_on_and_a_restart_pays_for_none_again() {
    let (microsoft, home) = setup(3_600, &[ACTIVITY]);
    assert_eq!(home.ask(&["run", "--once"]).code, 0);
    let week = count(&home);
    home.configure(&config(&microsoft, &[ACTIVITY, QUERIES]));
    let exporter = home.run();
    wait_until("it runs", || exporter.address().is_some());
    let asked = backfill(&home, 34, &["--via", "graph"]);
    assert!(
        asked.stdout.contains("the running process does it"),
        "{asked:?}"
    );
    let queries = || microsoft.stats()["audit_queries"].as_u64().unwrap();
    // A query for each day, and one or two of the source's own hour.
    wait_until("every day has its query", || queries() >= 35);

    let generated = json!({"events": 100, "days": 0.01, "oddities": 0.0});
    microsoft.control(
        "events",
        &json!({"tenant": microsoft.id(0), "generated": generated}),
    );
    wait_until("live events arrive", || count(&home) == week + 100);
    exporter.signal("-KILL");
    drop(exporter);
    let before = queries();
    let exporter = home.run();
    microsoft.control("clock", &json!({"advance_seconds": 3_660}));
    wait_until("the rest has arrived", || count(&home) >= 2_100);
    exporter.stop();
    // The hour that has passed is searched too, in two slices.
    assert!(queries() <= before + 3, "{before}, {}", queries());
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn a_running_process_does_it_beside_its_other_work() {
    let (microsoft, home) = setup(0, &[ACTIVITY, SEARCH]);
    let exporter = home.run();
    wait_until("the last week has arrived", || count(&home) > 400);
    let asked = backfill(&home, 34, &[]);
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(
        asked.stdout.contains("the running process does it"),
        "{asked:?}"
    );
    wait_until("the rest has arrived", || count(&home) >= 2_000);
    exporter.stop();
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn what_cannot_be_had_is_refused_with_what_to_do() {
    let (_microsoft, home) = setup(0, &[ACTIVITY, SEARCH]);
    let refused = |ended: Ended, why: &str| {
        assert_eq!(ended.code, 78, "{ended:?}");
        assert!(ended.stderr.contains(why), "{ended:?}");
    };
    refused(backfill(&home, 190, &[]), "the service does not keep");
    refused(
        backfill(&home, 3, &["--via", "activity"]),
        "cannot search by the time of events",
    );
    refused(
        backfill(&home, 3, &["--via", "graph"]),
        "no source graph collects tenant contoso",
    );
    refused(backfill(&home, -1, &[]), "--from must be before --to");
    let unknown = [
        "backfill",
        "--tenant",
        "nobody",
        "--from",
        "2026-01-01",
        "--to",
        "2026-01-02",
    ];
    refused(
        home.ask(&unknown),
        "the configuration has no tenant nobody; it has contoso",
    );
}
