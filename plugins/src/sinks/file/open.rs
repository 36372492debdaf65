//! An open file, and the bytes that are appended to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use audit_exporter_core::Result;
use audit_exporter_core::event::AuditEvent;
use chrono::{DateTime, Utc};
use flate2::write::GzEncoder;
use rustix::fs::OFlags;

use super::config::{Compression, Settings};
use super::disk::{fail_point, failed};
use super::ledger::{Confirmed, Name};

/// How much is encoded before it is written.
const BUFFER_BYTES: usize = 256 << 10;

/// A file that events are appended to.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) name: Name,
    pub(super) path: PathBuf,
    pub(super) opened: DateTime<Utc>,
    /// When it was last used, in the sink's count of uses.
    pub(super) used: u64,
    file: File,
    inode: u64,
    length: u64,
    unsynced: bool,
}

impl OpenFile {
    /// Creates the file; fails if there is anything of this name.
    pub(super) fn create(name: Name, now: DateTime<Utc>) -> io::Result<Self> {
        let path = name.path();
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            name,
            path,
            opened: now,
            used: 0,
            inode: file.metadata()?.ino(),
            file,
            length: 0,
            unsynced: true,
        })
    }

    /// Opens a file of a receipt and cuts off what came after it. `None`, loudly, if the file is not what it was.
    pub(super) fn reopen(confirmed: &Confirmed) -> Result<Option<Self>> {
        let path = confirmed.name.path();
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                report(&path, confirmed.length, "the file is gone");
                return Ok(None);
            }
            Err(error) => return Err(failed("look at", &path)(error)),
        };
        if !found.is_file() || found.len() < confirmed.length {
            report(
                &path,
                confirmed.length,
                "it is shorter, or no file any more",
            );
            return Ok(None);
        }
        if found.len() > confirmed.length && found.ino() != confirmed.inode {
            // What another file holds beyond our length is not ours to cut.
            report(&path, confirmed.length, "another file has taken its place");
            return Ok(None);
        }
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(failed("open", &path))?;
        if found.len() > confirmed.length {
            file.set_len(confirmed.length)
                .and_then(|()| file.sync_all())
                .map_err(failed("cut", &path))?;
        }
        Ok(Some(Self {
            name: confirmed.name.clone(),
            path,
            opened: confirmed.opened,
            used: 0,
            file,
            inode: found.ino(),
            length: confirmed.length,
            unsynced: false,
        }))
    }

    /// The file as the receipt has it.
    pub(super) fn confirmed(&self) -> Confirmed {
        Confirmed {
            name: self.name.clone(),
            length: self.length,
            inode: self.inode,
            opened: self.opened,
        }
    }

    /// Whether the path still leads to this file, with the length that it was given; loud if not. Appending to a file
    /// that somebody moved, removed or emptied would lose events.
    pub(super) fn is_untouched(&self) -> Result<bool> {
        let look = failed("look at", &self.path);
        let ours = self.file.metadata();
        let theirs = fs::symlink_metadata(&self.path);
        let same = match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                (ours.dev(), ours.ino(), ours.len()) == (theirs.dev(), theirs.ino(), self.length)
            }
            (_, Err(error)) if error.kind() == ErrorKind::NotFound => false,
            (Err(error), _) | (_, Err(error)) => return Err(look(error)),
        };
        if !same {
            report(
                &self.path,
                self.length,
                "somebody moved, removed or changed the file",
            );
        }
        Ok(same)
    }

    /// Appends events up to the size where the file is full; says how many. An empty file takes at least one.
    pub(super) fn append(
        &mut self,
        settings: &Settings,
        events: &[AuditEvent],
        indexes: &[usize],
        buffer: &mut Vec<u8>,
    ) -> Result<usize> {
        if self.length >= settings.rotate_size {
            return Ok(0);
        }
        self.unsynced = true;
        let result = self.append_member(settings, events, indexes, buffer);
        // One huge record must not keep its memory.
        buffer.clear();
        buffer.shrink_to(2 * BUFFER_BYTES);
        let (taken, length) = result.map_err(failed("write", &self.path))?;
        self.length = length;
        Ok(taken)
    }

    fn append_member(
        &self,
        settings: &Settings,
        events: &[AuditEvent],
        indexes: &[usize],
        buffer: &mut Vec<u8>,
    ) -> io::Result<(usize, u64)> {
        let mut member = Member::begin(&self.file, self.length, settings.compression)?;
        let mut taken = 0;
        for index in indexes {
            let line = buffer.len();
            settings.format.write(&events[*index], buffer);
            let first = self.length == 0 && taken == 0;
            if !first && member.is_full(buffer.len(), settings.rotate_size) {
                buffer.truncate(line);
                break;
            }
            taken += 1;
            if buffer.len() >= BUFFER_BYTES {
                member.write(buffer)?;
                buffer.clear();
            }
        }
        member.write(buffer)?;
        Ok((taken, member.finish()?))
    }

    /// Makes the data durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        if self.unsynced {
            self.file.sync_data().map_err(failed("sync", &self.path))?;
            self.unsynced = false;
        }
        Ok(())
    }
}

fn report(path: &Path, expected_bytes: u64, found: &str) {
    let found_bytes = fs::symlink_metadata(path).map_or(0, |found| found.len());
    tracing::error!(
        path = %path.display(),
        expected_bytes,
        found_bytes,
        "{found}; events that were confirmed may be missing; going on in a new file"
    );
}

/// What one delivery appends to one file: whole by itself, so that a file cut between two is always valid.
enum Member<'a> {
    Plain(Tail<'a>),
    Gzip(GzEncoder<Tail<'a>>),
    Zstd(zstd::Encoder<'static, Tail<'a>>),
}

impl<'a> Member<'a> {
    fn begin(file: &'a File, at: u64, compression: Compression) -> io::Result<Self> {
        let tail = Tail { file, at };
        Ok(match compression {
            Compression::None => Self::Plain(tail),
            Compression::Gzip => Self::Gzip(GzEncoder::new(tail, flate2::Compression::default())),
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(tail, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Whether the file is full before the line that `buffered` bytes end with. What a compressor holds back is
    /// unknown, so compressed files become a little larger.
    fn is_full(&self, buffered: usize, size: u64) -> bool {
        match self {
            Self::Plain(tail) => tail.at + buffered as u64 > size,
            Self::Gzip(encoder) => encoder.get_ref().at >= size,
            Self::Zstd(encoder) => encoder.get_ref().at >= size,
        }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        #[cfg(feature = "failpoints")]
        let data = {
            let (torn, rest) = data.split_at(data.len() / 2);
            self.write_all(torn)?;
            rest
        };
        fail_point("sink::file::write")?;
        self.write_all(data)
    }

    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(tail) => tail.write_all(data),
            Self::Gzip(encoder) => encoder.write_all(data),
            Self::Zstd(encoder) => encoder.write_all(data),
        }
    }

    /// Ends the member; gives the file's length.
    fn finish(self) -> io::Result<u64> {
        let tail = match self {
            Self::Plain(tail) => tail,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        Ok(tail.at)
    }
}

/// The end of a file, written by position: whatever an earlier attempt left behind is written over.
struct Tail<'a> {
    file: &'a File,
    at: u64,
}

impl Write for Tail<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(data, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
