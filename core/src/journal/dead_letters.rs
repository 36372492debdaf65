//! Events that were refused for good: kept, counted, replayable.

use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::commit::Commit;
use super::sql;
use super::status::look_into;
use super::writer::Tx;
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

/// Stores one dead letter.
pub(super) fn store(tx: &Tx<'_>, letter: &DeadLetter) -> Result<()> {
    let origin = letter.event.origin();
    sql(tx.conn.execute(
        "INSERT INTO dead_letters (sink, tenant, source, content_type, unit, reason, at, complete) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)",
        params![
            letter.sink,
            origin.tenant,
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
            None => {
                sql(tx.conn.execute(
                    "INSERT INTO dead_letters (sink, tenant, source, content_type, unit, record, reason, at, complete) \
                     VALUES (NULL, ?1, ?2, ?3, ?4, ?5, 'the record is larger than limits.record_size', ?6, 0)",
                    params![
                        origin.tenant,
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

/// What is known about a kept record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// Its number.
    pub letter: i64,
    /// The sink that refused it; none for a record that was too large for all.
    pub sink: Option<String>,
    /// The tenant's id.
    pub tenant: String,
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// The unit that it came in.
    pub unit: String,
    /// Why it was refused.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// The record's size.
    pub bytes: i64,
    /// Whether all of it is there.
    pub complete: bool,
}

/// The dead letters of a journal, read without disturbing the process that may hold it.
pub struct DeadLetters(Connection);

impl DeadLetters {
    /// Those of the journal in `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        look_into(dir).map(Self)
    }

    /// The newest `limit` of them, the newest first.
    pub fn newest(&self, limit: u32) -> Result<Vec<Letter>> {
        let mut select = sql(self.0.prepare(
            "SELECT letter, sink, tenant, source, content_type, unit, reason, at, complete, \
             (SELECT coalesce(sum(length(body)), 0) FROM dead_letter_parts p WHERE p.letter = d.letter) \
             FROM dead_letters d ORDER BY letter DESC LIMIT ?1",
        ))?;
        let rows = sql(select.query_map([limit], |row| {
            Ok(Letter {
                letter: row.get(0)?,
                sink: row.get(1)?,
                tenant: row.get(2)?,
                source: row.get(3)?,
                content_type: row.get(4)?,
                unit: row.get(5)?,
                reason: row.get(6)?,
                at_ms: row.get(7)?,
                complete: row.get(8)?,
                bytes: row.get(9)?,
            })
        }))?;
        sql(rows.collect())
    }

    /// Writes the bytes of one, a part at a time. `false` if there is none of this number.
    pub fn write(&self, letter: i64, out: &mut dyn Write) -> Result<bool> {
        let mut select = sql(self
            .0
            .prepare("SELECT body FROM dead_letter_parts WHERE letter = ?1 ORDER BY part"))?;
        let mut rows = sql(select.query([letter]))?;
        let mut found = false;
        while let Some(row) = sql(rows.next())? {
            out.write_all(sql(sql(row.get_ref(0))?.as_blob().map_err(Into::into))?)?;
            found = true;
        }
        Ok(found)
    }
}
