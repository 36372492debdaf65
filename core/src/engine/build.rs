//! From names in the configuration to running parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::backfill::Asked;
use super::intake::{Intake, IntakeLimits};
use super::memory::Memory;
use super::once::listings::Listings;
use super::webhooks::Webhooks;
use super::{StreamName, sink, source};
use crate::clock::Clock;
use crate::config::{self, Config, Tenant};
use crate::error::{Error, Result};
use crate::http;
use crate::journal::{Journal, Limits, SinkSpec, Start, Store};
use crate::metrics::{Meter, Metrics};
use crate::plugin::{Context, Filter, Registry, Sink, Source};

/// A source of one tenant, built.
pub(super) struct BuiltSource {
    pub(super) name: Arc<str>,
    pub(super) tenant: Tenant,
    pub(super) source: Box<dyn Source>,
}

impl BuiltSource {
    pub(super) fn stream_name(&self) -> StreamName {
        (Arc::clone(&self.name), Arc::clone(&self.tenant.name))
    }
}

/// A sink, built.
pub(super) struct BuiltSink<'a> {
    pub(super) config: &'a config::Sink,
    pub(super) sink: Box<dyn Sink>,
    filters: Vec<Arc<dyn Filter>>,
}

impl<'a> BuiltSink<'a> {
    /// A sink that no plugin made, without filters.
    pub(super) fn bare(config: &'a config::Sink, sink: Box<dyn Sink>) -> Self {
        Self {
            config,
            sink,
            filters: Vec::new(),
        }
    }
}

/// What every part is built from.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) registry: &'a Registry,
    pub(super) clock: &'a Clock,
    pub(super) metrics: &'a Metrics,
    pub(super) http: &'a http::Client,
    pub(super) journal: &'a Journal,
}

/// The journal's limits.
pub(super) fn journal_limits(config: &Config) -> Limits {
    Limits {
        max_bytes: config.journal.max_size.0,
        handover_bytes: config.limits.handover_memory.bytes(),
        orphan_grace: config.journal.orphan_grace.0,
    }
}

/// The configuration's sinks as the journal needs to know them.
pub(super) fn specs(config: &Config) -> Vec<SinkSpec> {
    let spec = |sink: &config::Sink| SinkSpec {
        name: Arc::clone(&sink.name),
        renamed_from: sink.renamed_from.clone(),
        required: sink.required,
        start: match sink.start {
            config::Start::Oldest => Start::Oldest,
            config::Start::Now => Start::Now,
        },
        tenants: ids(config, &sink.tenants),
    };
    config.sinks.iter().map(spec).collect()
}

/// The ids and names of the configuration's tenants.
pub(super) fn tenants(config: &Config) -> Vec<(Arc<str>, Arc<str>)> {
    let tenants = config.tenants.iter();
    tenants
        .map(|tenant| (Arc::clone(&tenant.id), Arc::clone(&tenant.name)))
        .collect()
}

fn ids(config: &Config, names: &[Arc<str>]) -> Vec<Arc<str>> {
    let tenants = names.iter().filter_map(|name| config.tenant(name));
    tenants.map(|tenant| Arc::clone(&tenant.id)).collect()
}

/// What all fetches together may hold.
pub(super) fn memory(config: &Config) -> Memory {
    let limits = &config.limits;
    let (total, batch) = (limits.intake_memory.bytes(), limits.batch_size.bytes());
    Memory::new(total, batch, limits.record_size.bytes())
}

/// Builds plugins from a configuration. `store` gives each instance its durable store.
pub(crate) struct Builder<'a> {
    pub(crate) config: &'a Config,
    pub(crate) registry: &'a Registry,
    pub(crate) clock: &'a Clock,
    pub(crate) http: &'a http::Client,
    pub(crate) store: &'a dyn Fn(String) -> Store,
    pub(crate) meter: &'a dyn Fn(&str, &str) -> Meter,
    /// See [`Context::replay`].
    pub(crate) replay: Option<Arc<str>>,
}

impl Builder<'_> {
    /// One source for one tenant.
    pub(crate) fn source(
        &self,
        source: &config::Source,
        tenant: &Tenant,
    ) -> Result<Box<dyn Source>> {
        let context = Context {
            name: Arc::clone(&source.name),
            options: source.options.for_tenant(&tenant.name)?,
            tenants: Arc::from([tenant.clone()]),
            http: self.http.clone(),
            meter: (self.meter)(&tenant.name, &source.name),
            clock: self.clock.clone(),
            store: (self.store)(format!("source/{}/{}", source.name, tenant.id)),
            replay: None,
            webhook: self.config.webhooks.address(&source.name, &tenant.name),
        };
        self.registry.build_source(&source.kind, context)
    }

    /// All filters, by name.
    pub(crate) fn filters(&self) -> Result<BTreeMap<Arc<str>, Arc<dyn Filter>>> {
        let build = |filter: &config::Filter| {
            let context = Context {
                name: Arc::clone(&filter.name),
                options: filter.options.clone(),
                tenants: Arc::clone(&self.config.tenants),
                http: self.http.clone(),
                meter: Meter::default(),
                clock: self.clock.clone(),
                store: (self.store)(format!("filter/{}", filter.name)),
                replay: None,
                webhook: None,
            };
            let built = self.registry.build_filter(&filter.kind, context)?;
            Ok((Arc::clone(&filter.name), Arc::from(built)))
        };
        self.config.filters.iter().map(build).collect()
    }

    /// One sink.
    pub(crate) fn sink(&self, sink: &config::Sink) -> Result<Box<dyn Sink>> {
        let tenants = sink
            .tenants
            .iter()
            .filter_map(|name| self.config.tenant(name))
            .cloned();
        let context = Context {
            name: Arc::clone(&sink.name),
            options: sink.options.clone(),
            tenants: tenants.collect(),
            http: self.http.clone(),
            meter: Meter::default(),
            clock: self.clock.clone(),
            store: (self.store)(format!("sink/{}", sink.name)),
            replay: self.replay.clone(),
            webhook: None,
        };
        self.registry.build_sink(&sink.kind, context)
    }
}

