//! Search-UnifiedAuditLog, alone and beside the Management Activity API: each event once, whoever finds it first.

use std::process::Stdio;

use audit_exporter_simulator::{
    Config, Faults, Generated, Records, SearchConfig, SearchFaults, TenantConfig,
};

use crate::exporter::{Home, wait_until};
use crate::microsoft::Microsoft;

const ACTIVITY: &str =
    "[sources.activity]\ntype = \"management_activity\"\npoll_interval = \"1s\"\n";
/// What is older than a minute or two is searched at once, as far back as the simulated events reach.
const SEARCH: &str = r#"
[sources.search]
type = "search_unified_audit_log"
slice = "1m"
settle = "0s"
start = "12d"
requests_per_minute = 10000
"#;
const ARCHIVE: &str = r#"
[sinks.archive]
type = "file"
path = "archive/{tenant}.ndjson"
"#;

/// One tenant whose events can all be told from one another.
fn microsoft(faults: Faults) -> Microsoft {
    let records = Records::Generated(Generated {
        events: 3_000,
        oddities: 0.0,
        ..Generated::default()
    });
    Microsoft::start(Config {
        tenants: vec![TenantConfig {
            records,
            ..TenantConfig::default()
        }],
        search: SearchConfig {
            duplicates: 0.05,
            ..SearchConfig::default()
        },
        faults,
        ..Config::default()
    })
}

fn home(microsoft: &Microsoft, sources: &str) -> Home {
    let exchange = format!(
        "exchange_api = \"{}\"\nrequests_per_minute = 100000",
        microsoft.url()
    );
    let tenant = microsoft.tenant(0, "contoso", &exchange);
    Home::new(&format!("{tenant}{sources}{ARCHIVE}"))
}

#[test]
fn with_the_management_activity_api_each_event_comes_once() {
    let microsoft = microsoft(Faults::default());
    let home = home(&microsoft, &format!("{ACTIVITY}{SEARCH}"));
    let ended = home.ask(&["run", "--once"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let events = |source: &str| {
        let line = ended
            .stdout
            .lines()
            .find(|line| line.contains(&format!("source {source}:")));
        assert!(
            line.is_some_and(|line| line.contains("content blobs fetched")),
            "{ended:?}"
        );
    };
    events("activity");
    events("search");
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn alone_it_has_the_same_records_byte_for_byte() {
    for transport in [
        "",
        "transport = \"rest\"\nusername = \"auditor@contoso.onmicrosoft.com\"\npassword = \"simulator-password\"\n",
    ] {
        let microsoft = microsoft(Faults::default());
        let home = home(&microsoft, &format!("{SEARCH}{transport}"));
        let ended = home.ask(&["run", "--once"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        microsoft.judge(&home.path("archive"), None);
    }
}

#[test]
fn killed_again_and_again_while_everything_fails_it_loses_and_repeats_nothing() {
    let microsoft = microsoft(Faults {
        retry_after_seconds: Some(0),
        search: SearchFaults {
            // A refusal of the app makes it wait for minutes, as it should.
            unauthorized: 0.0,
            ..SearchFaults::all()
        },
        ..Faults::default()
    });
    let home = home(&microsoft, &format!("{SEARCH}page_size = 50\n"));
    for fetched in [0.0, 10.0, 20.0] {
        let exporter = home.run();
        wait_until("some slices are fetched", || {
            exporter.sum("units_fetched_total", &[]) > Some(fetched)
        });
        exporter.signal("-KILL");
    }
    let ended = home.ask(&["run", "--once"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    microsoft.judge(&home.path("archive"), None);
    assert_eq!(microsoft.stats()["foreign_requests"], 0);
}

#[test]
fn what_ends_while_a_single_run_searches_is_told_of_the_source() {
    let microsoft = microsoft(Faults {
        most_in_a_row: 0,
        search: SearchFaults {
            unauthorized: 1.0,
            ..SearchFaults::default()
        },
        ..Faults::default()
    });
    let home = home(&microsoft, SEARCH);
    let mut run = home.command(&["run", "--once", "--give-up", "15"]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    wait_until("a search is refused", || {
        let asked = &microsoft.stats()["requests"]["invoke_command"];
        asked["unauthorized"].as_u64() > Some(0)
    });
    let off = serde_json::json!({"tenant": microsoft.id(0), "on": false});
    microsoft.control("audit", &off);
    let ended = run.wait_with_output().unwrap();
    let [report, log] = [ended.stdout, ended.stderr].map(|text| String::from_utf8(text).unwrap());
    for told in ["not everything could be listed", "source search contoso: "] {
        assert!(
            report.contains(&format!("\nNOT COMPLETE: {told}")),
            "{report}"
        );
    }
    assert!(
        log.contains("listing failed: ") && log.contains("auditing is off"),
        "{log}"
    );
}
