//! Another configuration for the running engine. What is the same in both goes on untouched; the rest is built first, so
//! that a configuration with a mistake changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::build::{self, BuiltSink, BuiltSource, Parts};
use super::intake::Intake;
use super::{Engine, StreamName};
use crate::config::{self, Config};
use crate::error::{Result, ResultExt as _};
use crate::journal::Orphan;

/// How long a sink may take to end the delivery that is under way. Broken off, it comes again.
const LEAVING: Duration = Duration::from_secs(20);

/// A source or sink that runs.
pub(super) struct Running {
    /// Ends it between two of its steps; sources end at once.
    leave: CancellationToken,
    /// Ends it now.
    stop: CancellationToken,
    /// Until it has ended.
    task: Option<AbortOnDropHandle<()>>,
}

impl Running {
    pub(super) fn start(
        leave: CancellationToken,
        stop: CancellationToken,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let task = Some(AbortOnDropHandle::new(tokio::spawn(work)));
        Self { leave, stop, task }
    }

    /// Returns when it has ended by itself.
    pub(super) async fn ended(&mut self) {
        if let Some(task) = &mut self.task {
            // A panic was told of where it happened.
            drop(task.await);
            self.task = None;
        }
    }

    async fn leave(mut self) {
        self.leave.cancel();
        if timeout(LEAVING, self.ended()).await.is_err() {
            self.stop.cancel();
            self.ended().await;
        }
    }
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Sources of tenants (`activity of contoso`) and sinks (`sink archive`) that began.
    pub started: Vec<String>,
    /// Those that ended.
    pub stopped: Vec<String>,
    /// Those that began anew, with other options.
    pub changed: Vec<String>,
    /// Tables whose changes wait for the next start.
    pub at_restart: Vec<&'static str>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("started", &self.started),
            ("stopped", &self.stopped),
            ("changed", &self.changed),
        ];
        let mut said = false;
        for (word, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
            let between = if said { "\n" } else { "" };
            write!(f, "{between}{word}: {}", names.join(", "))?;
            said = true;
        }
        if !said {
            write!(f, "no tenant, source, filter or sink has changed")?;
        }
        for table in &self.at_restart {
            write!(f, "\nthe changes in [{table}] wait for the next start")?;
        }
        Ok(())
    }
}

/// What is to be built and started, by name, and what ends.
#[derive(Default)]
struct Plan {
    streams: BTreeSet<StreamName>,
    sinks: BTreeSet<Arc<str>>,
    ended_streams: BTreeSet<StreamName>,
    ended_sinks: BTreeSet<Arc<str>>,
    /// Those that run, and whose place another takes over.
    renamed_sinks: BTreeSet<Arc<str>>,
}

impl Plan {
    fn of(old: &Config, new: &Config) -> Self {
        let mut plan = Self::default();
        let (before, after) = (streams_of(old), streams_of(new));
        for name in &after {
            if !before.contains(name) || !same_stream(old, new, name) {
                plan.streams.insert(name.clone());
            }
        }
        let ends = |name: &&StreamName| !after.contains(*name) || plan.streams.contains(*name);
        plan.ended_streams = before.iter().filter(ends).cloned().collect();
        for sink in &new.sinks {
            let before = old.sinks.iter().find(|other| other.name == sink.name);
            if !before.is_some_and(|before| same_sink((old, before), (new, sink))) {
                plan.sinks.insert(Arc::clone(&sink.name));
            }
        }
        for sink in &old.sinks {
            let stays = new.sinks.iter().any(|other| other.name == sink.name);
            if !stays || plan.sinks.contains(&sink.name) {
                plan.ended_sinks.insert(Arc::clone(&sink.name));
            }
            let takes_over = |other: &config::Sink| other.renamed_from.as_ref() == Some(&sink.name);
            if !stays && new.sinks.iter().any(takes_over) {
                plan.renamed_sinks.insert(Arc::clone(&sink.name));
            }
        }
        plan
    }

