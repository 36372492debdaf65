//! From the bytes of one unit to batches in the journal.

mod inflate;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use inflate::Inflation;

use super::{Intake, JOURNAL_FULL};
use crate::coverage::pass_name;
use crate::engine::memory::Held;
use crate::engine::once::listings::Listings;
use crate::error::{Error, Result};
use crate::event::cut::{Cutter, Limits, Piece};
use crate::event::{AuditEvent, Header, Origin};
use crate::journal::{Commit, Committed, LaneId, OversizePart, Wire};
use crate::plugin::{LaneKind, Unit};

/// How long a fetch waits for room before it is broken off. Longer, and the peer would close its connection; and it
/// would keep other tenants' fetches from their share of memory.
const ROOM_PATIENCE: Duration = Duration::from_secs(20);

/// A shorter wait is not worth a commit.
const WORTH_LEAVING: Duration = Duration::from_secs(1);

fn incomplete() -> Error {
    Error::unavailable("the content was not journaled completely")
}

/// Takes one unit's body, cuts it into events and commits them in bounded batches.
///
/// Append bytes with [`UnitWriter::write`], and await [`UnitWriter::settle`] after each chunk; or compressed ones with
/// [`UnitWriter::write_gzip`].
pub struct UnitWriter {
    intake: Intake,
    origin: Arc<Origin>,
    lane: LaneId,
    cutter: Cutter,
    written: u64,
    /// There was a body, which has an end.
    body: bool,
    inflation: Inflation,
    /// Compressed bytes that are being inflated after they have waited.
    inflating: usize,
    /// The whole body as it came, if that was compressed and is small.
    gzip: Option<Bytes>,
    /// Records handed to the journal so far: the index of the next one.
    index: u64,
    /// Oversized records so far, and whether the last of them goes on.
    oversized: u64,
    in_oversize: bool,
    /// Something of the unit was not committed or is not to be: the unit cannot be finished.
    broken: bool,
    /// Whether repeats count as new, by the unit's first batch.
    again: Option<bool>,
    /// Whole records that did not come as part of an array, and their bytes.
    records: Vec<Piece>,
    record_bytes: usize,
    held: Held,
    /// Its place among the fetches of the whole process, and where it has that from.
    slot: Option<OwnedSemaphorePermit>,
    slots: Option<Arc<Semaphore>>,
    /// The pages that were read, and who wants to know.
    pages: u64,
    listings: Option<Listings>,
}

impl UnitWriter {
    pub(super) fn new(intake: &Intake, unit: &Unit) -> Self {
        let inner = &intake.0;
        Self {
            intake: intake.clone(),
            origin: Arc::new(Origin {
                tenant: Arc::clone(&inner.tenant.id),
                tenant_name: Arc::clone(&inner.tenant.name),
                source: Arc::clone(&inner.source),
                content_type: Arc::clone(&unit.content_type),
                unit: Arc::clone(&unit.id),
            }),
            lane: inner.lanes[usize::from(unit.lane == LaneKind::CatchUp)],
            cutter: Cutter::new(Limits {
                record_bytes: inner.limits.record_bytes,
            }),
            written: 0,
            index: 0,
            oversized: 0,
            in_oversize: false,
            broken: false,
            again: None,
            body: false,
            inflation: Inflation::None,
            inflating: 0,
            gzip: None,
            records: Vec::new(),
            record_bytes: 0,
            held: Held::default(),
            slot: None,
            slots: None,
            pages: 0,
            listings: None,
        }
    }

    /// Waits for a place among the fetches of the whole process.
    pub(in crate::engine) async fn enter(&mut self, slots: Arc<Semaphore>) -> Result<()> {
        let slot = Arc::clone(&slots).acquire_owned().await;
        self.slot = Some(slot.map_err(|_| Error::bug("the fetch slots are gone"))?);
        self.slots = Some(slots);
        Ok(())
    }

