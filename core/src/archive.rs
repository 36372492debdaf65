//! Archives again: the lines of NDJSON files as events, through one sink.
//!
//! The journal has no part in it: no cursor moves, no account changes, and the collecting process may run beside it.
//! The sink is an instance of its own, told so by [`Context::replay`](crate::plugin::Context::replay). What is
//! delivered when it breaks off is not remembered here, so a delivery may come twice at the destination.

pub mod lines;
mod record;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{self, Config, Options, Tenant};
use crate::engine::build::Builder;
use crate::engine::retry;
use crate::error::{Error, Kind, Result};
use crate::event::AuditEvent;
use crate::http;
use crate::journal::Store;
use crate::metrics::Meter;
use crate::plugin::{Batch, Context, Delivered, Filter, Registry, Sink};
use lines::Text;
use record::Records;

/// What of an archive goes where.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The sink's name.
    pub sink: String,
    /// Events of this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Events before this time.
    pub to: Option<DateTime<Utc>>,
    /// Options of a `field` filter that events pass besides the sink's filters, as TOML.
    pub field: Option<String>,
    /// Whether they pass the sink's filters.
    pub filters: bool,
    /// The name of the tenant whose records are those that do not name one of the configuration.
    pub tenant: Option<String>,
    /// The content type of records that do not say it.
    pub content_type: String,
    /// How long a delivery that fails is tried.
    pub patience: Duration,
}

/// A line of an archive.
#[derive(Clone, Debug)]
pub struct Line {
    /// The file's name, as it was given.
    pub file: Arc<str>,
    /// Its number in the file, from 1.
    pub number: u64,
    /// What stands in it.
    pub text: Text,
}

/// What became of lines.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// Events that the sink has now.
    pub delivered: u64,
    /// Events of another time, and those that the filters, or the sink's choice of tenants, left out.
    pub filtered: u64,
    /// Lines that are no events.
    pub bad: Vec<Problem>,
    /// Events that the sink refused, with their records.
    pub rejected: Vec<(Problem, AuditEvent)>,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: Arc<str>,
    /// The line's number in it.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

/// The way of an archive to its sink.
pub struct Archive {
    sink: Box<dyn Sink>,
    name: Arc<str>,
    tenants: Vec<Arc<str>>,
    filters: Vec<Arc<dyn Filter>>,
    records: Records,
    wish: Wish,
    timeout: Duration,
    batch_events: usize,
    batch_bytes: usize,
}

type Place = (Arc<str>, u64);

impl Archive {
    /// Makes the sink ready; `word` is its [`Context::replay`].
    pub async fn open(
        config: &Config,
        registry: &Registry,
        wish: Wish,
        word: &str,
    ) -> Result<Self> {
        let sink = config.sinks.iter().find(|sink| *sink.name == *wish.sink);
        let sink = sink
            .ok_or_else(|| Error::config(format!("the configuration has no sink {}", wish.sink)))?;
        let builder = Builder {
            config,
            registry,
            clock: &Clock::system(),
            http: &http::Client::new()?,
            store: &|_| Store::in_memory(),
            meter: &|_, _| Meter::default(),
            replay: Some(word.into()),
        };
        let filters = filters(&builder, sink, &wish)?;
        let tenant = wish.tenant.as_ref().map(|name| tenant(config, name));
        let built = builder.sink(sink)?;
        let first = tokio::time::timeout(sink.timeout.0, built.recover(None)).await;
        first.map_err(|_| Error::unavailable(format!("sink {} does not answer", sink.name)))??;
        Ok(Self {
            sink: built,
            name: Arc::clone(&sink.name),
            tenants: sink.tenants.clone(),
            filters,
            records: Records::new(config, tenant.transpose()?, &wish.content_type),
            timeout: sink.timeout.0,
            batch_events: sink.batch_events.get(),
            batch_bytes: sink.batch_size.bytes(),
            wish,
        })
    }

    /// The most lines, and about the most bytes of them, to be passed at a time.
    #[must_use]
    pub fn most(&self) -> (usize, usize) {
        (self.batch_events, self.batch_bytes)
    }

    /// Delivers the events of these lines. After an error some of them may have been delivered.
    pub async fn pass(&mut self, lines: Vec<Line>) -> Result<Passed> {
        let mut passed = Passed::default();
        let mut batches: BTreeMap<Arc<str>, (Vec<Place>, Vec<AuditEvent>)> = BTreeMap::new();
        for line in lines {
            let event = match line.text {
                Text::Whole(text) => self.records.event(text, &line.file),
                Text::TooLong => Err("longer than limits.record_size; raise it".to_owned()),
            };
            match event.map(|event| self.filter(event)) {
                Ok(Some(event)) => {
                    let batch = batches
                        .entry(Arc::clone(&event.origin().tenant))
                        .or_default();
                    batch.0.push((line.file, line.number));
                    batch.1.push(event);
                }
                Ok(None) => passed.filtered += 1,
                Err(reason) => passed.bad.push(Problem {
                    file: line.file,
                    line: line.number,
                    reason,
                }),
            }
        }
        for (places, events) in batches.into_values() {
            self.deliver(&places, events, &mut passed).await?;
        }
        Ok(passed)
    }

