//! What a source hands its finds and its bytes to.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::gunzip::Gunzip;
use super::memory::{Held, Memory};
use crate::buffer::Buffer;
use crate::config::Tenant;
use crate::coverage::pass_name;
use crate::error::{Error, Result};
use crate::event::cut::{Cutter, Limits as CutLimits, Piece};
use crate::event::{AuditEvent, Header, Origin};
use crate::journal::{Commit, Journal, LaneId, OversizePart, Registered, Stream, Wire};
use crate::metrics::Metrics;
use crate::plugin::{Gap, LaneKind, Listing, Reach, Unit};

/// How long a fetch waits for room before it is broken off. Longer, and the peer would close its connection; and it
/// would keep other tenants' fetches from their share of memory.
const ROOM_PATIENCE: Duration = Duration::from_secs(20);

/// The code of the error of a fetch that was broken off because the journal is full.
pub(super) const JOURNAL_FULL: &str = "journal_full";

/// How many times as large a body usually is when it is inflated.
const USUAL_RATIO: usize = 5;
/// Bytes that are inflated before what is complete is looked at.
const LEAST_STEP: usize = 4 << 10;
const MOST_STEP: usize = 64 << 10;

/// Bounds of what one fetch may hold and produce.
#[derive(Clone, Debug)]
pub struct IntakeLimits {
    /// Raw bytes after which a batch is committed.
    pub batch_bytes: usize,
    /// Bytes beyond which a record goes to the dead letters.
    pub record_bytes: usize,
    /// Inflated bytes beyond which a unit is given up.
    pub unit_bytes: u64,
    /// What all fetches together may hold.
    pub memory: Memory,
}

impl Default for IntakeLimits {
    fn default() -> Self {
        let (batch_bytes, record_bytes) = (1 << 20, 16 << 20);
        Self {
            batch_bytes,
            record_bytes,
            unit_bytes: 4 << 30,
            memory: Memory::new(32 << 20, batch_bytes, record_bytes),
        }
    }
}

/// The inflating of a body that comes compressed.
enum Inflation {
    None,
    Ready(Gunzip),
    /// A call failed, or was dropped half-way.
    Broken,
}

fn incomplete() -> Error {
    Error::unavailable("the content was not journaled completely")
}

/// One tenant's way into the journal, for one source. Cheap to clone.
#[derive(Clone)]
pub struct Intake(Arc<Inner>);

struct Inner {
    tenant: Tenant,
    source: Arc<str>,
    stream: Stream,
    lanes: [LaneId; 2],
    journal: Journal,
    metrics: Metrics,
    limits: IntakeLimits,
    registered: Notify,
    /// How far the source said it is with each content type.
    reached: Mutex<BTreeMap<Arc<str>, Reach>>,
    /// How often it found something new, or got further.
    progress: AtomicU64,
}

impl Intake {
    /// Opens the way of `source` for `tenant`, whose lanes the journal knows.
    pub async fn open(
        journal: Journal,
        metrics: Metrics,
        limits: IntakeLimits,
        tenant: Tenant,
        source: Arc<str>,
    ) -> Result<Self> {
        let stream = journal.stream(&source, &tenant.id).await?;
        let lane = |kind| {
            journal
                .lane(&tenant.id, kind)
                .ok_or_else(|| Error::bug(format!("tenant {} has no lane", tenant.name)))
        };
        let lanes = [lane(LaneKind::Live)?, lane(LaneKind::CatchUp)?];
        let registered = Notify::new();
        Ok(Self(Arc::new(Inner {
            tenant,
            source,
            stream,
            lanes,
            journal,
            metrics,
            limits,
            registered,
            reached: Mutex::default(),
            progress: AtomicU64::new(0),
        })))
    }