    /// Waits because the peer asks for it: its limit is used up, and to break off would be to read everything again.
    /// Until then this fetch holds neither memory nor a place among the process's fetches, so that it holds up no other:
    /// what is complete is committed first. For between two pages: a record that is not complete keeps its memory, and so
    /// does compressed content before its end.
    pub async fn wait(&mut self, time: Duration) -> Result<()> {
        let inner = &self.intake.0;
        inner
            .metrics
            .throttle_wait
            .with_label_values(&[&*inner.tenant.name, &*inner.source])
            .inc_by(time.as_secs_f64());
        if time < WORTH_LEAVING {
            tokio::time::sleep(time).await;
            return Ok(());
        }
        self.flush().await?;
        self.slot = None;
        tokio::time::sleep(time).await;
        match self.slots.clone() {
            Some(slots) => self.enter(slots).await,
            None => Ok(()),
        }
    }

    /// Commits all records that are complete and inflated.
    pub async fn flush(&mut self) -> Result<()> {
        self.commit(false).await?;
        self.settle().await
    }

    /// Tells a single run of the pages that are read.
    pub(in crate::engine) fn tell(&mut self, listings: Listings) {
        self.listings = Some(listings);
    }

    /// Says that this fetch has read one more page, whether or not it brought anything new. A single run gives up what
    /// gets no further; only with this it sees that a fetch of many pages does.
    pub fn has_read_a_page(&mut self) {
        self.pages += 1;
        if let Some(listings) = &self.listings {
            listings.has_read(&self.intake.0.stream, &self.origin.unit, self.pages);
        }
    }

    /// Says that this fetch has found out what is for [`Source::list`](crate::plugin::Source::list) to see to: it is
    /// called at once, unless it waits because it failed; in a single run too, when there was nothing left to list.
    pub fn list_again(&self) {
        self.intake.0.recall.notify_one();
    }

    /// Appends bytes of a JSON array of records. Fails if the unit is larger than its cap.
    pub fn write(&mut self, body: &[u8]) -> Result<()> {
        self.is_plain()?;
        self.grow(body.len())?;
        self.body = true;
        self.cutter.write(body);
        fail::fail_point!("intake::cut");
        Ok(())
    }

    /// Commits what is complete, if that is enough for a batch. Waits while the journal is full, and for memory.
    pub async fn settle(&mut self) -> Result<()> {
        if self.pending_bytes() >= self.intake.0.limits.batch_bytes {
            self.commit(false).await?;
        }
        let bytes = self.pending_bytes();
        let memory = &self.intake.0.limits.memory;
        memory.fit(&mut self.held, bytes).await
    }

    fn pending_bytes(&self) -> usize {
        self.cutter.pending_bytes()
            + self.record_bytes
            + self.gzip.as_ref().map_or(0, Bytes::len)
            + self.inflation.waiting_bytes()
            + self.inflating
    }

    /// Says that the array is complete; fails, so that the unit is fetched again, if it broke off before its end. Small
    /// compressed content is inflated now: commits and waits as [`UnitWriter::settle`] does.
    pub async fn end_of_body(&mut self) -> Result<()> {
        self.inflate_small().await?;
        self.inflation.finish()?;
        self.cutter.finish().map_err(|broken| {
            Error::unavailable("the body of the content is broken").with_cause(broken)
        })
    }

    /// Appends one whole record, for sources whose records do not come as one JSON array.
    pub async fn record(&mut self, raw: Bytes) -> Result<()> {
        self.is_plain()?;
        self.grow(raw.len())?;
        self.record_bytes += raw.len();
        self.records.push(Piece::Record {
            header: Header::scan(&raw),
            raw,
            start: 0,
        });
        self.settle().await
    }

    /// Says that nothing more will be written: waits for a place among the units that wait to be committed, so that
    /// another may be fetched meanwhile.
    pub(in crate::engine) async fn complete(&mut self) -> Result<()> {
        // What it needs is known only then.
        self.inflate_small().await?;
        let bytes = self.pending_bytes();
        let memory = &self.intake.0.limits.memory;
        memory.complete(&mut self.held, bytes).await?;
        self.slot = None;
        Ok(())
    }

    /// Commits the rest, and with it the end of the unit; fails if anything of it is missing, even if the source did
    /// not mind.
    pub async fn finish(mut self) -> Result<()> {
        if self.body {
            self.end_of_body().await?;
        }
        self.commit(true).await
    }

