//! Where bodies lie, as anybody sees it who reads them.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row};
use xxhash_rust::xxh3::xxh3_64;

use super::sql;
use crate::buffer::Buffer;
use crate::error::{Error, Result};

/// Files are named by this and a number that rises.
const PREFIX: &str = "bodies.";

/// Where a body lies, and the sum of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: i64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) sum: i64,
}

impl Place {
    /// From four columns of `batches`, the first of them at `column`: `file, offset, stored_bytes, sum`.
    pub(super) fn of(row: &Row<'_>, column: usize) -> Result<Self> {
        Ok(Self {
            file: sql(row.get(column))?,
            offset: sql(row.get::<_, i64>(column + 1))? as u64,
            bytes: sql(row.get::<_, i64>(column + 2))? as u64,
            sum: sql(row.get(column + 3))?,
        })
    }

    /// The error of a body whose file is not there although a row names it.
    pub(super) fn missing(&self, dir: &Path) -> Error {
        damaged(&path(dir, self.file))
    }

    /// The body, as it was written. Nothing if its file is gone: it was freed or moved meanwhile.
    pub(super) fn read(&self, dir: &Path) -> Result<Option<Buffer>> {
        let path = path(dir, self.file);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&path).with_cause(error)),
        };
        let length = usize::try_from(self.bytes).unwrap_or(0);
        let mut body = Buffer::with_capacity(length);
        body.lengthen(length);
        match file.read_exact_at(&mut body, self.offset) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(damaged(&path)),
            Err(error) => Err(unreadable(&path).with_cause(error)),
            Ok(()) if sum(&body) != self.sum => Err(damaged(&path)),
            Ok(()) => Ok(Some(body)),
        }
    }
}

/// Bytes of all files beside the database of `conn`, whoever writes them.
pub(super) fn on_disk(conn: &Connection) -> Result<u64> {
    let Some(dir) = conn.path().map(Path::new).and_then(Path::parent) else {
        return Ok(0);
    };
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if number_of(&entry.path()).is_some() {
            // One that is deleted meanwhile has none.
            bytes += entry.metadata().map_or(0, |found| found.len());
        }
    }
    Ok(bytes)
}

/// Where a file lies.
pub(super) fn path(dir: &Path, file: i64) -> PathBuf {
    dir.join(format!("{PREFIX}{file}"))
}

pub(super) fn number_of(path: &Path) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    name.strip_prefix(PREFIX)?.parse().ok()
}

pub(super) fn sum(body: &[u8]) -> i64 {
    xxh3_64(body) as i64
}

fn unreadable(path: &Path) -> Error {
    Error::unavailable(format!(
        "the journal's file {} cannot be read",
        path.display()
    ))
}

/// The error of a body whose file is there and holds something else, or less.
fn damaged(path: &Path) -> Error {
    Error::lost(format!("{} does not hold what was written", path.display()))
}
