//! The engine: builds the plugins that the configuration names, runs them, and stops them in order.
//!
//! Each source of each tenant and each sink is a task of its own. What fails, fails alone: a task retries by the kind of
//! its error, and a bug stops that sink, or slows that source, only. Stopping goes with the stream: sources first, then
//! the sinks once they have delivered what is journaled (or their time is up), then the journal.

mod ask;
pub mod backfill;
pub(crate) mod build;
pub mod check;
mod fetches;
mod gate;
mod gunzip;
pub mod intake;
pub mod letters;
mod listeners;
mod look;
pub mod memory;
pub mod once;
pub mod reconcile;
pub mod reload;
pub(crate) mod retry;
mod sink;
mod source;
mod tick;
mod webhooks;

pub use look::look;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http;
use crate::journal::{Closer, Journal, Left, Orphan, Status, Stream};
use crate::metrics::Metrics;
use crate::plugin::Registry;
use backfill::Backfiller;
use build::{BuiltSink, BuiltSource, Parts};
use letters::Replayer;
use listeners::Listeners;
use memory::Memory;
use once::listings::Listings;
use reconcile::Survey;
use reload::Running;
use webhooks::Webhooks;

/// How long the journal may take to write what it has accepted.
const JOURNAL_DEADLINE: Duration = Duration::from_secs(30);

/// How long a request to the admin listener may take to end.
const SERVERS_DEADLINE: Duration = Duration::from_secs(5);
/// How often the journal is asked to do what only time makes due.
const HOUSEKEEPING: Duration = Duration::from_hours(1);

/// Frees what orphans hold once their grace is over, sees to units that nobody else does, folds old accounts, and audits
/// the sinks'.
async fn keep_house(journal: Journal, metrics: Metrics, stop: CancellationToken) {
    loop {
        let kept = async {
            let left = journal.look_after_units(retry::LONGEST, source::EXPIRY_GRACE);
            for unit in left.await? {
                tell_lost(&journal, &metrics, &unit);
            }
            journal.fold().await?;
            journal.audit().await
        };
        if let Err(error) = kept.await {
            tracing::warn!("the accounts cannot be looked after: {error}");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(HOUSEKEEPING) => {}
        }
        if let Err(error) = journal.end_grace().await {
            tracing::warn!("orphans cannot be looked after: {error}");
        }
    }
}

fn tell_lost(journal: &Journal, metrics: &Metrics, left: &Left) {
    let (tenant, source) = (journal.tenant_name(&left.tenant), &*left.source);
    let labels = [&*tenant, source, &*left.content_type];
    metrics.units_lost.with_label_values(&labels).inc();
    tracing::error!(
        source,
        tenant = &*tenant,
        content_type = left.content_type,
        blob = left.unit,
        "content is lost: its source or tenant left the configuration before it was fetched, and Microsoft no longer has it"
    );
}

/// A running engine. Stop it with [`Engine::shutdown`]; dropping it breaks everything off, which loses nothing.
pub struct Engine {
    journal: Journal,
    closer: Closer,
    metrics: Metrics,
    replayer: Replayer,
    backfiller: Backfiller,
    orphans: Vec<Orphan>,
    config: Config,
    own: Own,
    /// The streams that are collected.
    streams: BTreeMap<StreamName, Stream>,
    /// The error that ends the process.
    ends: Mutex<mpsc::Receiver<Error>>,
    /// Those who ask for another configuration, and wait for what became of it.
    reloads: Mutex<mpsc::Receiver<Reload>>,
    admin: Option<SocketAddr>,
    sources: BTreeMap<StreamName, Running>,
    sinks: BTreeMap<Arc<str>, Running>,
    servers: JoinSet<()>,
    signals: Signals,
}

/// A source's name and its tenant's.
type StreamName = (Arc<str>, Arc<str>);

/// Somebody who asks for a reload, and waits for the answer.
pub type Reload = oneshot::Sender<std::result::Result<String, String>>;

