//! The little of JSON's grammar that cutting and looking up need: where strings and nested values end.
//!
//! Nothing here checks that the text is JSON. Brackets are only counted: a closer closes whatever is open, of either
//! kind, because a record whose brackets do not match must still end somewhere, and the next one must begin.

use memchr::memchr2;

use super::marks::{BLOCK, Marks, marks, marks_of_tail};

/// The position of the first quote or backslash at or after `at`.
#[inline]
fn quote_or_backslash(bytes: &[u8], at: usize) -> Option<usize> {
    memchr2(b'"', b'\\', bytes.get(at..)?).map(|found| at + found)
}

/// JSON's white space.
#[inline]
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The first position at or after `at` that holds no white space, or the end.
#[inline]
pub(super) fn skip_spaces(bytes: &[u8], mut at: usize) -> usize {
    // Nearly always there is none, and one comparison shows it.
    while let Some(&byte) = bytes.get(at)
        && byte <= b' '
        && is_space(byte)
    {
        at += 1;
    }
    at
}

/// Where a scan stands between two bytes: how deep, in a string or not, behind a backslash or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Nesting {
    depth: usize,
    in_string: bool,
    behind_backslash: bool,
}

impl Nesting {
    /// Whether a string or a bracket is open.
    #[inline]
    pub(super) fn is_open(self) -> bool {
        self.depth > 0 || self.in_string
    }

    /// Opens a string if `byte` is a quote, or a level if it is an opening bracket; says whether it was one.
    #[inline]
    pub(super) fn open(&mut self, byte: u8) -> bool {
        if byte == b'"' {
            self.in_string = true;
        } else if is_opener(byte) {
            self.depth += 1;
        }
        self.is_open()
    }

    /// Goes on from `at` until everything that is open is closed, or to the end of `bytes`; returns where it stopped.
    /// May be continued with the bytes that follow, wherever it stopped.
    pub(super) fn close(&mut self, bytes: &[u8], mut at: usize) -> usize {
        if self.depth > 0 {
            while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
                at = match self.close_block(block) {
                    Block::Open => at + BLOCK,
                    Block::Closed(len) => return at + len,
                    Block::Odd => self.close_bytes(&bytes[..at + BLOCK], at),
                };
                if !self.is_open() {
                    return at;
                }
            }
        }
        self.close_bytes(bytes, at)
    }

    /// [`Nesting::close`] for a block, when a bracket is open.
    #[inline]
    fn close_block(&mut self, block: &[u8; BLOCK]) -> Block {
        let (marks, behind_backslash) = marks(block).unescaped(self.behind_backslash);
        let end = self.step(marks, block);
        if let Block::Open = end {
            self.behind_backslash = behind_backslash;
        }
        end
    }

    /// Goes on over a block with these marks, its quotes without those behind backslashes.
    #[inline]
    fn step(&mut self, marks: Marks, block: &[u8]) -> Block {
        // A bit for each byte in a string, its opening quote included.
        let strings = running_parity(marks.quotes) ^ bits(self.in_string);
        if marks.backslashes & !strings != 0 {
            return Block::Odd;
        }
        let mut brackets = marks.brackets & !strings;
        while brackets != 0 {
            let at = brackets.trailing_zeros() as usize;
            brackets &= brackets - 1;
            if is_opener(block[at]) {
                self.depth += 1;
            } else if is_closer(block[at]) {
                self.depth -= 1;
                if self.depth == 0 {
                    *self = Self::default();
                    return Block::Closed(at + 1);
                }
            }
        }
        self.in_string = strings >> (BLOCK - 1) != 0;
        Block::Open
    }

    /// [`Nesting::close`] byte by byte.
    fn close_bytes(&mut self, bytes: &[u8], mut at: usize) -> usize {
        loop {
            if self.in_string {
                at = self.close_string(bytes, at);
                if self.in_string || self.depth == 0 {
                    return at;
                }
            }
            loop {
                let Some(&byte) = bytes.get(at) else {
                    return at;
                };
                at += 1;
                if byte == b'"' {
                    self.in_string = true;
                    break;
                }
                if is_opener(byte) {
                    self.depth += 1;
                } else if is_closer(byte) {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return at;
                    }
                }
            }
        }
    }

    #[inline]
    fn close_string(&mut self, bytes: &[u8], mut at: usize) -> usize {
        if self.behind_backslash {
            if at >= bytes.len() {
                return at;
            }
            self.behind_backslash = false;
            at += 1;
        }
        loop {
            let Some(found) = quote_or_backslash(bytes, at) else {
                return bytes.len();
            };
            if bytes[found] == b'"' {
                self.in_string = false;
                return found + 1;
            }
            at = found + 2;
            if at > bytes.len() {
                self.behind_backslash = true;
                return bytes.len();
            }
        }
    }
}

