//! Runs one source for one tenant: lists on the source's own schedule, fetches what is due, retries each unit alone.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::intake::Intake;
use super::retry;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::journal::Due;
use crate::metrics::Metrics;
use crate::plugin::{LaneKind, Next, Source};

/// Units taken from the journal at a time.
const AHEAD: usize = 32;
/// The journal is asked for units that are due at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Failures in a row, without a success between, after which the whole source backs off.
const STREAK: u32 = 8;

/// One source of one tenant, ready to run.
pub(super) struct Runner {
    pub(super) source: Arc<dyn Source>,
    pub(super) intake: Intake,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    /// Fetches that may run in the whole process, bounding the memory of bodies.
    pub(super) slots: Arc<Semaphore>,
    /// Fetches of this tenant that may run at once.
    pub(super) parallel: usize,
    pub(super) stop: CancellationToken,
}

/// While it lies in the future, the source does not ask the peer for anything.
#[derive(Clone)]
struct Gate(watch::Sender<Instant>);

impl Gate {
    fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        self.0.send_if_modified(|current| {
            let later = until > *current;
            *current = until.max(*current);
            later
        });
    }

    fn is_closed(&self) -> bool {
        *self.0.borrow() > Instant::now()
    }

    async fn wait(&self) {
        loop {
            let until = *self.0.borrow();
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

impl Runner {
    /// Runs until stopped, or until a bug stops this source alone.
    pub(super) async fn run(self) {
        let gate = Gate(watch::Sender::new(Instant::now()));
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = async { tokio::join!(self.list(&gate), self.fetch(&gate)); } => {}
        }
    }

    fn labels(&self) -> [&str; 3] {
        ["source", self.intake.source(), &self.intake.tenant().name]
    }

    /// Counts an error and logs it: the first of a row loudly, its repetitions quietly.
    fn note(&self, doing: &str, error: &Error, attempt: u32) {
        let [component, name, tenant] = self.labels();
        self.metrics.error(component, name, tenant, error.kind());
        if attempt <= 1 {
            tracing::warn!(
                source = name,
                tenant,
                kind = error.kind().as_str(),
                "{doing}: {error}"
            );
        } else {
            tracing::debug!(source = name, tenant, attempt, "{doing}: {error}");
        }
    }

    async fn list(&self, gate: &Gate) {
        let [component, name, tenant] = self.labels();
        let up = self
            .metrics
            .up
            .with_label_values(&[component, name, tenant]);
        let mut attempt = 0;
        loop {
            gate.wait().await;
            let error = match self.source.list(&self.intake).await {
                Ok(next) => {
                    if attempt > 0 {
                        tracing::info!(source = name, tenant, "listing works again");
                    }
                    attempt = 0;
                    up.set(1);
                    let now = self.clock.now().timestamp_millis() as f64 / 1000.0;
                    self.metrics
                        .last_listing
                        .with_label_values(&[tenant, name])
                        .set(now);
                    match next {
                        Next::Now => tokio::task::yield_now().await,
                        Next::After(wait) => tokio::time::sleep(wait).await,
                        Next::Done => return,
                    }
                    continue;
                }
                Err(error) => error,
            };
            attempt += 1;
            up.set(0);
            self.note("listing failed", &error, attempt);
            self.metrics
                .retries
                .with_label_values(&[component, name, tenant])
                .inc();
            let wait = retry::wait(&error, attempt);
            if matches!(error.kind(), Kind::Throttled | Kind::Auth | Kind::Config) {
                gate.pause(wait);
            }
            if error.kind() == Kind::Bug {
                tracing::error!(
                    source = name,
                    tenant,
                    "{error}: this source stops listing; please report it"
                );
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn fetch(&self, gate: &Gate) {
        let mut fetches = Fetches::new();
        loop {
            gate.wait().await;
            let next_due = match self.fill(&mut fetches).await {
                Ok(next_due) => next_due,
                Err(error) => {
                    self.note("the list of pending content cannot be read", &error, 1);
                    tokio::time::sleep(retry::wait(&error, 1)).await;
                    continue;
                }
            };
            tokio::select! {
                Some(ended) = fetches.running.join_next_with_id() => {
                    let (id, result) = match ended {
                        Ok((id, result)) => (id, result),
                        Err(panic) => (panic.id(), Err(Error::bug("a fetch ended by a panic"))),
                    };
                    if let Some(due) = fetches.busy.remove(&id) {
                        self.settle(&mut fetches, due, result, gate).await;
                    }
                }
                () = self.intake.registered() => fetches.look_now(),
                () = tokio::time::sleep(next_due) => {}
            }
        }
    }

    /// Starts fetches up to the tenant's limit: live units first, but never only live ones while a backlog waits.
    /// Returns when to look again.
    async fn fill(&self, fetches: &mut Fetches) -> Result<Duration> {
        for (kind, line) in [
            (LaneKind::Live, &mut fetches.live),
            (LaneKind::CatchUp, &mut fetches.catch_up),
        ] {
            let full = fetches.running.len() >= self.parallel;
            if full || !line.units.is_empty() || line.next > Instant::now() {
                continue;
            }
            let busy: HashSet<_> = fetches
                .busy
                .values()
                .map(|due| Arc::clone(&due.unit.id))
                .collect();
            let (due, next) = self
                .intake
                .journal()
                .due(self.intake.stream(), kind, busy, AHEAD)
                .await?;
            line.units.extend(due);
            let wait = next.map(|next| (next - self.clock.now()).to_std().unwrap_or_default());
            line.next = Instant::now() + wait.unwrap_or(LOOK_AGAIN).min(LOOK_AGAIN);
        }
        while fetches.running.len() < self.parallel {
            let catching_up = fetches
                .busy
                .values()
                .any(|due| due.unit.lane == LaneKind::CatchUp);
            let one_left = fetches.running.len() + 1 == self.parallel && self.parallel > 1;
            let next = if one_left && !catching_up {
                fetches
                    .catch_up
                    .units
                    .pop_front()
                    .or_else(|| fetches.live.units.pop_front())
            } else {
                fetches
                    .live
                    .units
                    .pop_front()
                    .or_else(|| fetches.catch_up.units.pop_front())
            };
            let Some(due) = next else { break };
            let task = self.start(due.clone());
            let id = fetches.running.spawn(task).id();
            fetches.busy.insert(id, due);
        }
        if fetches.running.len() >= self.parallel {
            return Ok(LOOK_AGAIN);
        }
        let next = fetches.live.next.min(fetches.catch_up.next);
        Ok(next
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(10)))
    }

    fn start(&self, due: Due) -> impl Future<Output = Result<()>> + Send + use<> {
        let (source, intake, slots) = (
            Arc::clone(&self.source),
            self.intake.clone(),
            Arc::clone(&self.slots),
        );
        async move {
            let _slot = slots
                .acquire_owned()
                .await
                .map_err(|_| Error::bug("the fetch slots are gone"))?;
            let mut out = intake.writer(&due.unit);
            source.fetch(&due.unit, &mut out).await?;
            out.finish().await
        }
    }

    /// Deals with the end of one fetch.
    async fn settle(&self, fetches: &mut Fetches, due: Due, result: Result<()>, gate: &Gate) {
        let [component, name, tenant] = self.labels();
        let labels = [tenant, name, &*due.unit.content_type];
        let error = match result {
            Ok(()) => {
                fetches.streak = 0;
                self.metrics.units_fetched.with_label_values(&labels).inc();
                return;
            }
            Err(error) => error,
        };
        // What fails while the source waits already belongs to the same round of failures.
        fetches.streak += u32::from(!gate.is_closed());
        let doing = format!("fetching {} failed", due.unit.id);
        self.note(&doing, &error, due.attempts + 1);
        let expired = error.kind() == Kind::Unavailable && self.clock.now() >= due.unit.expires;
        let (journal, stream) = (self.intake.journal(), self.intake.stream());
        let recorded = if expired || matches!(error.kind(), Kind::Lost | Kind::Rejected) {
            self.metrics.units_lost.with_label_values(&labels).inc();
            tracing::error!(
                source = name, tenant, content_type = %due.unit.content_type, blob = %due.unit.id,
                "content is lost: {error}"
            );
            journal.lose(stream, &due.unit, error.to_string()).await
        } else if error.kind() == Kind::Throttled {
            // Not this unit's fault: it keeps its place.
            gate.pause(retry::wait(&error, fetches.streak));
            Ok(())
        } else {
            // Its own fault until many fail in a row: one bad unit holds up no other.
            self.metrics
                .retries
                .with_label_values(&[component, name, tenant])
                .inc();
            if fetches.streak >= STREAK {
                gate.pause(retry::wait(&error, fetches.streak - STREAK + 1));
            }
            let wait = retry::wait(&error, due.attempts + 1);
            journal
                .put_off(stream, &due.unit, wait, error.to_string())
                .await
        };
        if let Err(error) = recorded {
            self.note("a failed fetch cannot be recorded", &error, 1);
            gate.pause(retry::wait(&error, 1));
        }
    }
}

/// The fetches of one tenant: what runs, and what was taken from the journal to run next.
struct Fetches {
    running: JoinSet<Result<()>>,
    busy: HashMap<Id, Due>,
    live: Line,
    catch_up: Line,
    streak: u32,
}

/// Units of one kind that wait their turn.
struct Line {
    units: VecDeque<Due>,
    /// Nothing else is due before this, so the journal need not be asked.
    next: Instant,
}

impl Fetches {
    fn new() -> Self {
        let line = || Line {
            units: VecDeque::new(),
            next: Instant::now(),
        };
        Self {
            running: JoinSet::new(),
            busy: HashMap::new(),
            live: line(),
            catch_up: line(),
            streak: 0,
        }
    }

    /// Something may have become due: asks the journal at the next opportunity.
    fn look_now(&mut self) {
        self.live.next = Instant::now();
        self.catch_up.next = self.live.next;
    }
}
