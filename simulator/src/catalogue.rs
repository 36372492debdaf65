//! The blobs of a tenant: what they are called, when they appear and expire, and how their bodies
//! come about.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use flate2::{Compression, write::GzEncoder};

use crate::{
    config::ExplicitBlob, content_type::ContentType, faults::Script, recipe::Recipe, state::lock,
};

/// A streamed body is cut into pieces of this size.
const PIECE_BYTES: usize = 256 << 10;

/// Where a blob's records come from.
pub(crate) enum Content {
    /// Made up when asked for.
    Generated(Arc<Recipe>, u64),
    /// Given, or read from a file.
    Records(Vec<Bytes>),
    /// A body that need not be an array of records.
    Body(Bytes),
    /// Another blob's, again.
    Again(Arc<Blob>),
}

/// One blob.
pub(crate) struct Blob {
    pub(crate) id: Arc<str>,
    pub(crate) content_type: ContentType,
    pub(crate) created: DateTime<Utc>,
    pub(crate) visible_at: DateTime<Utc>,
    expires_millis: AtomicI64,
    pub(crate) content: Content,
    script: Mutex<Option<Script>>,
    gzip: OnceLock<Bytes>,
    pub(crate) listed: AtomicU32,
    pub(crate) served: AtomicU32,
}

impl Blob {
    /// A blob that lives for `life` from its creation.
    pub(crate) fn new(
        id: String,
        content_type: ContentType,
        (created, visible_at): (DateTime<Utc>, DateTime<Utc>),
        life: TimeDelta,
        content: Content,
    ) -> Self {
        Self {
            id: id.into(),
            content_type,
            created,
            visible_at,
            expires_millis: AtomicI64::new((created + life).timestamp_millis()),
            content,
            script: Mutex::new(None),
            gzip: OnceLock::new(),
            listed: AtomicU32::new(0),
            served: AtomicU32::new(0),
        }
    }

    /// A blob that a test wrote out.
    pub(crate) fn explicit(
        id: String,
        explicit: ExplicitBlob,
        default: DateTime<Utc>,
        life: TimeDelta,
    ) -> Self {
        let created = explicit.created.unwrap_or(default);
        let content = match explicit.body {
            Some(body) => Content::Body(body.into()),
            None => Content::Records(explicit.records.into_iter().map(Bytes::from).collect()),
        };
        let visible_at = explicit.visible_at.unwrap_or(created);
        let blob = Self::new(
            id,
            explicit.content_type,
            (created, visible_at),
            life,
            content,
        );
        if let Some(expires) = explicit.expires {
            blob.expire_at(expires);
        }
        blob.set_script(explicit.script);
        blob
    }

    /// `contentExpiration`.
    pub(crate) fn expires(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.expires_millis.load(Ordering::Relaxed))
            .unwrap_or(self.created)
    }

    /// Moves the expiry.
    pub(crate) fn expire_at(&self, at: DateTime<Utc>) {
        self.expires_millis
            .store(at.timestamp_millis(), Ordering::Relaxed);
    }

    /// Sets how the blob answers, whatever the probabilities say.
    pub(crate) fn set_script(&self, script: Option<Script>) {
        *lock(&self.script) = script;
    }

    /// The script's failure for this answer, counting it.
    pub(crate) fn scripted(&self) -> Option<crate::faults::Failure> {
        let mut script = lock(&self.script);
        let current = script.as_mut()?;
        match &mut current.times {
            Some(0) => {
                *script = None;
                None
            }
            Some(times) => {
                *times -= 1;
                Some(current.failure)
            }
            None => Some(current.failure),
        }
    }

    /// Whether the body is made and sent piece by piece.
    pub(crate) fn is_giant(&self) -> bool {
        match &self.content {
            Content::Generated(recipe, blob) => recipe.is_giant(*blob),
            Content::Again(blob) => blob.is_giant(),
            Content::Records(_) | Content::Body(_) => false,
        }
    }

    /// Makes the plain body and hands it out in pieces for as long as `send` takes them.
    pub(crate) fn pieces(&self, mut send: impl FnMut(Vec<u8>) -> bool) {
        let mut piece = Vec::with_capacity(PIECE_BYTES + (16 << 10));
        piece.push(b'[');
        let mut first = true;
        let mut wanted = true;
        let mut add = |record: &[u8]| {
            if !first {
                piece.push(b',');
            }
            first = false;
            piece.extend_from_slice(record);
            if piece.len() >= PIECE_BYTES {
                wanted = send(std::mem::replace(
                    &mut piece,
                    Vec::with_capacity(PIECE_BYTES + (16 << 10)),
                ));
            }
            wanted
        };
        match &self.content {
            Content::Generated(recipe, blob) => recipe.each(*blob, |record, _| add(record)),
            Content::Records(records) => {
                for record in records {
                    add(record);
                }
            }
            Content::Body(body) => {
                send(body.to_vec());
                return;
            }
            Content::Again(blob) => return blob.pieces(send),
        }
        if wanted {
            piece.push(b']');
            send(piece);
        }
    }

    /// The plain body.
    pub(crate) fn plain(&self) -> Bytes {
        let mut body = Vec::new();
        self.pieces(|piece| {
            if body.is_empty() {
                body = piece;
            } else {
                body.extend_from_slice(&piece);
            }
            true
        });
        body.into()
    }

    /// The compressed body, kept if the cache has room for it.
    pub(crate) fn gzip(&self, cache: &Cache) -> Bytes {
        if let Content::Again(blob) = &self.content {
            return blob.gzip(cache);
        }
        if let Some(kept) = self.gzip.get() {
            return kept.clone();
        }
        let mut compressed = Compressor::new();
        self.pieces(|piece| {
            compressed.add(&piece);
            true
        });
        // Without the room that it grew into.
        let body = Bytes::from(compressed.finish().into_boxed_slice());
        if cache.reserve(body.len()) {
            // A second request for the same blob may have been faster; then its body stays.
            return self.gzip.get_or_init(|| body).clone();
        }
        body
    }
}

