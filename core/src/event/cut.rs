//! Cuts the body of an answer, a JSON array, into its records while it arrives.
//!
//! A body may be large, so it is never held whole; records are many, so they are neither parsed nor copied one by
//! one. Bytes go into one buffer as they come, the scan only looks for the commas between the elements of the outer
//! array, and [`Cutter::take`] hands out slices of that buffer. Only the tail, an element that is not complete yet,
//! moves to the next buffer.
//!
//! A record that is an object and has arrived as a whole, as nearly all are, is read once: the pass that finds its
//! header finds its end. Any other is followed bracket by bracket, and its header is read when it is taken.
//!
//! What counts as a record is decided by brackets, quotes and commas alone:
//!
//! - An element is whatever lies between two commas of the outer array, white space around it removed. It may be of
//!   any JSON type, or no JSON at all: it is delivered as it is. An element of no bytes (`[1,,2]`) is nothing.
//! - Inside an element a closing bracket closes what was opened last, whichever kind it was. So `{"a":1]` ends at the
//!   bracket and the next record is safe. A bracket that is never closed swallows what follows, and
//!   [`Cutter::finish`] says that the array is not closed.
//! - A `}` outside any element belongs to an element, as other garbage does; a `]` there ends the array.
//! - An element beyond the limit comes out in parts, so that nothing is lost and memory stays bounded.

use bytes::Bytes;

use super::Header;
use super::lex::{Nesting, is_space, skip_spaces};
use crate::buffer::Buffer;
use crate::error::Error;

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// What a cutter may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest record that is held whole, in bytes. The largest that is known has 17 kB.
    pub record_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            record_bytes: 16 << 20,
        }
    }
}

/// What a body was cut into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A record, whole.
    Record {
        /// The bytes.
        raw: Bytes,
        /// Where it begins in the body.
        start: u64,
        /// Its header.
        header: Header,
    },
    /// A part of a record that is larger than [`Limits::record_bytes`]: all its bytes come, in order. Each part but
    /// the last has exactly that size; the last may be empty.
    Oversize {
        /// The bytes.
        part: Bytes,
        /// Whether the record ends with it.
        last: bool,
    },
}

/// Why a body is not a complete array. The records before the defect are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// There is not a byte in it but white space.
    #[error("the body is empty")]
    Empty,
    /// It begins with something else than `[`.
    #[error("the body is not a JSON array")]
    NotAnArray,
    /// It ends between two records.
    #[error("the body ends before its array is closed")]
    Unclosed,
    /// It ends in the middle of a record.
    #[error("the body ends in the middle of a record")]
    Truncated,
    /// Something follows the array.
    #[error("the body goes on after its array is closed")]
    Trailing,
}

