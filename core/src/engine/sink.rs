//! Runs one sink: reads its lanes, filters, delivers with retries, and moves the cursor once the data is safe.

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
use crate::event::AuditEvent;
use crate::journal::{Advance, Changes, DeadLetter, Journal, LaneId, Position, Stored, Tally};
use crate::metrics::Metrics;
use crate::plugin::{Batch, Delivered, Filter, LaneKind, Receipt, Rejected, Sink};

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

/// A batch on its way to the sink.
struct Work {
    lane: LaneId,
    last: u64,
    batch: Option<Batch>,
    /// The journal's batch of each event.
    seqs: Vec<u64>,
    tally: Tally,
    filtered: u64,
    tenant: Arc<str>,
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
            found.retain(|stored| stored.seq <= position.last);
            let Some(mut work) = self.prepare(position.lane, &found) else {
                return self.explain_gap(position.lane, cursor).await;
            };
            if let Some(batch) = work.batch.take() {
                for (event, seq) in batch.events.iter().zip(&work.seqs) {
                    work.tally.delivered(*seq, event);
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

    fn prepare(&self, lane: LaneId, batches: &[Arc<Stored>]) -> Option<Work> {
        let (first, last) = (batches.first()?, batches.last()?);
        let mut tally = Tally::default();
        let mut filtered = 0;
        let count = batches.iter().map(|stored| stored.events.len()).sum();
        let (mut events, mut seqs) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for stored in batches {
            for event in stored.events.iter() {
                if let Some(event) = self.pass(event) {
                    events.push(event);
                    seqs.push(stored.seq);
                } else {
                    filtered += 1;
                    tally.filtered(stored.seq, event);
                }
            }
        }
        let position = Position {
            journal: Arc::clone(self.journal.id()),
            lane,
            first: first.seq,
            last: last.seq,
        };
        let tenant = Arc::clone(&first.events.first()?.origin().tenant_name);
        let batch = (!events.is_empty()).then_some(Batch {
            position: Some(position),
            events,
        });
        Some(Work {
            lane,
            last: last.seq,
            batch,
            seqs,
            tally,
            filtered,
            tenant,
        })
    }

    fn pass(&self, event: &AuditEvent) -> Option<AuditEvent> {
        if !self.sources.contains(&event.origin().source) {
            return None;
        }
        self.filters
            .iter()
            .try_fold(event.clone(), |event, filter| filter.apply(event))
    }

    async fn deal_with(&self, mut work: Work) -> Result<()> {
        let (mut receipt, mut changes) = (None, Changes::default());
        if let Some(batch) = work.batch.take() {
            for (part, seqs) in self.split(batch, &work.seqs) {
                let delivered = self.deliver(&part).await?;
                fail::fail_point!("sink::delivered");
                receipt = delivered.receipt.or(receipt);
                changes.append(delivered.changes);
                let tenant = &work.tenant;
                self.count(&part, seqs, delivered.rejected, &mut work.tally, tenant)?;
            }
        }
        let filtered = self
            .metrics
            .events_filtered
            .with_label_values(&[&*self.name, &*work.tenant]);
        filtered.inc_by(work.filtered);
        self.advance(work, receipt, changes).await
    }

    /// The deliveries that a batch of the journal makes: it may be larger than the sink takes at a time. All but the
    /// last say the position before what is not complete yet, so that no far side is believed to have the rest.
    pub(super) fn split<'a>(&self, batch: Batch, seqs: &'a [u64]) -> Vec<(Batch, &'a [u64])> {
        let Batch { position, events } = batch;
        let (mut parts, mut from) = (Vec::new(), 0);
        while from < events.len() {
            let mut bytes = 0;
            let fitting = events[from..].iter().take(self.batch_events);
            let fitting = fitting.take_while(|event| {
                bytes += event.raw().len();
                bytes <= self.batch_bytes
            });
            let to = from + fitting.count().max(1);
            let mut position = position.clone();
            if let (Some(position), Some(next)) = (&mut position, seqs.get(to)) {
                position.last = next - 1;
            }
            let part = Batch {
                position,
                events: events[from..to].to_vec(),
            };
            parts.push((part, &seqs[from..to]));
            from = to;
        }
        parts
    }

    async fn advance(&self, work: Work, receipt: Option<Receipt>, changes: Changes) -> Result<()> {
        let step = Advance {
            sink: Arc::clone(&self.name),
            lane: work.lane,
            last: work.last,
            receipt,
            tally: work.tally,
            changes,
        };
        self.persist("moving the cursor", || self.journal.advance(step.clone()))
            .await
    }

    /// Delivers a batch, however long it takes. A batch that is refused as a whole is dead, event by event.
    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let timer = self
            .metrics
            .delivery
            .with_label_values(&[&self.name])
            .start_timer();
        let delivered = self
            .persist("delivering", || async {
                // It may have been paused since the try before. What was delivered is recorded all the same.
                self.journal.resumed(&self.name).await;
                match self.in_time(self.sink.deliver(batch)).await {
                    Err(error) if error.kind() == Kind::Rejected => {
                        let refuse = |index| Rejected {
                            index,
                            reason: error.to_string(),
                        };
                        let rejected = (0..batch.events.len()).map(refuse).collect();
                        Ok(Delivered {
                            rejected,
                            ..Delivered::default()
                        })
                    }
                    answer => answer,
                }
            })
            .await;
        timer.observe_duration();
        delivered
    }

