//! `reconcile`: what each of a tenant's sources holds of one day, beside what the others hold and what the journal has
//! had.
//!
//! Each source runs in an engine of its own, with a journal of its own in a private folder, and lists that day alone
//! ([`Source::survey`](crate::plugin::Source::survey)). Nothing of the exporter that may be running is touched: its
//! journal is only read, and at Microsoft nothing is changed. What the sources bring is kept on the disk and compared
//! in pieces, so memory does not grow with the day.

mod compare;
mod piles;

use std::io::{BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures::future::join_all;
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{Engine, Way};
use crate::clock::Clock;
use crate::config::{self, Admin, Config, Options, Size, Span, Start, Tenant};
use crate::dedupe::{Fingerprinter, KEEP_SECONDS, Memory, fingerprinter};
use crate::error::{Error, Result, ResultExt as _};
use crate::plugin::{Registry, Sink, Spans};
use compare::{Compared, Side, compare};
use piles::{Collector, Piles, TEMPORARY, private};

pub use compare::{Difference, Figures, Group};
pub use piles::Detail;

/// The name of the sink that takes what the sources bring.
const NAME: &str = "reconcile";
/// Events that it takes at once.
const BATCH_EVENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4_999);

/// One look at what the sources hold of stretches of event time.
pub(super) struct Survey {
    pub(super) spans: Spans,
    /// Takes it, in the place of the one sink of the configuration.
    pub(super) sink: Box<dyn Sink>,
}

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// The sources to ask.
    pub sources: Vec<&'a config::Source>,
    /// The day, in UTC. It should be over.
    pub day: NaiveDate,
    /// How long a source that fails, or that gets no further, is tried.
    pub give_up: Duration,
    /// A private folder for what the sources bring.
    pub folder: &'a Path,
}

impl Question<'_> {
    fn span(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        let from = self.day.and_time(NaiveTime::MIN).and_utc();
        (from, from + TimeDelta::days(1))
    }
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Reconciliation {
    /// The tenant's name.
    pub tenant: String,
    /// The day, in UTC.
    pub day: NaiveDate,
    /// Each source that was asked.
    pub sources: Vec<Asked>,
    /// Different events of the day, of all sources together.
    pub events: u64,
    /// Events that not every source holds, or that the journal lacks.
    pub different: u64,
    /// Events that this exporter's journal never had; nothing if that is not known.
    pub unrecorded: Option<u64>,
    /// The differences by content type, workload, operation and source, the most first.
    pub groups: Vec<Group>,
    /// The file that lists them, a [`Difference`] a line as JSON, in the order of their times. In the question's folder.
    #[serde(skip)]
    pub listed_in: PathBuf,
}

/// What one source was asked, and answered.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Its name.
    pub source: String,
    /// Its type.
    pub kind: String,
    /// It has told all that it holds.
    pub complete: bool,
    /// Why not, a line each.
    pub reasons: Vec<String>,
    /// How much that is.
    #[serde(flatten)]
    pub figures: Figures,
    /// Events without an Id, a time or an operation, which cannot be compared.
    pub incomparable: u64,
    /// Content blobs, queries or searches that were read.
    pub units: u64,
    /// Requests that it took.
    pub requests: u64,
}

/// A source's answer, before it is compared.
struct Answer {
    asked: Asked,
    piles: Arc<Mutex<Piles>>,
}

/// Asks all sources of the question at once, and compares what they hold. None if it is `stopped` first; then all that
/// was begun has ended.
pub async fn reconcile(
    config: &Config,
    registry: &Registry,
    question: &Question<'_>,
    stopped: &CancellationToken,
) -> Result<Option<Reconciliation>> {
    let of_journal = fingerprinter(&config.journal.path)?;
    let fingerprinter = of_journal.unwrap_or_else(|| Fingerprinter::new(rand::random()));
    let sources = question.sources.iter().enumerate();
    let asking = join_all(sources.map(|(index, source)| {
        let folder = question.folder.join(index.to_string());
        ask(
            config,
            registry,
            question,
            source,
            folder,
            fingerprinter,
            stopped,
        )
    }));
    let answers = asking.await;
    if stopped.is_cancelled() {
        return Ok(None);
    }
    let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
    let is_remembered = question.span().0 > Utc::now() - TimeDelta::seconds(KEEP_SECONDS);
    let journal = of_journal.filter(|_| is_remembered);
    let journal = journal.map(|fingerprinter| (config.journal.path.clone(), fingerprinter));
    let listed_in = question.folder.join("differences");
    let (day, path, stopped) = (question.day, listed_in.clone(), stopped.clone());
    let compared = spawn_blocking(move || {
        let compared = judge(&answers, day, journal, &stopped, &path)?;
        Ok::<_, Error>(compared.map(|compared| (answers, compared)))
    });
    let compared = compared
        .await
        .map_err(|error| Error::bug("the comparison stopped").with_cause(error))??;
    let Some((answers, compared)) = compared else {
        return Ok(None);
    };
    let mut sources: Vec<Asked> = answers.into_iter().map(|answer| answer.asked).collect();
    for (asked, figures) in sources.iter_mut().zip(compared.sources) {
        asked.figures = figures;
    }
    Ok(Some(Reconciliation {
        tenant: question.tenant.name.to_string(),
        day: question.day,
        sources,
        events: compared.events,
        different: compared.different,
        unrecorded: compared.unrecorded,
        groups: compared.groups,
        listed_in,
    }))
}

