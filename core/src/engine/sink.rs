//! Runs one sink: reads its lanes, filters, delivers with retries, and moves the cursor once the data is safe.

mod deliver;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::letters::Line;
use super::retry;
use super::tick::Due;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::journal::{Changes, Journal, LaneId, Position, Stored};
use crate::metrics::Metrics;
use crate::plugin::{Filter, LaneKind, Sink};

/// Every this many turns, catch-up goes first, so that a busy tenant's live events do not starve a backlog.
const CATCH_UP_TURN: u64 = 4;
/// A lane rests this long between two deliveries unless a large batch waits, so that a delivery's fixed costs (syncs,
/// a request, a cursor) are shared by many events. What comes after a pause goes out at once.
const REST: Duration = Duration::from_millis(50);

/// One sink, ready to run.
pub(super) struct Worker {
    pub(super) name: Arc<str>,
    pub(super) sink: Box<dyn Sink>,
    pub(super) filters: Vec<Arc<dyn Filter>>,
    /// The sources whose events it takes.
    pub(super) sources: Vec<Arc<str>>,
    pub(super) journal: Journal,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    pub(super) batch_events: usize,
    pub(super) batch_bytes: usize,
    pub(super) timeout: Duration,
    /// Takes the error that ends the process.
    pub(super) fatal: mpsc::Sender<Error>,
    /// Told to stop: delivers what is journaled, then ends.
    pub(super) drain: CancellationToken,
    /// Told to leave: ends after the delivery that is under way.
    pub(super) leave: CancellationToken,
    /// Out of patience: ends now.
    pub(super) stop: CancellationToken,
}

impl Worker {
    /// Runs until stopped, or until a bug stops this sink alone.
    pub(super) async fn run(self, letters: Line) {
        // Not ready before the destination has answered.
        self.set_up(false);
        let work = AssertUnwindSafe(self.work(letters)).catch_unwind();
        let ended = tokio::select! {
            () = self.stop.cancelled() => return,
            ended = work => ended,
        };
        if let Err(error) = ended.unwrap_or_else(|panic| Err(retry::panicked(&*panic))) {
            self.set_up(false);
            self.metrics.error("sink", &self.name, "", &error);
            if error.is_fatal() {
                // One of them is enough.
                drop(
                    self.fatal
                        .try_send(error.context(format_args!("sink {}", self.name))),
                );
                return;
            }
            tracing::error!(sink = %self.name, "{error}: this sink stops; the others go on");
        }
    }

    pub(super) fn set_up(&self, up: bool) {
        let labels = ["sink", &*self.name, ""];
        let gauge = self.metrics.up.with_label_values(&labels);
        gauge.set(i64::from(up));
    }

    async fn work(&self, mut letters: Line) -> Result<()> {
        self.recover().await?;
        self.set_up(true);
        let mut changes = self.journal.changes();
        let (mut turn, mut last_lane) = (0_u64, 0);
        let (mut began, mut due) = (HashMap::new(), Due::now());
        loop {
            changes.mark_unchanged();
            if self.leave.is_cancelled() {
                return Ok(());
            }
            if let Ok(job) = letters.try_recv() {
                self.take(job).await;
            }
            self.tick(&mut due).await?;
            let Some((lane, cursor, rest)) = self.choose(turn, last_lane, &began) else {
                if self.drain.is_cancelled() {
                    due.last_call();
                    return self.tick(&mut due).await;
                }
                tokio::select! {
                    woken = changes.changed() => if woken.is_err() { return Ok(()) },
                    Some(job) = letters.recv() => self.take(job).await,
                    () = self.next_tick(&due) => {}
                    () = self.drain.cancelled() => {}
                    () = self.leave.cancelled() => {}
                }
                continue;
            };
            if !rest.is_zero() && !self.much_waits(lane, cursor) && !self.drain.is_cancelled() {
                tokio::select! {
                    woken = changes.changed() => if woken.is_err() { return Ok(()) },
                    () = tokio::time::sleep(rest) => {}
                    () = self.drain.cancelled() => {}
                    () = self.leave.cancelled() => {}
                }
                continue;
            }
            turn += 1;
            last_lane = lane;
            began.insert(lane, Instant::now());
            let Some(found) = self.read(lane, cursor).await? else {
                continue;
            };
            if let Some(work) = self.prepare(lane, &found) {
                self.deal_with(work).await?;
            } else {
                self.explain_gap(lane, cursor).await?;
            }
        }
    }

    /// What comes after the cursor; nothing if that is damaged and was skipped.
    async fn read(&self, lane: LaneId, cursor: u64) -> Result<Option<Vec<Arc<Stored>>>> {
        self.persist("reading the journal", || async {
            let (events, bytes) = (self.batch_events, self.batch_bytes);
            match self.journal.read(lane, cursor, events, bytes).await {
                Err(error) if error.kind() == Kind::Lost => {
                    self.metrics.error("sink", &self.name, "", &error);
                    self.journal.skip_damaged(&self.name, lane, cursor).await?;
                    Ok(None)
                }
                found => found.map(Some),
            }
        })
        .await
    }

