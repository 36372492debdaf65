//! The little of JSON's grammar that cutting and looking up need: where strings and nested values end.
//!
//! Nothing here checks that the text is JSON. Brackets are only counted: a closer closes whatever is open, of either
//! kind, because a record whose brackets do not match must still end somewhere, and the next one must begin.

use memchr::memchr2;

use super::marks::{BLOCK, marks};

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
    while bytes.get(at).is_some_and(|byte| is_space(*byte)) {
        at += 1;
    }
    at
}

/// The end of the string whose opening quote lies before `at`: the position behind its closing quote, and whether it
/// holds escapes. `None` if it is not closed.
#[inline]
pub(super) fn string_end(bytes: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        at = quote_or_backslash(bytes, at)?;
        if bytes[at] == b'"' {
            return Some((at + 1, escaped));
        }
        escaped = true;
        at += 2;
    }
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
        let marks = marks(block);
        let (escaped, behind_backslash) = escaped(marks.backslashes, self.behind_backslash);
        // A bit for each byte in a string, its opening quote included.
        let strings = running_parity(marks.quotes & !escaped) ^ bits(self.in_string);
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
        self.behind_backslash = behind_backslash;
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

/// The bytes behind backslashes that are not behind backslashes themselves; whether the first byte of the next block
/// is one.
#[inline]
fn escaped(mut backslashes: u64, behind_backslash: bool) -> (u64, bool) {
    let mut escaped = u64::from(behind_backslash);
    let mut last = false;
    backslashes &= !escaped;
    while backslashes != 0 {
        let backslash = backslashes & backslashes.wrapping_neg();
        let next = backslash << 1;
        escaped |= next;
        last = next == 0;
        backslashes &= !(backslash | next);
    }
    (escaped, last)
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
