//! A sorted run of ids on disk, behind a filter in memory.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter, FilterRef};

use super::identity::{ID_BYTES, parse_ids};
use crate::error::{Error, Result};
use crate::journal::sql;

/// Ids in one chunk: a chunk is read whole to settle one question, so it stays near a page.
const CHUNK_IDS: usize = 160;

/// One run. Its ids never change.
#[derive(Debug)]
pub(crate) struct Run {
    number: i64,
    written_at: i64,
    descriptor: Vec<u8>,
    fingerprints: Vec<u8>,
}

impl Run {
    /// Writes `ids`, which are sorted, as a run of `day`.
    pub(super) fn write(
        conn: &Connection,
        day: i32,
        written_at: i64,
        ids: &[(u128, u64)],
    ) -> Result<Self> {
        let mut keys: Vec<u64> = ids.iter().map(|(identity, _)| key(*identity)).collect();
        keys.sort_unstable();
        keys.dedup();
        let filter = BinaryFuse8::try_from(&keys)
            .map_err(|why| Error::bug(format!("a filter over ids cannot be built: {why}")))?;
        let mut descriptor = vec![0; BinaryFuse8::DESCRIPTOR_LEN];
        filter.dma_copy_descriptor_to(&mut descriptor);
        let fingerprints = filter.dma_fingerprints().to_vec();
        sql(conn.execute(
            "INSERT INTO id_runs (day, written_at, descriptor, fingerprints) VALUES (?1, ?2, ?3, ?4)",
            params![day, written_at, descriptor, fingerprints],
        ))?;
        let number = conn.last_insert_rowid();
        let mut insert = sql(
            conn.prepare_cached("INSERT INTO id_chunks (run, first, ids) VALUES (?1, ?2, ?3)")
        )?;
        let mut rest = ids;
        while !rest.is_empty() {
            let mut end = CHUNK_IDS.min(rest.len());
            // Ids with the same leading bits stay in one chunk, so that one read settles a question.
            while end < rest.len() && lead(rest[end].0) == lead(rest[end - 1].0) {
                end += 1;
            }
            let (chunk, tail) = rest.split_at(end);
            let mut bytes = Vec::with_capacity(chunk.len() * ID_BYTES);
            for (identity, value) in chunk {
                bytes.extend_from_slice(&identity.to_be_bytes());
                bytes.extend_from_slice(&value.to_be_bytes());
            }
            sql(insert.execute(params![number, lead(chunk[0].0), bytes]))?;
            rest = tail;
        }
        Ok(Self {
            number,
            written_at,
            descriptor,
            fingerprints,
        })
    }

    /// `false` only if the identity is certainly not in the run.
    pub(super) fn may_hold(&self, identity: u128) -> bool {
        BinaryFuse8Ref::from_dma(&self.descriptor, &self.fingerprints).contains(&key(identity))
    }

    /// The values that the run holds for an identity, from the ids themselves.
    pub(super) fn values(&self, conn: &Connection, identity: u128) -> Result<Vec<u64>> {
        let ids: Option<Vec<u8>> = sql(conn
            .prepare_cached(
                "SELECT ids FROM id_chunks WHERE run = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
            )
            .and_then(|mut find| {
                find.query_row(params![self.number, lead(identity)], |row| row.get(0)).optional()
            }))?;
        Ok(parse_ids(&ids.unwrap_or_default())
            .filter(|(known, _)| *known == identity)
            .map(|(_, value)| value)
            .collect())
    }

    pub(super) fn written_at(&self) -> i64 {
        self.written_at
    }
}

/// Loads the filters of all runs, by day.
pub(super) fn load(conn: &Connection) -> Result<BTreeMap<i32, Vec<Run>>> {
    let mut runs: BTreeMap<i32, Vec<Run>> = BTreeMap::new();
    let mut select = sql(conn.prepare(
        "SELECT day, run, written_at, descriptor, fingerprints FROM id_runs ORDER BY run",
    ))?;
    let mut rows = sql(select.query([]))?;
    while let Some(row) = sql(rows.next())? {
        runs.entry(sql(row.get(0))?).or_default().push(Run {
            number: sql(row.get(1))?,
            written_at: sql(row.get(2))?,
            descriptor: sql(row.get(3))?,
            fingerprints: sql(row.get(4))?,
        });
    }
    Ok(runs)
}

/// Deletes the runs that were written before `cutoff` (seconds).
pub(super) fn forget_before(conn: &Connection, cutoff: i64) -> Result<()> {
    sql(conn.execute(
        "DELETE FROM id_chunks WHERE run IN (SELECT run FROM id_runs WHERE written_at < ?1)",
        [cutoff],
    ))?;
    sql(conn.execute("DELETE FROM id_runs WHERE written_at < ?1", [cutoff]))?;
    Ok(())
}

/// The filter's key of an identity.
fn key(identity: u128) -> u64 {
    identity as u64
}

/// The leading bits of an identity, in an order that `SQLite`'s signed integers keep.
fn lead(identity: u128) -> i64 {
    ((identity >> 64) as u64 ^ (1 << 63)) as i64
}
