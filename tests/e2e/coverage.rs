//! Coverage is what the tenant has shown, to the event, and says of no hour that it is settled before it is.

use audit_exporter_simulator::{
    AppConfig, Config, ContentType, ExplicitBlob, Faults, Generated, Records, TenantConfig,
    TokenFaults,
};
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::exporter::{Exporter, Home, wait_until};
use crate::http;
use crate::microsoft::Microsoft;

const CONFIG: &str = r#"
[sources.activity]
type = "management_activity"
poll_interval = "1s"
content_types = ["Audit.General"]
start = "48h"

[sinks.archive]
type = "file"
path = "archive/{content_type}.ndjson"

[sinks.none]
type = "file"
path = "none/{content_type}.ndjson"
filters = ["nothing"]

[filters.nothing]
type = "operation"
include = ["no such operation"]
"#;

fn microsoft(records: Records, faults: Faults) -> Microsoft {
    Microsoft::start(Config {
        tenants: vec![TenantConfig {
            subscribed: true,
            records,
            ..TenantConfig::default()
        }],
        faults,
        ..Config::default()
    })
}

fn home(microsoft: &Microsoft) -> Home {
    let tenant = microsoft.tenant(0, "contoso", "requests_per_minute = 100000");
    Home::new(&format!("{tenant}{CONFIG}"))
}

/// What `coverage --json` says with these further words, and how it ends.
fn coverage(home: &Home, words: &[&str]) -> (Value, i32) {
    let asked = home.ask(&[&["coverage", "--json"], words].concat());
    let said = serde_json::from_str(&asked.stdout);
    (
        said.unwrap_or_else(|error| panic!("{error}: {asked:?}")),
        asked.code,
    )
}

/// The sum of a figure over the rows of the only tenant; `find` digs it out of a row.
fn sum(coverage: &Value, find: impl Fn(&Value) -> i64) -> i64 {
    let rows = coverage["tenants"][0]["rows"].as_array().unwrap();
    rows.iter().map(find).sum()
}

fn content(row: &Value, figure: &str) -> i64 {
    let types = row["content"].as_array().unwrap().iter();
    types.map(|one| one[figure].as_i64().unwrap()).sum()
}

/// Lets time pass at Microsoft, in steps that are short enough for every pass (twelve hours before the end of the week,
/// less the hour that is not over and the room for clocks), and waits until all is listed.
fn advance(microsoft: &Microsoft, exporter: &mut Exporter<'_>, hours: i64) {
    let address = exporter.address().unwrap();
    let listed_to = || -> i64 {
        let said = http::get(address, "/api/coverage").unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        let passes = &said["tenants"][0]["passes"][0]["listed_to_ms"];
        passes["poll"].as_i64().unwrap()
    };
    let mut left = hours;
    while left > 0 {
        let step = left.min(10);
        let wanted = listed_to() + step * 3_600_000;
        microsoft.control("clock", &json!({"advance_seconds": step * 3600}));
        wait_until("it was listed up to the new time", || {
            assert!(exporter.is_running(), "it ended: {}", exporter.log());
            listed_to() >= wanted
        });
        left -= step;
    }
}

fn record(number: u32, created: DateTime<Utc>) -> String {
    let created = created.format("%Y-%m-%dT%H:%M:%S");
    format!(
        r#"{{"CreationTime":"{created}","Id":"00000000-0000-4000-8000-{number:012}","Operation":"Op","Workload":"PowerApps"}}"#
    )
}

fn blob(number: u32, created: DateTime<Utc>) -> Value {
    json!({
        "content_type": "Audit.General",
        "created": created,
        "records": [record(2 * number, created), record(2 * number + 1, created)],
    })
}

