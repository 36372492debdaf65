//! Whether the database holds what was written: `SQLite` itself does not notice a flipped bit in a value.
//!
//! - `journal.sums` has a sum for each page of the database. It is made anew after each checkpoint, before the log may
//!   begin anew; so each page that is not in the log is as `journal.sums` says, whenever the process ends.
//! - `journal.mark` says how long the log is. It is written after each commit, and not synced: after `kill -9` it is
//!   exact, after a power loss it may say less. A log that is shorter has lost commits.
//! - Frames in the log have sums of `SQLite`'s own.
//!
//! For this the writer makes the checkpoints itself.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::Connection;
use xxhash_rust::xxh3::xxh3_64;

use super::wal::{self, Salts, Scan};
use super::{FILE, damaged, sql};
use crate::durable;
use crate::error::{Error, Result};

const SUMS: &str = "journal.sums";
const MARK: &str = "journal.mark";
/// The log of [`FILE`].
const LOG: &str = "journal.sqlite-wal";
/// Bytes of a page of the database.
pub(super) const PAGE: usize = 8192;
/// Frames in the log at which a checkpoint is made: `SQLite`'s own default.
const CHECKPOINT: u32 = 1000;

/// What is known of a database before it is opened.
#[derive(Debug)]
pub(super) enum Known {
    /// It is not there yet, as is nothing else.
    New,
    /// Nothing tells what it should hold.
    Unknown,
    /// It holds what was written.
    Sound(Vec<u64>),
}

/// Keeps the sums of an open database.
#[derive(Debug)]
pub(super) struct Sums {
    dir: PathBuf,
    /// Nothing while they are not known.
    pages: Option<Vec<u64>>,
    /// Frames in the log.
    frames: Arc<AtomicU32>,
    /// How many of them make a checkpoint due.
    due: u32,
}

/// Compares the database in `dir` with its sums. Nothing may have it open.
pub(super) fn verify(dir: &Path) -> Result<Known> {
    let database = dir.join(FILE);
    let bytes = match database.metadata() {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error.into()),
    };
    if bytes == 0 {
        if has_more_than_a_database(dir)? {
            return Err(damaged(&database, "it is missing, or empty"));
        }
        return Ok(Known::New);
    }
    let log = wal::scan(&dir.join(LOG), PAGE)?;
    verify_log(dir, &log)?;
    let Some(sums) = read_sums(dir)? else {
        return Ok(Known::Unknown);
    };
    let found = page_sums(&database, bytes)?;
    match differing(&found, &sums, &log).count() {
        0 => Ok(Known::Sound(found)),
        wrong => Err(damaged(
            &database,
            &format!(
                "{wrong} of its {} pages hold something else than was written",
                found.len().max(sums.len())
            ),
        )),
    }
}

/// The pages of a database that hold something else than was written, from 1. Nothing if that is not known.
pub(super) fn wrong_pages(dir: &Path) -> Result<Option<BTreeSet<u32>>> {
    let Some(sums) = read_sums(dir)? else {
        return Ok(None);
    };
    let database = dir.join(FILE);
    let found = page_sums(&database, database.metadata()?.len())?;
    let log = wal::scan(&dir.join(LOG), PAGE)?;
    Ok(Some(differing(&found, &sums, &log).collect()))
}

/// Pages that are in the log may differ: what counts of them is there.
fn differing(found: &[u64], sums: &[u64], log: &Scan) -> impl Iterator<Item = u32> {
    let pages = u32::try_from(found.len().max(sums.len())).unwrap_or(u32::MAX);
    let sum = |sums: &[u64], page: u32| sums.get(page as usize - 1).copied();
    (1..=pages)
        .filter(move |page| !log.pages.contains(page) && sum(found, *page) != sum(sums, *page))
}

