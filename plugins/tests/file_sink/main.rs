//! The `file` sink from outside, in a process of its own: fail points belong to a whole process.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result)] // Tests.

mod durable;
#[cfg(feature = "failpoints")]
mod failpoints;

use std::path::Path;
use std::sync::Arc;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::event::{AuditEvent, Origin};
use audit_exporter_core::http;
use audit_exporter_core::journal::Store;
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::plugin::{Batch, Context, Receipt, Sink};
use bytes::Bytes;

async fn sink(folder: &Path, store: &Store, last: Option<&Receipt>) -> Box<dyn Sink> {
    let path = folder.join("{date}.ndjson");
    let path = path.to_str().unwrap();
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
        http: http::Client::new().unwrap(),
        meter: Meter::default(),
        clock: Clock::system(),
        store: store.clone(),
        replay: None,
        webhook: None,
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
        position: None,
        events: Arc::new(numbers.map(event).collect()),
    }
}