/// What parts are built with, whatever the configuration.
#[derive(Clone)]
struct Own {
    registry: Registry,
    clock: Clock,
    http: http::Client,
    slots: Arc<Semaphore>,
    memory: Memory,
    webhooks: Webhooks,
    fatal: mpsc::Sender<Error>,
    /// Each source lists all that there is now, and then no more.
    once: bool,
    listings: Listings,
}

impl Own {
    fn new(config: &Config, registry: &Registry, clock: &Clock) -> Result<Self> {
        Ok(Self {
            registry: registry.clone(),
            clock: clock.clone(),
            http: http::Client::new()?,
            slots: Arc::new(Semaphore::new(config.limits.parallel_fetches.get())),
            memory: build::memory(config),
            webhooks: Webhooks::default(),
            fatal: mpsc::channel(1).0,
            once: false,
            listings: Listings::default(),
        })
    }

    fn parts<'a>(
        &'a self,
        config: &'a Config,
        metrics: &'a Metrics,
        journal: &'a Journal,
    ) -> Parts<'a> {
        Parts {
            config,
            registry: &self.registry,
            clock: &self.clock,
            metrics,
            http: &self.http,
            journal,
        }
    }

    fn runner(
        &self,
        parts: &Parts<'_>,
        source: BuiltSource,
        intake: intake::Intake,
        asked: mpsc::Receiver<backfill::Asked>,
        stop: &CancellationToken,
    ) -> source::Runner {
        source::Runner {
            once: self.once,
            listings: self.listings.clone(),
            ..parts.runner(source, intake, &self.slots, &self.webhooks, asked, stop)
        }
    }
}

/// How an engine runs, if not as usual.
#[derive(Default)]
struct Way {
    /// Each source lists all that there is, and then no more.
    once: bool,
    /// Each source lists what it has of a stretch of event time, for one sink alone.
    survey: Option<Survey>,
}

/// The three steps of stopping.
#[derive(Clone, Debug, Default)]
struct Signals {
    sources: CancellationToken,
    drain: CancellationToken,
    stop: CancellationToken,
}

impl Engine {
    /// Opens the journal, builds every plugin and starts. Nothing is started if anything is wrong.
    pub async fn start(config: &Config, registry: &Registry, clock: Clock) -> Result<Self> {
        Self::begin(config, registry, clock, Way::default()).await
    }

    /// The same for a single run ([`once`]): each source lists all that there is now, and then no more.
    pub async fn start_once(config: &Config, registry: &Registry, clock: Clock) -> Result<Self> {
        let way = Way {
            once: true,
            survey: None,
        };
        Self::begin(config, registry, clock, way).await
    }

    async fn begin(config: &Config, registry: &Registry, clock: Clock, way: Way) -> Result<Self> {
        let metrics = Metrics::new()?;
        let limits = build::journal_limits(config);
        metrics.journal_limit_bytes.set(limits.max_bytes as i64);
        let (journal, closer) =
            Journal::open(&config.journal.path, limits, clock.clone(), metrics.clone())?;
        admin::withdraw(&config.journal.path)?;
        let (fatal, ends) = mpsc::channel(1);
        let own = Own {
            fatal,
            once: way.once,
            ..Own::new(config, registry, &clock)?
        };
        let of_own = own.clone();
        let parts = of_own.parts(config, &metrics, &journal);
        let sources = parts.sources(|_| true)?;
        let (spans, sinks) = match (way.survey, config.sinks.first()) {
            (Some(Survey { spans, sink }), Some(config)) => {
                (Some(spans), vec![BuiltSink::bare(config, sink)])
            }
            _ => (None, parts.sinks(|_| true)?),
        };
        let listeners = Listeners::bind(config, spans.is_some()).await?;
        let orphans = journal
            .attach(build::specs(config), build::tenants(config))
            .await?;
        let record_bytes = config.limits.record_size.bytes();
        let (replayer, lines) = Replayer::new(&journal, record_bytes, build::specs(config));
        let (ask, reloads) = mpsc::channel(1);
        let mut engine = Self {
            journal: journal.clone(),
            closer,
            metrics: metrics.clone(),
            replayer,
            backfiller: Backfiller::default(),
            orphans,
            config: config.clone(),
            own,
            streams: BTreeMap::new(),
            ends: Mutex::new(ends),
            reloads: Mutex::new(reloads),
            admin: None,
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            servers: JoinSet::new(),
            signals: Signals::default(),
        };
        engine.listen(listeners, ask)?;
        let stop = engine.signals.stop.clone();
        engine
            .servers
            .spawn(keep_house(journal.clone(), metrics.clone(), stop));
        let prepared = engine.prepare(&parts, sources).await?;
        engine.collect(&parts, &prepared).await?;
        if let Some(spans) = spans {
            for (source, intake) in &prepared {
                source.source.survey(intake, &spans).await?;
            }
        }
        engine.start_sinks(&parts, sinks, lines);
        engine.start_sources(&parts, prepared);
        Ok(engine)
    }