    /// The tenant that is collected.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.0.tenant
    }

    /// The source's checkpoint, as it last stored it.
    pub async fn checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let stored = self.0.journal.checkpoint(&self.0.stream).await?;
        stored
            .map(|text| {
                serde_json::from_str(&text).map_err(|error| {
                    Error::config(format!(
                        "the checkpoint of source {} was written by another version",
                        self.0.source
                    ))
                    .with_cause(error)
                })
            })
            .transpose()
    }

    /// Registers what the source has listed and, if given, stores its checkpoint, in one transaction. Units that are
    /// known are left as they are. Returns how many were new.
    pub async fn register<T: Serialize + Sync>(
        &self,
        units: Vec<Unit>,
        checkpoint: Option<&T>,
    ) -> Result<usize> {
        let listing = Listing {
            units,
            ..Listing::default()
        };
        self.register_listing(listing, checkpoint).await
    }

    /// The same, with the times that cannot be listed any more, and with how far the source is.
    pub async fn register_listing<T: Serialize + Sync>(
        &self,
        listing: Listing,
        checkpoint: Option<&T>,
    ) -> Result<usize> {
        let inner = &self.0;
        let checkpoint = checkpoint
            .map(serde_json::to_string)
            .transpose()
            .map_err(|error| {
                Error::bug("a checkpoint cannot be written as JSON").with_cause(error)
            })?;
        let gaps = listing.gaps.clone();
        let reach = listing.reach.clone();
        fail::fail_point!("source::register");
        let done = inner
            .journal
            .register_listing(&inner.stream, listing, checkpoint)
            .await?;
        self.count(&gaps, &done);
        let new = done.new.values().sum();
        let progress = new + self.reaches(reach);
        inner.progress.fetch_add(progress as u64, Ordering::Relaxed);
        if new + done.reopened > 0 {
            inner.registered.notify_one();
        }
        Ok(new)
    }

    fn count(&self, gaps: &[Gap], done: &Registered) {
        let inner = &self.0;
        let (tenant, source) = (&*inner.tenant.name, &*inner.source);
        for gap in gaps {
            let seconds = (gap.to - gap.from).num_seconds();
            inner
                .metrics
                .listing_gap
                .with_label_values(&[tenant, source, &*gap.content_type])
                .inc_by(u64::try_from(seconds).unwrap_or_default());
        }
        for (content_type, count) in &done.new {
            inner
                .metrics
                .units_listed
                .with_label_values(&[tenant, source, &**content_type])
                .inc_by(*count as u64);
        }
        for ((content_type, lag), count) in &done.stragglers {
            inner
                .metrics
                .stragglers
                .with_label_values(&[tenant, source, &**content_type, &*pass_name(*lag)])
                .inc_by(*count as u64);
        }
    }

    /// Says what the source collects from now on: all its content types, those too that it has not listed yet. Coverage
    /// counts on nothing else.
    pub async fn collects(&self, all: Vec<Reach>) -> Result<()> {
        self.reaches(all.clone());
        self.0.journal.collects(&self.0.stream, all).await
    }

    /// Notes how far the source is. Returns with how many content types it got further.
    fn reaches(&self, all: Vec<Reach>) -> usize {
        let reached = self.0.reached.lock();
        let mut reached = reached.unwrap_or_else(PoisonError::into_inner);
        all.into_iter()
            .filter(|reach| {
                let before = reached.insert(Arc::clone(&reach.content_type), reach.clone());
                before.as_ref() != Some(reach)
            })
            .count()
    }

    /// Waits until the journal has room for more of this tenant.
    pub(super) async fn room(&self) -> Result<()> {
        let bytes = self.0.limits.batch_bytes;
        self.0
            .journal
            .room(&self.0.tenant.id, bytes)
            .await
            .map(drop)
    }

    /// Grows with each unit that the source finds, and each time that it gets further.
    pub(super) fn progress(&self) -> u64 {
        self.0.progress.load(Ordering::Relaxed)
    }

    /// Waits until new units are registered.
    pub(super) async fn registered(&self) {
        self.0.registered.notified().await;
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.0.stream
    }

    pub(super) fn source(&self) -> &Arc<str> {
        &self.0.source
    }

    /// A writer for one try of fetching `unit`.
    #[must_use]
    pub fn writer(&self, unit: &Unit) -> UnitWriter {
        let inner = &self.0;
        UnitWriter {
            intake: self.clone(),
            origin: Arc::new(Origin {
                tenant: Arc::clone(&inner.tenant.id),
                tenant_name: Arc::clone(&inner.tenant.name),
                source: Arc::clone(&inner.source),
                content_type: Arc::clone(&unit.content_type),
                unit: Arc::clone(&unit.id),
            }),
            lane: inner.lanes[usize::from(unit.lane == LaneKind::CatchUp)],
            cutter: Cutter::new(CutLimits {
                record_bytes: inner.limits.record_bytes,
            }),
            written: 0,
            index: 0,
            oversized: 0,
            in_oversize: false,
            broken: false,
            body: false,
            gzip_state: Inflation::None,
            gzip: Some(Buffer::new()),
            records: Vec::new(),
            record_bytes: 0,
            held: Held::default(),
        }
    }
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
    gzip_state: Inflation,
    /// The body as it came, as long as it is compressed, whole, and no larger than a batch.
    gzip: Option<Buffer>,
    /// Records handed to the journal so far: the index of the next one.
    index: u64,
    /// Oversized records so far, and whether the last of them goes on.
    oversized: u64,
    in_oversize: bool,
    /// Something of the unit was not committed or is not to be: the unit cannot be finished.
    broken: bool,
    /// Whole records that did not come as part of an array, and their bytes.
    records: Vec<Piece>,
    record_bytes: usize,
    held: Held,
}