    fn grow(&mut self, bytes: usize) -> Result<()> {
        self.written += bytes as u64;
        let cap = self.intake.0.limits.unit_bytes;
        if self.written > cap {
            self.broken = true;
            return Err(Error::lost(format!(
                "the content is larger than limits.blob_size ({cap} bytes) when inflated; raise it to collect this one"
            )));
        }
        Ok(())
    }

    async fn commit(&mut self, unit_done: bool) -> Result<()> {
        // What failed before is gone from here: nothing that follows makes the unit whole.
        if self.broken {
            return Err(incomplete());
        }
        let mut pieces = self.cutter.take();
        pieces.append(&mut self.records);
        self.record_bytes = 0;
        if pieces.is_empty() && !unit_done {
            return Ok(());
        }
        // Until it is committed. The call may fail, or be dropped half-way, and the pieces are gone from here.
        self.broken = true;
        let first_index = self.index;
        let (mut events, mut oversize) = (Vec::with_capacity(pieces.len()), Vec::new());
        let mut starts = Vec::new();
        let mut oversized = 0;
        for piece in pieces {
            match piece {
                Piece::Record { raw, start, header } => {
                    starts.push(start as usize);
                    let origin = Arc::clone(&self.origin);
                    events.push(AuditEvent::with_header(raw, header, origin));
                    self.index += 1;
                }
                Piece::Oversize { part, last } => {
                    oversized += u64::from(last);
                    oversize.push(OversizePart {
                        record: self.oversized,
                        part,
                        first: !self.in_oversize,
                        last,
                    });
                    self.in_oversize = !last;
                    self.oversized += u64::from(last);
                }
            }
        }
        // Only a unit that is committed as a whole is kept as it came.
        let gzip = self
            .gzip
            .take()
            .filter(|gzip| unit_done && first_index == 0 && oversized == 0 && !gzip.is_empty());
        let commit = Commit {
            stream: self.intake.0.stream.clone(),
            lane: self.lane,
            origin: Arc::clone(&self.origin),
            events: Arc::new(events),
            first_index,
            oversize: Arc::new(oversize),
            wire: gzip.map(|gzip| Wire {
                gzip,
                inflated: self.written as usize,
                starts,
            }),
            unit_done,
            again: self.again,
        };
        let done = self.hand_over(commit, oversized).await?;
        self.again.get_or_insert(done.again);
        self.broken = false;
        Ok(())
    }

    async fn hand_over(&self, commit: Commit, oversized: u64) -> Result<Committed> {
        let inner = &self.intake.0;
        let received = commit.events.len() as u64;
        let bytes: usize = commit.events.iter().map(|event| event.raw().len()).sum();
        let oversize: usize = commit.oversize.iter().map(|piece| piece.part.len()).sum();
        let _coming = inner.journal.pace(bytes).await;
        let room = inner.journal.room(&inner.tenant.id, bytes + oversize);
        let _room = tokio::time::timeout(ROOM_PATIENCE, room)
            .await
            .map_err(|_| Error::throttled("the journal is full").with_code(JOURNAL_FULL))??;
        fail::fail_point!("intake::commit");
        let done = inner.journal.commit(commit).await?;
        self.count((received, bytes, oversized), &done);
        Ok(done)
    }

    /// Counts what a batch brought: events, their bytes, and records too large to be events.
    fn count(&self, (received, bytes, oversized): (u64, usize, u64), done: &Committed) {
        let inner = &self.intake.0;
        let metrics = &inner.metrics;
        let labels = [
            &*inner.tenant.name,
            &*inner.source,
            &*self.origin.content_type,
        ];
        for (counter, count) in [
            (&metrics.events_received, received),
            (&metrics.received_bytes, bytes as u64),
            (&metrics.events_repeated, done.repeats as u64),
            (&metrics.repeated_bytes, done.repeated_bytes as u64),
            (&metrics.events_variant, done.variants as u64),
            (&metrics.records_oversized, oversized),
        ] {
            counter.with_label_values(&labels).inc_by(count);
        }
        if let Some(late) = &done.late {
            let pass = pass_name(late.pass);
            let [tenant, source, content_type] = labels;
            for (workload, events) in &late.events {
                let labels = [tenant, source, content_type, &*pass, *workload];
                let counter = metrics.events_late.with_label_values(&labels);
                counter.inc_by(*events as u64);
            }
        }
    }
}