/// What became of a block.
enum Block {
    /// It closes nothing that was open before it.
    Open,
    /// It closes everything with its byte before this one.
    Closed(usize),
    /// It holds a backslash outside a string, where it escapes nothing: no JSON, to be read byte by byte.
    Odd,
}

/// Finds where strings and nested values end in a text, block by block. What is asked for only goes forward.
pub(super) struct Ends<'a> {
    bytes: &'a [u8],
    /// Where the block begins that was read last.
    base: usize,
    /// Its marks, without the quotes behind backslashes.
    marks: Marks,
    behind_backslash: bool,
}

impl<'a> Ends<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let mut ends = Self {
            bytes,
            base: 0,
            marks: Marks::default(),
            behind_backslash: false,
        };
        ends.read(0, false);
        ends
    }

    /// Goes on to the next block, if there is one.
    #[inline]
    fn next_block(&mut self) -> Option<()> {
        let base = self.base + BLOCK;
        (base < self.bytes.len()).then(|| self.read(base, self.behind_backslash))
    }

    #[inline]
    fn read(&mut self, base: usize, behind_backslash: bool) {
        let rest = self.bytes.get(base..).unwrap_or_default();
        let found = match rest.first_chunk() {
            Some(block) => marks(block),
            None => marks_of_tail(rest),
        };
        self.base = base;
        (self.marks, self.behind_backslash) = found.unescaped(behind_backslash);
    }

    /// The end of the string whose opening quote lies before `at`: the position behind its closing quote, and whether
    /// it may hold escapes. `None` if it is not closed.
    #[inline]
    pub(super) fn string(&mut self, mut at: usize) -> Option<(usize, bool)> {
        let mut backslashes = 0;
        loop {
            if at < self.base + BLOCK {
                let quotes = self.marks.quotes >> (at - self.base);
                backslashes |= self.marks.backslashes >> (at - self.base);
                if quotes != 0 {
                    let end = at + quotes.trailing_zeros() as usize + 1;
                    return Some((end, backslashes != 0));
                }
                at = self.base + BLOCK;
            }
            self.next_block()?;
        }
    }

    /// The position behind the bracket that closes the one at `at`.
    #[inline]
    pub(super) fn nested(&mut self, at: usize) -> Option<usize> {
        let mut nesting = Nesting::default();
        while at >= self.base + BLOCK {
            self.next_block()?;
        }
        let mut marks = self.marks.starting_at(at - self.base);
        loop {
            match nesting.step(marks, &self.bytes[self.base..]) {
                Block::Open => {}
                Block::Closed(len) => return Some(self.base + len),
                Block::Odd => return self.nested_by_bytes(at),
            }
            self.next_block()?;
            marks = self.marks;
        }
    }

    fn nested_by_bytes(&mut self, at: usize) -> Option<usize> {
        let mut nesting = Nesting::default();
        nesting.open(self.bytes[at]);
        let end = nesting.close_bytes(self.bytes, at + 1);
        if nesting.is_open() {
            return None;
        }
        self.read(end, false);
        Some(end)
    }
}

/// Each bit says whether the bits up to it, itself included, are odd in number.
#[inline]
const fn running_parity(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ bits << 32
}

const fn bits(all: bool) -> u64 {
    if all { u64::MAX } else { 0 }
}

/// `[` and `{` differ in one bit.
#[inline]
const fn is_opener(byte: u8) -> bool {
    byte | 0x20 == b'{'
}

/// `]` and `}` differ in one bit.
#[inline]
const fn is_closer(byte: u8) -> bool {
    byte | 0x20 == b'}'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn closers_close_whatever_is_open() {
        let mut nesting = Nesting::default();
        assert!(nesting.open(b'{'));
        assert_eq!(nesting.close(br#""a":[1}],..."#, 0), 8);
        assert!(!nesting.is_open());
    }

    proptest! {
        #[test]
        fn blocks_and_bytes_agree(
            text in r#"(["\\]{1,3}|[\[\]{}]|[a:, é]{1,40}){0,60}"#,
            json in prop::collection::vec(any::<String>(), 0..20),
            at in any::<usize>(),
        ) {
            let json = serde_json::json!([[json], {"a": json}]).to_string();
            for bytes in [text.as_bytes(), json.as_bytes()] {
                let mut by_bytes = Nesting::default();
                by_bytes.open(b'{');
                let mut by_blocks = by_bytes;
                let mut in_two = by_bytes;
                let end = by_bytes.close_bytes(bytes, 0);
                prop_assert_eq!(by_blocks.close(bytes, 0), end);
                prop_assert_eq!(by_blocks, by_bytes);

                let middle = in_two.close(&bytes[..at % (bytes.len() + 1)], 0);
                if in_two.is_open() {
                    prop_assert_eq!(in_two.close(bytes, middle), end);
                } else {
                    prop_assert_eq!(middle, end);
                }
                prop_assert_eq!(in_two, by_bytes);
            }
        }
    }
}