impl UnitWriter {
    /// Appends bytes of a JSON array of records. Fails if the unit is larger than its cap.
    pub fn write(&mut self, body: &[u8]) -> Result<()> {
        self.grow(body.len())?;
        self.body = true;
        self.gzip = None;
        self.cutter.write(body);
        fail::fail_point!("intake::cut");
        Ok(())
    }

    /// Appends bytes of a JSON array of records, compressed by gzip. Commits and waits as [`UnitWriter::settle`] does.
    /// Fails if they are damaged, or the unit is larger than its cap.
    pub async fn write_gzip(&mut self, mut body: &[u8]) -> Result<()> {
        self.body = true;
        let batch_bytes = self.intake.0.limits.batch_bytes;
        let kept = self.gzip.take();
        self.gzip = kept.filter(|gzip| gzip.len() + body.len() <= batch_bytes);
        if let Some(gzip) = &mut self.gzip {
            gzip.make_room(body.len());
            gzip.extend_from_slice(body);
        }
        // Until this call ends: it may fail, or be dropped half-way.
        let mut gunzip = match mem::replace(&mut self.gzip_state, Inflation::Broken) {
            Inflation::Ready(gunzip) => gunzip,
            Inflation::None => {
                self.cutter
                    .expect((body.len() * USUAL_RATIO).min(batch_bytes));
                Gunzip::new()
            }
            Inflation::Broken => return Err(incomplete()),
        };
        loop {
            // Little more than a batch, whatever a few bytes inflate to.
            let room = batch_bytes.saturating_sub(self.pending_bytes());
            let room = room.clamp(LEAST_STEP, MOST_STEP);
            let mut given = 0;
            self.cutter.write_with(room, |out| {
                let step = gunzip.step(body, out)?;
                body = &body[step.taken..];
                given = step.given;
                Ok::<_, Error>(given)
            })?;
            self.grow(given)?;
            fail::fail_point!("intake::cut");
            self.settle().await?;
            if given < room {
                break;
            }
        }
        self.gzip_state = Inflation::Ready(gunzip);
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
            + self.gzip.as_ref().map_or(0, |gzip| gzip.len())
    }

    /// Says that the array is complete; fails, so that the unit is fetched again, if it broke off before its end.
    pub fn end_of_body(&mut self) -> Result<()> {
        match &self.gzip_state {
            Inflation::None => {}
            Inflation::Ready(gunzip) => gunzip.finish()?,
            Inflation::Broken => return Err(incomplete()),
        }
        self.cutter.finish().map_err(|broken| {
            Error::unavailable("the body of the content is broken").with_cause(broken)
        })
    }

    /// Appends one whole record, for sources whose records do not come as one JSON array.
    pub async fn record(&mut self, raw: Bytes) -> Result<()> {
        self.grow(raw.len())?;
        self.record_bytes += raw.len();
        self.gzip = None;
        self.records.push(Piece::Record {
            header: Header::scan(&raw),
            raw,
            start: 0,
        });
        self.settle().await
    }

    /// Says that nothing more will be written: waits for a place among the units that wait to be committed, so that
    /// another may be fetched meanwhile.
    pub(super) async fn complete(&mut self) -> Result<()> {
        let bytes = self.pending_bytes();
        let memory = &self.intake.0.limits.memory;
        memory.complete(&mut self.held, bytes).await
    }

    /// Commits the rest, and with it the end of the unit; fails if anything of it is missing, even if the source did
    /// not mind.
    pub async fn finish(mut self) -> Result<()> {
        if self.broken {
            return Err(incomplete());
        }
        if self.body {
            self.end_of_body()?;
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
                gzip: gzip.into_bytes(),
                inflated: self.written as usize,
                starts,
            }),
            unit_done,
        };
        self.hand_over(commit, oversized).await?;
        self.broken = false;
        Ok(())
    }

    async fn hand_over(&self, commit: Commit, oversized: u64) -> Result<()> {
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
        let labels = [
            &*inner.tenant.name,
            &*inner.source,
            &*self.origin.content_type,
        ];
        let metrics = &inner.metrics;
        metrics
            .events_received
            .with_label_values(&labels)
            .inc_by(received);
        metrics
            .received_bytes
            .with_label_values(&labels)
            .inc_by(bytes as u64);
        metrics
            .events_repeated
            .with_label_values(&labels)
            .inc_by(done.repeats as u64);
        metrics
            .events_variant
            .with_label_values(&labels)
            .inc_by(done.variants as u64);
        for late in &done.late {
            let pass = pass_name(late.pass);
            for (workload, events) in &late.events {
                let [tenant, source, content_type] = labels;
                metrics
                    .events_late
                    .with_label_values(&[tenant, source, content_type, &*pass, *workload])
                    .inc_by(*events as u64);
            }
        }
        metrics
            .records_oversized
            .with_label_values(&labels)
            .inc_by(oversized);
        Ok(())
    }
}
