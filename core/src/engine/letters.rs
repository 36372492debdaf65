//! Hands dead letters over again: to the sink that refused them, to another, or, if they were too large to be
//! journaled, to the journal and so to all.
//!
//! Only a sink's worker may call the sink, so it gets the letters in a line of its own and takes them between two
//! deliveries. It tries once and answers; whoever asked decides about another try. What is in the line of somebody who
//! no longer waits is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::build::{self, Parts};
use super::sink::Worker;
use crate::admin;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::event::AuditEvent;
use crate::http;
use crate::journal::{Closer, Fate, Found, Journal, Kept, SinkSpec};
use crate::metrics::Metrics;
use crate::plugin::{Batch, Delivered, Registry, Rejected};

/// What of a sink's letters is in memory at a time, besides one record of any size.
const RUN_BYTES: usize = 4 << 20;

/// Letters to be handed over again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Their numbers.
    pub letters: Vec<i64>,
    /// The sink that gets them, instead of the one that refused each.
    pub into: Option<String>,
}

/// What became of letters, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// A sink has them now.
    pub delivered: Vec<i64>,
    /// They are in the journal now, for every sink that takes them.
    pub journaled: Vec<i64>,
    /// Let go, because they had been journaled before.
    pub known: Vec<i64>,
    /// They stay what they are.
    pub stay: Vec<Stay>,
    /// There are none of these numbers.
    pub gone: Vec<i64>,
    /// Why the others were not tried.
    pub failed: Option<Failed>,
}

/// Why a letter stays a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// Its number.
    pub letter: i64,
    /// The reason of this time.
    pub reason: String,
}

/// Why it broke off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// What to tell a person.
    pub message: String,
    /// Whether another try may work.
    pub may_pass: bool,
}

/// A sink's answer for each letter: the reason if it refused it.
pub(super) type Answer = Result<Vec<(i64, Option<String>)>>;

/// What a sink's worker does for somebody who waits.
pub(super) enum Job {
    /// Hands over letters, all of one tenant.
    Letters {
        letters: Vec<Kept>,
        answer: oneshot::Sender<Answer>,
    },
    /// Passes on what an operator asks.
    Ask {
        request: String,
        answer: oneshot::Sender<Result<String>>,
    },
}

/// What waits for a sink's worker.
pub(super) type Line = mpsc::Receiver<Job>;

/// The way of dead letters back to the sinks.
#[derive(Clone)]
pub(crate) struct Replayer {
    journal: Journal,
    ways: Arc<Mutex<BTreeMap<Arc<str>, Way>>>,
    record_bytes: usize,
}

/// The way to one sink.
#[derive(Clone)]
struct Way {
    line: mpsc::Sender<Job>,
    /// The ids of the tenants that it takes.
    tenants: Vec<Arc<str>>,
}

impl Replayer {
    /// The way to these sinks, and the line of each.
    pub(super) fn new(
        journal: &Journal,
        record_bytes: usize,
        sinks: Vec<SinkSpec>,
    ) -> (Self, BTreeMap<Arc<str>, Line>) {
        let replayer = Self {
            journal: journal.clone(),
            ways: Arc::default(),
            record_bytes,
        };
        let all = sinks.iter().map(|sink| Arc::clone(&sink.name)).collect();
        let lines = replayer.renew(sinks, &all);
        (replayer, lines)
    }

