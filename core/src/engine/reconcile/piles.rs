//! What one source holds of a day, on the disk: in piles of a quarter of an hour, so that those of all sources can be
//! compared one after the other in little memory.

use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::dedupe::{Fingerprinter, Key};
use crate::error::{Error, Result, ResultExt as _};
use crate::event::AuditEvent;
use crate::plugin::{Batch, Delivered, Sink};

/// Piles of a day. Several sources have their files open at once, far from the usual limit of descriptors (1024).
pub(super) const PILES: usize = 96;
/// Seconds of event time in each.
const PILE_SECONDS: i64 = 86_400 / PILES as i64;
/// Characters of a text that are kept. Names are shorter.
const MOST_TEXT: usize = 400;
/// Before each event: its key, its time in microseconds since 1970, and the bytes of what is told of it.
const HEAD: usize = 16 + 8 + 4;
/// What fails if the disk is full.
pub(super) const TEMPORARY: &str =
    "writing to the temporary folder (TMPDIR can name another, with more room)";
/// Bytes of a pile that wait in memory to be written together.
const WAITING: usize = 8 << 10;

/// What is told of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// `CreationTime`.
    pub time: DateTime<Utc>,
    /// `Id`.
    pub id: String,
    /// `Operation`.
    pub operation: String,
    /// `RecordType`, as a number.
    pub record_type: Option<i64>,
    /// `Workload`.
    pub workload: String,
    /// `UserId`.
    pub user: String,
    /// The content type, or what its source has in its place.
    pub content_type: String,
}

/// The events of one source.
pub(super) struct Piles {
    folder: PathBuf,
    files: Vec<Option<Growing>>,
    fingerprinter: Fingerprinter,
    from: DateTime<Utc>,
    /// Events without an Id, a time or an operation: nothing tells them from others.
    pub(super) incomparable: u64,
}

impl Piles {
    /// Empty ones, in a folder of their own, for the day that begins at `from`.
    pub(super) fn create(
        folder: &Path,
        fingerprinter: Fingerprinter,
        from: DateTime<Utc>,
    ) -> Result<Self> {
        std::fs::create_dir(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            files: (0..PILES).map(|_| None).collect(),
            fingerprinter,
            from,
            incomparable: 0,
        })
    }

    /// Adds the events of a delivery. If that fails, they may all come again: an event that is there twice counts once.
    fn take_all(&mut self, events: &[AuditEvent]) -> Result<()> {
        let mut incomparable = 0;
        for event in events {
            incomparable += u64::from(!self.take(event)?);
        }
        self.incomparable += incomparable;
        Ok(())
    }

    /// Adds an event if it is of the day. False if nothing tells it from others.
    fn take(&mut self, event: &AuditEvent) -> Result<bool> {
        let text = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| shortened(&text));
        let (id, operation) = (text(event.id()), text(event.operation()));
        let (Some(time), Some(id), Some(operation)) = (event.created(), id, operation) else {
            let is_of_day = event.created().is_none_or(|time| self.pile(time).is_some());
            return Ok(!is_of_day);
        };
        let Some(pile) = self.pile(time) else {
            return Ok(true);
        };
        let detail = Detail {
            time,
            id,
            operation,
            record_type: event.record_type().map(|record_type| record_type.0),
            workload: text(event.workload()).unwrap_or_default(),
            user: text(event.user_id()).unwrap_or_default(),
            content_type: event.origin().content_type.to_string(),
        };
        let detail = serde_json::to_vec(&detail)
            .map_err(|error| Error::bug("an event cannot be noted as JSON").with_cause(error))?;
        let key = self.fingerprinter.of(event, 0, 0).key();
        let file = match &mut self.files[pile] {
            Some(file) => file,
            none => none.insert(Growing::create(&self.folder.join(pile.to_string()))?),
        };
        file.add(key, time, &detail)?;
        Ok(true)
    }

    /// The pile of a time, if it is of the day.
    fn pile(&self, time: DateTime<Utc>) -> Option<usize> {
        let seconds = (time - self.from).num_seconds();
        let pile = usize::try_from(seconds.div_euclid(PILE_SECONDS)).ok()?;
        (pile < PILES && time >= self.from).then_some(pile)
    }

    /// Writes what is still in memory.
    pub(super) fn end(&mut self) -> Result<()> {
        for file in self.files.iter_mut().flatten() {
            file.flush()?;
        }
        Ok(())
    }

    /// Lets each write to the first pile fail, until the disk is mended with what this returns.
    #[cfg(test)]
    pub(super) fn break_disk(&mut self) -> File {
        let only_read = File::open(self.folder.join("0"));
        let file = self.files[0].as_mut().map(|pile| &mut pile.file);
        std::mem::replace(file.unwrap(), only_read.unwrap())
    }

    #[cfg(test)]
    pub(super) fn mend_disk(&mut self, whole: File) {
        self.files[0].as_mut().unwrap().file = whole;
    }

    /// One of the piles, to be read. Hands each event's key, and where it stands, to `tell`.
    pub(super) fn open(&self, pile: usize, tell: impl FnMut(Key, u64)) -> Result<Option<Pile>> {
        if self.files[pile].is_none() {
            return Ok(None);
        }
        Pile::open(&self.folder.join(pile.to_string()), tell).map(Some)
    }
}

