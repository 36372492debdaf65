//! The program in `examples/custom_sink.rs`: what it writes, and that a launch counts once whenever it is killed.

#[path = "../../examples/custom_sink.rs"]
#[allow(dead_code)] // Its `main` runs as a program of its own, below.
mod example;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Config, Options};
use audit_exporter_core::engine::Engine;
use audit_exporter_core::event::{AuditEvent, Origin};
use audit_exporter_core::journal::Store;
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::plugin::{Batch, Context, Delivered, Rejected, Sink};
use audit_exporter_core::{Kind, http};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::program::{blobs, lines, microsoft, tenant, with};

const TENANT: &str = "11111111-2222-4333-8444-555555555501";
const APP: &str = "11111111-2222-4333-8444-5555555555a1";

#[tokio::test(flavor = "multi_thread")]
async fn it_counts_the_launches_of_a_tenant() {
    let microsoft = microsoft(vec![tenant(TENANT, APP)]).await;
    let folder = tempfile::tempdir().unwrap();
    let url = microsoft.url();
    let text = format!(
        r#"
        [admin]
        enabled = false
        [tenants.contoso]
        id = "{TENANT}"
        client_id = "{APP}"
        client_secret = "{}"
        authority = "{url}"
        management_api = "{url}"
        [sources.activity]
        type = "management_activity"
        content_types = ["Audit.General"]
        [filters.launches]
        type = "operation"
        include = ["LaunchPowerApp"]
        [sinks.usage]
        type = "app_usage"
        path = "app-usage.json"
        filters = ["launches"]
        [sinks.everything]
        type = "file"
        path = "everything.ndjson"
        "#,
        crate::program::SECRET
    );
    let config = Config::from_toml(&text, folder.path()).unwrap();
    let engine = Engine::start(&config, &example::registry(), Clock::system())
        .await
        .unwrap();
    let wanted = blobs(&microsoft, |_, content_type| {
        content_type == "Audit.General"
    }) as i64;
    let mut changes = engine.changes();
    let settled = async {
        loop {
            changes.mark_unchanged();
            let status = engine.status().await.unwrap();
            let fetched: i64 = status.tenants.iter().map(|unit| unit.fetched).sum();
            if fetched == wanted && status.sinks.iter().all(|sink| sink.pending == 0) {
                return;
            }
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_mins(2), settled)
        .await
        .unwrap();
    let status = engine.shutdown(Duration::from_secs(20)).await.unwrap();

    let everything = lines(&folder.path().join("everything.ndjson"));
    let mut launches: BTreeMap<String, u64> = BTreeMap::new();
    for record in with(&everything, "Operation", |name| name == "LaunchPowerApp") {
        let record: Value = serde_json::from_str(record).unwrap();
        let property = "powerplatform.analytics.resource.power_app.id";
        let properties = record["PropertyCollection"].as_array();
        let in_properties = properties.and_then(|all| all.iter().find(|p| p["Name"] == property));
        let app = record["AppName"]
            .as_str()
            .or_else(|| in_properties?["Value"].as_str());
        *launches.entry(app.unwrap().to_owned()).or_default() += 1;
    }
    let written = contents(&folder.path().join("app-usage.json"));
    let apps = written["apps"].as_object().unwrap();
    let counted = apps
        .iter()
        .map(|(app, usage)| (app.clone(), usage["launches"].as_u64().unwrap()));
    assert_eq!(counted.collect::<BTreeMap<_, _>>(), launches);
    assert!(
        apps.values().all(|usage| usage["users"][0].is_string()),
        "{written}"
    );
    let sink = status
        .sinks
        .iter()
        .find(|sink| sink.sink == "usage")
        .unwrap();
    assert_eq!(sink.delivered as u64, launches.values().sum::<u64>());
    assert!(sink.balances());
}

/// The example as Cargo builds it for every test run: beside the folder of the tests.
#[test]
fn the_example_is_a_program_that_knows_its_own_sink() {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/custom_sink");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let text = format!(
        r#"
        [tenants.contoso]
        id = "{TENANT}"
        client_id = "{APP}"
        client_secret = "secret"
        authority = "http://127.0.0.1:9"
        management_api = "http://127.0.0.1:9"
        [sources.activity]
        type = "management_activity"
        [sinks.usage]
        type = "app_usage"
        path = "app-usage.json"
        "#
    );
    std::fs::write(&config, text).unwrap();
    let done = std::process::Command::new(&program)
        .args(["check", "--config"])
        .arg(&config)
        .output()
        .unwrap_or_else(|error| {
            // `cargo test --test scenarios` alone builds no examples.
            panic!(
                "{}: {error}; build it by `cargo build --example custom_sink`",
                program.display()
            )
        });
    let out = String::from_utf8(done.stdout).unwrap();
    assert!(out.contains("app-usage.json will be made"), "{out}");
}

