//! How far each sink is, and what became of the events on its way.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::commit::Hour;
use super::dead_letters::{DeadLetter, store as store_dead};
use super::free::free_passed;
use super::state::State;
use super::writer::Tx;
use super::{Changes, Journal, LaneId, Position, sql, store};
use crate::error::{Error, Result};
use crate::plugin::{LaneKind, Receipt};

/// What became of the events of one or several batches.
///
/// Kept batch by batch: if the cursor is moved while the sink delivers (because the journal is full and the sink is
/// not required), only the batches that are still before it count.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// In the order in which they came; neighbours of one batch and hour are one.
    counts: Vec<(u64, Hour, [u64; 3])>,
    dead: Vec<(u64, DeadLetter)>,
}

impl Tally {
    /// Counts an event of batch `seq`, journaled for `hour`, that the sink's filters dropped.
    pub(crate) fn filtered(&mut self, seq: u64, hour: Hour) {
        self.count(seq, hour, 0);
    }

    /// Counts an event of batch `seq`, journaled for `hour`, that the far side has.
    pub(crate) fn delivered(&mut self, seq: u64, hour: Hour) {
        self.count(seq, hour, 1);
    }

    /// Counts an event of batch `seq`, journaled for `hour`, that the far side refused for good.
    pub(crate) fn dead(&mut self, seq: u64, hour: Hour, letter: DeadLetter) {
        self.count(seq, hour, 2);
        self.dead.push((seq, letter));
    }

    fn count(&mut self, seq: u64, hour: Hour, column: usize) {
        match self.counts.last_mut() {
            Some((s, h, counts)) if (*s, *h) == (seq, hour) => counts[column] += 1,
            _ => {
                let mut counts = [0; 3];
                counts[column] = 1;
                self.counts.push((seq, hour, counts));
            }
        }
    }

    /// The counts by hour, and the dead letters, of the batches after `cursor`.
    fn after(&self, cursor: u64) -> (BTreeMap<Hour, [u64; 3]>, impl Iterator<Item = &DeadLetter>) {
        let mut hours: BTreeMap<Hour, [u64; 3]> = BTreeMap::new();
        for (_, hour, counts) in self.counts.iter().filter(|(seq, ..)| *seq > cursor) {
            let sum = hours.entry(*hour).or_default();
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        let dead = self.dead.iter().filter(move |(seq, _)| *seq > cursor);
        (hours, dead.map(|(_, letter)| letter))
    }
}

/// A cursor's step after a delivery.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The sink.
    pub sink: Arc<str>,
    /// The batches that are dealt with.
    pub lane: LaneId,
    /// The last of them.
    pub last: u64,
    /// What the far side holds now, if the sink said so.
    pub receipt: Option<Receipt>,
    /// What became of their events.
    pub tally: Tally,
    /// What changes in the sink's own store.
    pub changes: Changes,
}

impl Journal {
    /// The lanes in which `sink` has something to read, live before catch-up, with its cursor.
    #[must_use]
    pub fn behind(&self, sink: &str) -> Vec<(LaneId, LaneKind, u64)> {
        self.shared.look(|state| {
            let State { lanes, sinks, .. } = state;
            let cursors = sinks.get(sink).into_iter().flat_map(|sink| &sink.cursors);
            let mut behind: Vec<_> = cursors
                .filter_map(|(lane, cursor)| {
                    let known = lanes.get(lane)?;
                    (known.head > *cursor).then_some((*lane, known.kind, *cursor))
                })
                .collect();
            behind.sort_by_key(|(lane, kind, _)| (*kind, *lane));
            behind
        })
    }

    /// The sink's last receipt.
    pub async fn receipt(&self, sink: &str) -> Result<Option<Receipt>> {
        let sink = sink.to_owned();
        let receipt: Option<Option<String>> = self
            .ask(move |conn| {
                sql(conn
                    .query_row(
                        "SELECT receipt FROM sinks WHERE sink = ?1",
                        [&sink],
                        |row| row.get(0),
                    )
                    .optional())
            })
            .await?;
        Ok(receipt.flatten().map(Receipt::from_stored))
    }

    /// Moves a cursor, with everything that belongs to the step, and frees what all sinks have passed.
    pub async fn advance(&self, step: Advance) -> Result<()> {
        let step = Arc::new(step);
        self.writer.run_light(move |tx| apply(tx, &step)).await
    }

    /// The sink's cursor, if its far side is beyond it: what lies between was delivered, only the answer was lost. A
    /// foreign or impossible position is refused. One behind the cursor is as it should be: what followed was filtered.
    pub fn ahead(&self, sink: &str, position: &Position) -> Result<Option<u64>> {
        if position.journal != *self.id() {
            return Err(Error::config(format!(
                "the destination of sink {sink} holds a position of another journal ({}, this one is {}); \
                 point the sink at another destination, or clear its stored position",
                position.journal,
                self.id()
            )));
        }
        let (head, cursor) = self.shared.look(|state| {
            let head = state.lanes.get(&position.lane).map(|lane| lane.head);
            let sink = state.sinks.get(sink);
            (
                head,
                sink.and_then(|sink| sink.cursors.get(&position.lane).copied()),
            )
        });
        if head.is_none_or(|head| position.last > head) {
            return Err(Error::config(format!(
                "the destination of sink {sink} is at sequence number {}, beyond this journal's end ({}): \
                 was an older copy of the journal restored? refusing to skip events",
                position.last,
                head.unwrap_or(0)
            )));
        }
        Ok(cursor.filter(|cursor| *cursor < position.last))
    }
}