/// All faults at once, with blobs that show up late and events that come twice: the figures are those of the ledger.
#[test]
fn coverage_equals_the_ledger_under_all_faults() {
    let all = Faults::all(5);
    let faults = Faults {
        retry_after_seconds: Some(0),
        tokens: TokenFaults {
            retry_after_seconds: Some(0),
            // Tokens outlive the day that passes at once.
            lifetime_seconds: 172_800,
            ..all.tokens.clone()
        },
        ..all
    };
    let generated = Generated {
        events: 3_000,
        events_per_blob: 50,
        days: 0.9,
        content_types: vec![ContentType::General],
        ..Generated::default()
    };
    let microsoft = microsoft(Records::Generated(generated), faults);
    let home = home(&microsoft);
    let mut exporter = home.run();
    wait_until("something was listed", || {
        exporter.sum("units_listed_total", &[]) > Some(0.0)
    });
    // What shows up late is found when its hours are listed again, at the latest a day on.
    microsoft.control("clock", &json!({"advance_seconds": 86_400}));
    exporter.await_drained(microsoft.blobs());
    let (said, code) = coverage(&home, &["--hours", "--from", "1970-01-01"]);
    let ledger = http::get(microsoft.address(), "/ledger").unwrap();
    let entries: Vec<Value> = ledger
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first = entries
        .iter()
        .filter(|entry| entry["repeats"].is_null())
        .count();
    let blobs = i64::try_from(microsoft.blobs()).unwrap();
    assert_eq!(sum(&said, |row| content(row, "listed")), blobs);
    assert_eq!(sum(&said, |row| content(row, "fetched")), blobs);
    let first = i64::try_from(first).unwrap();
    assert_eq!(sum(&said, |row| row["journaled"].as_i64().unwrap()), first);
    let fate = |row: &Value, sink: &str, fate: &str| row["sinks"][sink][fate].as_i64().unwrap_or(0);
    assert_eq!(sum(&said, |row| fate(row, "archive", "delivered")), first);
    assert_eq!(sum(&said, |row| fate(row, "none", "filtered")), first);
    assert_eq!(sum(&said, |row| fate(row, "none", "pending")), 0);
    // Nothing is settled on the first day, and nothing is wrong with it.
    assert_eq!(
        (&said["state"], &said["balanced"], code),
        (&json!("open"), &json!(true), 0)
    );
    let told = http::get(
        exporter.address().unwrap(),
        "/api/coverage?hours=true&from=1970-01-01",
    )
    .unwrap();
    let mut told: Value = serde_json::from_str(&told).unwrap();
    told["at_ms"] = said["at_ms"].clone();
    for part in ["rows", "sinks", "unbalanced"] {
        assert_eq!(told["tenants"][0][part], said["tenants"][0][part], "{part}");
    }
    exporter.stop();
}

#[test]
fn a_straggler_is_found_by_a_pass_and_a_day_settles_after_its_last() {
    let now = Utc::now();
    let made: Vec<_> = (0..4)
        .map(|number| {
            let created = now - TimeDelta::hours(i64::from(number) * 6 + 1);
            ExplicitBlob {
                created: Some(created),
                ..ExplicitBlob::new(
                    ContentType::General,
                    [record(2 * number, created), record(2 * number + 1, created)],
                )
            }
        })
        .collect();
    // Tokens outlive the days that pass at once.
    let faults = Faults {
        tokens: TokenFaults {
            lifetime_seconds: 1_000_000,
            ..TokenFaults::default()
        },
        ..Faults::default()
    };
    let microsoft = microsoft(Records::Explicit(made), faults);
    let home = home(&microsoft);
    let mut exporter = home.run();
    exporter.await_drained(4);
    // Shows up three hours late: nothing but the pass after six hours can find it.
    let late = json!({"tenant": microsoft.id(0), "blob": blob(90, now - TimeDelta::hours(3))});
    microsoft.control("blobs", &late);
    advance(&microsoft, &mut exporter, 5);
    exporter.await_drained(5);
    let (said, code) = coverage(&home, &[]);
    let tenant = &said["tenants"][0];
    let stragglers = tenant["stragglers"].as_array().unwrap();
    assert_eq!(stragglers.len(), 1, "{stragglers:?}");
    assert_eq!(
        (&stragglers[0]["pass"], &stragglers[0]["units"]),
        (&json!("+6h"), &json!(1))
    );
    let events = &tenant["late_events"][0];
    let expected = json!({
        "source": "activity", "content_type": "Audit.General", "pass": "+6h", "workload": "PowerApps", "events": 2
    });
    assert_eq!(*events, expected);
    assert_eq!(sum(&said, |row| row["late"].as_i64().unwrap()), 2);
    assert_eq!(
        exporter.sum("stragglers_total", &["pass=\"+6h\""]),
        Some(1.0)
    );
    let labels = [
        "content_type=\"Audit.General\"",
        "pass=\"+6h\"",
        "workload=\"PowerApps\"",
    ];
    assert_eq!(exporter.sum("events_late_total", &labels), Some(2.0));
    assert_eq!((&tenant["state"], code), (&json!("open"), 0));
    // The last pass over the day, and over the day after it, which may hold its events.
    advance(&microsoft, &mut exporter, 8 * 24 + 8);
    let (said, code) = coverage(&home, &[]);
    let state = |day: DateTime<Utc>| {
        let day = day.date_naive().to_string();
        let rows = said["tenants"][0]["rows"].as_array().unwrap();
        rows.iter().find(|row| row["span"] == day).unwrap()["state"].clone()
    };
    assert_eq!(state(now), "settled", "{said}");
    assert_eq!(state(now - TimeDelta::days(1)), "settled");
    assert_eq!(
        state(now - TimeDelta::days(2)),
        "partial",
        "collecting began in it"
    );
    assert_eq!(state(now + TimeDelta::days(2)), "open");
    assert_eq!(code, 0);
    exporter.stop();
}