/// Whether the log holds all that was committed, as far as that is known.
fn verify_log(dir: &Path, log: &Scan) -> Result<()> {
    let Some((salts, frames)) = read_mark(dir)? else {
        return Ok(());
    };
    let is_whole = match log.salts {
        // It has begun anew since, which it does only after a checkpoint.
        Some(found) if found != salts => (1..1 << 31).contains(&found[0].wrapping_sub(salts[0])),
        Some(_) => log.frames >= frames,
        None => frames == 0,
    };
    if is_whole || frames == 0 {
        return Ok(());
    }
    Err(damaged(
        &dir.join(LOG),
        &format!(
            "{} of its first {frames} pages are whole",
            if log.salts == Some(salts) {
                log.frames
            } else {
                0
            }
        ),
    ))
}

/// Whether there are files that only a journal that was used has.
fn has_more_than_a_database(dir: &Path) -> Result<bool> {
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let is_part = |prefix: &str| name.starts_with(prefix);
        if name == SUMS || name == MARK || is_part("bodies.") || is_part("ids.") {
            return Ok(true);
        }
    }
    Ok(false)
}

fn page_sums(database: &Path, bytes: u64) -> Result<Vec<u64>> {
    let file = File::open(database)?;
    let pages = bytes.div_ceil(PAGE as u64);
    (0..pages).map(|page| page_sum(&file, page)).collect()
}

fn page_sum(file: &File, page: u64) -> Result<u64> {
    let mut bytes = [0; PAGE];
    let mut filled = 0;
    while filled < PAGE {
        match file.read_at(&mut bytes[filled..], page * PAGE as u64 + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(xxh3_64(&bytes[..filled]))
}

/// The sums, if they are there and whole.
fn read_sums(dir: &Path) -> Result<Option<Vec<u64>>> {
    let bytes = match std::fs::read(dir.join(SUMS)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sums: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let last = sums.pop();
    let end = bytes.len().saturating_sub(8);
    let is_whole = rest.is_empty() && last == Some(xxh3_64(&bytes[..end]));
    Ok(is_whole.then_some(sums))
}

/// The salts and the length of the log after the last commit, if that is known. Length 0: the database has all.
fn read_mark(dir: &Path) -> Result<Option<(Salts, u32)>> {
    let bytes = match std::fs::read(dir.join(MARK)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let words: Vec<u32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word))
        .collect();
    Ok(match words[..] {
        [one, two, frames, _, _] if bytes == mark([one, two], frames) => Some(([one, two], frames)),
        _ => None,
    })
}

fn mark(salts: Salts, frames: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&salts[0].to_le_bytes());
    bytes[4..8].copy_from_slice(&salts[1].to_le_bytes());
    bytes[8..12].copy_from_slice(&frames.to_le_bytes());
    let sum = xxh3_64(&bytes[..12]);
    bytes[12..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn open_mark(dir: &Path) -> Result<File> {
    Ok(OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join(MARK))?)
}

impl Sums {
    /// Watches the commits of `conn`, which has just been opened. Checkpoints are ours from now on.
    pub(super) fn watch(conn: &mut Connection, dir: &Path, known: &Known) -> Result<Self> {
        let frames = Arc::new(AtomicU32::new(0));
        let mut marker = Marker {
            log: dir.join(LOG),
            open: None,
            mark: open_mark(dir)?,
            frames: Arc::clone(&frames),
        };
        sql(
            conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, length| {
                marker.note(length);
                Ok(())
            })),
        )?;
        Ok(Self {
            dir: dir.to_owned(),
            pages: match known {
                Known::Sound(pages) => Some(pages.clone()),
                Known::New | Known::Unknown => None,
            },
            frames,
            due: CHECKPOINT,
        })
    }

    /// Makes the first sums of a database that has none.
    pub(super) fn begin(&mut self, conn: &Connection, known: &Known) -> Result<()> {
        if let Known::Sound(_) = known {
            return Ok(());
        }
        if let Known::Unknown = known {
            tracing::warn!(
                "the sums of the journal's database are missing or damaged; it is checked without them"
            );
            check_structure(conn, &self.dir)?;
        }
        // What is in the log has sums there. A full disk keeps nobody from opening a journal.
        if let Err(error) = self.take_all() {
            self.forget(&error);
        }
        Ok(())
    }

    fn take_all(&mut self) -> Result<()> {
        let database = self.dir.join(FILE);
        let pages = page_sums(&database, database.metadata()?.len())?;
        self.store(&pages)?;
        self.pages = Some(pages);
        Ok(())
    }

    /// Makes a checkpoint if one is due.
    pub(super) fn maintain(&mut self, conn: &Connection) {
        let frames = self.frames.load(Ordering::Relaxed);
        if frames < CHECKPOINT {
            self.due = CHECKPOINT;
        }
        if frames >= self.due
            && let Err(error) = self.checkpoint(conn)
        {
            self.forget(&error);
        }
    }

    /// Ends a journal in good order: the database has all, its log nothing.
    pub(super) fn close(mut self, conn: &Connection) {
        let ended = self.checkpoint(conn).and_then(|complete| {
            if complete {
                let file = open_mark(&self.dir)?;
                file.write_all_at(&mark([0; 2], 0), 0)?;
                file.sync_data()?;
                sql(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))?;
            }
            Ok(())
        });
        if let Err(error) = ended {
            self.forget(&error);
        }
    }

    /// Brings the log's pages into the database and their sums to the disk. Whether nothing in the log is needed any
    /// more.
    fn checkpoint(&mut self, conn: &Connection) -> Result<bool> {
        let (frames, complete) = checkpoint(conn)?;
        self.due = frames + CHECKPOINT;
        let path = self.dir.join(FILE);
        let bytes = path.metadata()?.len();
        // Known again only once all of it has worked.
        let pages = match self.pages.take() {
            None => page_sums(&path, bytes)?,
            Some(pages) if frames == 0 => pages,
            Some(mut pages) => {
                let database = File::open(&path)?;
                pages.resize(usize::try_from(bytes.div_ceil(PAGE as u64)).unwrap_or(0), 0);
                for page in wal::pages(&File::open(self.dir.join(LOG))?, frames, PAGE)? {
                    if let Some(sum) = pages.get_mut(page as usize - 1) {
                        *sum = page_sum(&database, u64::from(page) - 1)?;
                    }
                }
                pages
            }
        };
        self.store(&pages)?;
        self.pages = Some(pages);
        Ok(complete)
    }

    /// Without sums the database counts as unknown, which is better than wrong ones.
    fn forget(&self, error: &Error) {
        tracing::warn!(%error, "the sums of the journal's database cannot be kept; a later start checks it without them");
        if let Err(error) = std::fs::remove_file(self.dir.join(SUMS))
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, file = SUMS, "cannot be removed");
        }
    }

    /// Replaces the file, on disk when this returns.
    fn store(&self, pages: &[u64]) -> Result<()> {
        let mut bytes: Vec<u8> = pages.iter().flat_map(|sum| sum.to_le_bytes()).collect();
        let last = xxh3_64(&bytes);
        bytes.extend_from_slice(&last.to_le_bytes());
        Ok(durable::replace(&self.dir.join(SUMS), &bytes)?)
    }
}

