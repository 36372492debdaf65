//! What a worker makes of the batches that it has read: filters, deliveries, counts, and the step of the cursor.

use std::sync::Arc;

use super::Worker;
use crate::error::{Error, Kind, Result};
use crate::event::AuditEvent;
use crate::journal::{
    Advance, Changes, DeadLetter, Hour, LaneId, Position, Stored, Tally, hour_of,
};
use crate::plugin::{Batch, Delivered, Receipt, Rejected};

/// A batch on its way to the sink.
pub(super) struct Work {
    pub(super) lane: LaneId,
    pub(super) last: u64,
    pub(super) batch: Option<Batch>,
    /// The journal's batch of each event.
    pub(super) seqs: Vec<u64>,
    /// The hour that each event was journaled for: a filter may change its time.
    pub(super) hours: Vec<Hour>,
    pub(super) tally: Tally,
    /// Events that the filters dropped, and their bytes.
    pub(super) filtered: [u64; 2],
    pub(super) tenant: Arc<str>,
}

impl Worker {
    /// What a delivery is made of: the events of these batches that pass the filters. Nothing if there are no batches.
    pub(super) fn prepare(&self, lane: LaneId, batches: &[Arc<Stored>]) -> Option<Work> {
        let (first, last) = (batches.first()?, batches.last()?);
        let mut tally = Tally::default();
        let mut filtered = [0; 2];
        let count = batches.iter().map(|stored| stored.events.len()).sum();
        let (mut events, mut seqs) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut hours = Vec::with_capacity(count);
        for stored in batches {
            for event in stored.events.iter() {
                let hour = hour_of(event);
                if let Some(event) = self.pass(event) {
                    events.push(event);
                    seqs.push(stored.seq);
                    hours.push(hour);
                } else {
                    filtered[0] += 1;
                    filtered[1] += event.raw().len() as u64;
                    tally.filtered(stored.seq, hour);
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
            events: events.into(),
        });
        Some(Work {
            lane,
            last: last.seq,
            batch,
            seqs,
            hours,
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

    /// Delivers, and moves the cursor behind it.
    pub(super) async fn deal_with(&self, mut work: Work) -> Result<()> {
        let (mut receipt, mut changes) = (None, Changes::default());
        let mut hours = work.hours.as_slice();
        if let Some(batch) = work.batch.take() {
            for (part, seqs) in self.split(batch, &work.seqs) {
                let delivered = self.deliver(&part).await?;
                fail::fail_point!("sink::delivered");
                receipt = delivered.receipt.or(receipt);
                changes.append(delivered.changes);
                let (of_part, of_others) = hours.split_at(seqs.len());
                hours = of_others;
                let places = seqs.iter().copied().zip(of_part.iter().copied());
                let tenant = &work.tenant;
                self.count(&part, places, delivered.rejected, &mut work.tally, tenant)?;
            }
        }
        let (metrics, [events, bytes]) = (&self.metrics, work.filtered);
        for (counter, count) in [
            (&metrics.events_filtered, events),
            (&metrics.filtered_bytes, bytes),
        ] {
            let labels = [&*self.name, &*work.tenant];
            counter.with_label_values(&labels).inc_by(count);
        }
        self.advance(work, receipt, changes).await
    }

    /// The deliveries that a batch of the journal makes: it may be larger than the sink takes at a time. All but the
    /// last say the position before what is not complete yet, so that no far side is believed to have the rest. A far
    /// side that holds positions gets it whole: there is no position within a batch.
    pub(in crate::engine) fn split<'a>(
        &self,
        batch: Batch,
        seqs: &'a [u64],
    ) -> Vec<(Batch, &'a [u64])> {
        let Batch { position, events } = batch;
        if position.is_some() && self.sink.holds_positions() {
            return vec![(Batch { position, events }, seqs)];
        }
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
            let events = if to - from == events.len() {
                Arc::clone(&events)
            } else {
                Arc::new(events[from..to].to_vec())
            };
            parts.push((Batch { position, events }, &seqs[from..to]));
            from = to;
        }
        parts
    }

    pub(super) async fn advance(
        &self,
        work: Work,
        receipt: Option<Receipt>,
        changes: Changes,
    ) -> Result<()> {
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
    pub(in crate::engine) fn reasons(
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
        places: impl Iterator<Item = (u64, Hour)>,
        rejected: Vec<Rejected>,
        tally: &mut Tally,
        tenant: &str,
    ) -> Result<()> {
        let labels = [&*self.name, tenant];
        let freshness = self.metrics.freshness.with_label_values(&[&*self.name]);
        let now = self.clock.now();
        let reasons = self.reasons(batch, rejected)?;
        let (mut dead, mut dead_bytes, mut delivered, mut bytes) = (0, 0, 0, 0);
        let mut first_reason = None;
        for ((event, (seq, hour)), reason) in batch.events.iter().zip(places).zip(reasons) {
            if let Some(reason) = reason {
                dead += 1;
                dead_bytes += event.raw().len() as u64;
                first_reason.get_or_insert_with(|| reason.clone());
                let (sink, event) = (Arc::clone(&self.name), event.clone());
                let letter = DeadLetter {
                    sink,
                    event,
                    reason,
                };
                tally.dead(seq, hour, letter);
                continue;
            }
            tally.delivered(seq, hour);
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
            self.metrics
                .dead_lettered_bytes
                .with_label_values(&labels)
                .inc_by(dead_bytes);
            tracing::error!(
                sink = %self.name, tenant, events = dead,
                "the destination refuses events for good; they are kept as dead letters: {reason}"
            );
        }
        Ok(())
    }
}