    fn filter(&self, event: AuditEvent) -> Option<AuditEvent> {
        let wanted = |at: DateTime<Utc>| {
            self.wish.from.is_none_or(|from| at >= from) && self.wish.to.is_none_or(|to| at < to)
        };
        let any_time = self.wish.from.is_none() && self.wish.to.is_none();
        if !self.tenants.contains(&event.origin().tenant_name)
            || !event.created().map_or(any_time, wanted)
        {
            return None;
        }
        self.filters
            .iter()
            .try_fold(event, |event, filter| filter.apply(event))
    }

    async fn deliver(
        &self,
        places: &[Place],
        events: Vec<AuditEvent>,
        passed: &mut Passed,
    ) -> Result<()> {
        let batch = Batch {
            position: None,
            events: events.into(),
        };
        let delivered = self.persist(&batch).await?;
        let mut reasons: BTreeMap<usize, String> = BTreeMap::new();
        for refused in delivered.rejected {
            if refused.index >= batch.events.len() {
                return Err(Error::bug(format!(
                    "sink {} refuses event {} of a batch of {}",
                    self.name,
                    refused.index,
                    batch.events.len()
                )));
            }
            reasons.insert(refused.index, refused.reason);
        }
        passed.delivered += (batch.events.len() - reasons.len()) as u64;
        for (index, reason) in reasons {
            let (file, line) = places[index].clone();
            let event = batch.events[index].clone();
            passed
                .rejected
                .push((Problem { file, line, reason }, event));
        }
        Ok(())
    }

    /// Delivers a batch, as often as it takes within the patience. One that is refused as a whole is rejected, event
    /// by event.
    async fn persist(&self, batch: &Batch) -> Result<Delivered> {
        let (began, mut attempt) = (Instant::now(), 0);
        loop {
            let answer = tokio::time::timeout(self.timeout, self.sink.deliver(batch)).await;
            let error = match answer {
                Ok(Ok(delivered)) if delivered.changes.is_empty() => return Ok(delivered),
                Ok(Ok(_)) => {
                    return Err(Error::config(
                        "this kind of sink keeps what it gets in the journal, so it takes no archives",
                    ));
                }
                Ok(Err(error)) if error.kind() == Kind::Rejected => {
                    return Ok(Delivered {
                        rejected: (0..batch.events.len())
                            .map(|index| crate::plugin::Rejected {
                                index,
                                reason: error.to_string(),
                            })
                            .collect(),
                        ..Delivered::default()
                    });
                }
                Ok(Err(error)) => error,
                Err(_) => Error::unavailable("no answer within the sink's timeout"),
            };
            attempt += 1;
            let wait = retry::wait(&error, attempt);
            if error.kind() == Kind::Bug
                || error.is_fatal()
                || began.elapsed() + wait > self.wish.patience
            {
                return Err(error.context(format!("sink {}", self.name)));
            }
            tracing::warn!(sink = %self.name, attempt, "delivering failed, will be retried: {error}");
            tokio::time::sleep(wait).await;
        }
    }
}

fn tenant(config: &Config, name: &str) -> Result<Tenant> {
    config.tenant(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = config.tenants.iter().map(|tenant| &*tenant.name).collect();
        Error::config(format!(
            "the configuration has no tenant {name}; it has {}",
            known.join(", ")
        ))
    })
}

/// What events pass: the sink's own filters, and the one that was asked for.
fn filters(
    builder: &Builder<'_>,
    sink: &config::Sink,
    wish: &Wish,
) -> Result<Vec<Arc<dyn Filter>>> {
    let known = builder.filters()?;
    let own = sink.filters.iter().filter(|_| wish.filters);
    let mut filters: Vec<_> = own.filter_map(|name| known.get(name)).cloned().collect();
    if let Some(options) = &wish.field {
        let context = Context {
            name: "replay".into(),
            options: Options::from_toml("filters.replay", options),
            tenants: Arc::clone(&builder.config.tenants),
            http: builder.http.clone(),
            meter: Meter::default(),
            clock: builder.clock.clone(),
            store: Store::in_memory(),
            replay: builder.replay.clone(),
            webhook: None,
        };
        filters.push(builder.registry.build_filter("field", context)?.into());
    }
    Ok(filters)
}