/// Compresses a body piece by piece, fast rather than small.
pub(crate) struct Compressor(GzEncoder<Vec<u8>>);

impl Compressor {
    /// An empty body.
    pub(crate) fn new() -> Self {
        Self(GzEncoder::new(
            Vec::with_capacity(32 << 10),
            Compression::new(1),
        ))
    }

    /// Adds a piece. Writing into memory cannot fail.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        if let Err(error) = std::io::Write::write_all(&mut self.0, piece) {
            tracing::error!(%error, "compression failed");
        }
    }

    /// What has come out so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }

    /// The rest.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.finish().unwrap_or_default()
    }
}

/// Counts the memory of compressed bodies.
pub(crate) struct Cache {
    limit: usize,
    used: AtomicUsize,
}

impl Cache {
    /// A cache of this many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
        }
    }

    fn reserve(&self, bytes: usize) -> bool {
        let room = |used: usize| (used + bytes <= self.limit).then_some(used + bytes);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .is_ok()
    }
}

/// All blobs of a tenant, in the order in which they were made.
#[derive(Default)]
pub(crate) struct Feed {
    blobs: Vec<Arc<Blob>>,
    by_id: HashMap<Arc<str>, usize>,
    by_time: HashMap<ContentType, Vec<usize>>,
}

/// Where a page of a listing starts: after the blob with this time and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) created_millis: i64,
    pub(crate) number: usize,
}

impl Feed {
    /// Adds blobs and keeps each feed in the order of `contentCreated`.
    pub(crate) fn add(&mut self, blobs: impl IntoIterator<Item = Arc<Blob>>) {
        for blob in blobs {
            let number = self.blobs.len();
            if self.by_id.insert(Arc::clone(&blob.id), number).is_some() {
                tracing::warn!(blob = %blob.id, "a content id came up twice; the later blob hides the earlier");
            }
            self.by_time
                .entry(blob.content_type)
                .or_default()
                .push(number);
            self.blobs.push(blob);
        }
        let blobs = &self.blobs;
        for numbers in self.by_time.values_mut() {
            // Nearly sorted already: the sort finds the runs.
            numbers.sort_by_key(|number| (blobs[*number].created, *number));
        }
    }

    /// The blob with this content id.
    pub(crate) fn find(&self, id: &str) -> Option<&Arc<Blob>> {
        self.by_id.get(id).map(|number| &self.blobs[*number])
    }

    /// Every blob, in the order in which they were made.
    pub(crate) fn all(&self) -> &[Arc<Blob>] {
        &self.blobs
    }

    /// Up to `limit` blobs of a feed with `start <= contentCreated < end` after the cursor that
    /// `shown` lets through, and the cursor of the last if there are more.
    pub(crate) fn page(
        &self,
        content_type: ContentType,
        (start, end): (DateTime<Utc>, DateTime<Utc>),
        after: Option<Cursor>,
        limit: usize,
        shown: impl Fn(&Blob) -> bool,
    ) -> (Vec<Arc<Blob>>, Option<Cursor>) {
        let Some(numbers) = self.by_time.get(&content_type) else {
            return (Vec::new(), None);
        };
        let cursor = |number: usize| Cursor {
            created_millis: self.blobs[number].created.timestamp_millis(),
            number,
        };
        let from = numbers.partition_point(|number| match after {
            Some(after) => {
                let here = cursor(*number);
                (here.created_millis, here.number) <= (after.created_millis, after.number)
            }
            None => self.blobs[*number].created < start,
        });
        let mut page: Vec<Arc<Blob>> = Vec::new();
        let mut last = None;
        for number in &numbers[from..] {
            let blob = &self.blobs[*number];
            if blob.created >= end {
                break;
            }
            if !shown(blob) {
                continue;
            }
            if page.len() == limit {
                return (page, last);
            }
            page.push(Arc::clone(blob));
            last = Some(cursor(*number));
        }
        (page, None)
    }
}
