//! What one source holds of a day, on the disk: in piles of a quarter of an hour, so that those of all sources can be
//! compared one after the other in little memory.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::dedupe::{Fingerprinter, Key};
use crate::error::{Error, Result};
use crate::event::AuditEvent;
use crate::plugin::{Batch, Delivered, Sink};

/// Piles of a day. Several sources have their files open at once, far from the usual limit of descriptors (1024).
pub(super) const PILES: usize = 96;
/// Seconds of event time in each.
const PILE_SECONDS: i64 = 86_400 / PILES as i64;
/// Characters of a text that are kept. Names are shorter.
const MOST_TEXT: usize = 400;
/// Before each event: its key, and the bytes of what is told of it.
const HEAD: usize = 16 + 4;

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
    files: Vec<Option<BufWriter<File>>>,
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

    fn take(&mut self, event: &AuditEvent) -> Result<()> {
        let text = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| shortened(&text));
        let (id, operation) = (text(event.id()), text(event.operation()));
        let (Some(time), Some(id), Some(operation)) = (event.created(), id, operation) else {
            let is_of_day = event.created().is_none_or(|time| self.pile(time).is_some());
            self.incomparable += u64::from(is_of_day);
            return Ok(());
        };
        let Some(pile) = self.pile(time) else {
            return Ok(());
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
            none => none.insert(BufWriter::new(
                OpenOptions::new()
                    .create_new(true)
                    .write(true)
                    .mode(0o600)
                    .open(self.folder.join(pile.to_string()))?,
            )),
        };
        file.write_all(&key.to_bytes())?;
        file.write_all(&(detail.len() as u32).to_le_bytes())?;
        file.write_all(&detail)?;
        Ok(())
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

    /// One of the piles, to be read.
    pub(super) fn open(&self, pile: usize) -> Result<Option<Pile>> {
        if self.files[pile].is_none() {
            return Ok(None);
        }
        Pile::open(&self.folder.join(pile.to_string())).map(Some)
    }
}

/// The text, or as much of it as is kept.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A pile that is read.
pub(super) struct Pile {
    file: File,
    /// The event's keys, and where what is told of them stands.
    pub(super) events: Vec<(Key, u64)>,
}

impl Pile {
    fn open(path: &Path) -> Result<Self> {
        let mut text = BufReader::new(File::open(path)?);
        let (mut events, mut offset, mut head) = (Vec::new(), 0, [0; HEAD]);
        while read_whole(&mut text, &mut head)? {
            let key = Key::from_bytes(head.first_chunk().copied().unwrap_or_default());
            let bytes = u32::from_le_bytes(head.last_chunk().copied().unwrap_or_default());
            events.push((key, offset));
            text.seek_relative(i64::from(bytes))?;
            offset += HEAD as u64 + u64::from(bytes);
        }
        let file = text.into_inner();
        Ok(Self { file, events })
    }

    /// What is told of the event that stands there.
    pub(super) fn detail(&self, offset: u64) -> Result<Detail> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, offset + 16)?;
        let mut detail = vec![0; u32::from_le_bytes(bytes) as usize];
        self.file.read_exact_at(&mut detail, offset + HEAD as u64)?;
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
        let (piles, events) = (Arc::clone(&self.0), batch.events.clone());
        let taken = spawn_blocking(move || {
            let mut piles = piles.lock().unwrap_or_else(PoisonError::into_inner);
            events.iter().try_for_each(|event| piles.take(event))
        });
        taken
            .await
            .map_err(|error| Error::bug("noting events stopped").with_cause(error))??;
        Ok(Delivered::default())
    }
}
