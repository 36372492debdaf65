//! What makes two events the same.

use std::hash::{BuildHasher, Hasher};

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::Verdict;
use crate::event::AuditEvent;

/// An event's identity and bytes as fixed-size hashes, seeded by the journal: 128 bits of identity, 56 bits of the
/// bytes, 8 bits of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// Day of `CreationTime` since 1970, or [`NO_DAY`].
    pub(super) day: i32,
    pub(super) identity: u128,
    pub(super) value: u64,
    /// Whether the Id is a GUID, so that another source's copy is the same event whatever its bytes.
    pub(super) global: bool,
}

/// The day of events whose `CreationTime` cannot be read.
const NO_DAY: i32 = i32::MIN;
const SOURCE_MASK: u64 = 0xff;
/// Bytes of an id in the log and in a run: 16 of identity, 8 of value.
pub(super) const ID_BYTES: usize = 24;

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
        Fingerprint {
            day: created.map_or(NO_DAY, |at| {
                i32::try_from(at.div_euclid(86_400)).unwrap_or(NO_DAY)
            }),
            identity: hash.digest128(),
            value: bytes | u64::from(source),
            global: id.is_some_and(|id| is_guid(&id)),
        }
    }
}

impl Fingerprint {
    /// Compares with the values that are known for this identity.
    pub(super) fn judge(self, known: &[u64]) -> Verdict {
        if known.is_empty() {
            return Verdict::New;
        }
        let repeat = known.iter().any(|value| {
            value & !SOURCE_MASK == self.value & !SOURCE_MASK
                || (self.global && value & SOURCE_MASK != self.value & SOURCE_MASK)
        });
        if repeat {
            Verdict::Repeat
        } else {
            Verdict::Variant
        }
    }

    /// The log's form: runs of one day, each `day, count, ids`.
    pub(super) fn encode(fingerprints: &[Self]) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + fingerprints.len() * ID_BYTES);
        for same_day in fingerprints.chunk_by(|a, b| a.day == b.day) {
            out.extend_from_slice(&same_day[0].day.to_le_bytes());
            out.extend_from_slice(&(same_day.len() as u32).to_le_bytes());
            for id in same_day {
                out.extend_from_slice(&id.identity.to_be_bytes());
                out.extend_from_slice(&id.value.to_be_bytes());
            }
        }
        out
    }

    /// Reads the log's form. Whether the Id was a GUID is not needed of ids that are known.
    pub(super) fn decode(mut log: &[u8]) -> Vec<Self> {
        let mut out = Vec::with_capacity(log.len() / ID_BYTES);
        while let Some((day, rest)) = log.split_first_chunk::<4>() {
            let Some((count, rest)) = rest.split_first_chunk::<4>() else {
                break;
            };
            let bytes = (u32::from_le_bytes(*count) as usize * ID_BYTES).min(rest.len());
            let (ids, rest) = rest.split_at(bytes);
            for (identity, value) in parse_ids(ids) {
                let day = i32::from_le_bytes(*day);
                out.push(Self {
                    day,
                    identity,
                    value,
                    global: false,
                });
            }
            log = rest;
        }
        out
    }
}

/// The ids of a run's chunk or of a log entry.
pub(super) fn parse_ids(ids: &[u8]) -> impl Iterator<Item = (u128, u64)> {
    ids.chunks_exact(ID_BYTES).map(|id| {
        let (identity, value) = id.split_at(16);
        (
            identity
                .iter()
                .fold(0, |all, byte| all << 8 | u128::from(*byte)),
            value
                .iter()
                .fold(0, |all, byte| all << 8 | u64::from(*byte)),
        )
    })
}

fn is_guid(id: &str) -> bool {
    let id = id.as_bytes();
    id.len() == 36
        && id.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Identities are hashes already: their low bits serve as the table's hash.
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
    fn write_u128(&mut self, identity: u128) {
        self.0 = (identity >> 64) as u64 ^ identity as u64;
    }
}
