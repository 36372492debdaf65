//! The engine: builds the plugins that the configuration names, runs them, and stops them in order.
//!
//! Each source of each tenant and each sink is a task of its own. What fails, fails alone: a task retries by the
//! kind of its error, and a bug ends that task only. Stopping goes with the stream: sources first, then the sinks
//! once they have delivered what is journaled (or their time is up), then the journal.

mod ask;
pub(crate) mod build;
pub mod check;
mod gunzip;
pub mod intake;
pub mod letters;
mod look;
pub mod memory;
pub mod once;
pub(crate) mod retry;
mod sink;
mod source;
mod tick;

pub use look::look;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http;
use crate::journal::{Closer, Journal, Orphan, Status};
use crate::metrics::Metrics;
use crate::plugin::Registry;
use letters::Replayer;

/// How long the journal may take to write what it has accepted.
const JOURNAL_DEADLINE: Duration = Duration::from_secs(30);

/// How long a request to the admin listener may take to end.
const SERVERS_DEADLINE: Duration = Duration::from_secs(5);
/// How often the journal is asked to do what only time makes due.
const HOUSEKEEPING: Duration = Duration::from_hours(1);

/// Frees what orphans hold once their grace is over, folds old accounts, and audits the sinks'.
async fn keep_house(journal: Journal, stop: CancellationToken) {
    loop {
        let kept = async {
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

/// A running engine. Stop it with [`Engine::shutdown`]; dropping it breaks everything off, which loses nothing.
pub struct Engine {
    journal: Journal,
    closer: Closer,
    metrics: Metrics,
    replayer: Replayer,
    orphans: Vec<Orphan>,
    /// Sources times tenants.
    streams: usize,
    /// Of these, in a single run: those that have nothing left to list.
    ended: Arc<AtomicUsize>,
    /// The error that ends the process.
    ends: Mutex<mpsc::Receiver<Error>>,
    admin: Option<SocketAddr>,
    sources: JoinSet<()>,
    sinks: JoinSet<()>,
    servers: JoinSet<()>,
    signals: Signals,
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
        Self::begin(config, registry, clock, false).await
    }

    /// The same for a single run ([`once`]): each source lists all that there is now, and then no more.
    pub async fn start_once(config: &Config, registry: &Registry, clock: Clock) -> Result<Self> {
        Self::begin(config, registry, clock, true).await
    }

    async fn begin(config: &Config, registry: &Registry, clock: Clock, once: bool) -> Result<Self> {
        let metrics = Metrics::new()?;
        let limits = build::journal_limits(config);
        metrics.journal_limit_bytes.set(limits.max_bytes as i64);
        let (journal, closer) =
            Journal::open(&config.journal.path, limits, clock.clone(), metrics.clone())?;
        admin::withdraw(&config.journal.path)?;
        let parts = build::Parts {
            config,
            registry,
            clock: &clock,
            metrics: &metrics,
            http: &http::Client::new()?,
            journal: &journal,
        };
        let sources = parts.sources()?;
        let sinks = parts.sinks()?;
        let listener = if config.admin.enabled {
            Some(admin::bind(config.admin.listen).await?)
        } else {
            None
        };
        let orphans = journal
            .attach(build::specs(config), build::tenants(config))
            .await?;
        let record_bytes = config.limits.record_size.bytes();
        let (replayer, mut lines) = Replayer::new(&journal, record_bytes, build::specs(config));
        let signals = Signals::default();
        let (fatal, ends) = mpsc::channel(1);
        let memory = build::memory(config);
        let slots = Arc::new(Semaphore::new(config.limits.parallel_fetches.get()));
        let ended = Arc::new(AtomicUsize::new(0));
        let mut runners = Vec::with_capacity(sources.len());
        for source in sources {
            let runner = parts.runner(source, &slots, &memory, &signals.sources);
            runners.push(source::Runner {
                once: once.then(|| Arc::clone(&ended)),
                ..runner.await?
            });
        }
        let streams = runners.iter().map(|runner| runner.intake.stream().clone());
        journal.collect_only(streams.collect()).await?;
        let mut engine = Self {
            journal: journal.clone(),
            closer,
            metrics: metrics.clone(),
            replayer: replayer.clone(),
            orphans,
            streams: runners.len(),
            ended,
            ends: Mutex::new(ends),
            admin: listener
                .as_ref()
                .and_then(|listener| listener.local_addr().ok()),
            sources: JoinSet::new(),
            sinks: JoinSet::new(),
            servers: JoinSet::new(),
            signals: signals.clone(),
        };
        if let Some(listener) = listener {
            let control = admin::Control {
                token: admin::token(&config.journal.path)?,
                replayer,
                hosts: config.admin.hosts.as_slice().into(),
            };
            admin::announce(&listener, &config.journal.path)?;
            let served = admin::serve(
                listener,
                journal.clone(),
                metrics.clone(),
                clock.clone(),
                control,
                config.journal.path.clone(),
                signals.stop.clone(),
            );
            engine.servers.spawn(served);
        }
        engine
            .servers
            .spawn(keep_house(journal.clone(), signals.stop.clone()));
        for sink in sinks {
            let worker = parts.worker(sink, &fatal, &signals.drain, &signals.stop);
            if let Some(line) = lines.remove(&worker.name) {
                engine.sinks.spawn(worker.run(line));
            }
        }
        for runner in runners {
            engine.sources.spawn(runner.run());
        }
        Ok(engine)
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
        self.metrics.listed() >= self.streams
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
        while self.sources.join_next().await.is_some() {}
        // A source that was broken off may have handed something over just before: the sinks are to get that too.
        drop(self.journal.settled().await);
        self.signals.drain.cancel();
        let drained = async { while self.sinks.join_next().await.is_some() {} };
        // Out of patience is no failure: what is left waits in the journal.
        drop(tokio::time::timeout(patience, drained).await);
        self.signals.stop.cancel();
        while self.sinks.join_next().await.is_some() {}
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
        let closed = tokio::task::spawn_blocking(move || closer.wait());
        tokio::time::timeout(JOURNAL_DEADLINE, closed)
            .await
            .map_err(|_| {
                Error::bug("something still uses the journal after all components have ended")
            })?
            .map_err(|error| Error::bug("closing the journal failed").with_cause(error))?;
        status
    }
}

#[cfg(test)]
mod tests;