    /// Why each event of a batch was refused, if it was.
    pub(super) fn reasons(
        &self,
        batch: &Batch,
        rejected: Vec<Rejected>,
    ) -> Result<Vec<Option<String>>> {
        let mut reasons: Vec<Option<String>> = vec![None; batch.events.len()];
        for refused in rejected {
            // To take it for delivered would lose whichever event was meant.
            *reasons.get_mut(refused.index).ok_or_else(|| {
                Error::bug(format!(
                    "sink {} refuses event {} of a batch of {}",
                    self.name,
                    refused.index,
                    batch.events.len()
                ))
            })? = Some(refused.reason);
        }
        Ok(reasons)
    }

    /// Counts what became of a batch and turns the refused events into dead letters.
    fn count(
        &self,
        batch: &Batch,
        seqs: &[u64],
        rejected: Vec<Rejected>,
        tally: &mut Tally,
        tenant: &str,
    ) -> Result<()> {
        let labels = [&*self.name, tenant];
        let freshness = self.metrics.freshness.with_label_values(&[&*self.name]);
        let now = self.clock.now();
        let reasons = self.reasons(batch, rejected)?;
        let (mut dead, mut delivered, mut bytes) = (0, 0, 0);
        let mut first_reason = None;
        for ((event, seq), reason) in batch.events.iter().zip(seqs).zip(reasons) {
            if let Some(reason) = reason {
                dead += 1;
                first_reason.get_or_insert_with(|| reason.clone());
                let (sink, event) = (Arc::clone(&self.name), event.clone());
                let letter = DeadLetter {
                    sink,
                    event,
                    reason,
                };
                tally.dead(*seq, letter);
                continue;
            }
            tally.delivered(*seq, event);
            delivered += 1;
            bytes += event.raw().len() as u64;
            if let Some(created) = event.created() {
                freshness.observe((now - created).as_seconds_f64());
            }
        }
        self.metrics
            .events_delivered
            .with_label_values(&labels)
            .inc_by(delivered);
        self.metrics
            .delivered_bytes
            .with_label_values(&labels)
            .inc_by(bytes);
        if let Some(reason) = first_reason {
            self.metrics
                .events_dead_lettered
                .with_label_values(&labels)
                .inc_by(dead);
            tracing::error!(
                sink = %self.name, tenant, events = dead,
                "the destination refuses events for good; they are kept as dead letters: {reason}"
            );
        }
        Ok(())
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
