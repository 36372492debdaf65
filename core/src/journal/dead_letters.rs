//! Events that were refused for good: kept, counted, replayable.

use bytes::Bytes;
use rusqlite::{OptionalExtension, params};

use super::commit::Commit;
use super::writer::Tx;
use super::{LaneId, sql};
use crate::error::Result;
use crate::event::AuditEvent;

/// An event that a sink refused for good.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The sink.
    pub sink: std::sync::Arc<str>,
    /// The event.
    pub event: AuditEvent,
    /// Why, in the far side's words.
    pub reason: String,
}

/// A piece of a record that is too large to be an event. Pieces come in order, and may span batches.
#[derive(Clone, Debug)]
pub struct OversizePart {
    /// How many oversized records of its unit come before it.
    pub record: u64,
    /// The piece's bytes.
    pub part: Bytes,
    /// Whether the record begins with it.
    pub first: bool,
    /// Whether the record ends with it.
    pub last: bool,
}

/// Stores one dead letter, which the sink's cursor in `lane` counts.
pub(super) fn store(tx: &Tx<'_>, lane: LaneId, letter: &DeadLetter) -> Result<()> {
    let origin = letter.event.origin();
    sql(tx.conn.execute(
        "INSERT INTO dead_letters (sink, tenant, lane, source, content_type, unit, reason, at, complete) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 1)",
        params![
            letter.sink,
            origin.tenant,
            lane,
            origin.source,
            origin.content_type,
            origin.unit,
            letter.reason,
            tx.now_ms
        ],
    ))?;
    add_part(tx, tx.conn.last_insert_rowid(), letter.event.raw())
}

/// Stores the pieces of oversized records. A unit that is fetched again completes the letters that an earlier try
/// left unfinished and leaves those alone that are complete.
pub(super) fn store_oversize(tx: &Tx<'_>, commit: &Commit) -> Result<()> {
    let origin = &commit.origin;
    for piece in commit.oversize.iter() {
        let known: Option<(i64, bool)> = sql(tx
            .conn
            .query_row(
                "SELECT letter, complete FROM dead_letters \
                 WHERE sink IS NULL AND tenant = ?1 AND source = ?2 AND unit = ?3 AND record = ?4",
                params![
                    origin.tenant,
                    origin.source,
                    origin.unit,
                    piece.record as i64
                ],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional())?;
        let letter = match known {
            Some((_, true)) => continue,
            Some((letter, false)) => letter,
            // Somebody has dropped it since its first part.
            None if !piece.first => continue,
            None => {
                sql(tx.conn.execute(
                    "INSERT INTO dead_letters (sink, tenant, lane, source, content_type, unit, record, reason, at, complete) \
                     VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, 'the record is larger than limits.record_size', ?7, 0)",
                    params![
                        origin.tenant,
                        commit.lane,
                        origin.source,
                        origin.content_type,
                        origin.unit,
                        piece.record as i64,
                        tx.now_ms
                    ],
                ))?;
                tx.conn.last_insert_rowid()
            }
        };
        if piece.first {
            sql(tx
                .conn
                .execute("DELETE FROM dead_letter_parts WHERE letter = ?1", [letter]))?;
        }
        add_part(tx, letter, &piece.part)?;
        if piece.last {
            sql(tx.conn.execute(
                "UPDATE dead_letters SET complete = 1 WHERE letter = ?1",
                [letter],
            ))?;
        }
    }
    Ok(())
}

fn add_part(tx: &Tx<'_>, letter: i64, body: &[u8]) -> Result<()> {
    sql(tx
        .conn
        .prepare_cached(
            "INSERT INTO dead_letter_parts (letter, part, body) \
             SELECT ?1, coalesce(max(part) + 1, 0), ?2 FROM dead_letter_parts WHERE letter = ?1",
        )
        .and_then(|mut insert| insert.execute(params![letter, body])))?;
    Ok(())
}
