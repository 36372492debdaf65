//! Where the bytes that matter to JSON's structure lie, found for many bytes at once.
//!
//! Without `unsafe` there are no vector instructions to call; this is what the compiler makes them of by itself.

/// Bytes that are looked at together.
pub(super) const BLOCK: usize = 64;

/// The bits in which the four brackets differ; with them set, all are the same.
const BRACKET: u8 = 0x26;

/// A bit for each byte of a block, the first byte in the lowest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    Marks {
        quotes: equal(block, 0, b'"'),
        backslashes: equal(block, 0, b'\\'),
        brackets: equal(block, BRACKET, b'}' | BRACKET),
    }
}

/// A bit for each byte that equals `wanted` once `set` bits are set. The loop is written so that the compiler turns it
/// into vector instructions: each byte that is found becomes the bit of its place among eight, and a multiplication
/// adds the eight up.
#[inline]
fn equal(block: &[u8; BLOCK], set: u8, wanted: u8) -> u64 {
    let mut places = [0_u8; BLOCK];
    for (at, place) in places.iter_mut().enumerate() {
        *place = if block[at] | set == wanted {
            1 << (at % 8)
        } else {
            0
        };
    }
    let (words, _) = places.as_chunks::<8>();
    words.iter().enumerate().fold(0, |bits, (index, word)| {
        let eight = u64::from_le_bytes(*word).wrapping_mul(0x0101_0101_0101_0101) >> 56;
        bits | eight << (index * 8)
    })
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
