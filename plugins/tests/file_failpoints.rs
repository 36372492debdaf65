//! The `file` sink and errors at the worst moments. A process of its own: fail points belong to a whole process.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used)] // A test.

use std::path::Path;
use std::sync::Arc;

use audit_exporter_core::Kind;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::event::{AuditEvent, Origin};
use audit_exporter_core::journal::{Position, Store};
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::plugin::{Batch, Context, Receipt, Sink};
use bytes::Bytes;

/// The points, in the order in which a delivery passes them.
const POINTS: [&str; 3] = [
    "sink::file::rotate",
    "sink::file::write",
    "sink::file::sync",
];

async fn sink(folder: &Path, store: &Store, last: Option<&Receipt>) -> Box<dyn Sink> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let path = folder.join("{date}.ndjson");
    let options = format!("path = {path:?}\nrotate_size = \"400B\"");
    let context = Context {
        name: "archive".into(),
        options: Options::from_toml("sinks.archive", &options),
        tenants: Arc::new([Tenant {
            name: "contoso".into(),
            id: "id".into(),
            tags: Vec::new(),
            options: Options::from_toml("tenants.contoso", ""),
        }]),
        http: reqwest::Client::new(),
        meter: Meter::default(),
        clock: Clock::system(),
        store: store.clone(),
    };
    let sink = audit_exporter_plugins::registry()
        .build_sink("file", context)
        .unwrap();
    sink.recover(last).await.unwrap();
    sink
}

/// Events on two days.
fn batch(numbers: std::ops::Range<usize>) -> Batch {
    let origin = Arc::new(Origin {
        tenant: "id".into(),
        tenant_name: "contoso".into(),
        source: "activity".into(),
        content_type: "Audit.General".into(),
        unit: "blob".into(),
    });
    let event = |number: usize| {
        let day = number % 2 + 1;
        let record = format!(r#"{{"Id":"{number}","CreationTime":"2026-01-0{day}T00:00:00"}}"#);
        AuditEvent::new(Bytes::from(record), Arc::clone(&origin))
    };
    Batch {
        position: Position {
            journal: "journal".into(),
            lane: 1,
            first: 1,
            last: 1,
        },
        events: numbers.map(event).collect(),
    }
}

/// The numbers of the events in all files, whatever else the files hold.
fn ids(folder: &Path) -> Vec<usize> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            ids.push(record["Id"].as_str().unwrap().parse().unwrap());
        }
    }
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn after_an_error_at_any_point_each_event_is_there_once() {
    let scenario = fail::FailScenario::setup();
    let (folder, store) = (tempfile::tempdir().unwrap(), Store::in_memory());
    let mut sink_now = sink(folder.path(), &store, None).await;
    let (mut receipt, mut next) = (None, 0);
    for (point, dies) in POINTS
        .iter()
        .flat_map(|point| [(point, false), (point, true)])
    {
        receipt = sink_now
            .deliver(&batch(next..next + 3))
            .await
            .unwrap()
            .receipt;
        next += 3;
        fail::cfg(*point, "return").unwrap();
        for _ in 0..2 {
            let error = sink_now.deliver(&batch(next..next + 20)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unavailable);
            assert!(error.to_string().contains(point), "{error}");
        }
        fail::remove(point);
        if dies {
            sink_now = sink(folder.path(), &store, receipt.as_ref()).await;
            assert_eq!(ids(folder.path()), (0..next).collect::<Vec<_>>(), "{point}");
        }
        receipt = sink_now
            .deliver(&batch(next..next + 20))
            .await
            .unwrap()
            .receipt;
        next += 20;
        assert_eq!(ids(folder.path()), (0..next).collect::<Vec<_>>(), "{point}");
    }
    drop(sink(folder.path(), &store, receipt.as_ref()).await);
    assert_eq!(ids(folder.path()), (0..next).collect::<Vec<_>>());
    scenario.teardown();
}
