//! `file`: NDJSON files, plain or compressed, in folders by tenant, content type and day.
//!
//! What it promises:
//!
//! - **Durable**: a delivery is `Ok` after the data of every file it touched, and the folder entries of every file it
//!   created, are on disk.
//! - **Exactly once**: the receipt holds every open file's length, and the store names every file before it is created
//!   (see [`ledger`]). After a crash at any moment, or an error, or a delivery that was dropped half-way, files go
//!   back to the last confirmed lengths and unconfirmed files are removed, before anything is written again.
//! - **Only its own**: files are created exclusively, under a name that was free; nothing else is written or removed.
//!   A closed file is final.
//! - **Valid at every receipt**: a delivery is a gzip member or zstd frame of its own.
//! - **Apart**: a replay beside the process that collects has files of its own, with its word in their names.
//! - **Bounded**: one buffer, one compressor at a time, at most `max_open_files` open files.
//!
//! Blocking work runs on the blocking pool and owns the files while it runs: dropping a delivery cannot make two of
//! them write at the same time.

mod check;
mod config;
mod disk;
mod files;
mod ledger;
mod open;
mod route;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::journal::{Position, Store};
use audit_exporter_core::plugin::{Batch, Context, Delivered, Finding, Receipt, Sink};
use audit_exporter_core::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::{JoinError, spawn_blocking};

use files::{Delivery, Files};
use ledger::State;
use route::Router;

struct FileSink {
    clock: Clock,
    store: Store,
    files: Arc<Mutex<Files>>,
}

/// Builds a `file` sink.
pub(crate) fn build(context: Context) -> Result<Box<dyn Sink>> {
    let router = Router::new(context.options, &context.tenants, context.replay.as_deref())?;
    Ok(Box::new(FileSink {
        clock: context.clock,
        store: context.store.clone(),
        files: Arc::new(Mutex::new(Files::new(router, context.store))),
    }))
}

impl FileSink {
    /// Runs `work` with the files, off the runtime, and hands the files back with the result. If nobody waits any
    /// more, the work ends and the result is dropped; until then no other instance of this sink touches the files.
    async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Files) -> T + Send + 'static,
    ) -> Result<(OwnedMutexGuard<Files>, T)> {
        let mut files = Arc::clone(&self.files).lock_owned().await;
        let turn = self.store.turn().await;
        let span = tracing::Span::current();
        spawn_blocking(move || {
            let _turn = turn;
            let result = span.in_scope(|| work(&mut files));
            (files, result)
        })
        .await
        .map_err(broken_off)
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn recover(&self, last: Option<&Receipt>) -> Result<Vec<Position>> {
        let state: State = last.map(Receipt::parse).transpose()?.unwrap_or_default();
        let runtime = Handle::current();
        let (_files, recovered) = self
            .with_files(move |files| files.recover(state, &runtime))
            .await?;
        recovered.map(|()| Vec::new())
    }

    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let events = Arc::clone(&batch.events);
        let runtime = Handle::current();
        let clock = self.clock.clone();
        let (mut files, written) = self
            .with_files(move |files| {
                let delivery = Delivery {
                    now: clock.now(),
                    runtime: &runtime,
                };
                files.write(&events, &delivery)
            })
            .await?;
        let state = written?;
        let receipt = Receipt::of(&state)?;
        // From here on nothing waits: the state counts exactly if the caller sees this `Ok`.
        files.confirm(state);
        Ok(Delivered {
            receipt: Some(receipt),
            ..Delivered::default()
        })
    }

    async fn check(&self) -> Vec<Finding> {
        let found = self.with_files(|files| {
            let settings: Vec<_> = files.router().settings().collect();
            let mut findings = check::folders(settings.iter().copied());
            findings.extend(check::mixed_tenants(&settings));
            findings
        });
        match found.await {
            Ok((_files, findings)) => findings,
            Err(error) => vec![Finding::problem(error.to_string())],
        }
    }
}

fn broken_off(error: JoinError) -> Error {
    if error.is_panic() {
        Error::bug("writing files broke off").with_cause(error)
    } else {
        Error::unavailable("the program is stopping")
    }
}
