//! What is older than the Management Activity API lists, brought in by a source that searches.

use audit_exporter_simulator::{Config, Generated, Records, TenantConfig};
use chrono::{SecondsFormat, TimeDelta, Utc};

use crate::exporter::{Ended, Home, wait_until};
use crate::microsoft::Microsoft;

const SOURCES: &str = r#"
[sources.activity]
type = "management_activity"
poll_interval = "1s"
[sources.search]
type = "search_unified_audit_log"
settle = "0s"
start = "1h"
poll_interval = "1s"
requests_per_minute = 10000
[sinks.archive]
type = "file"
path = "archive/{tenant}.ndjson"
"#;

/// A tenant with events of twenty days, of which the Management Activity API lists seven.
fn setup() -> (Microsoft, Home) {
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
        ..Config::default()
    });
    let exchange = format!("exchange_api = \"{}\"", microsoft.url());
    let tenant = microsoft.tenant(0, "contoso", &exchange);
    let home = Home::new(&format!("{tenant}{SOURCES}"));
    (microsoft, home)
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
    let (microsoft, home) = setup();
    let ended = home.ask(&["run", "--once"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let week = count(&home);
    assert!((400..1_000).contains(&week), "{week}");

    let asked = backfill(&home, 34, &["--via", "search"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(asked.stdout.contains("the next run does it"), "{asked:?}");
    assert_eq!(count(&home), week, "nothing runs");
    let ended = home.ask(&["run", "--once"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn a_running_process_does_it_beside_its_other_work() {
    let (microsoft, home) = setup();
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
    let (_microsoft, home) = setup();
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
