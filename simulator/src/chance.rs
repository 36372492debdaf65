//! Repeatable chance: every draw is a function of the seed and of what it is drawn for.
//!
//! The generator and the faults share it, so that a run can be repeated bit for bit, on any
//! machine and with any order of requests. `SplitMix64` is a dozen lines and will never change,
//! which no random number crate promises.

/// A stream of draws that belongs to one thing: a record, a blob, the third answer to a request.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

/// Mixes the parts of a name into one seed.
pub(crate) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |seed, part| {
        scramble(seed.wrapping_add(*part).wrapping_add(0x632b_e59b_d9b4_e019))
    })
}

/// Turns text into a part of a name (FNV-1a).
pub(crate) fn part(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Chance {
    /// The draws of the thing that these parts name.
    pub(crate) fn of(parts: &[u64]) -> Self {
        Self(mix(parts))
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// The next 128 bits.
    pub(crate) fn wide(&mut self) -> u128 {
        (u128::from(self.bits()) << 64) | u128::from(self.bits())
    }

    /// A number in `0..bound`; 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub(crate) fn hit(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    /// One of these, each as likely as the other.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// One of these, the first far more often than the last: the way people use apps and files.
    pub(crate) fn favour<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let share = self.unit();
        &from[(share * share * from.len() as f64) as usize]
    }

    /// Puts the items into another order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_gives_the_same_draws_and_another_name_gives_others() {
        let draws = |parts: &[u64]| {
            let mut chance = Chance::of(parts);
            [chance.bits(), chance.bits(), chance.below(1000)]
        };
        assert_eq!(draws(&[1, 2]), draws(&[1, 2]));
        assert_ne!(draws(&[1, 2]), draws(&[2, 1]));
        assert_ne!(part("a"), part("b"));
    }

    #[test]
    fn draws_stay_inside_their_bounds() {
        let mut chance = Chance::of(&[7]);
        for _ in 0..10_000 {
            assert!(chance.below(10) < 10);
            assert!((0.0..1.0).contains(&chance.unit()));
            assert!(!chance.hit(0.0));
            assert!(chance.hit(1.0));
            assert!([1, 2, 3].contains(chance.favour(&[1, 2, 3])));
        }
        assert_eq!(chance.below(0), 0);
    }
}