fn contents(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn sink(folder: &Path, options: &str) -> Box<dyn Sink> {
    let path = folder.join("app-usage.json");
    let options = format!("path = '{}'\n{options}", path.display());
    let context = Context {
        name: "usage".into(),
        options: Options::from_toml("sinks.usage", &options),
        tenants: Arc::new([]),
        http: http::Client::new().unwrap(),
        meter: Meter::default(),
        clock: Clock::system(),
        store: Store::in_memory(),
        replay: None,
        webhook: None,
    };
    example::registry()
        .build_sink("app_usage", context)
        .unwrap()
}

fn batch(records: &[Value]) -> Batch {
    let origin = Arc::new(Origin {
        tenant: TENANT.into(),
        tenant_name: "contoso".into(),
        source: "activity".into(),
        content_type: "Audit.General".into(),
        unit: "blob".into(),
    });
    let event =
        |record: &Value| AuditEvent::new(Bytes::from(record.to_string()), Arc::clone(&origin));
    Batch {
        position: None,
        events: Arc::new(records.iter().map(event).collect()),
    }
}

fn launch(app: &str, user: &str) -> Value {
    json!({"AppName": app, "UserId": user, "CreationTime": "2026-03-01T10:00:00"})
}

#[tokio::test]
async fn what_the_journal_did_not_note_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app-usage.json");
    let first = sink(folder.path(), "");
    assert!(first.recover(None).await.unwrap().is_empty());
    let noted = first
        .deliver(&batch(&[launch("a", "ann")]))
        .await
        .unwrap()
        .receipt;
    let before = contents(&path)["apps"].clone();
    // Killed after this, before its receipt was stored.
    first
        .deliver(&batch(&[launch("a", "bob"), launch("b", "bob")]))
        .await
        .unwrap();

    let second = sink(folder.path(), "");
    second.recover(noted.as_ref()).await.unwrap();
    second.deliver(&batch(&[launch("c", "cid")])).await.unwrap();
    let apps = contents(&path)["apps"].clone();
    assert_eq!(apps["a"], before["a"]);
    assert_eq!(
        (apps["c"]["launches"].as_u64(), apps.get("b")),
        (Some(1), None)
    );
}

#[tokio::test]
async fn a_file_of_another_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other = sink(folder.path(), "");
    other.recover(None).await.unwrap();
    for _ in 0..3 {
        other.deliver(&batch(&[launch("a", "ann")])).await.unwrap();
    }
    let error = sink(folder.path(), "").recover(None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("another journal"), "{error}");
}

#[tokio::test]
async fn a_record_without_an_app_is_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let sink = sink(folder.path(), "users = false");
    sink.recover(None).await.unwrap();
    let delivered = sink
        .deliver(&batch(&[json!({}), launch("a", "ann")]))
        .await
        .unwrap();
    let Delivered { rejected, .. } = delivered;
    let reason = "the record names no app".to_owned();
    assert_eq!(rejected, [Rejected { index: 0, reason }]);
    let apps = contents(&folder.path().join("app-usage.json"))["apps"].clone();
    assert_eq!(apps["a"]["launches"], 1);
    assert!(apps["a"].get("users").is_none(), "users = false");
}
