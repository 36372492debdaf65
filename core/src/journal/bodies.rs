//! Where the bodies of batches lie: files beside the database that are only appended to.
//!
//! Rows and ids are small and change; bodies are large, written once, seldom read, and freed in the order in which they
//! came. In the database each would be written twice. A body is on disk before the row that names its place is
//! committed. A file that no row names any more is written anew under another name, which is cheaper for the file system
//! than a new one, or deleted. If batches that nobody delivers keep many files alive that are mostly free, they are moved
//! together.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::place::{Place, number_of, path, sum};
use super::sql;
use super::writer::Tx;
use crate::error::{Error, Kind, Result};
use crate::sizes::size;

/// A file that has reached this size is closed.
const CLOSE_AT: u64 = 8 << 20;

fn close_at() -> u64 {
    size("BODIES_FILE_BYTES", CLOSE_AT)
}
/// Free files that are kept to be written anew.
const SPARE: usize = 2;
/// Free bytes in files that are never worth moving anything for.
const SLACK: u64 = 64 << 20;
/// Bytes that are moved in one transaction.
const MOVE_BYTES: u64 = 4 << 20;

/// What is known of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    written: u64,
    /// What rows name.
    kept: u64,
}

/// The file that is appended to.
#[derive(Debug)]
struct Open {
    number: i64,
    file: File,
    end: u64,
}

/// The files of one journal, as its writer thread knows them.
#[derive(Debug)]
pub(super) struct Bodies {
    dir: PathBuf,
    files: BTreeMap<i64, Size>,
    open: Option<Open>,
    /// Files that a failure has closed, until a later transaction has committed.
    given_up: Vec<i64>,
    /// Files to be written anew.
    spare: Vec<i64>,
    /// The number of the next file.
    next: i64,
    /// What the open transaction has added, and what it has freed.
    added: Vec<Place>,
    freed: Vec<(i64, u64)>,
}

/// A place in the open transaction, to go back to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mark {
    added: usize,
    freed: usize,
}