#[test]
fn a_pass_that_is_added_between_two_runs_finds_what_the_others_could_not() {
    let now = Utc::now();
    let microsoft = microsoft(Records::Explicit(Vec::new()), Faults::default());
    let add = |number, hours| {
        let blob = blob(number, now - TimeDelta::hours(hours));
        let late = json!({"tenant": microsoft.id(0), "blob": blob});
        microsoft.control("blobs", &late);
    };
    let tenant = microsoft.tenant(0, "contoso", "requests_per_minute = 100000");
    let config = |passes: &str| {
        let start = "start = \"48h\"";
        let source = CONFIG.replace(start, &format!("{start}\nrelist_after = {passes}"));
        format!("{tenant}{source}")
    };
    add(1, 1);
    let home = Home::new(&config(r#"["1h"]"#));
    let mut exporter = home.run();
    exporter.await_drained(1);
    wait_until("the backlog is listed", || {
        let (said, _) = coverage(&home, &[]);
        let to = &said["tenants"][0]["passes"][0]["listed_to_ms"]["+1h"];
        *to == json!(
            (now - TimeDelta::hours(1))
                .duration_trunc(TimeDelta::hours(1))
                .unwrap()
                .timestamp_millis()
        )
    });
    exporter.stop();
    // Too late for the only pass.
    add(2, 20);
    home.configure(&config(r#"["1h", "5h"]"#));
    let mut exporter = home.run();
    exporter.await_drained(2);
    let (said, code) = coverage(&home, &[]);
    let stragglers = &said["tenants"][0]["stragglers"];
    assert_eq!((&stragglers[0]["pass"], code), (&json!("+5h"), 0), "{said}");
    exporter.stop();
}

#[test]
fn content_that_may_soon_be_lost_is_told_with_exit_code_1() {
    let faults = Faults {
        stuck_blobs: 1.0,
        ..Faults::default()
    };
    let microsoft = microsoft(Records::Explicit(Vec::new()), faults);
    let home = home(&microsoft);
    let exporter = home.run();
    // It cannot be had, whoever asks, and is there for two more days.
    let mut stuck = blob(1, Utc::now());
    stuck["expires"] = json!(Utc::now() + TimeDelta::days(2));
    microsoft.control("blobs", &json!({"tenant": microsoft.id(0), "blob": stuck}));
    wait_until("it was listed", || {
        exporter.sum("units_pending", &[]) == Some(1.0)
    });
    let (said, code) = coverage(&home, &[]);
    assert_eq!((&said["state"], code), (&json!("at_risk"), 1));
    let asked = home.ask(&["coverage"]);
    assert_eq!(asked.code, 1, "{asked:?}");
    let told =
        "\nat risk: Audit.General (activity): 1 content blob not fetched, the first expires ";
    assert!(asked.stdout.contains(told), "{}", asked.stdout);
    exporter.stop();
}

#[test]
fn a_lost_blob_and_a_gap_are_told_with_exit_code_1() {
    let microsoft = microsoft(Records::Explicit(Vec::new()), Faults::default());
    let home = home(&microsoft);
    let exporter = home.run();
    wait_until("everything was listed", || {
        exporter
            .sum("last_listing_timestamp_seconds", &[])
            .is_some()
    });
    assert_eq!(coverage(&home, &[]).1, 0);
    let mut gone = blob(1, Utc::now());
    gone["expires"] = json!(Utc::now());
    microsoft.control("blobs", &json!({"tenant": microsoft.id(0), "blob": gone}));
    wait_until("it is lost", || {
        exporter.sum("units_lost_total", &[]) == Some(1.0)
    });
    let (said, code) = coverage(&home, &[]);
    assert_eq!((&said["state"], code), (&json!("lost"), 1));
    exporter.stop();
    // Nothing runs for nine days: two of them are out of reach.
    microsoft.control("clock", &json!({"advance_seconds": 9 * 86_400}));
    let mut exporter = home.run();
    exporter.await_log("not listed: content of this time");
    exporter.stop();
    let asked = home.ask(&["coverage", "--tenant", "contoso"]);
    assert_eq!(asked.code, 1, "{asked:?}");
    assert!(
        asked.stdout.starts_with("contoso: lost\n"),
        "{}",
        asked.stdout
    );
    for words in [
        "\nlost: Audit.General (activity): 1 content blob lost of ",
        "\ngap: Audit.General (activity): ",
        "cannot be listed any more, it is older than seven days",
        "showed up late in this time was not looked for",
    ] {
        assert!(asked.stdout.contains(words), "{words}: {}", asked.stdout);
    }
    let day = (Utc::now() + TimeDelta::days(1)).date_naive();
    assert!(
        asked.stdout.contains(&format!("\n{day}  gap ")),
        "{}",
        asked.stdout
    );
    let unknown = home.ask(&["coverage", "--tenant", "fabrikam"]);
    assert_eq!(unknown.code, 78);
    assert!(
        unknown
            .stderr
            .contains("the configuration has no tenant fabrikam; it has contoso"),
        "{unknown:?}"
    );
}

/// Auditing that is switched off, a permission that is revoked, a secret that is wrong: each is broken, not quiet.
#[test]
fn a_tenant_that_cannot_be_collected_is_broken_and_not_silent() {
    let mut config = Config {
        tenants: vec![TenantConfig {
            subscribed: true,
            records: Records::Generated(Generated {
                events: 200,
                days: 0.9,
                content_types: vec![ContentType::General],
                ..Generated::default()
            }),
            ..TenantConfig::default()
        }],
        ..Config::default()
    };
    config.tenants[0].other_apps = vec![AppConfig {
        client_id: "00000000-0000-4000-8000-0000000000a1".into(),
        client_secret: config.tenants[0].client_secret.clone(),
        roles: vec!["User.Read.All".into()],
    }];
    let well = config.tenants[0].clone();
    let microsoft = Microsoft::start(config);
    let home = home(&microsoft);
    let told = |exporter: &Exporter<'_>| -> Option<(String, String)> {
        let said = http::get(exporter.address()?, "/api/coverage").ok()?;
        let said: Value = serde_json::from_str(&said).ok()?;
        let tenant = &said["tenants"][0];
        let all = tenant["workloads"].as_array()?;
        let all = all.iter().find(|one| one["workload"] == "(all)")?;
        Some((
            all["mood"].as_str()?.to_owned(),
            tenant["reasons"].to_string(),
        ))
    };
    let await_mood = |exporter: &Exporter<'_>, broken: bool, reason: &str| {
        wait_until(
            &format!("the tenant was broken: {broken}, {reason}"),
            || {
                told(exporter).is_some_and(|(mood, reasons)| {
                    (mood == "broken") == broken && reasons.contains(reason)
                })
            },
        );
    };
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    await_mood(&exporter, false, "");
    let audit = |on: bool| json!({"tenant": well.id, "on": on});
    microsoft.control("audit", &audit(false));
    await_mood(&exporter, true, "auditing");
    let text = home.ask(&["coverage"]).stdout;
    assert!(text.contains("broken: it cannot be collected"), "{text}");
    exporter.stop();
    microsoft.control("audit", &audit(true));
    let exporter = home.run();
    await_mood(&exporter, false, "");
    exporter.stop();
    let tenant = microsoft.tenant(0, "contoso", "");
    for (from, to, reason) in [
        (
            &*well.client_id,
            "00000000-0000-4000-8000-0000000000a1",
            "AF10001",
        ),
        (&*well.client_secret, "wrong", "AADSTS7000215"),
    ] {
        home.configure(&format!("{}{CONFIG}", tenant.replace(from, to)));
        let exporter = home.run();
        await_mood(&exporter, true, reason);
        exporter.stop();
    }
}
