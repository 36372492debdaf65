//! `reconcile`: what only one source holds is named, and what the exporter never had; nothing else is touched.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use audit_exporter_simulator::{
    Config, Faults, Generated, GraphAuditConfig, GraphAuditFaults, Records, TenantConfig,
};
use chrono::{NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::exporter::{Ended, Home, wait_until};
use crate::microsoft::Microsoft;

const ACTIVITY: &str =
    "[sources.activity]\ntype = \"management_activity\"\npoll_interval = \"1s\"\n";
const QUERIES: &str = "[sources.queries]\ntype = \"graph_audit_query\"\npoll_interval = \"20ms\"\n";
const SEARCH: &str =
    "[sources.search]\ntype = \"search_unified_audit_log\"\nrequests_per_minute = 10000\n";
const EXCHANGE_ALONE: &str = "content_types = [\"Audit.Exchange\"]\n";
const ARCHIVE: &str = "[sinks.archive]\ntype = \"file\"\npath = \"archive/{tenant}.ndjson\"\n";

/// A tenant whose events can all be told from one another.
fn microsoft(subscribed: bool) -> Microsoft {
    let records = Records::Generated(Generated {
        events: 1_500,
        oddities: 0.0,
        ..Generated::default()
    });
    Microsoft::start(Config {
        tenants: vec![TenantConfig {
            records,
            subscribed,
            ..TenantConfig::default()
        }],
        graph_audit: GraphAuditConfig {
            run_seconds: 0,
            ..GraphAuditConfig::default()
        },
        ..Config::default()
    })
}

fn config(microsoft: &Microsoft, sources: &[&str]) -> String {
    let url = microsoft.url();
    let more =
        format!("graph_api = \"{url}\"\nexchange_api = \"{url}\"\nrequests_per_minute = 100000");
    let tenant = microsoft.tenant(0, "contoso", &more);
    format!("{tenant}{}{ARCHIVE}", sources.concat())
}

/// A day that is over, all of which the Management Activity API lists.
fn day() -> NaiveDate {
    (Utc::now() - TimeDelta::days(3)).date_naive()
}

fn reconcile(home: &Home, day: NaiveDate, more: &[&str]) -> Ended {
    let day = day.to_string();
    let words = ["reconcile", "--tenant", "contoso", "--day", &day];
    home.ask(&[&words, more].concat())
}

fn reconcile_json(home: &Home, more: &[&str]) -> (Ended, Value) {
    let ended = reconcile(home, day(), &[&["--json"], more].concat());
    let found = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    (ended, found)
}

fn starts(microsoft: &Microsoft) -> u64 {
    let starts = &microsoft.stats()["requests"]["start"];
    let counts = starts.as_object().map(|all| all.values());
    counts.into_iter().flatten().filter_map(Value::as_u64).sum()
}

#[test]
fn beside_a_running_exporter_all_sources_agree_and_the_journal_has_all() {
    let microsoft = microsoft(false);
    let home = Home::new(&config(&microsoft, &[ACTIVITY]));
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    let before = starts(&microsoft);
    // What runs, and what is compared, need not be the same configuration.
    let all = config(&microsoft, &[ACTIVITY, QUERIES, SEARCH]);
    let common = "[journal]\npath = \"journal\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    home.configure_all(&format!("{common}{all}"));
    let (ended, found) = reconcile_json(&home, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(found["events"].as_u64() > Some(50), "{found}");
    for source in found["sources"].as_array().unwrap() {
        assert_eq!(source["complete"], true, "{found}");
        assert_eq!(source["events"], found["events"], "{found}");
        assert_eq!(source["missing_here"], 0, "{found}");
    }
    assert_eq!(found["sources"][1]["units"], 1, "one query: {found}");
    assert_eq!(
        (&found["different"], &found["unrecorded"]),
        (&0.into(), &0.into())
    );
    let told = reconcile(&home, day(), &["--source", "queries", "--source", "search"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(
        told.stdout
            .contains("the same at all sources; this exporter's journal has had all"),
        "{told:?}"
    );
    assert_eq!(starts(&microsoft), before, "no subscription was touched");
    assert!(exporter.is_running());
    exporter.stop();
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn what_only_one_source_has_and_what_the_exporter_never_had_is_named() {
    let microsoft = microsoft(false);
    let half = format!("{ACTIVITY}{EXCHANGE_ALONE}");
    let home = Home::new(&config(&microsoft, &[&half]));
    assert_eq!(home.ask(&["run", "--once"]).code, 0);
    home.configure(&config(&microsoft, &[&half, QUERIES]));
    let (ended, found) = reconcile_json(&home, &[]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let [activity, queries] = [0, 1].map(|index| &found["sources"][index]);
    let count = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("{value} in {found}"))
    };
    assert_eq!(count(&queries["events"]), count(&found["events"]));
    assert_eq!(count(&queries["missing_here"]), 0);
    let missing = count(&activity["missing_here"]);
    assert!(missing > 30 && count(&activity["events"]) > 5, "{found}");
    assert_eq!(
        count(&activity["events"]) + missing,
        count(&found["events"])
    );
    assert_eq!(count(&queries["only_here"]), missing);
    assert_eq!(count(&found["unrecorded"]), missing);
    let differences = found["differences"].as_array().unwrap();
    assert_eq!(differences.len() as u64, missing);
    let times: Vec<&str> = differences
        .iter()
        .filter_map(|one| one["time"].as_str())
        .collect();
    assert!(
        times.is_sorted() && times.len() == differences.len(),
        "{times:?}"
    );
    assert!(
        times
            .iter()
            .all(|time| time.starts_with(&day().to_string()))
    );
    for one in differences {
        assert_eq!(one["recorded"], false, "{one}");
        assert_eq!(one["held_by"][0], "queries", "{one}");
        assert_eq!(one["missing_in"][0], "activity", "{one}");
        assert!(!one["id"].as_str().unwrap().is_empty(), "{one}");
    }
    let grouped = found["groups"].as_array().unwrap().iter();
    assert_eq!(
        grouped.map(|group| count(&group["events"])).sum::<u64>(),
        missing
    );

    let told = reconcile(&home, day(), &[]);
    assert_eq!(told.code, 1, "{told:?}");
    let words =
        format!("not all are at activity; this exporter's journal NEVER HAD {missing} of them");
    assert!(told.stdout.contains(&words), "{told:?}");
    assert!(
        told.stdout.contains(differences[0]["id"].as_str().unwrap()),
        "{told:?}"
    );
    assert!(told.stdout.contains("never had it"), "{told:?}");

    // What a backfill then brings in, the journal has had.
    home.configure(&config(&microsoft, &[ACTIVITY]));
    assert_eq!(home.ask(&["run", "--once"]).code, 0);
    home.configure(&config(&microsoft, &[&half, QUERIES]));
    let (ended, found) = reconcile_json(&home, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        (count(&found["unrecorded"]), count(&found["different"])),
        (0, missing)
    );
}

#[test]
fn a_source_that_cannot_be_asked_is_named_and_the_others_are_compared() {
    let microsoft = microsoft(false);
    let home = Home::new(&config(&microsoft, &[ACTIVITY, QUERIES, SEARCH]));
    let (ended, found) = reconcile_json(&home, &["--give-up", "5"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let [activity, queries, search] = [0, 1, 2].map(|index| &found["sources"][index]);
    assert_eq!(activity["complete"], false, "{found}");
    let reasons = activity["reasons"].to_string();
    assert!(
        reasons.contains("there is no enabled subscription"),
        "{reasons}"
    );
    assert_eq!(activity["missing_here"], Value::Null, "{found}");
    for source in [queries, search] {
        assert_eq!(source["complete"], true, "{found}");
        assert_eq!(
            (&source["events"], &source["missing_here"]),
            (&found["events"], &0.into())
        );
    }
    assert_eq!(
        found["unrecorded"],
        Value::Null,
        "there is no journal: {found}"
    );
    assert_eq!(starts(&microsoft), 0);
    assert!(!home.path("journal").exists());
}

#[test]
fn a_day_whose_pages_break_off_is_asked_for_in_halves() {
    let microsoft = microsoft(true);
    microsoft.control(
        "faults",
        &json!(Faults {
            graph_audit: GraphAuditFaults {
                breaks_after_pages: Some(1),
                ..GraphAuditFaults::default()
            },
            ..Faults::default()
        }),
    );
    let home = Home::new(&config(&microsoft, &[ACTIVITY, QUERIES]));
    let (ended, found) = reconcile_json(&home, &["--give-up", "20"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let queries = &found["sources"][1];
    assert_eq!(queries["complete"], true, "{found}");
    assert_eq!(queries["events"], found["events"], "{found}");
    assert!(queries["units"].as_u64() > Some(2), "{found}");
}

#[test]
fn no_webhook_is_set_to_compare() {
    let microsoft = microsoft(true);
    let activity = format!(
        "{ACTIVITY}webhook = true\nwebhook_auth_id = \"0123456789abcdef0123\"\n\
         [webhooks]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://audit.example/news\"\n"
    );
    let home = Home::new(&config(&microsoft, &[&activity, QUERIES]));
    let (ended, found) = reconcile_json(&home, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(found["events"].as_u64() > Some(50), "{found}");
    assert_eq!(starts(&microsoft), 0);
}

#[test]
fn what_cannot_be_compared_is_refused_with_what_to_do() {
    let microsoft = microsoft(true);
    let home = Home::new(&config(&microsoft, &[ACTIVITY, QUERIES]));
    let refused = |ended: Ended, why: &str| {
        assert_eq!(ended.code, 78, "{ended:?}");
        assert!(ended.stderr.contains(why), "{ended:?}");
    };
    refused(
        reconcile(&home, Utc::now().date_naive(), &[]),
        "is not over yet in UTC",
    );
    refused(
        reconcile(&home, day(), &["--source", "nothing"]),
        "no source nothing collects tenant contoso; it has activity, queries",
    );
    let old = (Utc::now() - TimeDelta::days(9)).date_naive();
    let told = reconcile(&home, old, &["--source", "activity"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.stdout.contains(
            "NOT COMPLETE: source activity: the Management Activity API lists seven days"
        ),
        "{told:?}"
    );
}

#[test]
fn broken_off_it_leaves_nothing_behind() {
    use rustix::process::{Pid, Signal, kill_process};

    let microsoft = Microsoft::start(Config {
        graph_audit: GraphAuditConfig {
            run_seconds: 3_600,
            ..GraphAuditConfig::default()
        },
        ..Config::default()
    });
    let mut signals = vec![Signal::INT, Signal::TERM];
    // A terminal that is closed sends this. Under `nohup` it is ignored.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find(|line| line.starts_with("SigIgn:"));
    if ignored.is_some_and(|mask| mask.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e'])) {
        signals.push(Signal::HUP);
    }
    for (count, signal) in signals.into_iter().enumerate() {
        let home = Home::new(&config(&microsoft, &[QUERIES]));
        let folders = home.path("temporary");
        std::fs::create_dir(&folders).unwrap();
        let day = day().to_string();
        let mut command = home.command(&["reconcile", "--tenant", "contoso", "--day", &day]);
        let mut child = command
            .env("TMPDIR", &folders)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("the query is created", || {
            microsoft.stats()["audit_queries"].as_u64() > Some(count as u64)
        });
        let folder = std::fs::read_dir(&folders).unwrap().next().unwrap();
        let mode = folder.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "it holds personal data");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), Some(1), "{signal:?}");
        assert!(std::fs::read_dir(&folders).unwrap().next().is_none());
    }
}