/// Lets one source tell what it holds. Fails only for reasons of this machine: those of the source are in the answer.
async fn ask(
    config: &Config,
    registry: &Registry,
    question: &Question<'_>,
    source: &config::Source,
    folder: PathBuf,
    fingerprinter: Fingerprinter,
    stopped: &CancellationToken,
) -> Result<Answer> {
    std::fs::create_dir(&folder)?;
    let span = question.span();
    let piles = Piles::create(&folder.join("piles"), fingerprinter, span.0)?;
    let piles = Arc::new(Mutex::new(piles));
    let mut asked = Asked {
        source: source.name.to_string(),
        kind: source.kind.clone(),
        complete: false,
        reasons: Vec::new(),
        figures: Figures::default(),
        incomparable: 0,
        units: 0,
        requests: 0,
    };
    let own = own_config(config, source, question.tenant, &folder)?;
    let way = Way {
        once: true,
        survey: Some(Survey {
            spans: vec![span],
            sink: Box::new(Collector(Arc::clone(&piles))),
        }),
    };
    match Engine::begin(&own, registry, Clock::system(), way).await {
        Ok(engine) => listen(engine, &own, question, stopped, &mut asked).await?,
        Err(error) => asked.reasons.push(error.to_string()),
    }
    asked.complete = asked.reasons.is_empty();
    {
        let mut piles = piles.lock().unwrap_or_else(PoisonError::into_inner);
        piles.end()?;
        asked.incomparable = piles.incomparable;
    }
    Ok(Answer { asked, piles })
}

/// Waits until the engine's source has told everything, or gets no further.
async fn listen(
    engine: Engine,
    own: &Config,
    question: &Question<'_>,
    stopped: &CancellationToken,
    asked: &mut Asked,
) -> Result<()> {
    let ended = tokio::select! {
        ended = engine.catch_up(question.give_up) => ended,
        broken = engine.broken() => Err(broken),
        () = stopped.cancelled() => Ok(false),
    };
    // What is committed while the report is made may be in none of its lines.
    let mut given_up = None;
    let report = match ended {
        Ok(is_all) => {
            given_up = (!is_all).then(|| "it was left before it had told everything".to_owned());
            engine.report(own).await
        }
        Err(error) => Err(error),
    };
    match report {
        Ok(report) => {
            asked.reasons = given_up.into_iter().chain(report.reasons).collect();
            asked.units = report.tenants.iter().map(|one| one.fetched).sum();
        }
        Err(error) => asked.reasons.push(error.to_string()),
    }
    asked.requests = requests(&engine);
    engine.shutdown(Duration::ZERO).await.map(drop)
}

/// All requests that an engine's sources made.
fn requests(engine: &Engine) -> u64 {
    let families = engine.metrics().requests.collect();
    let counters = families.iter().flat_map(MetricFamily::get_metric);
    counters
        .map(|counter| counter.get_counter().get_value() as u64)
        .sum()
}

/// The configuration of an engine for one source of one tenant, beside the process that may be running.
fn own_config(
    config: &Config,
    source: &config::Source,
    tenant: &Tenant,
    folder: &Path,
) -> Result<Config> {
    let tenants = vec![Arc::clone(&tenant.name)];
    Ok(Config {
        journal: config::Journal {
            path: folder.join("journal"),
            ..config.journal.clone()
        },
        admin: Admin {
            enabled: false,
            ..config.admin.clone()
        },
        webhooks: config.webhooks.clone(),
        limits: config.limits.clone(),
        tenants: Arc::from([tenant.clone()]),
        sources: vec![config::Source {
            tenants: tenants.clone(),
            options: source.options.for_tenant(&tenant.name)?,
            ..source.clone()
        }],
        filters: Vec::new(),
        sinks: vec![config::Sink {
            name: NAME.into(),
            kind: NAME.to_owned(),
            tenants,
            sources: vec![Arc::clone(&source.name)],
            filters: Vec::new(),
            required: true,
            start: Start::Oldest,
            renamed_from: None,
            batch_events: BATCH_EVENTS,
            batch_size: Size(config.limits.batch_size.0),
            timeout: Span(Duration::from_mins(10)),
            options: Options::from_toml("sinks.reconcile", ""),
        }],
        warnings: Vec::new(),
    })
}

/// Compares the answers, with the journal too if there is one, and writes the differences to a file. None if it is
/// stopped.
fn judge(
    answers: &[Answer],
    day: NaiveDate,
    journal: Option<(PathBuf, Fingerprinter)>,
    stopped: &CancellationToken,
    path: &Path,
) -> Result<Option<Compared>> {
    let memory = journal.map(|(dir, fingerprinter)| {
        let days = (day - NaiveDate::default()).num_days();
        let memory = Memory::read(&dir, u16::try_from(days).unwrap_or_default())?;
        if memory.is_for(fingerprinter) {
            Ok(memory)
        } else {
            Err(Error::unavailable(
                "the journal has been replaced meanwhile; start again",
            ))
        }
    });
    let memory = memory.transpose()?;
    let locked = answers.iter().map(|answer| {
        let piles = answer.piles.lock();
        (&answer.asked, piles.unwrap_or_else(PoisonError::into_inner))
    });
    let locked: Vec<_> = locked.collect();
    let sides: Vec<Side<'_>> = locked
        .iter()
        .map(|(asked, piles)| Side {
            name: &asked.source,
            piles,
            complete: asked.complete,
        })
        .collect();
    let mut out = BufWriter::new(private(path)?);
    let compared = compare(&sides, memory.as_ref(), stopped, |difference| {
        let text = serde_json::to_string(difference)
            .map_err(|error| Error::bug("a difference cannot be written").with_cause(error))?;
        writeln!(out, "{text}").context(TEMPORARY)
    })?;
    out.flush().context(TEMPORARY)?;
    Ok(compared)
}

#[cfg(test)]
mod tests;