    /// There was nothing to read although the lane goes on. Right if the sink was detached or forgotten meanwhile.
    async fn explain_gap(&self, lane: LaneId, cursor: u64) -> Result<()> {
        self.persist("asking the journal", || self.journal.settled())
            .await?;
        let behind = self.journal.behind(&self.name);
        if behind.iter().any(|(l, _, c)| (*l, *c) == (lane, cursor)) {
            return Err(Error::bug(format!(
                "lane {lane} of the journal goes on after {cursor}, but there is nothing to read"
            )));
        }
        Ok(())
    }

    /// Lets the sink bring its far side to where the last receipt says, or say itself where it is.
    pub(super) async fn recover(&self) -> Result<()> {
        let positions = self
            .persist("recovering", || async {
                let last = self.journal.receipt(&self.name).await?;
                self.in_time(self.sink.recover(last.as_ref())).await
            })
            .await?;
        for position in positions {
            if let Some(cursor) = self.journal.ahead(&self.name, &position)? {
                self.catch_up_with(&position, cursor).await?;
            }
        }
        Ok(())
    }

    /// Counts what the far side has although its answer was lost, and does not deliver it again.
    async fn catch_up_with(&self, position: &Position, mut cursor: u64) -> Result<()> {
        while cursor < position.last {
            let Some(mut found) = self.read(position.lane, cursor).await? else {
                match self.journal.ahead(&self.name, position)? {
                    Some(next) => cursor = next,
                    None => return Ok(()),
                }
                continue;
            };
            let goes_on = !found.is_empty();
            found.retain(|stored| stored.seq <= position.last);
            // It ends between two batches of the lane: the numbers there are other lanes'.
            if goes_on && found.is_empty() {
                return Ok(());
            }
            let Some(mut work) = self.prepare(position.lane, &found) else {
                return self.explain_gap(position.lane, cursor).await;
            };
            if work.batch.take().is_some() {
                for (seq, hour) in work.seqs.iter().zip(&work.hours) {
                    work.tally.delivered(*seq, *hour);
                }
            }
            cursor = work.last;
            self.advance(work, None, Changes::default()).await?;
        }
        Ok(())
    }

    /// Breaks a call of the sink off after its timeout. What the sink logs meanwhile names it, whatever level is shown.
    pub(super) async fn in_time<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let span = tracing::error_span!("sink", sink = %self.name);
        match tokio::time::timeout(self.timeout, call.instrument(span)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::unavailable(format!(
                "no answer within the sink's timeout ({} s)",
                self.timeout.as_secs()
            ))),
        }
    }

    /// The next lane in turn and how long it still rests: tenants one after the other, live before catch-up, those
    /// that need no rest before the others. `began` says when each lane's last delivery began.
    fn choose(
        &self,
        turn: u64,
        last: LaneId,
        began: &HashMap<LaneId, Instant>,
    ) -> Option<(LaneId, u64, Duration)> {
        if self.journal.is_paused(&self.name) {
            return None;
        }
        let now = Instant::now();
        let rest = |lane: LaneId| {
            let until = began.get(&lane).map_or(now, |began| *began + REST);
            until.saturating_duration_since(now)
        };
        let mut behind = self.journal.behind(&self.name);
        if behind.iter().any(|(lane, ..)| rest(*lane).is_zero()) {
            behind.retain(|(lane, ..)| rest(*lane).is_zero());
        }
        let first = if turn % CATCH_UP_TURN == CATCH_UP_TURN - 1 {
            LaneKind::CatchUp
        } else {
            LaneKind::Live
        };
        let preferred = behind.iter().any(|(_, kind, _)| *kind == first);
        let mut candidates = behind
            .iter()
            .filter(|(_, kind, _)| !preferred || *kind == first);
        let after = candidates.clone().find(|(lane, ..)| *lane > last);
        after
            .or_else(|| candidates.next())
            .map(|(lane, _, cursor)| (*lane, *cursor, rest(*lane)))
    }

    /// Whether there is a backlog, or half of what one delivery may hold: enough not to wait for more.
    fn much_waits(&self, lane: LaneId, cursor: u64) -> bool {
        let fresh = self.journal.fresh(lane, cursor);
        fresh.is_none_or(|(events, bytes)| {
            events >= self.batch_events / 2 || bytes >= self.batch_bytes / 2
        })
    }

    /// Tries until it works. Only a bug ends it.
    pub(super) async fn persist<T, F: Future<Output = Result<T>>>(
        &self,
        doing: &str,
        mut work: impl FnMut() -> F,
    ) -> Result<T> {
        let labels = ["sink", &*self.name, ""];
        let mut attempt = 0;
        loop {
            let error = match work().await {
                Ok(value) => {
                    if attempt > 0 {
                        self.set_up(true);
                        tracing::info!(sink = %self.name, "{doing} works again");
                    }
                    return Ok(value);
                }
                Err(error) if error.kind() == Kind::Bug || error.is_fatal() => {
                    return Err(error.context(doing));
                }
                Err(error) => error,
            };
            attempt += 1;
            self.metrics.error("sink", &self.name, "", &error);
            self.metrics.retries.with_label_values(&labels).inc();
            self.set_up(false);
            if attempt == 1 {
                tracing::warn!(sink = %self.name, kind = error.kind().as_str(), "{doing} failed, will be retried: {error}");
            } else {
                tracing::debug!(sink = %self.name, attempt, "{doing} failed: {error}");
            }
            tokio::time::sleep(retry::wait(&error, attempt)).await;
        }
    }
}