    /// Knows these sinks from now on. Returns a line for each that is `fresh`; the others keep theirs.
    pub(super) fn renew(
        &self,
        sinks: Vec<SinkSpec>,
        fresh: &BTreeSet<Arc<str>>,
    ) -> BTreeMap<Arc<str>, Line> {
        let mut known = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut ways, mut lines) = (BTreeMap::new(), BTreeMap::new());
        for SinkSpec { name, tenants, .. } in sinks {
            let kept = known.remove(&name).filter(|_| !fresh.contains(&name));
            let line = if let Some(way) = kept {
                way.line
            } else {
                let (line, letters) = mpsc::channel(1);
                lines.insert(Arc::clone(&name), letters);
                line
            };
            ways.insert(name, Way { line, tenants });
        }
        *known = ways;
        lines
    }

    /// Hands letters over again, each once. What was done before a failure is in the answer.
    pub(crate) async fn replay(&self, replay: &Replay) -> Replayed {
        let mut done = Replayed::default();
        if let Err(error) = self.try_all(replay, &mut done).await {
            done.failed = Some(Failed {
                message: error.to_string(),
                may_pass: !matches!(error.kind(), Kind::Config | Kind::Bug) && !error.is_fatal(),
            });
        }
        done
    }

    async fn try_all(&self, replay: &Replay, done: &mut Replayed) -> Result<()> {
        let mut run = Run::default();
        for letter in &replay.letters {
            let kept = match self.journal.letter(*letter, self.record_bytes).await? {
                Found::Whole(kept) => kept,
                Found::Gone => {
                    done.gone.push(*letter);
                    continue;
                }
                Found::Stays(reason) => {
                    let letter = *letter;
                    done.stay.push(Stay { letter, reason });
                    continue;
                }
            };
            let to = replay.into.as_deref().map(Arc::from);
            let Some(to) = to.or_else(|| kept.sink.clone()) else {
                let fresh = self.journal.journal_letter(kept).await?;
                let list = if fresh {
                    &mut done.journaled
                } else {
                    &mut done.known
                };
                list.push(*letter);
                continue;
            };
            let origin = kept.event.origin();
            // No customer's data goes to another's destination.
            if !self.way(&to)?.tenants.contains(&origin.tenant) {
                let reason = format!("sink {to} does not take tenant {}", origin.tenant_name);
                let letter = *letter;
                done.stay.push(Stay { letter, reason });
                continue;
            }
            if !run.takes(&to, &kept) {
                self.hand_over(std::mem::take(&mut run), done).await?;
            }
            run.add(to, kept);
        }
        self.hand_over(run, done).await
    }

    fn way(&self, sink: &str) -> Result<Way> {
        let ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.get(sink).cloned().ok_or_else(|| {
            Error::config(format!(
                "sink {sink} is not in the configuration; `--into` sends its dead letters to another"
            ))
        })
    }

    /// Puts a job into a sink's line.
    pub(super) async fn send(&self, sink: &str, job: Job) -> Result<()> {
        let sent = self.way(sink)?.line.send(job).await;
        sent.map_err(|_| stopped(sink))
    }

    async fn hand_over(&self, run: Run, done: &mut Replayed) -> Result<()> {
        if run.letters.is_empty() {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let letters = run.letters;
        self.send(&run.to, Job::Letters { letters, answer }).await?;
        let fates = answered.await.map_err(|_| stopped(&run.to))??;
        for (letter, refused) in fates {
            match refused {
                Some(reason) => done.stay.push(Stay { letter, reason }),
                None => done.delivered.push(letter),
            }
        }
        Ok(())
    }
}

pub(super) fn stopped(sink: &str) -> Error {
    Error::unavailable(format!("sink {sink} has stopped; its log says why"))
}

/// Letters that go to a sink together.
#[derive(Default)]
struct Run {
    to: Arc<str>,
    letters: Vec<Kept>,
    bytes: usize,
}

impl Run {
    fn takes(&self, to: &str, kept: &Kept) -> bool {
        let same_tenant = |first: &Kept| first.event.origin().tenant == kept.event.origin().tenant;
        self.letters.first().is_none_or(same_tenant)
            && (self.letters.is_empty() || *self.to == *to)
            && (self.letters.is_empty() || self.bytes + kept.event.raw().len() <= RUN_BYTES)
    }

    fn add(&mut self, to: Arc<str>, kept: Kept) {
        self.to = to;
        self.bytes += kept.event.raw().len();
        self.letters.push(kept);
    }
}

impl Worker {
    /// Delivers dead letters alone, until nobody can send any more.
    async fn serve(self, mut line: Line, stop: CancellationToken) {
        let work = async {
            self.recover().await?;
            while let Some(job) = line.recv().await {
                self.take(job).await;
            }
            Ok::<(), Error>(())
        };
        tokio::select! {
            () = stop.cancelled() => {}
            ended = work => if let Err(error) = ended {
                tracing::error!(sink = %self.name, "{error}");
            },
        }
    }

    /// Hands letters to the sink, once.
    pub(super) async fn redeliver(&self, letters: Vec<Kept>) -> Answer {
        let numbers: Vec<u64> = letters.iter().map(|kept| kept.letter as u64).collect();
        let batch = Batch {
            position: None,
            events: Arc::new(letters.iter().map(|kept| kept.event.clone()).collect()),
        };
        let (mut letters, mut answers) = (letters.into_iter(), Vec::new());
        for (part, numbers) in self.split(batch, &numbers) {
            let delivered = self.try_delivery(&part).await?;
            fail::fail_point!("sink::redelivered");
            let mut reasons = self.reasons(&part, delivered.rejected)?.into_iter();
            let fates: Vec<Fate> = letters
                .by_ref()
                .take(numbers.len())
                .map(|kept| (kept, reasons.next().flatten()))
                .collect();
            self.persist("settling dead letters", || {
                let (receipt, changes) = (delivered.receipt.clone(), delivered.changes.clone());
                let journal = &self.journal;
                journal.settle_letters(&self.name, receipt, changes, fates.clone())
            })
            .await?;
            for (kept, refused) in fates {
                if refused.is_none() {
                    self.count_delivered(&kept.event);
                }
                answers.push((kept.letter, refused));
            }
        }
        Ok(answers)
    }

