//! The engine as a whole, between sources and sinks in memory that fail in every way they can.

mod clock;
mod crashes;
mod fakes;
mod letters;
mod listener;
mod logs;
mod once;
mod reload;
mod sinks;
mod sources;
mod webhooks;

use super::*;
use crate::journal::SinkStatus;
use fakes::World;

/// Waits until the journal's account is as wanted.
async fn until(engine: &Engine, wanted: impl Fn(&Status) -> bool) -> Status {
    let mut changes = engine.changes();
    loop {
        changes.mark_unchanged();
        let status = engine.status().await.unwrap();
        if wanted(&status) {
            return status;
        }
        changes.changed().await.unwrap();
    }
}

/// Whether a sink has dealt with all of `events`.
fn has_all(status: &Status, sink: &str, events: usize) -> bool {
    let of_sink = |s: &&SinkStatus| s.sink == sink;
    let sinks = || status.sinks.iter().filter(of_sink);
    let journaled: i64 = sinks().map(|s| s.journaled).sum();
    journaled == events as i64 && sinks().all(|s| s.pending == 0)
}

/// Waits until every unit is dealt with and every sink has passed every event.
async fn done(engine: &Engine, world: &World) -> Status {
    let units = world.units() as i64;
    let status = until(engine, |status| {
        let settled: i64 = status.tenants.iter().map(|t| t.fetched + t.lost).sum();
        settled == units && status.sinks.iter().all(|sink| sink.pending == 0)
    })
    .await;
    assert!(status.sinks.iter().all(SinkStatus::balances), "{status:?}");
    status
}

/// The value of a component's `up`.
fn up(engine: &Engine, component: &str, name: &str, tenant: &str) -> i64 {
    let up = &engine.metrics().up;
    up.with_label_values(&[component, name, tenant]).get()
}

/// Waits until a component shows as down. Only for components that stop by themselves: nothing else wakes.
async fn is_down(engine: &Engine, component: &str, name: &str, tenant: &str, kind: &str) {
    let errors = &engine.metrics().errors;
    let bugs = errors.with_label_values(&[component, name, tenant, kind]);
    while bugs.get() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(up(engine, component, name, tenant), 0);
}
