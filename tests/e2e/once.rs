//! `run --once`: all that is available, and then the end.

use audit_exporter_simulator::{
    AnswerFaults, Config, Faults, Generated, GraphAuditConfig, GraphAuditFaults, Records,
    TenantConfig,
};
use serde_json::{Value, json};

use crate::exporter::{Ended, Home};
use crate::microsoft::Microsoft;

const REST: &str = r#"
[sources.activity]
type = "management_activity"
poll_interval = "1s"
[sinks.archive]
type = "file"
path = "archive/{content_type}.ndjson"
"#;

const QUERIES: &str = r#"
[sources.queries]
type = "graph_audit_query"
poll_interval = "20ms"
search_again_after = []
[sinks.archive]
type = "file"
path = "archive/{content_type}.ndjson"
"#;

fn microsoft(events: u64) -> Microsoft {
    Microsoft::start(config(Generated {
        events,
        ..Generated::default()
    }))
}

fn config(generated: Generated) -> Config {
    Config {
        tenants: vec![TenantConfig {
            records: Records::Generated(generated),
            ..TenantConfig::default()
        }],
        faults: Faults::default(),
        ..Config::default()
    }
}

/// A tenant of `events` that are some days old and can all be told from one another, searched by Graph queries.
fn queried(events: u64, graph_audit: GraphAuditConfig, faults: GraphAuditFaults) -> Microsoft {
    let generated = Generated {
        events,
        days: 2.0,
        oddities: 0.0,
        ..Generated::default()
    };
    Microsoft::start(Config {
        graph_audit,
        faults: Faults {
            graph_audit: faults,
            retry_after_seconds: Some(1),
            most_in_a_row: 0,
            ..Faults::default()
        },
        ..config(generated)
    })
}

fn querying(microsoft: &Microsoft, options: &str) -> Home {
    let more = format!(
        "graph_api = \"{}\"\nrequests_per_minute = 100000",
        microsoft.url()
    );
    let tenant = microsoft.tenant(0, "contoso", &more);
    let sources = QUERIES.replace("[sinks", &format!("{options}\n[sinks"));
    Home::new(&format!("{tenant}{sources}"))
}

fn once(home: &Home, more: &[&str]) -> (Ended, Value) {
    let ended = home.ask(&[&["run", "--once", "--json"], more].concat());
    let report = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    (ended, report)
}

/// Why the report says that it is not complete.
fn reasons(report: &Value) -> Vec<&str> {
    let reasons = report["reasons"].as_array().unwrap();
    let texts = reasons.iter().map(|reason| reason.as_str().unwrap());
    texts.collect()
}