    /// One delivery of letters. If they are refused as a whole, each is tried alone: it may have been for one of them.
    async fn try_delivery(&self, batch: &Batch) -> Result<Delivered> {
        let error = match self.in_time(self.sink.deliver(batch)).await {
            Err(error) if error.kind() == Kind::Rejected => error,
            answer => return answer,
        };
        let mut all = Delivered::default();
        for (index, event) in batch.events.iter().enumerate() {
            let alone = if batch.events.len() == 1 {
                Err(Error::rejected(error.to_string()))
            } else {
                let alone = Batch {
                    position: None,
                    events: vec![event.clone()].into(),
                };
                self.in_time(self.sink.deliver(&alone)).await
            };
            let refused = match alone {
                Ok(delivered) => {
                    all.receipt = delivered.receipt.or(all.receipt);
                    all.changes.append(delivered.changes);
                    delivered.rejected.into_iter().next().map(|one| one.reason)
                }
                Err(error) if error.kind() == Kind::Rejected => Some(error.to_string()),
                Err(error) => return Err(error),
            };
            all.rejected
                .extend(refused.map(|reason| Rejected { index, reason }));
        }
        Ok(all)
    }

    fn count_delivered(&self, event: &AuditEvent) {
        let labels = [&*self.name, &*event.origin().tenant_name];
        let metrics = &self.metrics;
        metrics.events_delivered.with_label_values(&labels).inc();
        metrics
            .delivered_bytes
            .with_label_values(&labels)
            .inc_by(event.raw().len() as u64);
    }
}

/// The journal and its sinks, held by a command that deals with dead letters while nothing runs.
pub struct Desk {
    journal: Journal,
    closer: Closer,
    pub(super) replayer: Replayer,
    workers: JoinSet<()>,
    stop: CancellationToken,
}

impl Desk {
    /// Takes the journal's lock, and makes the sinks of these names ready.
    pub async fn open(
        config: &Config,
        registry: &Registry,
        sinks: &BTreeSet<String>,
    ) -> Result<Self> {
        let (metrics, clock) = (Metrics::new()?, Clock::system());
        let limits = build::journal_limits(config);
        let (journal, closer) =
            Journal::open(&config.journal.path, limits, clock.clone(), metrics.clone())?;
        admin::withdraw(&config.journal.path)?;
        let parts = Parts {
            config,
            registry,
            clock: &clock,
            http: &http::Client::new()?,
            metrics: &metrics,
            journal: &journal,
        };
        let built = parts.sinks(|sink| sinks.contains(&*sink.name))?;
        journal
            .attach(build::specs(config), build::tenants(config))
            .await?;
        let mut specs = build::specs(config);
        specs.retain(|spec| sinks.contains(&*spec.name));
        let record_bytes = config.limits.record_size.bytes();
        let (replayer, mut lines) = Replayer::new(&journal, record_bytes, specs);
        let (fatal, _) = mpsc::channel(1);
        let (mut workers, stop) = (JoinSet::new(), CancellationToken::new());
        for sink in built {
            // Whoever waits for an answer gets its error.
            let worker = parts.worker(sink, &fatal, [&stop, &stop, &stop]);
            if let Some(line) = lines.remove(&worker.name) {
                workers.spawn(worker.serve(line, stop.clone()));
            }
        }
        Ok(Self {
            journal,
            closer,
            replayer,
            workers,
            stop,
        })
    }

    /// Hands letters over again, each once.
    pub async fn replay(&self, replay: &Replay) -> Replayed {
        self.replayer.replay(replay).await
    }

    /// Drops letters for good. Returns the numbers of those that were there.
    pub async fn drop_letters(&self, letters: Vec<i64>) -> Result<Vec<i64>> {
        self.journal.drop_letters(letters).await
    }

    /// Lets go of the journal.
    pub async fn close(self) -> Result<()> {
        let Self {
            journal,
            closer,
            replayer,
            mut workers,
            stop,
        } = self;
        stop.cancel();
        drop(replayer);
        workers.shutdown().await;
        drop(journal);
        super::close(closer).await
    }
}