impl Bodies {
    /// Finds the files of the journal in `dir`, removes those that no row names, and says which are missing or too
    /// short.
    pub(super) fn load(conn: &Connection, dir: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut select = sql(conn.prepare(
            "SELECT file, sum(stored_bytes), max(offset + stored_bytes) FROM batches GROUP BY file",
        ))?;
        let mut rows = sql(select.query([]))?;
        while let Some(row) = sql(rows.next())? {
            let (number, kept, end) = (
                sql(row.get::<_, i64>(0))?,
                sql(row.get::<_, i64>(1))?,
                sql(row.get::<_, i64>(2))?,
            );
            let path = path(dir, number);
            let written = path.metadata().map_or(0, |found| found.len());
            if written < end as u64 {
                let how = format!("it has {written} bytes of at least {end}");
                return Err(super::damaged(&path, &how));
            }
            let kept = kept as u64;
            files.insert(number, Size { written, kept });
        }
        let mut next = 1;
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let Some(number) = number_of(&entry.path()) else {
                continue;
            };
            next = next.max(number + 1);
            if !files.contains_key(&number) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            files,
            open: None,
            given_up: Vec::new(),
            spare: Vec::new(),
            next,
            added: Vec::new(),
            freed: Vec::new(),
        })
    }

    /// Appends a body. It stays if the transaction commits.
    pub(super) fn append(&mut self, body: &[u8]) -> Result<Place> {
        if self.open.is_none() {
            self.open = Some(self.create()?);
        }
        let Some(open) = &mut self.open else {
            return Err(Error::bug("the file for bodies is gone"));
        };
        open.file
            .write_all_at(body, open.end)
            .map_err(|error| unwritable(&path(&self.dir, open.number), error))?;
        let place = Place {
            file: open.number,
            offset: open.end,
            bytes: body.len() as u64,
            sum: sum(body),
        };
        open.end += place.bytes;
        self.added.push(place);
        Ok(place)
    }

    /// An empty file, or one to be written anew, whose name is on disk.
    fn create(&mut self) -> Result<Open> {
        // A number is never used again, not even after a failure: who still holds an old place finds no file.
        let number = self.next;
        self.next += 1;
        let new = path(&self.dir, number);
        let old = self.spare.pop().map(|old| path(&self.dir, old));
        let create = || {
            let mut open = OpenOptions::new();
            open.write(true).mode(0o600);
            let file = match &old {
                Some(old) => {
                    std::fs::rename(old, &new)?;
                    fail::fail_point!("journal::recycle");
                    open.open(&new)?
                }
                None => open.create_new(true).open(&new)?,
            };
            File::open(&self.dir)?.sync_all()?;
            Ok(file)
        };
        let file = create().map_err(|error| {
            // Whichever name it has now: nobody would look for it before the next start.
            for left in old.iter().chain([&new]) {
                drop(std::fs::remove_file(left));
            }
            unwritable(&new, error)
        })?;
        self.files.insert(number, Size::default());
        Ok(Open {
            number,
            file,
            end: 0,
        })
    }

    /// A body will be freed if the transaction commits.
    pub(super) fn free(&mut self, file: i64, bytes: u64) {
        self.freed.push((file, bytes));
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            added: self.added.len(),
            freed: self.freed.len(),
        }
    }

    /// Forgets what the transaction has done since `mark`.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        if let (Some(first), Some(open)) = (self.added.get(mark.added), &mut self.open) {
            open.end = first.offset;
        }
        self.added.truncate(mark.added);
        self.freed.truncate(mark.freed);
    }

    /// Brings what was added to the disk.
    pub(super) fn sync(&mut self) -> Result<()> {
        if self.added.is_empty() {
            return Ok(());
        }
        let Some(open) = &self.open else {
            return Err(Error::bug("the file for bodies is gone"));
        };
        if let Err(error) = open.file.sync_data() {
            let path = path(&self.dir, open.number);
            // What the disk has of it is not known any more: nothing is appended to it.
            self.give_up();
            return Err(unwritable(&path, error));
        }
        fail::fail_point!("journal::bodies");
        Ok(())
    }

    /// Nothing is written over in the file that is appended to: a transaction whose commit failed may be found in the
    /// database's log after a crash, as long as no other has committed, and its rows name places there.
    pub(super) fn give_up(&mut self) {
        self.given_up
            .extend(self.open.take().map(|open| open.number));
    }

    /// The transaction holds.
    pub(super) fn committed(&mut self) {
        for place in self.added.drain(..) {
            let size = self.files.entry(place.file).or_default();
            size.written = place.offset + place.bytes;
            size.kept += place.bytes;
        }
        for (file, bytes) in std::mem::take(&mut self.freed) {
            if let Some(size) = self.files.get_mut(&file) {
                size.kept = size.kept.saturating_sub(bytes);
            }
            self.drop_if_free(file);
        }
        for file in std::mem::take(&mut self.given_up) {
            self.drop_if_free(file);
        }
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.end >= close_at())
        {
            self.close();
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            self.drop_if_free(open.number);
        }
    }

    fn drop_if_free(&mut self, file: i64) {
        let free = self.files.get(&file).is_some_and(|size| size.kept == 0);
        if !free || self.open.as_ref().is_some_and(|open| open.number == file) {
            return;
        }
        let size = self.files.remove(&file).unwrap_or_default();
        if size.written >= close_at() && self.spare.len() < SPARE {
            self.spare.push(file);
            return;
        }
        let path = path(&self.dir, file);
        if let Err(error) = std::fs::remove_file(&path) {
            // The next start removes it.
            tracing::warn!(path = %path.display(), %error, "a file of the journal that is not needed any more cannot be removed");
        }
    }

    /// Bytes on disk.
    pub(super) fn used_bytes(&self) -> u64 {
        let spare = self.spare.len() as u64 * close_at();
        spare + self.files.values().map(|size| size.written).sum::<u64>()
    }

    /// The file that holds least, if so much is free in closed files that moving what they hold is worth it.
    pub(super) fn sparse(&self) -> Option<i64> {
        let open = self.open.as_ref().map(|open| open.number);
        let closed = || {
            let files = self.files.iter();
            files.filter(|(file, size)| Some(**file) != open && size.kept > 0)
        };
        let kept: u64 = closed().map(|(_, size)| size.kept).sum();
        let free = closed().map(|(_, size)| size.written).sum::<u64>() - kept;
        let (file, _) = closed().min_by_key(|(_, size)| size.kept)?;
        (free > kept.max(SLACK)).then_some(*file)
    }
}

