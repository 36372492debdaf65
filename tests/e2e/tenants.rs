//! Several tenants in one process: no crossing, and none in the way of another.

use audit_exporter_simulator::{
    Config, ContentType, ExplicitBlob, Failure, Generated, Records, Script, TenantConfig,
};
use serde_json::json;

use crate::exporter::{Home, wait_until};
use crate::microsoft::Microsoft;

const SOURCE: &str = "[sources.activity]\ntype = \"management_activity\"\npoll_interval = \"1s\"\n";
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Three tenants with these records, each with an id, an app and a secret of its own.
fn three(records: [Records; 3]) -> Microsoft {
    let tenants = records
        .into_iter()
        .enumerate()
        .map(|(number, records)| TenantConfig {
            id: format!("7f3c9a52-1d0b-4c8e-9b61-00000000000{number}"),
            domain: format!("{}.onmicrosoft.com", NAMES[number]),
            client_id: format!("c0a1b2d3-4e5f-4061-8273-00000000000{number}"),
            client_secret: format!("secret-{number}"),
            records,
            ..TenantConfig::default()
        });
    Microsoft::start(Config {
        tenants: tenants.collect(),
        ..Config::default()
    })
}

fn generated(events: u64) -> Records {
    Records::Generated(Generated {
        events,
        ..Generated::default()
    })
}

#[test]
fn three_tenants_go_to_three_folders_without_crossing() {
    let microsoft = three([generated(700), generated(900), generated(1_100)]);
    let tenants: String = (0..3)
        .map(|index| microsoft.tenant(index, NAMES[index], ""))
        .collect();
    // By a placeholder, and by sinks that select one tenant each.
    let mut sinks =
        "[sinks.all]\ntype = \"file\"\npath = \"all/{tenant}/{date}.ndjson\"\n".to_owned();
    for name in NAMES {
        sinks.extend([format!(
            "[sinks.{name}]\ntype = \"file\"\ntenants = [\"{name}\"]\npath = \"alone/{name}/{{content_type}}.ndjson\"\n"
        )]);
    }
    let home = Home::new(&format!("{tenants}{SOURCE}{sinks}"));
    let mut exporter = home.run();
    exporter.await_drained(microsoft.blobs());
    exporter.stop();
    for (index, name) in NAMES.into_iter().enumerate() {
        for folder in ["all", "alone"] {
            microsoft.judge(&home.path(folder).join(name), Some(microsoft.id(index)));
        }
    }
}

/// A huge backlog of `alpha` and blobs of `beta` that all fail leave `gamma` as fresh as it was: what `gamma` shows
/// meanwhile is delivered while `alpha` is still busy and `beta` still failing.
#[test]
fn a_backlog_and_failing_blobs_of_others_do_not_hold_up_a_tenant() {
    let failing = (0..40).map(|number| ExplicitBlob {
        script: Some(Script {
            failure: Failure::InternalError,
            times: None,
        }),
        ..ExplicitBlob::new(ContentType::General, [record("beta", number)])
    });
    let microsoft = three([
        generated(20_000),
        Records::Explicit(failing.collect()),
        generated(100),
    ]);
    // The slow pace makes sure that the backlog outlasts the test: 1,000 blobs at 120 requests a minute.
    let slow = "requests_per_minute = 120";
    let tenants: String = NAMES
        .iter()
        .zip([slow, "", ""])
        .enumerate()
        .map(|(index, (name, more))| microsoft.tenant(index, name, more))
        .collect();
    let mut sinks = String::new();
    for name in NAMES {
        sinks.extend([format!(
            "[sinks.{name}]\ntype = \"file\"\ntenants = [\"{name}\"]\npath = \"{name}/{{content_type}}.ndjson\"\n"
        )]);
    }
    let home = Home::new(&format!("{tenants}{SOURCE}{sinks}"));
    let exporter = home.run();
    let delivered = |name: &str| {
        let sink = format!("sink=\"{name}\"");
        exporter
            .sum("events_delivered_total", &[&sink])
            .unwrap_or(0.0)
    };
    let pending = |name: &str| {
        let tenant = format!("tenant=\"{name}\"");
        exporter.sum("units_pending", &[&tenant]).unwrap_or(0.0)
    };
    wait_until(
        "the backlog and the failures are under way, gamma is up to date",
        || {
            delivered("alpha") > 0.0
                && exporter.sum("errors_total", &["tenant=\"beta\""]) > Some(0.0)
                && delivered("gamma") >= 100.0
        },
    );
    for number in 0..5 {
        let before = delivered("gamma");
        let blob = json!({"content_type": "Audit.General", "records": [record("gamma", number)]});
        microsoft.control("blobs", &json!({"tenant": microsoft.id(2), "blob": blob}));
        wait_until("the new event is delivered", || delivered("gamma") > before);
        assert!(
            delivered("alpha") < 20_000.0,
            "the backlog did not outlast the test"
        );
        assert!((pending("beta") - 40.0).abs() < 0.5);
        assert!(delivered("beta") < 0.5);
    }
    let freshness =
        |part: &str| exporter.sum(&format!("freshness_seconds_{part}"), &["sink=\"gamma\""]);
    println!(
        "freshness of gamma: {} within 5 s of {} in all; {} events of alpha are delivered, {} blobs of beta wait",
        exporter
            .sum("freshness_seconds_bucket", &["sink=\"gamma\"", "le=\"5\""])
            .unwrap(),
        freshness("count").unwrap(),
        delivered("alpha"),
        pending("beta"),
    );
    exporter.stop();
    microsoft.judge(&home.path("gamma"), Some(microsoft.id(2)));
}

/// An event of this moment.
fn record(tenant: &str, number: u32) -> String {
    let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S");
    format!(
        r#"{{"CreationTime":"{now}","Id":"00000000-0000-4000-8000-{number:012}","Operation":"Of {tenant}","Workload":"PowerApps"}}"#
    )
}
