//! What a source hands its finds and its bytes to.

mod unit;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::memory::Memory;
use crate::config::Tenant;
use crate::coverage::pass_name;
use crate::error::{Error, Result};
use crate::journal::{Journal, LaneId, Registered, Stream};
use crate::metrics::Metrics;
use crate::plugin::{Gap, LaneKind, Listing, Reach, Unit};

pub use unit::UnitWriter;

/// The code of the error of a fetch that was broken off because the journal is full.
pub(super) const JOURNAL_FULL: &str = "journal_full";

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
    /// Its peer is at work on what it asked for.
    peer_at_work: AtomicBool,
    /// A fetch calls for a listing.
    recall: Notify,
    /// It ends with what there was when it began.
    is_single_run: AtomicBool,
    /// When a single run began, by the source's clock.
    began: OnceLock<DateTime<Utc>>,
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
            peer_at_work: AtomicBool::new(false),
            recall: Notify::new(),
            is_single_run: AtomicBool::new(false),
            began: OnceLock::new(),
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

    /// Says that this is a single run ([`Intake::lists_until`]).
    pub fn ends_where_it_begins(&self) {
        self.0.is_single_run.store(true, Ordering::Relaxed);
    }

    /// Up to when a listing lists that is made at `now`, by the source's own clock: up to `now`; in a single run, up to the
    /// `now` of the first listing that asked. What comes while a single run is at work is left to the next, or it might
    /// never end.
    #[must_use]
    pub fn lists_until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if !self.0.is_single_run.load(Ordering::Relaxed) {
            return now;
        }
        // A clock that was ahead, and is set right, has begun too late.
        now.min(*self.0.began.get_or_init(|| now))
    }

    /// Says, in a listing, that the peer is at work on what it was asked for, and that there will be more to list: a
    /// single run waits for it, however long that takes. Holds until the end of the next listing.
    pub fn peer_is_at_work(&self) {
        self.0.peer_at_work.store(true, Ordering::Relaxed);
    }

    /// Whether that was said since this was last asked.
    pub(super) fn take_peer_at_work(&self) -> bool {
        self.0.peer_at_work.swap(false, Ordering::Relaxed)
    }

    /// Returns when a fetch calls for a listing.
    pub(super) async fn recalled(&self) {
        self.0.recall.notified().await;
    }

    /// Forgets that a fetch has called for a listing.
    pub(super) fn forget_recall(&self) {
        // Takes what is stored, and waits for nothing.
        let _forgotten = self.0.recall.notified().now_or_never();
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
        UnitWriter::new(self, unit)
    }
}