    /// Somebody who asks by the admin listener for the configuration to be read anew: [`Engine::reload`] is for whoever
    /// has it.
    pub async fn asked_to_reload(&self) -> Reload {
        match self.reloads.lock().await.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }

    /// The engine's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where the admin listener listens.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Cursors of sinks that left the configuration and still hold data.
    #[must_use]
    pub fn orphans(&self) -> &[Orphan] {
        &self.orphans
    }

    /// Whether every source has listed everything at least once since the start.
    #[must_use]
    pub fn listed(&self) -> bool {
        self.metrics.listed() >= self.streams.len()
    }

    /// The journal's account.
    pub async fn status(&self) -> Result<Status> {
        self.journal.status().await
    }

    /// Wakes at every commit and every cursor that moves.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.journal.changes()
    }

    /// Returns when this process cannot go on: the journal's writer has panicked, or a sink's far side is gone for as
    /// long as the process lives. Nothing that was committed is lost; a new process goes on from there.
    pub async fn broken(&self) -> Error {
        let mut ends = self.ends.lock().await;
        tokio::select! {
            Some(error) = ends.recv() => return error,
            () = self.journal.gone() => {}
        }
        Error::bug("the journal's writer has ended by a panic; start again, and please report it")
    }

    /// Stops: sources at once, sinks when they have delivered what is journaled or after `patience`. Returns the
    /// journal's last account.
    pub async fn shutdown(mut self, patience: Duration) -> Result<Status> {
        self.signals.sources.cancel();
        all_end(&mut self.sources).await;
        // A source that was broken off may have handed something over just before: the sinks are to get that too.
        drop(self.journal.settled().await);
        self.signals.drain.cancel();
        // Out of patience is no failure: what is left waits in the journal.
        drop(tokio::time::timeout(patience, all_end(&mut self.sinks)).await);
        self.signals.stop.cancel();
        all_end(&mut self.sinks).await;
        let served = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout(SERVERS_DEADLINE, served)
            .await
            .is_err()
        {
            self.servers.shutdown().await;
        }
        let status = self.journal.status().await;
        let Self {
            journal,
            closer,
            replayer,
            ..
        } = self;
        drop((journal, replayer));
        close(closer).await?;
        status
    }
}

/// Waits until the journal has written what it has accepted, once nobody holds it any more.
async fn close(closer: Closer) -> Result<()> {
    let waiting = tokio::task::spawn_blocking(move || closer.wait());
    tokio::time::timeout(JOURNAL_DEADLINE, waiting)
        .await
        .map_err(|_| {
            Error::bug("something still uses the journal after all components have ended")
        })?
        .map_err(|error| Error::bug("closing the journal failed").with_cause(error))
}

/// Returns when all of these have ended by themselves.
async fn all_end<N: Ord>(running: &mut BTreeMap<N, Running>) {
    for running in running.values_mut() {
        running.ended().await;
    }
}

#[cfg(test)]
mod tests;