/// Frames in the log, and whether the database has all of them now.
fn checkpoint(conn: &Connection) -> Result<(u32, bool)> {
    sql(conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (frames, done): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok((u32::try_from(frames).unwrap_or(0), frames == done))
    }))
}

/// Lets `SQLite` look for what contradicts itself.
pub(super) fn check_structure(conn: &Connection, dir: &Path) -> Result<()> {
    let found: String = sql(conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(damaged(&dir.join(FILE), &found))
    }
}

/// Writes the mark after each commit.
#[derive(Debug)]
struct Marker {
    log: PathBuf,
    open: Option<File>,
    mark: File,
    frames: Arc<AtomicU32>,
}

impl Marker {
    fn note(&mut self, length: i32) {
        let length = u32::try_from(length).unwrap_or(0);
        self.frames.store(length, Ordering::Relaxed);
        if let Err(error) = self.write(length) {
            // An old one is shorter, which only makes it say less.
            tracing::debug!(%error, "the length of the journal's log cannot be noted");
        }
    }

    fn write(&mut self, length: u32) -> Result<()> {
        let log = match &mut self.open {
            Some(log) => log,
            closed => closed.insert(File::open(&self.log)?),
        };
        let salts = wal::salts(log)?;
        Ok(self.mark.write_all_at(&mark(salts, length), 0)?)
    }
}
