//! The little of JSON's grammar that cutting and looking up need: where strings and nested values end.
//!
//! Nothing here checks that the text is JSON. Brackets are only counted: a closer closes whatever is open, of either
//! kind, because a record whose brackets do not match must still end somewhere, and the next one must begin.

use memchr::memchr2;

/// Strings in audit records are short; this many bytes are looked at in words before `memchr` is worth its call.
const SHORT: usize = 32;

/// The position of the first quote or backslash at or after `at`.
#[inline]
pub(super) fn quote_or_backslash(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let (words, _) = rest.as_chunks::<8>();
    for (index, word) in words.iter().take(SHORT / 8).enumerate() {
        let word = u64::from_le_bytes(*word);
        let hits = zero_bytes(word ^ repeat(b'"')) | zero_bytes(word ^ repeat(b'\\'));
        if hits != 0 {
            return Some(at + index * 8 + (hits.trailing_zeros() / 8) as usize);
        }
    }
    let looked_at = words.len().min(SHORT / 8) * 8;
    memchr2(b'"', b'\\', &rest[looked_at..]).map(|found| at + looked_at + found)
}

const fn repeat(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// The high bit of each byte that is zero; exact for the lowest one, which is the only one that is used.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(repeat(0x01)) & !word & repeat(0x80)
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
#[derive(Clone, Copy, Debug, Default)]
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
    #[inline]
    pub(super) fn close(&mut self, bytes: &[u8], mut at: usize) -> usize {
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
    use super::*;

    #[test]
    fn finds_quotes_and_backslashes_at_every_distance() {
        for distance in 0..100 {
            for mark in [b'"', b'\\'] {
                let mut text = vec![b'x'; distance];
                assert_eq!(quote_or_backslash(&text, 0), None);
                text.push(mark);
                text.extend(b"\"\\....");
                assert_eq!(quote_or_backslash(&text, 0), Some(distance));
            }
        }
        assert_eq!(quote_or_backslash(b"ab", 3), None);
    }

    #[test]
    fn closers_close_whatever_is_open() {
        let mut nesting = Nesting::default();
        assert!(nesting.open(b'{'));
        assert_eq!(nesting.close(br#""a":[1}],..."#, 0), 8);
        assert!(!nesting.is_open());
    }
}
