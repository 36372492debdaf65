//! Batches whose body is damaged: a sink that comes to one skips it, on record, and its unit is fetched once more.
//!
//! Which events it held is known no more, and their ids stand among those that were journaled. So the unit counts as
//! lost until the source lists it again; when it does, all its events are journaled, whatever their ids: sinks that had
//! them before get them twice.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::limits::detach_one;
use super::place::Place;
use super::writer::Tx;
use super::{Journal, LaneId, sql};
use crate::error::{Error, Kind, Result};

/// The first batch after a cursor.
struct Next {
    seq: i64,
    stream: i64,
    unit: String,
    place: Place,
}

impl Journal {
    /// Moves a sink past the first batch after `cursor` if its body is damaged or gone. Does nothing if it is not.
    pub async fn skip_damaged(&self, sink: &str, lane: LaneId, cursor: u64) -> Result<()> {
        let (sink, dir): (Arc<str>, _) = (sink.into(), Arc::clone(&self.dir));
        self.writer
            .run(move |tx| {
                let Some(next) = after(tx, lane, cursor)? else {
                    return Ok(());
                };
                let error = match next.place.read(&dir) {
                    Ok(Some(_)) => return Ok(()),
                    Ok(None) => next.place.missing(&dir),
                    Err(error) if error.kind() == Kind::Lost => error,
                    Err(error) => return Err(error),
                };
                detach_one(tx, sink, lane, next.seq as u64, &error.to_string())?;
                fetch_again(tx, &next, &error)
            })
            .await
    }
}

fn after(tx: &Tx<'_>, lane: LaneId, cursor: u64) -> Result<Option<Next>> {
    let mut select = sql(tx.conn.prepare_cached(
        "SELECT seq, stream, unit, file, offset, stored_bytes, sum FROM batches WHERE lane = ?1 AND seq > ?2 \
         ORDER BY seq LIMIT 1",
    ))?;
    let mut rows = sql(select.query(params![lane, cursor as i64]))?;
    let Some(row) = sql(rows.next())? else {
        return Ok(None);
    };
    Ok(Some(Next {
        seq: sql(row.get(0))?,
        stream: sql(row.get(1))?,
        unit: sql(row.get(2))?,
        place: Place::of(row, 3)?,
    }))
}

/// Counts the unit of a damaged batch as lost until it is listed again. Once, however many sinks come to the batch.
fn fetch_again(tx: &Tx<'_>, batch: &Next, error: &Error) -> Result<()> {
    let new = sql(tx.conn.execute(
        "INSERT OR IGNORE INTO struck (seq, stream, unit) VALUES (?1, ?2, ?3)",
        params![batch.seq, batch.stream, batch.unit],
    ))?;
    if new == 0 {
        return Ok(());
    }
    let fetched: Option<(String, i64)> = sql(tx
        .conn
        .query_row(
            "UPDATE units SET state = 2, error = ?1 WHERE stream = ?2 AND unit = ?3 AND state = 1 \
             RETURNING content_type, created",
            params![error.to_string(), batch.stream, batch.unit],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional())?;
    if let Some((content_type, created)) = fetched {
        move_count(tx, batch.stream, &content_type, created, [-1, 1])?;
    }
    Ok(())
}

/// A source lists a unit that is known. If a batch of it was struck out, it waits to be fetched again:
/// returns 1.
pub(super) fn reopen(tx: &Tx<'_>, stream: i64, unit: &crate::plugin::Unit) -> Result<usize> {
    let reopened = sql(tx
        .conn
        .prepare_cached(
            "UPDATE units SET state = 0, error = NULL, locator = ?3, expires = ?4, due = ?5 \
             WHERE stream = ?1 AND unit = ?2 AND state = 2 \
             AND EXISTS (SELECT 1 FROM struck s WHERE s.stream = ?1 AND s.unit = ?2)",
        )
        .and_then(|mut update| {
            update.execute(params![
                stream,
                unit.id,
                unit.locator,
                unit.expires.timestamp_millis(),
                tx.now_ms
            ])
        }))?;
    if reopened > 0 {
        let created = unit.created.timestamp_millis();
        move_count(tx, stream, &unit.content_type, created, [0, -1])?;
    }
    Ok(reopened)
}

/// Whether all events of a unit are to be journaled, those too that were before.
pub(super) fn is_struck(tx: &Tx<'_>, stream: i64, unit: &str) -> Result<bool> {
    sql(tx
        .conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM struck WHERE stream = ?1 AND unit = ?2)")
        .and_then(|mut ask| ask.query_row(params![stream, unit], |row| row.get(0))))
}

/// Adds to the fetched and the lost units of an hour.
fn move_count(
    tx: &Tx<'_>,
    stream: i64,
    content_type: &str,
    created_ms: i64,
    [fetched, lost]: [i64; 2],
) -> Result<()> {
    sql(tx.conn.execute(
        "UPDATE coverage_content SET fetched = fetched + ?1, lost = lost + ?2 \
         WHERE stream = ?3 AND content_type = ?4 AND hour = ?5",
        params![
            fetched,
            lost,
            stream,
            content_type,
            created_ms.div_euclid(super::units::MS_PER_HOUR)
        ],
    ))?;
    Ok(())
}