/// A pile that is written.
struct Growing {
    file: File,
    /// Bytes that are in the file for good.
    written: u64,
    /// What comes after them. If writing it fails, it is tried again at the same place, over whatever a full disk took.
    waiting: Vec<u8>,
}

impl Growing {
    fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            file: private(path)?,
            written: 0,
            waiting: Vec::with_capacity(WAITING),
        })
    }

    /// Adds an event; nothing of it if this fails.
    fn add(&mut self, key: Key, time: DateTime<Utc>, detail: &[u8]) -> Result<()> {
        if self.waiting.len() >= WAITING {
            self.flush()?;
        }
        let waiting = &mut self.waiting;
        waiting.extend_from_slice(&key.to_bytes());
        waiting.extend_from_slice(&time.timestamp_micros().to_le_bytes());
        waiting.extend_from_slice(&(detail.len() as u32).to_le_bytes());
        waiting.extend_from_slice(detail);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all_at(&self.waiting, self.written);
        written.context(TEMPORARY)?;
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }
}

/// A new file that only its owner may read: records hold personal data.
pub(super) fn private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let made = options.create_new(true).write(true).mode(0o600).open(path);
    made.context(TEMPORARY)
}

/// The text, or as much of it as is kept.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A pile that is read.
pub(super) struct Pile(File);

impl Pile {
    fn open(path: &Path, mut tell: impl FnMut(Key, u64)) -> Result<Self> {
        let mut text = BufReader::new(File::open(path)?);
        let (mut offset, mut head) = (0, [0; HEAD]);
        while read_whole(&mut text, &mut head)? {
            let key = Key::from_bytes(head.first_chunk().copied().unwrap_or_default());
            let bytes = u32::from_le_bytes(head.last_chunk().copied().unwrap_or_default());
            tell(key, offset);
            text.seek_relative(i64::from(bytes))?;
            offset += HEAD as u64 + u64::from(bytes);
        }
        Ok(Self(text.into_inner()))
    }

    /// The time of the event that stands there, in microseconds since 1970.
    pub(super) fn time(&self, offset: u64) -> Result<i64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, offset + 16)?;
        Ok(i64::from_le_bytes(bytes))
    }

    /// What is told of it.
    pub(super) fn detail(&self, offset: u64) -> Result<Detail> {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, offset + 24)?;
        let mut detail = vec![0; u32::from_le_bytes(bytes) as usize];
        self.0.read_exact_at(&mut detail, offset + HEAD as u64)?;
        serde_json::from_slice(&detail)
            .map_err(|error| Error::bug("an event was noted wrongly").with_cause(error))
    }
}

/// Fills `head`. False at the end of the file.
fn read_whole(text: &mut impl std::io::BufRead, head: &mut [u8]) -> Result<bool> {
    if text.fill_buf()?.is_empty() {
        return Ok(false);
    }
    text.read_exact(head)?;
    Ok(true)
}

/// The sink that makes the piles.
pub(super) struct Collector(pub(super) Arc<Mutex<Piles>>);

#[async_trait]
impl Sink for Collector {
    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let (piles, events) = (Arc::clone(&self.0), Arc::clone(&batch.events));
        let taken = spawn_blocking(move || {
            let mut piles = piles.lock().unwrap_or_else(PoisonError::into_inner);
            piles.take_all(&events)
        });
        taken
            .await
            .map_err(|error| Error::bug("noting events stopped").with_cause(error))??;
        Ok(Delivered::default())
    }
}
