//! `SQLite`'s log, read without `SQLite`: what in it counts, and of which pages.
//!
//! `SQLite` takes the log for ended where a sum does not fit, as after a power loss. What was committed behind a
//! damaged place would be gone in silence; whoever knows how much there was can tell by this.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::Result;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The first four bytes, but for the last bit, which says in which order sums take the bytes.
const MAGIC: u32 = 0x377f_0682;

/// A log's two random numbers: the first is one more each time that the log begins anew.
pub(super) type Salts = [u32; 2];

/// What a log holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Nothing if there is no log.
    pub(super) salts: Option<Salts>,
    /// Frames that are committed and whole.
    pub(super) frames: u32,
    /// The pages in them, from 1.
    pub(super) pages: BTreeSet<u32>,
}

/// The salts of an open log.
pub(super) fn salts(file: &File) -> Result<Salts> {
    let mut salts = [0; 8];
    file.read_exact_at(&mut salts, 16)?;
    Ok([word(&salts, 0), word(&salts, 4)])
}

/// The pages of the first frames of a log.
pub(super) fn pages(file: &File, frames: u32, page_bytes: usize) -> Result<BTreeSet<u32>> {
    let mut pages = BTreeSet::new();
    for frame in 0..u64::from(frames) {
        let mut page = [0; 4];
        let at = HEADER as u64 + frame * (FRAME_HEADER + page_bytes) as u64;
        file.read_exact_at(&mut page, at)?;
        pages.insert(word(&page, 0));
    }
    Ok(pages)
}

/// Reads a log up to the first frame that is not whole.
pub(super) fn scan(path: &Path, page_bytes: usize) -> Result<Scan> {
    let mut found = Scan::default();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error.into()),
    };
    let mut log = BufReader::with_capacity(1 << 16, file);
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? || word(&header, 0) & !1 != MAGIC {
        return Ok(found);
    }
    let big_endian = word(&header, 0) & 1 == 1;
    let mut sum = add([0; 2], &header[..24], big_endian);
    if sum != [word(&header, 24), word(&header, 28)] || word(&header, 8) as usize != page_bytes {
        return Ok(found);
    }
    found.salts = Some([word(&header, 16), word(&header, 20)]);
    let mut frame = vec![0; FRAME_HEADER + page_bytes];
    let (mut frames, mut pages) = (0, Vec::new());
    while fill(&mut log, &mut frame)? {
        sum = add(sum, &frame[..8], big_endian);
        sum = add(sum, &frame[FRAME_HEADER..], big_endian);
        let salts = [word(&frame, 8), word(&frame, 12)];
        if Some(salts) != found.salts || sum != [word(&frame, 16), word(&frame, 20)] {
            break;
        }
        frames += 1;
        pages.push(word(&frame, 0));
        // The last frame of a transaction says how large the database is.
        if word(&frame, 4) != 0 {
            found.frames = frames;
            found.pages.extend(pages.drain(..));
        }
    }
    Ok(found)
}

/// Fills the buffer; `false` if the file ends before.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u32::from_be_bytes(*word))
}

/// Goes on with a sum, as `SQLite` defines it.
fn add([mut one, mut two]: [u32; 2], bytes: &[u8], big_endian: bool) -> [u32; 2] {
    let read = if big_endian {
        u32::from_be_bytes
    } else {
        u32::from_le_bytes
    };
    for [first, second] in bytes.as_chunks::<4>().0.as_chunks::<2>().0 {
        one = one.wrapping_add(read(*first)).wrapping_add(two);
        two = two.wrapping_add(read(*second)).wrapping_add(one);
    }
    [one, two]
}