impl<'a> Parts<'a> {
    fn with_builder<T>(&self, build: impl FnOnce(&Builder<'_>) -> T) -> T {
        build(&Builder {
            config: self.config,
            registry: self.registry,
            clock: self.clock,
            http: self.http,
            store: &|instance| self.journal.store(&instance),
            meter: &|tenant, source| self.metrics.meter(tenant, source),
            replay: None,
        })
    }

    /// Every source for each of its tenants, of those that are wanted.
    pub(super) fn sources(&self, wanted: impl Fn(&StreamName) -> bool) -> Result<Vec<BuiltSource>> {
        let mut built = Vec::new();
        for source in &self.config.sources {
            for name in &source.tenants {
                if !wanted(&(Arc::clone(&source.name), Arc::clone(name))) {
                    continue;
                }
                let tenant = self.config.tenant(name).ok_or_else(|| {
                    Error::bug(format!("tenant {name} was selected but is not there"))
                })?;
                let plugin = self.with_builder(|builder| builder.source(source, tenant))?;
                let (name, tenant) = (Arc::clone(&source.name), tenant.clone());
                built.push(BuiltSource {
                    name,
                    tenant,
                    source: plugin,
                });
            }
        }
        Ok(built)
    }

    /// Every sink that is wanted.
    pub(super) fn sinks(
        &self,
        wanted: impl Fn(&config::Sink) -> bool,
    ) -> Result<Vec<BuiltSink<'a>>> {
        #[allow(clippy::redundant_closure_for_method_calls)]
        // the method alone has one lifetime too few
        let filters = self.with_builder(|builder| builder.filters())?;
        let build = |sink: &'a config::Sink| {
            let chain = sink.filters.iter().filter_map(|name| filters.get(name));
            Ok(BuiltSink {
                config: sink,
                sink: self.with_builder(|builder| builder.sink(sink))?,
                filters: chain.map(Arc::clone).collect(),
            })
        };
        let sinks = self.config.sinks.iter();
        sinks.filter(|sink| wanted(sink)).map(build).collect()
    }

    /// A sink's worker.
    pub(super) fn worker(
        &self,
        built: BuiltSink<'_>,
        fatal: &mpsc::Sender<Error>,
        [drain, leave, stop]: [&CancellationToken; 3],
    ) -> sink::Worker {
        let config = built.config;
        sink::Worker {
            name: Arc::clone(&config.name),
            sink: built.sink,
            filters: built.filters,
            sources: config.sources.clone(),
            journal: self.journal.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            batch_events: config.batch_events.get(),
            batch_bytes: config.batch_size.bytes(),
            timeout: config.timeout.0,
            fatal: fatal.clone(),
            drain: drain.clone(),
            leave: leave.clone(),
            stop: stop.clone(),
        }
    }

    /// A source's way into the journal.
    pub(super) async fn intake(&self, built: &BuiltSource, memory: &Memory) -> Result<Intake> {
        let limits = &self.config.limits;
        Intake::open(
            self.journal.clone(),
            self.metrics.clone(),
            IntakeLimits {
                batch_bytes: limits.batch_size.bytes(),
                record_bytes: limits.record_size.bytes(),
                unit_bytes: limits.blob_size.0,
                memory: memory.clone(),
            },
            built.tenant.clone(),
            Arc::clone(&built.name),
        )
        .await
    }

    /// A source's runner for one tenant.
    pub(super) fn runner(
        &self,
        built: BuiltSource,
        intake: Intake,
        slots: &Arc<Semaphore>,
        webhooks: &Webhooks,
        asked: mpsc::Receiver<Asked>,
        stop: &CancellationToken,
    ) -> source::Runner {
        let limits = &self.config.limits;
        let name = built.stream_name();
        let source = Arc::from(built.source);
        source::Runner {
            hook: webhooks.hang(name, &source),
            source,
            intake,
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            slots: Arc::clone(slots),
            parallel: limits.parallel_fetches_per_tenant.get(),
            once: false,
            listings: Listings::default(),
            asked: Mutex::new(asked),
            stop: stop.clone(),
        }
    }
}