/// Moves a part of what rows name in `file` to the file that is appended to.
pub(super) fn move_some(tx: &mut Tx<'_>, file: i64) -> Result<()> {
    let mut places = Vec::new();
    {
        let mut select = sql(tx.conn.prepare_cached(
            "SELECT seq, file, offset, stored_bytes, sum FROM batches WHERE file = ?1",
        ))?;
        let mut rows = sql(select.query([file]))?;
        let mut bytes = 0;
        while let Some(row) = sql(rows.next())?
            && bytes < MOVE_BYTES
        {
            let place = Place::of(row, 1)?;
            bytes += place.bytes;
            places.push((sql(row.get::<_, i64>(0))?, place));
        }
    }
    for (seq, old) in places {
        let body = match old.read(&tx.bodies.dir) {
            Ok(Some(body)) => body,
            // Damaged: it stays until every sink has skipped it.
            Err(error) if error.kind() != Kind::Lost => return Err(error),
            Ok(None) | Err(_) => continue,
        };
        let new = tx.bodies.append(&body)?;
        sql(tx
            .conn
            .prepare_cached("UPDATE batches SET file = ?1, offset = ?2 WHERE seq = ?3")
            .and_then(|mut update| update.execute(params![new.file, new.offset as i64, seq])))?;
        tx.bodies.free(old.file, old.bytes);
    }
    Ok(())
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    let message = if error.kind() == ErrorKind::StorageFull {
        super::DISK_FULL.to_owned()
    } else {
        format!("the journal's file {} cannot be written", path.display())
    };
    Error::unavailable(message).with_cause(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_back_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let conn = super::super::tables_at(&dir.path().join("db"));
        let mut bodies = Bodies::load(&conn, dir.path()).unwrap();
        let (one, two) = (
            bodies.append(b"one").unwrap(),
            bodies.append(b"two!").unwrap(),
        );
        bodies.sync().unwrap();
        bodies.committed();
        assert_eq!(one.read(dir.path()).unwrap().unwrap().to_vec(), b"one");
        let file = path(dir.path(), two.file);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[5] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(one.read(dir.path()).unwrap().unwrap().to_vec(), b"one");
        let refused = two.read(dir.path()).unwrap_err();
        assert!(
            refused
                .to_string()
                .ends_with("bodies.1 does not hold what was written")
        );
        std::fs::write(&file, &bytes[..5]).unwrap();
        assert!(two.read(dir.path()).is_err());
        bodies.free(one.file, one.bytes);
        bodies.free(two.file, two.bytes);
        bodies.committed();
        bodies.close();
        assert!(one.read(dir.path()).unwrap().is_none());
    }

    #[test]
    fn a_free_file_is_written_anew_and_old_places_find_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let conn = super::super::tables_at(&dir.path().join("db"));
        let mut bodies = Bodies::load(&conn, dir.path()).unwrap();
        let mut write = |bytes: &[u8]| {
            let place = bodies.append(bytes).unwrap();
            bodies.sync().unwrap();
            bodies.committed();
            (
                place,
                place.read(dir.path()).unwrap().unwrap().to_vec() == bytes,
            )
        };
        let large = vec![7; CLOSE_AT as usize];
        let (old, _) = write(&large);
        let (kept, _) = write(b"kept");
        bodies.free(old.file, old.bytes);
        bodies.committed();
        assert_eq!(bodies.used_bytes(), CLOSE_AT + 4);
        let (next, read) = {
            bodies.close();
            let place = bodies.append(b"new").unwrap();
            bodies.sync().unwrap();
            bodies.committed();
            (
                place,
                place.read(dir.path()).unwrap().unwrap().to_vec() == b"new",
            )
        };
        assert!(read && next.offset == 0);
        assert!(old.read(dir.path()).unwrap().is_none());
        assert_eq!(kept.read(dir.path()).unwrap().unwrap().to_vec(), b"kept");
        assert_eq!(bodies.used_bytes(), 7, "the spare file is in use again");
    }

    #[test]
    fn what_a_failed_commit_has_written_stays_until_another_has_committed() {
        let dir = tempfile::tempdir().unwrap();
        let conn = super::super::tables_at(&dir.path().join("db"));
        let mut bodies = Bodies::load(&conn, dir.path()).unwrap();
        let failed = bodies.append(b"one").unwrap();
        bodies.sync().unwrap();
        bodies.give_up();
        bodies.roll_back(Mark::default());
        let next = bodies.append(b"two").unwrap();
        bodies.sync().unwrap();
        assert_eq!(failed.read(dir.path()).unwrap().unwrap().to_vec(), b"one");
        assert_eq!(next.read(dir.path()).unwrap().unwrap().to_vec(), b"two");
        bodies.committed();
        assert!(!path(dir.path(), failed.file).exists());
        assert_eq!(bodies.used_bytes(), 3);
    }

    #[test]
    fn what_is_rolled_back_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let conn = super::super::tables_at(&dir.path().join("db"));
        let mut bodies = Bodies::load(&conn, dir.path()).unwrap();
        let kept = bodies.append(b"kept").unwrap();
        let mark = bodies.mark();
        bodies.append(b"not kept").unwrap();
        bodies.free(kept.file, kept.bytes);
        bodies.roll_back(mark);
        let next = bodies.append(b"next").unwrap();
        assert_eq!(next.offset, 4);
        bodies.sync().unwrap();
        bodies.committed();
        assert_eq!(bodies.used_bytes(), 8);
        assert_eq!(kept.read(dir.path()).unwrap().unwrap().to_vec(), b"kept");
        assert_eq!(next.read(dir.path()).unwrap().unwrap().to_vec(), b"next");
    }
}