fn apply(tx: &mut Tx<'_>, step: &Advance) -> Result<()> {
    let cursor: Option<i64> = sql(tx
        .conn
        .prepare_cached("SELECT seq FROM cursors WHERE sink = ?1 AND lane = ?2")
        .and_then(|mut find| {
            find.query_row(params![step.sink, step.lane], |row| row.get(0))
                .optional()
        }))?;
    if let Some(receipt) = &step.receipt {
        store_receipt(tx, &step.sink, receipt)?;
    }
    store::apply(tx, &store::of_sink(&step.sink), &step.changes)?;
    // The sink was detached past these batches meanwhile: their events are counted already.
    let Some(cursor) = cursor
        .map(|cursor| cursor as u64)
        .filter(|cursor| *cursor < step.last)
    else {
        return Ok(());
    };
    let (hours, dead) = step.tally.after(cursor);
    for letter in dead {
        store_dead(tx, step.lane, letter)?;
    }
    let sum = |column: usize| {
        hours
            .values()
            .map(|counts| counts[column] as i64)
            .sum::<i64>()
    };
    sql(tx
        .conn
        .prepare_cached(
            "UPDATE cursors SET seq = ?1, filtered = filtered + ?2, delivered = delivered + ?3, dead = dead + ?4 \
             WHERE sink = ?5 AND lane = ?6",
        )
        .and_then(|mut update| {
            update.execute(params![
                step.last as i64,
                sum(0),
                sum(1),
                sum(2),
                step.sink,
                step.lane
            ])
        }))?;
    let counted = hours
        .iter()
        .map(|(hour, [filtered, delivered, dead])| (*hour, [*filtered, *delivered, *dead, 0]));
    count(tx, &step.sink, step.lane, counted)?;
    fail::fail_point!("journal::cursor");
    move_cursor(tx, Arc::clone(&step.sink), step.lane, step.last);
    free_passed(tx, step.lane)
}

pub(super) fn store_receipt(tx: &Tx<'_>, sink: &str, receipt: &Receipt) -> Result<()> {
    sql(tx
        .conn
        .prepare_cached("UPDATE sinks SET receipt = ?1 WHERE sink = ?2")
        .and_then(|mut update| update.execute(params![receipt.as_str(), sink])))?;
    Ok(())
}

/// A dead event of a sink was delivered after all: moves it in the sink's account, and in that of its hour.
pub(super) fn dead_is_delivered(tx: &Tx<'_>, sink: &str, lane: LaneId, hour: Hour) -> Result<()> {
    sql(tx
        .conn
        .prepare_cached(
            "UPDATE cursors SET dead = dead - 1, delivered = delivered + 1 WHERE sink = ?1 AND lane = ?2",
        )
        .and_then(|mut update| update.execute(params![sink, lane])))?;
    sql(tx
        .conn
        .prepare_cached(
            // An old hour was folded into its day, or into one row.
            "UPDATE coverage_sinks SET dead = dead - 1, delivered = delivered + 1 WHERE sink = ?1 \
             AND tenant = (SELECT tenant FROM lanes WHERE lane = ?2) AND hour = (SELECT max(c.hour) \
             FROM coverage_sinks c WHERE c.sink = ?1 AND c.tenant = coverage_sinks.tenant AND c.dead > 0 \
             AND c.hour IN (?3, ?3 - ?3 % 24, -2))",
        )
        .and_then(|mut update| update.execute(params![sink, lane, hour])))?;
    Ok(())
}

/// Adds to a sink's coverage, by hour: filtered, delivered, dead, skipped.
pub(super) fn count(
    tx: &Tx<'_>,
    sink: &str,
    lane: LaneId,
    hours: impl IntoIterator<Item = (Hour, [u64; 4])>,
) -> Result<()> {
    let tenant: Option<String> = sql(tx
        .conn
        .prepare_cached("SELECT tenant FROM lanes WHERE lane = ?1")
        .and_then(|mut find| find.query_row([lane], |row| row.get(0)).optional()))?;
    let Some(tenant) = tenant else {
        return Ok(());
    };
    let mut upsert = sql(tx.conn.prepare_cached(
        "INSERT INTO coverage_sinks (sink, tenant, hour, filtered, delivered, dead, skipped) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT (sink, tenant, hour) DO UPDATE SET filtered = filtered + excluded.filtered, \
         delivered = delivered + excluded.delivered, dead = dead + excluded.dead, skipped = skipped + excluded.skipped",
    ))?;
    for (hour, [filtered, delivered, dead, skipped]) in hours {
        sql(upsert.execute(params![
            sink,
            tenant,
            hour,
            filtered as i64,
            delivered as i64,
            dead as i64,
            skipped as i64
        ]))?;
    }
    Ok(())
}

pub(super) fn move_cursor(tx: &mut Tx<'_>, sink: Arc<str>, lane: LaneId, seq: u64) {
    tx.after_commit(move |state| {
        if let Some(known) = state.sinks.get_mut(&sink) {
            known.cursors.insert(lane, seq);
        }
        state.cursors_moved = true;
    });
}