impl From<Broken> for Error {
    /// A broken answer is fetched again.
    fn from(broken: Broken) -> Self {
        Self::unavailable(broken.to_string())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the array, with so many bytes of a byte order mark seen.
    Before { mark: usize },
    /// In the array, between two elements.
    Between,
    /// In an element.
    Element,
    /// Behind the array, with so many bytes of a byte order mark seen.
    Behind { mark: usize },
    /// Beyond repair.
    Broken(Broken),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Whole,
    Part,
    LastPart,
}

#[derive(Clone, Copy, Debug)]
struct Cut {
    start: usize,
    end: usize,
    shape: Shape,
    header: Option<Header>,
}

/// Cuts a JSON array into its records as its bytes arrive. One for each body.
#[derive(Debug)]
pub struct Cutter {
    limits: Limits,
    buffer: Buffer,
    /// Bytes of the body before the buffer.
    before: u64,
    cuts: Vec<Cut>,
    phase: Phase,
    nesting: Nesting,
    /// Up to where the buffer has been looked at.
    scanned: usize,
    /// Where the element that is open begins, or what is left of it once parts have been cut off.
    start: usize,
    /// Behind the last byte of the open element that is not trailing white space.
    end: usize,
    /// The header of the open element, if it was found on the way to the element's end.
    header: Option<Header>,
    /// Whether parts of the open element have been cut off.
    oversize: bool,
}

impl Cutter {
    /// A cutter for one body.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits {
                record_bytes: limits.record_bytes.max(1),
            },
            buffer: Buffer::new(),
            before: 0,
            cuts: Vec::new(),
            phase: Phase::Before { mark: 0 },
            nesting: Nesting::default(),
            scanned: 0,
            start: 0,
            end: 0,
            header: None,
            oversize: false,
        }
    }

    /// Adds the next bytes of the body. They may end anywhere, even inside a character or an escape.
    pub fn write(&mut self, body: &[u8]) {
        self.make_room(body.len());
        self.buffer.extend_from_slice(body);
        self.scan();
    }

    /// Adds the next bytes of the body in place: `write` gets room for `room` of them and says how many it has
    /// written at its beginning.
    pub fn write_with<E>(
        &mut self,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.make_room(room);
        let start = self.buffer.len();
        let written = write(self.buffer.lengthen(room));
        self.buffer
            .truncate(start + *written.as_ref().unwrap_or(&0));
        self.scan();
        written.map(drop)
    }

    fn make_room(&mut self, bytes: usize) {
        if self.cuts.is_empty() && self.phase != Phase::Element {
            // Nothing in the buffer is wanted any more: endless white space takes no memory.
            self.before += self.buffer.len() as u64;
            self.buffer.clear();
            self.scanned = 0;
        }
        self.buffer.make_room(bytes);
    }

    fn scan(&mut self) {
        let mut at = self.scanned;
        while at < self.buffer.len() {
            at = match self.phase {
                Phase::Element => self.element(at),
                Phase::Between => self.between(at),
                Phase::Before { mark } => self.before(at, mark),
                Phase::Behind { mark } => self.behind(at, mark),
                Phase::Broken(_) => self.buffer.len(),
            };
        }
        self.scanned = at;
        if self.phase == Phase::Element {
            self.cut_parts(at);
        }
    }

    /// The memory that is held: pieces that wait for [`Cutter::take`], and the record that is not complete.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() + self.cuts.len() * (size_of::<Cut>() + size_of::<Piece>())
    }

    /// The pieces that are complete. All of one call share one buffer, which lives as long as the longest of them.
    pub fn take(&mut self) -> Vec<Piece> {
        if self.cuts.is_empty() {
            return Vec::new();
        }
        let kept = if self.phase == Phase::Element {
            self.start
        } else {
            self.scanned
        };
        let tail = &self.buffer[kept..];
        let capacity = match self.phase {
            Phase::Behind { .. } => tail.len(),
            // The next buffer will be taken at about the same size.
            _ => self.buffer.len(),
        };
        let mut next = Buffer::with_capacity(capacity);
        next.extend_from_slice(tail);
        let mut full = std::mem::replace(&mut self.buffer, next);
        full.truncate(kept);
        let full = full.into_bytes();

        let before = self.before;
        self.before += kept as u64;
        self.scanned -= kept;
        self.start = self.start.saturating_sub(kept);
        self.end = self.end.saturating_sub(kept);
        self.cuts
            .drain(..)
            .map(|cut| {
                let bytes = full.slice(cut.start..cut.end);
                match cut.shape {
                    Shape::Whole => Piece::Record {
                        header: cut.header.unwrap_or_else(|| Header::scan(&bytes)),
                        raw: bytes,
                        start: before + cut.start as u64,
                    },
                    Shape::Part | Shape::LastPart => Piece::Oversize {
                        part: bytes,
                        last: cut.shape == Shape::LastPart,
                    },
                }
            })
            .collect()
    }

    /// Says whether the body was one complete array. Call it after the last [`Cutter::write`]; what was cut before
    /// can be taken in either case.
    pub fn finish(&mut self) -> Result<(), Broken> {
        match self.phase {
            Phase::Behind { mark: 0 } => Ok(()),
            Phase::Behind { .. } => Err(Broken::Trailing),
            Phase::Before { mark: 0 | 3 } => Err(Broken::Empty),
            Phase::Before { .. } => Err(Broken::NotAnArray),
            Phase::Element if self.nesting.is_open() => Err(Broken::Truncated),
            Phase::Element | Phase::Between => Err(Broken::Unclosed),
            Phase::Broken(broken) => Err(broken),
        }
    }

    fn before(&mut self, at: usize, mark: usize) -> usize {
        let byte = self.buffer[at];
        self.phase = if BYTE_ORDER_MARK.get(mark) == Some(&byte) {
            Phase::Before { mark: mark + 1 }
        } else if matches!(mark, 1 | 2) {
            Phase::Broken(Broken::NotAnArray)
        } else if byte == b'[' {
            Phase::Between
        } else if is_space(byte) {
            self.phase
        } else {
            Phase::Broken(Broken::NotAnArray)
        };
        at + 1
    }

    fn behind(&mut self, at: usize, mark: usize) -> usize {
        let byte = self.buffer[at];
        self.phase = if BYTE_ORDER_MARK[mark] == byte {
            Phase::Behind {
                mark: (mark + 1) % BYTE_ORDER_MARK.len(),
            }
        } else if mark == 0 && is_space(byte) {
            self.phase
        } else {
            Phase::Broken(Broken::Trailing)
        };
        at + 1
    }

    fn between(&mut self, at: usize) -> usize {
        let at = skip_spaces(&self.buffer, at);
        match self.buffer.get(at) {
            None => at,
            Some(b',') => at + 1,
            Some(b']') => {
                self.phase = Phase::Behind { mark: 0 };
                at + 1
            }
            Some(_) => {
                let object = Header::of_whole_object(&self.buffer[at..]);
                self.phase = Phase::Element;
                self.nesting = Nesting::default();
                self.start = at;
                self.end = at + object.map_or(0, |(_, len)| len);
                self.header = object.map(|(header, _)| header);
                self.oversize = false;
                self.end
            }
        }
    }

    fn element(&mut self, at: usize) -> usize {
        if self.nesting.is_open() {
            self.end = self.nesting.close(&self.buffer, at);
            return self.end;
        }
        match self.buffer[at] {
            b',' => {
                self.cut(at);
                self.phase = Phase::Between;
            }
            b']' => {
                self.cut(at);
                self.phase = Phase::Behind { mark: 0 };
            }
            byte if is_space(byte) => {}
            byte => {
                self.nesting.open(byte);
                self.end = at + 1;
            }
        }
        at + 1
    }

    /// Ends the open element before the comma or bracket at `at`.
    fn cut(&mut self, at: usize) {
        self.cut_parts(at);
        self.cuts.push(Cut {
            start: self.start,
            end: self.end.max(self.start),
            shape: if self.oversize {
                Shape::LastPart
            } else {
                Shape::Whole
            },
            header: self.header,
        });
    }

    /// Cuts off what exceeds the limit up to `at`. White space at the end counts too, for it may turn out to lie in
    /// the middle; so where the body was split between writes makes no difference.
    fn cut_parts(&mut self, at: usize) {
        while at - self.start > self.limits.record_bytes {
            let end = self.start + self.limits.record_bytes;
            self.cuts.push(Cut {
                start: self.start,
                end,
                shape: Shape::Part,
                header: None,
            });
            self.start = end;
            self.oversize = true;
        }
    }
}

#[cfg(test)]
mod tests;
