//! Runs one source for one tenant: lists on the source's own schedule, fetches what is due, retries each unit alone.

mod list;

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::backfill::Asked;
use super::fetches::Fetches;
use super::gate::Gate;
use super::intake::{Intake, JOURNAL_FULL};
use super::once::listings::Listings;
use super::retry;
use super::webhooks::Hook;
use crate::clock::Clock;
use crate::coverage::RISK_MS;
use crate::error::{Error, Kind, Result};
use crate::journal::Due;
use crate::metrics::Metrics;
use crate::plugin::{LaneKind, Source};

/// Units taken from the journal at a time.
const AHEAD: usize = 32;
/// Units of a tenant that are fetched or wait to be committed, for each that may be fetched at once: one tenant whose
/// commits wait for room does not take the places of all.
const MOST_RUNNING: usize = 4;
/// While units wait, the journal is asked for those that are due at least this often: their times are by a clock that
/// somebody may set.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// While none waits, a new one wakes us; this is for what nobody thought of.
const LOOK_AGAIN_IDLE: Duration = Duration::from_hours(1);
/// Units that failed, without a success between, after which the whole source backs off.
const STREAK: usize = 8;

/// Content that expires before this and cannot be fetched is told of, at most so often.
const AT_RISK: TimeDelta = TimeDelta::milliseconds(RISK_MS);
const REMIND: Duration = Duration::from_hours(1);

/// A unit is given up only so long after its expiry. The peer itself says when it is gone; this is for one that never
/// answers, and leaves room for a clock of ours that is wrong.
pub(super) const EXPIRY_GRACE: Duration = Duration::from_hours(48);
/// And only after so many tries: one of a clock that was ahead once is none.
const LEAST_TRIES: u32 = 10;

/// One source of one tenant, ready to run.
pub(super) struct Runner {
    pub(super) source: Arc<dyn Source>,
    /// Where it is told of news.
    pub(super) hook: Hook,
    pub(super) intake: Intake,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    /// Fetches that may run in the whole process, bounding connections.
    pub(super) slots: Arc<Semaphore>,
    /// Fetches of this tenant that may run at once. One that waits only to be committed does not count.
    pub(super) parallel: usize,
    /// Lists all that there is now, and then no more.
    pub(super) once: bool,
    /// Where it says how far it is with that.
    pub(super) listings: Listings,
    /// What it is asked to collect beside.
    pub(super) asked: tokio::sync::Mutex<mpsc::Receiver<Asked>>,
    pub(super) stop: CancellationToken,
}

