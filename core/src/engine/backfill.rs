//! Stretches of event time that a source is asked to collect beside what it collects by itself.
//!
//! A source is called by its runner alone, so a request waits for it between two listings. The source notes it with its
//! checkpoint; from then on it is a part of what the source has to do, over restarts too.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::build;
use super::source::Runner;
use super::{Own, StreamName, close};
use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::plugin::Registry;

/// Stretches of event time, each from its first moment to the one behind its last.
pub type Spans = Vec<(DateTime<Utc>, DateTime<Utc>)>;

/// What a source is asked to collect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// The source's name.
    pub source: String,
    /// The tenant's name.
    pub tenant: String,
    /// Which events.
    pub spans: Spans,
}

/// A request with the way back to whoever waits.
pub(super) struct Asked {
    spans: Spans,
    answer: oneshot::Sender<Result<()>>,
}

/// The ways to the sources that run.
#[derive(Clone, Default)]
pub(crate) struct Backfiller(Arc<Mutex<BTreeMap<StreamName, mpsc::Sender<Asked>>>>);

impl Backfiller {
    /// A line for one source of one tenant.
    pub(super) fn line(&self, name: StreamName) -> mpsc::Receiver<Asked> {
        let (way, line) = mpsc::channel(1);
        let mut ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ways.insert(name, way);
        line
    }

    /// Hands a request over, and waits until it is on record.
    pub(crate) async fn ask(&self, backfill: Backfill) -> Result<()> {
        let Backfill {
            source,
            tenant,
            spans,
        } = backfill;
        let name = (source.as_str().into(), tenant.as_str().into());
        let way = {
            let ways = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            ways.get(&name).cloned()
        };
        let gone = || {
            Error::config(format!(
                "the running process does not collect {tenant} by source {source}; has the configuration changed \
                 since it started? `audit-exporter reload` takes it up"
            ))
        };
        let (answer, answered) = oneshot::channel();
        let sent = way.ok_or_else(gone)?.send(Asked { spans, answer }).await;
        sent.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

impl Runner {
    /// Waits, and meanwhile sees to what the source is asked for. Returns early if there is more to list, or, if it
    /// `works`, when a fetch calls for it, or when it is told of news: then `true`.
    pub(super) async fn rest(&self, wait: Duration, works: bool) -> bool {
        let until = Instant::now() + wait;
        let mut line = self.asked.lock().await;
        // Through all turns of the loop: what it was told must not be forgotten in between.
        let mut news = pin!(self.hook.news());
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep_until(until) => return false,
                () = self.intake.recalled(), if works => return false,
                () = &mut news, if works => {
                    let lead = until.saturating_duration_since(Instant::now());
                    let source = [self.intake.source()];
                    let leads = self.metrics.webhook_lead.with_label_values(&source);
                    leads.observe(lead.as_secs_f64());
                    return true;
                }
                Some(asked) = line.recv() => asked,
            };
            // Who does not wait any more was told that it failed.
            if asked.answer.is_closed() {
                continue;
            }
            let noted = self.source.backfill(&self.intake, &asked.spans);
            let noted = noted.instrument(self.span()).await;
            let is_noted = noted.is_ok();
            // Who asked may have gone; what was noted is done all the same.
            drop(asked.answer.send(noted));
            if is_noted {
                return false;
            }
        }
    }
}

/// Notes a request in the journal while nothing runs; the next run sees to it.
pub async fn note(config: &Config, registry: &Registry, backfill: &Backfill) -> Result<()> {
    let (metrics, clock) = (Metrics::new()?, Clock::system());
    let limits = build::journal_limits(config);
    let (journal, closer) =
        Journal::open(&config.journal.path, limits, clock.clone(), metrics.clone())?;
    admin::withdraw(&config.journal.path)?;
    let own = Own::new(config, registry, &clock)?;
    let noted = async {
        let parts = own.parts(config, &metrics, &journal);
        let wanted = |name: &StreamName| *name.0 == *backfill.source && *name.1 == *backfill.tenant;
        let mut built = parts.sources(wanted)?;
        let source = built.pop().ok_or_else(|| {
            Error::config(format!(
                "source {} does not collect tenant {}",
                backfill.source, backfill.tenant
            ))
        })?;
        journal
            .attach(build::specs(config), build::tenants(config))
            .await?;
        let intake = parts.intake(&source, &own.memory).await?;
        source.source.backfill(&intake, &backfill.spans).await
    };
    let noted = noted.await;
    drop(journal);
    close(closer).await?;
    noted
}