    fn report(&self, old: &Config, new: &Config) -> Reloaded {
        let mut report = Reloaded::default();
        let stream = |(source, tenant): &StreamName| format!("{source} of {tenant}");
        let sink = |name: &Arc<str>| format!("sink {name}");
        let started = |list: &mut Reloaded, name, ended| {
            let list = if ended {
                &mut list.changed
            } else {
                &mut list.started
            };
            list.push(name);
        };
        for name in &self.streams {
            started(&mut report, stream(name), self.ended_streams.contains(name));
        }
        for name in &self.sinks {
            started(&mut report, sink(name), self.ended_sinks.contains(name));
        }
        let gone = self.ended_streams.difference(&self.streams).map(stream);
        let gone_sinks = self.ended_sinks.difference(&self.sinks).map(sink);
        report.stopped = gone.chain(gone_sinks).collect();
        for (table, same) in [
            ("journal", old.journal == new.journal),
            ("admin", old.admin == new.admin),
            ("webhooks", old.webhooks == new.webhooks),
            ("limits", old.limits == new.limits),
        ] {
            if !same {
                report.at_restart.push(table);
            }
        }
        report
    }
}

fn streams_of(config: &Config) -> BTreeSet<StreamName> {
    let names = |source: &config::Source| {
        let of = Arc::clone(&source.name);
        let tenants = source.tenants.clone().into_iter();
        tenants.map(move |tenant| (Arc::clone(&of), tenant))
    };
    config.sources.iter().flat_map(names).collect()
}

fn same_stream(old: &Config, new: &Config, (source, tenant): &StreamName) -> bool {
    let own = |config: &Config| {
        let source = config.sources.iter().find(|one| one.name == *source)?;
        let options = source.options.for_tenant(tenant).ok()?;
        Some((source.kind.clone(), options))
    };
    let (Some((kind, options)), Some((new_kind, new_options))) = (own(old), own(new)) else {
        return false;
    };
    kind == new_kind && options.is_same(&new_options) && same_tenant(old, new, tenant)
}

fn same_tenant(old: &Config, new: &Config, name: &str) -> bool {
    let (Some(old), Some(new)) = (old.tenant(name), new.tenant(name)) else {
        return false;
    };
    old.id == new.id && old.options.is_same(&new.options)
}

fn same_sink(
    (old_config, old): (&Config, &config::Sink),
    (new_config, new): (&Config, &config::Sink),
) -> bool {
    let filter = |config: &Config, name: &Arc<str>| {
        let filter = config.filters.iter().find(|one| one.name == *name);
        filter.map(|filter| (filter.kind.clone(), filter.options.clone()))
    };
    let same_filter = |name: &Arc<str>| match (filter(old_config, name), filter(new_config, name)) {
        (Some((kind, options)), Some((new_kind, new_options))) => {
            kind == new_kind && options.is_same(&new_options)
        }
        _ => false,
    };
    let tenant = |name: &Arc<str>| same_tenant(old_config, new_config, name);
    let engines = |sink: &config::Sink| {
        let sizes = (sink.batch_events, sink.batch_size, sink.timeout);
        (sink.kind.clone(), sink.sources.clone(), sizes)
    };
    engines(old) == engines(new)
        && old.filters == new.filters
        && old.tenants == new.tenants
        && old.options.is_same(&new.options)
        && new.filters.iter().all(same_filter)
        && new.tenants.iter().all(tenant)
}

impl Engine {
    /// Goes on with `config`: sources, tenants, filters and sinks that it does not change are not touched. Nothing
    /// changes if anything in it is wrong. What it changes in the engine's own tables waits for the next start.
    pub async fn reload(&mut self, mut config: Config) -> Result<Reloaded> {
        let plan = Plan::of(&self.config, &config);
        let report = plan.report(&self.config, &config);
        self.keep_own_tables(&mut config);
        let (own, metrics, journal) =
            (self.own.clone(), self.metrics.clone(), self.journal.clone());
        let parts = own.parts(&config, &metrics, &journal);
        let sources = parts.sources(|name| plan.streams.contains(name))?;
        let sinks = parts.sinks(|sink| plan.sinks.contains(&sink.name))?;
        journal.open_lanes(build::tenants(&config)).await?;
        let prepared = self.prepare(&parts, sources).await?;
        // The last that can fail, for what it frees is gone.
        self.orphans = self.attach(&plan, &config).await?;
        self.end(&plan).await;
        // Not before: what a source lists counts as collected.
        if let Err(error) = self.collect(&parts, &prepared).await {
            tracing::warn!(
                "the journal did not note which sources have ended: coverage waits for them until the next reload or \
                 start: {error}"
            );
        }
        self.start_sources(&parts, prepared);
        let lines = self.replayer.renew(build::specs(&config), &plan.sinks);
        self.start_sinks(&parts, sinks, lines);
        self.config = config;
        Ok(report)
    }

    /// What was made of these tables at the start stays as it is, for what is built from now on too.
    fn keep_own_tables(&self, config: &mut Config) {
        config.journal.clone_from(&self.config.journal);
        config.admin.clone_from(&self.config.admin);
        config.webhooks.clone_from(&self.config.webhooks);
        config.limits.clone_from(&self.config.limits);
    }

