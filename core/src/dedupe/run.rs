//! A run: a file of sorted ids that never changes.
//!
//! ```text
//! block: ids, filter    as many as it takes    directory    trailer: blocks, checksum of the directory, MAGIC
//! ```
//!
//! A run has a *section* a day. Hashes are spread evenly, so a section is cut into blocks by equal parts of the range
//! of hashes: which block may hold an id, and where about in it, needs no index.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::identity::{HASH_BYTES, Id, Key, number};
use crate::error::{Error, Result};
use crate::journal::damaged;

/// Bytes of an id: its hash and its value. The day is the section's.
const ID_BYTES: usize = HASH_BYTES + 8;
const MAGIC: &[u8; 8] = b"ids run2";
const DESCRIPTOR: usize = BinaryFuse8::DESCRIPTOR_LEN;
/// A block in the directory: day, ids, bytes of its filter, checksums of ids and filter, descriptor of its filter.
const ENTRY: usize = 2 + 4 + 4 + 8 + 8 + DESCRIPTOR;
const TRAILER: usize = 4 + 8 + MAGIC.len();

/// Which of `parts` equal parts of the range of hashes one is in, and how far into it, of 2^64.
pub(super) fn part(lead: u64, parts: usize) -> (usize, u64) {
    let product = u128::from(lead) * parts as u128;
    ((product >> 64) as usize, product as u64)
}

/// Writes a run, block by block.
#[derive(Debug)]
pub(super) struct RunWriter {
    out: BufWriter<File>,
    directory: Vec<u8>,
    blocks: u32,
    bytes: u64,
}

impl RunWriter {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            out: BufWriter::with_capacity(1 << 16, file),
            directory: Vec::new(),
            blocks: 0,
            bytes: 0,
        })
    }

    /// Appends the next block: `ids` are sorted and all of `day`. All blocks of a day follow each other.
    pub(super) fn block(&mut self, day: u16, ids: &[Id]) -> Result<()> {
        let mut sum = Xxh3::new();
        for id in ids {
            let (hash, value) = (id.key.hash_bytes(), id.value.to_be_bytes());
            self.out.write_all(&hash)?;
            self.out.write_all(&value)?;
            sum.update(&hash);
            sum.update(&value);
        }
        let mut keys: Vec<u64> = ids.iter().map(|id| id.key.lead()).collect();
        keys.dedup();
        let filter = BinaryFuse8::try_from(&keys)
            .map_err(|why| Error::bug(format!("a filter over ids cannot be built: {why}")))?;
        let mut descriptor = [0; DESCRIPTOR];
        filter.dma_copy_descriptor_to(&mut descriptor);
        let filter = filter.dma_fingerprints();
        self.out.write_all(filter)?;
        self.directory.extend_from_slice(&day.to_be_bytes());
        self.directory
            .extend_from_slice(&(ids.len() as u32).to_be_bytes());
        self.directory
            .extend_from_slice(&(filter.len() as u32).to_be_bytes());
        self.directory
            .extend_from_slice(&sum.digest().to_be_bytes());
        self.directory
            .extend_from_slice(&xxh3_64(filter).to_be_bytes());
        self.directory.extend_from_slice(&descriptor);
        self.blocks += 1;
        self.bytes += (ids.len() * ID_BYTES + filter.len()) as u64;
        Ok(())
    }

    /// Ends the run: safe on the disk when this returns its bytes.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.out.write_all(&self.directory)?;
        self.out.write_all(&self.blocks.to_be_bytes())?;
        self.out
            .write_all(&xxh3_64(&self.directory).to_be_bytes())?;
        self.out.write_all(MAGIC)?;
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(self.bytes + (self.directory.len() + TRAILER) as u64)
    }
}

/// What a run holds of one day.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) run: i64,
    /// The run's level, once that is known.
    pub(super) level: u8,
    pub(super) day: u16,
    pub(super) file: Arc<File>,
    pub(super) blocks: Vec<Block>,
}

/// A part of a section.
#[derive(Debug)]
pub(super) struct Block {
    offset: u64,
    ids: usize,
    filter_bytes: usize,
    ids_sum: u64,
    /// Whether the ids are what was written, once somebody has looked.
    is_whole: Cell<Option<bool>>,
    checksum: u64,
    descriptor: [u8; DESCRIPTOR],
    /// The filter, while it is in memory.
    filter: Option<Box<[u8]>>,
}

/// Opens a run. No filter is in memory yet.
pub(super) fn open(path: &Path, run: i64) -> Result<Vec<Section>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(damaged(path, "it is missing"));
        }
        file => file?,
    };
    let damaged = || damaged(path, "it holds something else than was written, or less");
    let mut trailer = [0; TRAILER];
    let trailer_at = file.metadata()?.len().checked_sub(TRAILER as u64);
    let trailer_at = trailer_at.ok_or_else(damaged)?;
    file.read_exact_at(&mut trailer, trailer_at)?;
    let bytes = number(&trailer[..4]) * ENTRY as u64;
    let directory_at = trailer_at.checked_sub(bytes);
    let directory_at = directory_at
        .filter(|_| trailer.ends_with(MAGIC))
        .ok_or_else(damaged)?;
    let mut directory = vec![0; bytes as usize];
    file.read_exact_at(&mut directory, directory_at)?;
    if xxh3_64(&directory) != number(&trailer[4..12]) {
        return Err(damaged());
    }
    let file = Arc::new(file);
    let mut sections: Vec<Section> = Vec::new();
    let mut offset = 0;
    for entry in directory.as_chunks::<ENTRY>().0 {
        let day = number(&entry[..2]) as u16;
        let mut descriptor = [0; DESCRIPTOR];
        descriptor.copy_from_slice(&entry[26..]);
        let block = Block {
            offset,
            ids: number(&entry[2..6]) as usize,
            filter_bytes: number(&entry[6..10]) as usize,
            ids_sum: number(&entry[10..18]),
            is_whole: Cell::new(None),
            checksum: number(&entry[18..26]),
            descriptor,
            filter: None,
        };
        offset += (block.ids * ID_BYTES + block.filter_bytes) as u64;
        match sections.last_mut() {
            Some(section) if section.day == day => section.blocks.push(block),
            _ => sections.push(Section {
                run,
                level: 0,
                day,
                file: Arc::clone(&file),
                blocks: vec![block],
            }),
        }
    }
    if offset == directory_at {
        Ok(sections)
    } else {
        Err(damaged())
    }
}