impl Runner {
    /// Runs until stopped.
    pub(super) async fn run(self) {
        let [component, name, tenant] = self.labels();
        let up = self
            .metrics
            .up
            .with_label_values(&[component, name, tenant]);
        // Not ready before everything was listed once.
        up.set(0);
        let gate = Gate::new();
        let stop = self.stop.clone();
        let work = async { tokio::join!(self.list(&gate), self.fetch(&gate)) };
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = AssertUnwindSafe(work).catch_unwind() => ended,
        };
        if let Err(panic) = ended {
            up.set(0);
            let error = retry::panicked(&*panic);
            self.note("running", &error, 1);
            tracing::error!(
                source = name,
                tenant,
                "{error}: this source stops; please report it"
            );
        }
    }

    fn labels(&self) -> [&str; 3] {
        ["source", self.intake.source(), &self.intake.tenant().name]
    }

    /// Around what the source itself does: its lines in the log are told apart by this, whatever level is shown.
    pub(super) fn span(&self) -> tracing::Span {
        let [_, name, tenant] = self.labels();
        tracing::error_span!("source", source = name, tenant)
    }

    /// Counts an error and logs it: the first of a row loudly, its repetitions quietly.
    fn note(&self, doing: &str, error: &Error, attempt: u32) {
        let [component, name, tenant] = self.labels();
        self.metrics.error(component, name, tenant, error);
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

    async fn fetch(&self, gate: &Gate) {
        let mut fetches = Fetches::new(self.parallel, self.span());
        loop {
            gate.wait().await;
            let filled = match self.intake.room().await {
                Ok(()) => self.fill(&mut fetches).await,
                Err(error) => Err(error),
            };
            let next_due = match filled {
                Ok(next_due) => next_due,
                Err(error) => {
                    self.note("the list of pending content cannot be read", &error, 1);
                    tokio::time::sleep(retry::wait(&error, 1)).await;
                    continue;
                }
            };
            let place = fetches.place();
            tokio::select! {
                Some(ended) = fetches.running.join_next_with_id() => {
                    let (id, result) = match ended {
                        Ok((id, result)) => (id, result),
                        Err(ended) => (ended.id(), Err(match ended.try_into_panic() {
                            Ok(panic) => retry::panicked(&*panic),
                            Err(ended) => Error::unavailable("broken off").with_cause(ended),
                        })),
                    };
                    if let Some(due) = fetches.busy.remove(&id) {
                        self.settle(&mut fetches, due, result, gate).await;
                    }
                }
                () = self.intake.registered() => fetches.look_after(Duration::ZERO),
                () = place => {}
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
            let full = fetches.places.available_permits() == 0;
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
            line.next = Instant::now() + wait.map_or(LOOK_AGAIN_IDLE, |wait| wait.min(LOOK_AGAIN));
        }
        while fetches.running.len() < MOST_RUNNING * self.parallel
            && let Ok(place) = Arc::clone(&fetches.places).try_acquire_owned()
        {
            let catching_up = fetches
                .busy
                .values()
                .any(|due| due.unit.lane == LaneKind::CatchUp);
            let one_left = fetches.places.available_permits() == 0 && self.parallel > 1;
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
            let task = self.start(due.clone(), place, fetches.span.clone());
            let id = fetches.running.spawn(task).id();
            fetches.busy.insert(id, due);
        }
        if fetches.places.available_permits() == 0 {
            return Ok(LOOK_AGAIN);
        }
        let next = fetches.live.next.min(fetches.catch_up.next);
        Ok(next
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(10)))
    }

    fn start(
        &self,
        due: Due,
        place: OwnedSemaphorePermit,
        span: tracing::Span,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let (source, intake, slots) = (
            Arc::clone(&self.source),
            self.intake.clone(),
            Arc::clone(&self.slots),
        );
        let listings = self.once.then(|| self.listings.clone());
        async move {
            let mut out = intake.writer(&due.unit);
            out.enter(slots).await?;
            if let Some(listings) = listings {
                out.tell(listings);
            }
            source.fetch(&due.unit, &mut out).instrument(span).await?;
            out.complete().await?;
            drop(place);
            out.finish().await
        }
    }

    /// Deals with the end of one fetch.
    async fn settle(&self, fetches: &mut Fetches, due: Due, result: Result<()>, gate: &Gate) {
        let [component, name, tenant] = self.labels();
        let labels = [tenant, name, &*due.unit.content_type];
        let error = match result {
            Ok(()) => {
                fetches.failing.clear();
                gate.success();
                self.metrics.units_fetched.with_label_values(&labels).inc();
                return;
            }
            Err(error) => error,
        };
        if error.code() == Some(JOURNAL_FULL) {
            // It keeps its place, and nothing is fetched before there is room.
            fetches.look_after(Duration::ZERO);
            return;
        }
        let doing = format!("fetching {} failed", due.unit.id);
        self.note(&doing, &error, due.attempts + 1);
        let (journal, stream) = (self.intake.journal(), self.intake.stream());
        let recorded = if self.is_gone(&due, &error) {
            tracing::error!(
                source = name, tenant, content_type = %due.unit.content_type, blob = %due.unit.id,
                "content is lost: {error}"
            );
            let lost = journal.lose(stream, &due.unit, error.to_string()).await;
            if lost.is_ok() {
                self.metrics.units_lost.with_label_values(&labels).inc();
            }
            lost
        } else if error.kind() == Kind::Throttled {
            self.remind(fetches, &due, &error);
            // Not this unit's fault: it keeps its place.
            gate.pause(&error);
            fetches.look_after(Duration::ZERO);
            Ok(())
        } else {
            self.remind(fetches, &due, &error);
            self.metrics
                .retries
                .with_label_values(&[component, name, tenant])
                .inc();
            // Its own fault until many fail in a row: one bad unit holds up no other.
            if fetches.failing.len() < 2 * STREAK {
                fetches.failing.insert(Arc::clone(&due.unit.id));
            }
            if fetches.failing.len() >= STREAK {
                gate.pause(&error);
            }
            let wait = retry::wait(&error, due.attempts + 1);
            fetches.look_after(wait);
            journal
                .put_off(stream, &due.unit, wait, error.to_string())
                .await
        };
        if let Err(error) = recorded {
            self.note("a failed fetch cannot be recorded", &error, 1);
            gate.pause(&error);
            fetches.look_after(LOOK_AGAIN);
        }
    }

    /// Says that content will soon be gone that cannot be fetched.
    fn remind(&self, fetches: &mut Fetches, due: &Due, error: &Error) {
        let left = due.unit.expires - self.clock.now();
        if left > AT_RISK || fetches.reminded.is_some_and(|at| at.elapsed() < REMIND) {
            return;
        }
        fetches.reminded = Some(Instant::now());
        let [_, source, tenant] = self.labels();
        tracing::warn!(
            source, tenant, content_type = %due.unit.content_type, blob = %due.unit.id, tries = due.attempts + 1,
            "content cannot be fetched and expires in {} h, then it is lost: {error}",
            left.num_hours().max(0)
        );
    }

    /// Whether a unit will never be had: the peer says so, or it has failed until well after its expiry.
    fn is_gone(&self, due: &Due, error: &Error) -> bool {
        match error.kind() {
            Kind::Lost | Kind::Rejected => true,
            Kind::Throttled | Kind::Auth | Kind::Config => false,
            Kind::Unavailable | Kind::Bug => {
                let is_over = self.clock.now() >= due.unit.expires + EXPIRY_GRACE;
                is_over && due.attempts + 1 >= LEAST_TRIES
            }
        }
    }
}