    /// Makes the journal's sinks those of `config`. If it refuses, everything goes on as it was.
    async fn attach(&mut self, plan: &Plan, config: &Config) -> Result<Vec<Orphan>> {
        let (own, metrics, journal) =
            (self.own.clone(), self.metrics.clone(), self.journal.clone());
        let (specs, tenants) = (build::specs(config), build::tenants(config));
        if plan.renamed_sinks.is_empty() {
            return journal.attach(specs, tenants).await;
        }
        // The delivery under way ends by the name under which it began. Its sink is built once more, to go on if need be.
        let before = self.config.clone();
        let parts = own.parts(&before, &metrics, &journal);
        let again = parts
            .sinks(|sink| plan.renamed_sinks.contains(&sink.name))
            .context("a sink that is renamed cannot be built anew under its old name, in case the journal refuses")?;
        self.end_sinks(&plan.renamed_sinks).await;
        let attached = journal.attach(specs, tenants).await;
        if attached.is_err() {
            let specs = build::specs(&before);
            let lines = self.replayer.renew(specs, &plan.renamed_sinks);
            self.start_sinks(&parts, again, lines);
        }
        attached
    }

    async fn end(&mut self, plan: &Plan) {
        let sources = plan.ended_streams.iter();
        let leaving: Vec<_> = sources
            .filter_map(|name| self.sources.remove(name))
            .collect();
        let sources = join_all(leaving.into_iter().map(Running::leave));
        tokio::join!(sources, self.end_sinks(&plan.ended_sinks));
        for (source, tenant) in &plan.ended_streams {
            self.metrics.forget_source(source, tenant);
        }
        for sink in &plan.ended_sinks {
            self.metrics.forget_sink(sink);
        }
    }

    async fn end_sinks(&mut self, names: &BTreeSet<Arc<str>>) {
        let sinks = names.iter().filter_map(|name| self.sinks.remove(name));
        let leaving: Vec<_> = sinks.map(Running::leave).collect();
        join_all(leaving).await;
    }

    /// Opens the sources' ways into the journal, whose lanes there are.
    pub(super) async fn prepare(
        &self,
        parts: &Parts<'_>,
        built: Vec<BuiltSource>,
    ) -> Result<Vec<(BuiltSource, Intake)>> {
        let mut prepared = Vec::with_capacity(built.len());
        for source in built {
            let intake = parts.intake(&source, &self.own.memory).await?;
            if self.own.once {
                intake.ends_where_it_begins();
            }
            prepared.push((source, intake));
        }
        Ok(prepared)
    }

    /// Tells the journal which streams are collected: these, and those that go on.
    pub(super) async fn collect(
        &mut self,
        parts: &Parts<'_>,
        prepared: &[(BuiltSource, Intake)],
    ) -> Result<()> {
        let new = prepared.iter();
        self.streams
            .extend(new.map(|(source, intake)| (source.stream_name(), intake.stream().clone())));
        let collected = streams_of(parts.config);
        self.streams.retain(|name, _| collected.contains(name));
        let all = self.streams.values().cloned().collect();
        self.journal.collect_only(all).await
    }

    /// Starts sources.
    pub(super) fn start_sources(
        &mut self,
        parts: &Parts<'_>,
        prepared: Vec<(BuiltSource, Intake)>,
    ) {
        for (source, intake) in prepared {
            let name = source.stream_name();
            let stop = self.signals.sources.child_token();
            let asked = self.backfiller.line(name.clone());
            let runner = self.own.runner(parts, source, intake, asked, &stop);
            let running = Running::start(stop.clone(), stop, runner.run());
            self.sources.insert(name, running);
        }
    }

    /// Starts sinks, each with its line.
    pub(super) fn start_sinks(
        &mut self,
        parts: &Parts<'_>,
        built: Vec<BuiltSink<'_>>,
        mut lines: BTreeMap<Arc<str>, super::letters::Line>,
    ) {
        for sink in built {
            let name = Arc::clone(&sink.config.name);
            let (leave, stop) = (CancellationToken::new(), self.signals.stop.child_token());
            let signals = [&self.signals.drain, &leave, &stop];
            let worker = parts.worker(sink, &self.own.fatal, signals);
            if let Some(line) = lines.remove(&name) {
                let running = Running::start(leave.clone(), stop, worker.run(line));
                self.sinks.insert(name, running);
            }
        }
    }
}
