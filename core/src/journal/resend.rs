//! Dead letters that are handed over again, and what becomes of them.
//!
//! A letter leaves in the transaction that says what became of it: delivered (with the sink's receipt, and moved in
//! its account from dead to delivered), journaled as an event like any other, or dropped (and still dead in the
//! account). Until then it stays; what happens in between may repeat a delivery, and never loses one.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::commit::{self, Commit, hour_of};
use super::writer::Tx;
use super::{Changes, Journal, LaneId, cursors, sql, store};
use crate::error::{Error, Result};
use crate::event::{AuditEvent, Origin};
use crate::plugin::Receipt;

/// A dead letter with its event.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its number.
    pub letter: i64,
    /// The sink that refused it; none for a record that was too large for all.
    pub sink: Option<Arc<str>>,
    /// The lane that it came by, as long as it counts there.
    lane: Option<LaneId>,
    /// Its place among the oversized records of its unit.
    record: u64,
    /// The event.
    pub event: AuditEvent,
}

/// What is found at a letter's number.
#[derive(Clone, Debug)]
pub enum Found {
    /// The letter.
    Whole(Kept),
    /// There is one, but it cannot be handed over, for this reason.
    Stays(String),
    /// There is none.
    Gone,
}

/// What a sink did with a letter: the reason if it refused it again.
pub type Fate = (Kept, Option<String>);

impl Journal {
    /// A dead letter with its event, unless that is larger than `most_bytes`.
    pub async fn letter(&self, letter: i64, most_bytes: usize) -> Result<Found> {
        let names = self.clone();
        self.ask(move |conn| find(conn, letter, most_bytes, &names))
            .await
    }

    /// Says what `sink` did with letters. Those that it took leave, and move in the account of the sink that had
    /// refused them if that is the same; those that it refused again stay.
    pub async fn settle_letters(
        &self,
        sink: &str,
        receipt: Option<Receipt>,
        changes: Changes,
        fates: Vec<Fate>,
    ) -> Result<()> {
        let sink: Arc<str> = sink.into();
        self.writer
            .run(move |tx| {
                if let Some(receipt) = &receipt {
                    cursors::store_receipt(tx, &sink, receipt)?;
                }
                store::apply(tx, &store::of_sink(&sink), &changes)?;
                for (kept, refused) in &fates {
                    match refused {
                        Some(reason) => refused_again(tx, &sink, kept, reason)?,
                        None => delivered(tx, &sink, kept)?,
                    }
                }
                Ok(())
            })
            .await
    }

    /// Journals an oversized record as the event that it is, and lets its letter go. Every sink gets it in turn.
    /// Returns `false` if it was journaled before, or the letter is gone.
    pub async fn journal_letter(&self, kept: Kept) -> Result<bool> {
        let origin = Arc::clone(kept.event.origin());
        let stream = self.stream(&origin.source, &origin.tenant).await?;
        let lane = kept
            .lane
            .ok_or_else(|| Error::bug(format!("dead letter {} has no lane", kept.letter)))?;
        let _room = self.room(&origin.tenant, kept.event.raw().len()).await?;
        // No record of a unit has such an index, by which those are told that have no Id.
        let index = u64::MAX - kept.record;
        let commit = Commit {
            stream,
            lane,
            origin,
            events: Arc::new(vec![kept.event]),
            first_index: index,
            oversize: Arc::default(),
            wire: None,
            again: None,
            unit_done: false,
        };
        let marks = self.marks(&commit);
        let (id, bound) = (Arc::clone(self.id()), self.shared.limits.handover_bytes);
        self.writer
            .run(move |tx| {
                if !remove(tx, kept.letter)? {
                    return Ok(false);
                }
                let done = commit::apply(tx, &commit, &marks, &id, bound)?;
                Ok(done.journaled > 0)
            })
            .await
    }

    /// Drops letters for good. Returns the numbers of those that were there.
    pub async fn drop_letters(&self, letters: Vec<i64>) -> Result<Vec<i64>> {
        self.writer
            .run(move |tx| {
                let mut dropped = Vec::with_capacity(letters.len());
                for letter in letters {
                    if remove(tx, letter)? {
                        dropped.push(letter);
                    }
                }
                Ok(dropped)
            })
            .await
    }
}