#[test]
fn two_in_a_row_the_second_does_only_what_is_new() {
    let microsoft = microsoft(2_000);
    let tenant = microsoft.tenant(0, "contoso", "");
    let home = Home::new(&format!("{tenant}{REST}"));
    let blobs = microsoft.blobs();
    let (ended, first) = once(&home, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stderr, "", "quiet");
    assert_eq!(first["complete"], true, "{first}");
    let one = &first["tenants"][0];
    assert_eq!(
        [
            &one["listed"],
            &one["fetched"],
            &one["pending"],
            &one["lost"]
        ],
        [&json!(blobs), &json!(blobs), &json!(0), &json!(0)],
        "{first}"
    );
    microsoft.judge(&home.path("archive"), None);

    let (ended, second) = once(&home, &[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(second["tenants"][0]["listed"], 0, "{second}");
    assert_eq!(second["sinks"][0]["delivered"], 0, "{second}");

    let generated = json!({"events": 300, "days": 0.01});
    microsoft.control(
        "events",
        &json!({"tenant": microsoft.id(0), "generated": generated}),
    );
    let told = home.ask(&["run", "--once"]);
    assert_eq!(told.code, 0, "{told:?}");
    let new = microsoft.blobs() - blobs;
    assert!(
        told.stdout.starts_with(&format!(
            "tenant contoso, source activity: {new} of {new} new content blobs fetched, "
        )) && told
            .stdout
            .ends_with("\neverything that was available is delivered\n"),
        "{told:?}"
    );
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn it_ends_with_the_reason_when_a_sink_keeps_failing_and_the_next_goes_on() {
    let microsoft = microsoft(200);
    let tenant = microsoft.tenant(0, "contoso", "");
    let home = Home::new(&format!("{tenant}{REST}"));
    std::fs::write(home.path("archive"), "a file where the folder should be").unwrap();
    let (ended, report) = once(&home, &["--give-up", "2"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let reasons = reasons(&report);
    assert_eq!(
        reasons[0],
        "given up: nothing got further for 2 s (--give-up)"
    );
    assert!(reasons[1].starts_with("sink archive: "), "{report}");
    let pending = report["sinks"][0]["pending"].as_u64().unwrap();
    assert!(pending > 0, "{report}");
    assert!(
        reasons.contains(&&*format!(
            "sink archive, tenant contoso: {pending} events wait"
        )),
        "{report}"
    );
    std::fs::remove_file(home.path("archive")).unwrap();
    let (ended, report) = once(&home, &[]);
    assert_eq!(ended.code, 0, "{report}");
    assert_eq!(report["sinks"][0]["delivered"], pending, "{report}");
    microsoft.judge(&home.path("archive"), None);
}

#[test]
fn it_ends_with_the_reason_when_nothing_can_be_listed() {
    let home = Home::new(&format!(
        "[tenants.contoso]\nid = \"11111111-2222-4333-8444-555555555501\"\n\
         client_id = \"11111111-2222-4333-8444-5555555555a1\"\nclient_secret = \"x\"\n\
         authority = \"http://127.0.0.1:9\"\nmanagement_api = \"http://127.0.0.1:9\"\n{REST}"
    ));
    let told = home.ask(&["run", "--once", "--give-up", "1"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.stdout
            .contains("\nNOT COMPLETE: not everything could be listed\n")
            && told
                .stdout
                .contains("\nNOT COMPLETE: source activity contoso: "),
        "{told:?}"
    );
}

#[test]
fn what_was_not_tried_yet_is_told_in_sums() {
    let microsoft = microsoft(2_000);
    let throttled = AnswerFaults {
        throttled_429: 1.0,
        ..AnswerFaults::default()
    };
    microsoft.control(
        "faults",
        &json!(Faults {
            blobs: throttled,
            most_in_a_row: 0,
            retry_after_seconds: Some(1),
            ..Faults::default()
        }),
    );
    let tenant = microsoft.tenant(0, "contoso", "");
    let home = Home::new(&format!("{tenant}{REST}"));
    let (ended, report) = once(&home, &["--give-up", "2"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let reasons = reasons(&report);
    let sums: Vec<&&str> = reasons
        .iter()
        .filter(|reason| reason.contains("wait for their turn"))
        .collect();
    assert_eq!(sums.len(), 5, "one a content type: {report}");
    let words = "tenant contoso, source activity: ";
    assert!(sums.iter().all(|sum| sum.starts_with(words)), "{report}");
    assert!(reasons.len() < 10, "{report}");
    let waiting = sums.iter().map(|sum| {
        let count = sum[words.len()..].split(' ').next().unwrap();
        count.parse::<u64>().unwrap()
    });
    assert_eq!(waiting.sum::<u64>(), microsoft.blobs());
}

/// Queries that succeed at once.
fn quick() -> GraphAuditConfig {
    GraphAuditConfig {
        run_seconds: 0,
        ..GraphAuditConfig::default()
    }
}

#[test]
fn a_query_that_fails_again_and_again_is_left_to_the_next_run_with_the_reason() {
    let failed = GraphAuditFaults {
        failed: 1.0,
        ..GraphAuditFaults::default()
    };
    let microsoft = queried(50, quick(), failed);
    let home = querying(&microsoft, "start = \"1h\"");
    let (ended, report) = once(&home, &["--give-up", "3"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let reasons = reasons(&report);
    assert_eq!(
        reasons[..2],
        [
            "given up: nothing got further for 3 s (--give-up)",
            "not everything could be listed"
        ]
    );
    let why = "source queries contoso: Microsoft has not searched ";
    assert!(reasons[2].starts_with(why), "{report}");
    assert!(
        reasons[2].contains(": query 1 for it failed; the next is created at "),
        "{report}"
    );
    assert!(microsoft.stats()["audit_queries"].as_u64() > Some(0));
}

#[test]
fn queries_that_run_are_waited_for_while_microsoft_refuses_more_of_them() {
    let two_at_a_time = GraphAuditConfig {
        run_seconds: 6,
        at_once: 2,
        ..GraphAuditConfig::default()
    };
    let microsoft = queried(300, two_at_a_time, GraphAuditFaults::default());
    let home = querying(&microsoft, "start = \"4d\"\nlongest_slice = \"1d\"");
    let (ended, report) = once(&home, &["--give-up", "3"]);
    let refused = &microsoft.stats()["requests"]["graph_create"]["TooManyRequests"];
    assert!(refused.as_u64() > Some(0), "{refused}");
    assert_eq!(ended.code, 0, "{report}");
    assert!(
        report["sinks"][0]["delivered"].as_u64() > Some(200),
        "{report}"
    );
}

#[test]
fn the_last_query_of_a_run_that_cannot_be_read_is_searched_in_halves() {
    let breaks = GraphAuditFaults {
        breaks_after_pages: Some(1),
        ..GraphAuditFaults::default()
    };
    let microsoft = queried(900, quick(), breaks);
    let home = querying(&microsoft, "start = \"6d\"");
    let (ended, report) = once(&home, &["--give-up", "20"]);
    assert_eq!(ended.code, 0, "{report}");
    assert!(
        report["tenants"][0]["retries"].as_u64() >= Some(3),
        "{report}"
    );
    assert!(
        report["sinks"][0]["delivered"].as_u64() > Some(800),
        "{report}"
    );
}
