//! What makes two events the same.

use std::hash::{BuildHasher, Hasher};

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::Verdict;
use crate::event::{AuditEvent, is_guid};

/// What tells events apart: the day of `CreationTime` since 1970, and 112 bits of hash. Ordered by day, then hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(u64, u64);

/// Bytes of a key without its day.
pub(super) const HASH_BYTES: usize = 14;

impl Key {
    pub(super) fn new(day: u16, identity: u128) -> Self {
        let high = (identity >> 64) as u64 & (u64::MAX >> 16);
        Self(u64::from(day) << 48 | high, identity as u64)
    }

    pub(super) fn day(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// All of it, for a file of one's own.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.0) << 64 | u128::from(self.1)).to_be_bytes()
    }

    /// The key of [`Key::to_bytes`].
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        let key = u128::from_be_bytes(bytes);
        Self((key >> 64) as u64, key as u64)
    }

    /// 48 bits of the hash.
    pub(super) fn high(self) -> u64 {
        self.0 & (u64::MAX >> 16)
    }

    /// The other 64.
    pub(super) fn low(self) -> u64 {
        self.1
    }

    /// The leading bits of the hash: spread evenly, and in the order of the keys of one day.
    pub(super) fn lead(self) -> u64 {
        self.0 << 16 | self.1 >> 48
    }

    /// The hash, so that bytes compare as keys of one day do.
    pub(super) fn hash_bytes(self) -> [u8; HASH_BYTES] {
        let mut bytes = [0; HASH_BYTES];
        bytes[..6].copy_from_slice(&self.0.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&self.1.to_be_bytes());
        bytes
    }
}

/// What is kept of an event: its key, and 56 bits of hash of its bytes with 8 bits of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) key: Key,
    pub(super) value: u64,
}

/// An event's identity and bytes as hashes, seeded by the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(super) id: Id,
    /// Whether the Id is a GUID, so that another source's copy is the same event whatever its bytes.
    pub(super) global: bool,
}

/// The day of events whose `CreationTime` cannot be read. Their hash alone tells them from those of that day.
const NO_DAY: u16 = 0;
const SOURCE_MASK: u64 = 0xff;
/// Bytes of an id in the log.
const LOG_BYTES: usize = 24;

/// Makes fingerprints for one journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprinter {
    seed: u64,
}

impl Fingerprinter {
    /// `seed` is the journal's own, so that nobody can prepare collisions.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Whether it has this seed.
    pub(super) fn is_seeded_by(self, seed: u64) -> bool {
        self.seed == seed
    }

    /// The fingerprint of the `index`th event of its unit. `source` numbers the sources of the journal.
    pub(crate) fn of(self, event: &AuditEvent, source: u8, index: u64) -> Fingerprint {
        let mut hash = Xxh3::with_seed(self.seed);
        let origin = event.origin();
        hash.update(origin.tenant.as_bytes());
        let created = event.created().map(|at| at.timestamp());
        let id = event.id();
        if let (Some(id), Some(created), Some(operation)) = (&id, created, event.operation()) {
            hash.update(b"\0id\0");
            // Its length says where it ends, whatever is in it.
            hash.update(&(id.len() as u64).to_le_bytes());
            hash.update(id.as_bytes());
            hash.update(&created.to_le_bytes());
            hash.update(operation.as_bytes());
        } else {
            // Nothing tells such an event from another but its place: a unit fetched again repeats it, a second
            // occurrence elsewhere is delivered.
            hash.update(b"\0at\0");
            hash.update(origin.source.as_bytes());
            hash.update(b"\0");
            hash.update(origin.unit.as_bytes());
            hash.update(b"\0");
            hash.update(&index.to_le_bytes());
            // Ids are kept by day, and another day is another table.
            hash.update(&created.unwrap_or(i64::MIN).to_le_bytes());
        }
        let bytes = xxh3_64_with_seed(event.raw(), self.seed) & !SOURCE_MASK;
        let day = created.map_or(NO_DAY, |at| {
            u16::try_from(at.div_euclid(86_400)).unwrap_or(NO_DAY)
        });
        Fingerprint {
            id: Id {
                key: Key::new(day, hash.digest128()),
                value: bytes | u64::from(source),
            },
            global: id.is_some_and(|id| is_guid(&id)),
        }
    }
}

impl Fingerprint {
    /// What tells the event from others, whatever its bytes.
    pub(crate) fn key(self) -> Key {
        self.id.key
    }

    /// Compares with the values that are known for this key.
    pub(super) fn judge(self, known: &[u64]) -> Verdict {
        let value = self.id.value;
        if known.is_empty() {
            return Verdict::New;
        }
        let repeat = known.iter().any(|known| {
            known & !SOURCE_MASK == value & !SOURCE_MASK
                || (self.global && known & SOURCE_MASK != value & SOURCE_MASK)
        });
        if repeat {
            Verdict::Repeat
        } else {
            Verdict::Variant
        }
    }
}

/// The log's form.
pub(super) fn encode(ids: &[Id]) -> Vec<u8> {
    let mut log = Vec::with_capacity(ids.len() * LOG_BYTES);
    for id in ids {
        log.extend_from_slice(&id.key.0.to_be_bytes());
        log.extend_from_slice(&id.key.1.to_be_bytes());
        log.extend_from_slice(&id.value.to_be_bytes());
    }
    log
}

/// Reads the log's form.
pub(super) fn decode(log: &[u8]) -> impl Iterator<Item = Id> {
    log.as_chunks::<LOG_BYTES>().0.iter().map(|id| Id {
        key: Key(number(&id[..8]), number(&id[8..16])),
        value: number(&id[16..]),
    })
}

/// A number from its bytes, the highest first.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prehashed(u64);

impl BuildHasher for Prehashed {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, half: u64) {
        self.0 = self.0.rotate_left(8) ^ half;
    }
}