fn find(conn: &Connection, letter: i64, most_bytes: usize, names: &Journal) -> Result<Found> {
    let known = sql(conn
        .prepare_cached(
            "SELECT sink, tenant, source, content_type, unit, lane, coalesce(record, 0), complete, \
             (SELECT coalesce(sum(length(body)), 0) FROM dead_letter_parts p WHERE p.letter = d.letter) \
             FROM dead_letters d WHERE letter = ?1",
        )
        .and_then(|mut select| {
            select
                .query_row([letter], |row| {
                    let tenant: String = row.get(1)?;
                    let origin = Origin {
                        tenant_name: names.tenant_name(&tenant),
                        tenant: tenant.into(),
                        source: row.get::<_, String>(2)?.into(),
                        content_type: row.get::<_, String>(3)?.into(),
                        unit: row.get::<_, String>(4)?.into(),
                    };
                    let sink: Option<String> = row.get(0)?;
                    let (lane, record): (_, i64) = (row.get(5)?, row.get(6)?);
                    let (complete, bytes): (bool, usize) = (row.get(7)?, row.get(8)?);
                    Ok((origin, sink.map(Arc::from), lane, record as u64, complete, bytes))
                })
                .optional()
        }))?;
    let Some((origin, sink, lane, record, complete, bytes)) = known else {
        return Ok(Found::Gone);
    };
    if !complete {
        return Ok(Found::Stays(
            "the record is not complete; fetching its content goes on".to_owned(),
        ));
    }
    if bytes > most_bytes {
        return Ok(Found::Stays(format!(
            "the record has {bytes} bytes, more than limits.record_size ({most_bytes}); raise it first"
        )));
    }
    let mut raw = Vec::with_capacity(bytes);
    let mut select =
        sql(conn
            .prepare_cached("SELECT body FROM dead_letter_parts WHERE letter = ?1 ORDER BY part"))?;
    let mut rows = sql(select.query([letter]))?;
    while let Some(row) = sql(rows.next())? {
        raw.extend_from_slice(sql(sql(row.get_ref(0))?.as_blob().map_err(Into::into))?);
    }
    Ok(Found::Whole(Kept {
        letter,
        sink,
        lane,
        record,
        event: AuditEvent::new(Bytes::from(raw), Arc::new(origin)),
    }))
}

fn refused_again(tx: &Tx<'_>, sink: &str, kept: &Kept, reason: &str) -> Result<()> {
    let reason = match &kept.sink {
        Some(first) if **first == *sink => reason.to_owned(),
        _ => format!("sink {sink}: {reason}"),
    };
    sql(tx
        .conn
        .prepare_cached(
            "UPDATE dead_letters SET reason = ?1, attempts = attempts + 1 WHERE letter = ?2",
        )
        .and_then(|mut update| update.execute(params![reason, kept.letter])))?;
    Ok(())
}

fn delivered(tx: &mut Tx<'_>, sink: &Arc<str>, kept: &Kept) -> Result<()> {
    // Asked anew: the sink may have been forgotten, and its account with it, since the letter was read.
    let counted: Option<Option<LaneId>> = sql(tx
        .conn
        .prepare_cached("SELECT lane FROM dead_letters WHERE letter = ?1 AND sink = ?2")
        .and_then(|mut select| {
            select
                .query_row(params![kept.letter, sink], |row| row.get(0))
                .optional()
        }))?;
    if remove(tx, kept.letter)?
        && let Some(lane) = counted.flatten()
    {
        cursors::dead_is_delivered(tx, sink, lane, hour_of(&kept.event))?;
    }
    Ok(())
}

/// Deletes a letter; says whether it was there.
fn remove(tx: &Tx<'_>, letter: i64) -> Result<bool> {
    let run = |delete: &str| {
        sql(tx
            .conn
            .prepare_cached(delete)
            .and_then(|mut delete| delete.execute([letter])))
    };
    run("DELETE FROM dead_letter_parts WHERE letter = ?1")?;
    Ok(run("DELETE FROM dead_letters WHERE letter = ?1")? > 0)
}
