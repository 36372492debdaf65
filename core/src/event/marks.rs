//! Where the bytes that matter to JSON's structure lie, found for many bytes at once.

use wide::u8x16;

/// Bytes that are looked at together.
pub(super) const BLOCK: usize = 64;

/// The bits in which the four brackets differ; with them set, all are the same.
const BRACKET: u8 = 0x26;

/// A bit for each byte of a block, the first byte in the lowest bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// `"`
    pub(super) quotes: u64,
    /// `\`
    pub(super) backslashes: u64,
    /// `{`, `[`, `}` and `]`, and also `Y`, `_`, `y` and `DEL`, which valid JSON only has in strings.
    pub(super) brackets: u64,
}

/// The marks of a block.
#[inline]
pub(super) fn marks(block: &[u8; BLOCK]) -> Marks {
    let (lanes, _) = block.as_chunks::<16>();
    let mut marks = Marks {
        quotes: 0,
        backslashes: 0,
        brackets: 0,
    };
    for (index, lane) in lanes.iter().enumerate() {
        let lane = u8x16::new(*lane);
        let equal = |lane: u8x16, wanted: u8| {
            u64::from(lane.simd_eq(u8x16::splat(wanted)).to_bitmask()) << (index * 16)
        };
        marks.quotes |= equal(lane, b'"');
        marks.backslashes |= equal(lane, b'\\');
        marks.brackets |= equal(lane | u8x16::splat(BRACKET), b'}' | BRACKET);
    }
    marks
}

impl Marks {
    /// Without the quotes behind backslashes; and whether the first byte of the next block is behind one.
    #[inline]
    pub(super) fn unescaped(self, behind_backslash: bool) -> (Self, bool) {
        let (escaped, behind_backslash) = escaped(self.backslashes, behind_backslash);
        let quotes = self.quotes & !escaped;
        (Self { quotes, ..self }, behind_backslash)
    }

    /// Without those of the bytes before `at`.
    #[inline]
    pub(super) fn starting_at(self, at: usize) -> Self {
        let kept = u64::MAX << at;
        Self {
            quotes: self.quotes & kept,
            backslashes: self.backslashes & kept,
            brackets: self.brackets & kept,
        }
    }
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

/// The marks of what is less than a block, at the end of a text.
#[cold]
pub(super) fn marks_of_tail(tail: &[u8]) -> Marks {
    let mut block = [0; BLOCK];
    block[..tail.len()].copy_from_slice(tail);
    marks(&block)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expected(block: &[u8; BLOCK], wanted: &[u8]) -> u64 {
        (0..BLOCK)
            .filter(|at| wanted.contains(&block[*at]))
            .fold(0, |bits, at| bits | 1 << at)
    }

    proptest! {
        #[test]
        fn every_mark_is_found_and_no_other(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"\"\\[]{}Yy_\x7F!#"[..])], BLOCK),
        ) {
            let block: [u8; BLOCK] = bytes.try_into().unwrap();
            prop_assert_eq!(marks(&block), Marks {
                quotes: expected(&block, b"\""),
                backslashes: expected(&block, b"\\"),
                brackets: expected(&block, b"{[}]Y_y\x7F"),
            });
        }
    }
}
