//! One look that tells most ids apart from all that is in runs from the log.
//!
//! There may be dozens of such runs until they are merged, each with a filter of its own. This is one filter over all
//! of them: a Bloom filter whose bits for an id lie in one line of the processor's cache. Like any filter it may only
//! say "certainly not there".

use super::identity::Key;

/// Bits of a line.
const LINE: usize = 512;
/// Bits of memory for each id.
const BITS: usize = 8;
/// Bits that are set for each id.
const PROBES: u32 = 5;

#[derive(Debug)]
pub(super) struct Front {
    lines: Vec<[u64; LINE / 64]>,
}

impl Front {
    /// One for about so many ids. More make it less useful, not wrong.
    pub(super) fn new(ids: usize) -> Self {
        Self {
            lines: vec![[0; LINE / 64]; (ids * BITS).div_ceil(LINE).max(1)],
        }
    }

    pub(super) fn insert(&mut self, key: Key) {
        let line = self.line_of(key);
        for bit in bits(key) {
            self.lines[line][bit / 64] |= 1 << (bit % 64);
        }
    }

    /// `false` only if the key was certainly not inserted.
    pub(super) fn may_hold(&self, key: Key) -> bool {
        let line = &self.lines[self.line_of(key)];
        bits(key).all(|bit| line[bit / 64] >> (bit % 64) & 1 != 0)
    }

    fn line_of(&self, key: Key) -> usize {
        ((u128::from(key.low()) * self.lines.len() as u128) >> 64) as usize
    }
}

/// From other bits of the hash than those that choose the line.
fn bits(key: Key) -> impl Iterator<Item = usize> {
    (0..PROBES).map(move |probe| (key.high() >> (9 * probe)) as usize % LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_inserted_is_found_and_little_else() {
        let key = |number: u64| {
            Key::new(
                number as u16 % 7,
                xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes()),
            )
        };
        let mut front = Front::new(10_000);
        (0..10_000).for_each(|number| front.insert(key(number)));
        assert!((0..10_000).all(|number| front.may_hold(key(number))));
        let wrong = (10_000..20_000).filter(|number| front.may_hold(key(*number)));
        assert!(wrong.count() < 600);
    }
}
