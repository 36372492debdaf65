//! Frees what all sinks have passed.

use super::writer::Tx;
use super::{LaneId, sql};
use crate::error::Result;

/// Batches freed in one transaction. More would hold up the commits of all tenants.
const FREE_SLICE: i64 = 256;

/// Deletes the batches of a lane that every cursor has passed, all of them if no sink takes the lane: a slice now, the
/// rest in the transactions that follow.
pub(super) fn free_passed(tx: &mut Tx<'_>, lane: LaneId) -> Result<()> {
    let passed: i64 = sql(tx
        .conn
        .prepare_cached(
            "SELECT coalesce(min(seq), 9223372036854775807) FROM cursors WHERE lane = ?1",
        )
        .and_then(|mut find| find.query_row([lane], |row| row.get(0))))?;
    let (mut batches, mut freed, mut last) = (0, 0, 0);
    {
        let mut slice = sql(tx.conn.prepare_cached(
            "SELECT seq, stored_bytes, file FROM batches WHERE lane = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3",
        ))?;
        let mut rows = sql(slice.query([lane, passed, FREE_SLICE]))?;
        while let Some(row) = sql(rows.next())? {
            last = sql(row.get::<_, i64>(0))?;
            let bytes = sql(row.get::<_, i64>(1))? as u64;
            tx.bodies.free(sql(row.get(2))?, bytes);
            freed += bytes;
            batches += 1;
        }
    }
    if batches == 0 {
        return Ok(());
    }
    sql(tx
        .conn
        .prepare_cached("DELETE FROM batches WHERE lane = ?1 AND seq <= ?2")
        .and_then(|mut delete| delete.execute([lane, last])))?;
    if batches == FREE_SLICE {
        tx.owed.insert(lane);
    }
    tx.after_commit(move |state| {
        if let Some(lane) = state.lanes.get_mut(&lane) {
            lane.bytes = lane.bytes.saturating_sub(freed);
        }
    });
    Ok(())
}

/// Frees what all sinks have passed, in every lane.
pub(super) fn free_all(tx: &mut Tx<'_>) -> Result<()> {
    for lane in all_lanes(tx)? {
        free_passed(tx, lane)?;
    }
    Ok(())
}

fn all_lanes(tx: &Tx<'_>) -> Result<Vec<LaneId>> {
    let mut select = sql(tx.conn.prepare("SELECT lane FROM lanes"))?;
    let rows = sql(select.query_map([], |row| row.get(0)))?;
    sql(rows.collect())
}