impl Section {
    /// Adds the values of a key to `known`.
    pub(super) fn find(&self, key: Key, known: &mut Vec<u64>) -> Result<()> {
        let (at, fraction) = part(key.lead(), self.blocks.len());
        let block = &self.blocks[at];
        if block.may_hold(key) && block.is_whole(&self.file, self.run)? {
            block.search(&self.file, key, fraction, known)?;
        }
        Ok(())
    }
}

impl Block {
    pub(super) fn ids(&self) -> usize {
        self.ids
    }

    pub(super) fn filter_bytes(&self) -> usize {
        self.filter_bytes
    }

    /// The same block, as it is on the disk.
    pub(super) fn without_filter(&self) -> Self {
        Self {
            filter: None,
            is_whole: self.is_whole.clone(),
            ..*self
        }
    }

    pub(super) fn is_warm(&self) -> bool {
        self.filter.is_some()
    }

    /// Takes the filter out of memory: the ids themselves are asked from now on.
    pub(super) fn cool(&mut self) {
        self.filter = None;
    }

    /// Takes the filter into memory. One that is damaged stays out.
    pub(super) fn warm(&mut self, file: &File) -> Result<()> {
        let mut filter = vec![0; self.filter_bytes].into_boxed_slice();
        file.read_exact_at(&mut filter, self.offset + (self.ids * ID_BYTES) as u64)?;
        if xxh3_64(&filter) != self.checksum {
            return Err(Error::unavailable("a filter over ids is damaged"));
        }
        self.filter = Some(filter);
        Ok(())
    }

    /// Whether the ids are what was written. Those that are not cannot be told any more.
    pub(super) fn is_whole(&self, file: &File, run: i64) -> Result<bool> {
        if let Some(known) = self.is_whole.get() {
            return Ok(known);
        }
        let mut sum = Xxh3::new();
        let mut part = vec![0; (self.ids * ID_BYTES).min(1 << 16)];
        let mut read = 0;
        while read < self.ids * ID_BYTES {
            let bytes = part.len().min(self.ids * ID_BYTES - read);
            file.read_exact_at(&mut part[..bytes], self.offset + read as u64)?;
            sum.update(&part[..bytes]);
            read += bytes;
        }
        let is_whole = sum.digest() == self.ids_sum;
        self.is_whole.set(Some(is_whole));
        if !is_whole {
            tracing::error!(
                ids = self.ids,
                "the journal's file ids.{run} does not hold what was written: repeats of these events cannot be told \
                 any more and are delivered again"
            );
        }
        Ok(is_whole)
    }

    /// `false` only if the key is certainly not in the block.
    fn may_hold(&self, key: Key) -> bool {
        let Some(filter) = &self.filter else {
            return true;
        };
        BinaryFuse8Ref::from_dma(&self.descriptor, filter).contains(&key.lead())
    }

    /// Asks the ids: reads those around the place where the key should be, and more of them until it is certain.
    fn search(&self, file: &File, key: Key, fraction: u64, known: &mut Vec<u64>) -> Result<()> {
        let hash = key.hash_bytes();
        let guess = part(fraction, self.ids).0;
        // Twice the standard deviation of an id's place, so that one read is mostly enough.
        let mut reach = self.ids.isqrt().max(32);
        loop {
            let (from, to) = (guess.saturating_sub(reach), self.ids.min(guess + reach));
            let mut window = vec![0; (to - from) * ID_BYTES];
            file.read_exact_at(&mut window, self.offset + (from * ID_BYTES) as u64)?;
            let ids = window.as_chunks::<ID_BYTES>().0;
            let start = ids.partition_point(|id| id[..HASH_BYTES] < hash[..]);
            let count = ids[start..].partition_point(|id| id[..HASH_BYTES] == hash[..]);
            let whole = (start > 0 || from == 0) && (start + count < ids.len() || to == self.ids);
            if whole {
                let found = &ids[start..start + count];
                known.extend(found.iter().map(|id| number(&id[HASH_BYTES..])));
                return Ok(());
            }
            reach *= 4;
        }
    }

    /// Reads ids `from..to` of the block, which is one of `day`.
    pub(super) fn read(&self, file: &File, day: u16, from: usize, to: usize) -> Result<Vec<Id>> {
        let mut bytes = vec![0; (to - from) * ID_BYTES];
        file.read_exact_at(&mut bytes, self.offset + (from * ID_BYTES) as u64)?;
        let ids = bytes.as_chunks::<ID_BYTES>().0.iter();
        Ok(ids
            .map(|id| Id {
                key: Key::new(
                    day,
                    u128::from(number(&id[..6])) << 64 | u128::from(number(&id[6..HASH_BYTES])),
                ),
                value: number(&id[HASH_BYTES..]),
            })
            .collect())
    }
}
