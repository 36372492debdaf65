//! How far each sink is, and the freeing of what all have passed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::commit::{Hour, hour_of};
use super::dead_letters::{DeadLetter, store as store_dead};
use super::state::{LaneState, SinkState, State};
use super::writer::Tx;
use super::{Changes, Journal, LaneId, Position, pause, sql, store, stored_kind};
use crate::error::{Error, Result};
use crate::event::AuditEvent;
use crate::plugin::{LaneKind, Receipt};

/// Where a sink that the journal does not know yet begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest batch that is still kept.
    #[default]
    Oldest,
    /// With what comes from now on.
    Now,
}

/// A sink of the configuration, as the journal needs to know it.
#[derive(Clone, Debug)]
pub struct SinkSpec {
    /// Its name.
    pub name: Arc<str>,
    /// The name it had before, whose cursors it takes over.
    pub renamed_from: Option<Arc<str>>,
    /// Whether tenants wait for it when the journal is full; otherwise it is detached.
    pub required: bool,
    /// Where it begins if it is new.
    pub start: Start,
    /// The ids of the tenants that it takes.
    pub tenants: Vec<Arc<str>>,
}

/// A cursor whose sink left the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The sink's name.
    pub sink: Arc<str>,
    /// When it was first missed, in seconds since 1970.
    pub since: i64,
}

/// What became of the events of one or several batches.
///
/// Kept batch by batch: if the cursor is moved while the sink delivers (because the journal is full and the sink is
/// not required), only the batches that are still before it count.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    hours: BTreeMap<(u64, Hour), [u64; 3]>,
    dead: Vec<(u64, DeadLetter)>,
}

impl Tally {
    /// Counts an event of batch `seq` that the sink's filters dropped.
    pub fn filtered(&mut self, seq: u64, event: &AuditEvent) {
        self.hours.entry((seq, hour_of(event))).or_default()[0] += 1;
    }

    /// Counts an event of batch `seq` that the far side has.
    pub fn delivered(&mut self, seq: u64, event: &AuditEvent) {
        self.hours.entry((seq, hour_of(event))).or_default()[1] += 1;
    }

    /// Counts an event of batch `seq` that the far side refused for good.
    pub fn dead(&mut self, seq: u64, letter: DeadLetter) {
        self.hours.entry((seq, hour_of(&letter.event))).or_default()[2] += 1;
        self.dead.push((seq, letter));
    }

    /// The counts by hour, and the dead letters, of the batches after `cursor`.
    fn after(&self, cursor: u64) -> (BTreeMap<Hour, [u64; 3]>, impl Iterator<Item = &DeadLetter>) {
        let mut hours: BTreeMap<Hour, [u64; 3]> = BTreeMap::new();
        for ((_, hour), counts) in self.hours.iter().filter(|((seq, _), _)| *seq > cursor) {
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
    /// Makes the journal's sinks those of the configuration: new ones get cursors, renamed ones keep theirs, the rest
    /// become orphans. An orphan past its grace is forgotten. Returns the orphans that still hold data.
    pub async fn attach(
        &self,
        sinks: Vec<SinkSpec>,
        tenants: Vec<(Arc<str>, Arc<str>)>,
    ) -> Result<Vec<Orphan>> {
        let grace = self.shared.limits.orphan_grace.as_secs() as i64;
        self.writer
            .run(move |tx| {
                for (id, name) in tenants {
                    for kind in [LaneKind::Live, LaneKind::CatchUp] {
                        open_lane(tx, &id, &name, kind)?;
                    }
                }
                let mut attached = BTreeMap::new();
                for spec in &sinks {
                    adopt(tx, spec)?;
                    let cursors = attach_one(tx, spec)?;
                    let state = SinkState {
                        cursors,
                        required: spec.required,
                        attached: true,
                        paused: pause::is_stored(tx, &spec.name)?,
                    };
                    attached.insert(Arc::clone(&spec.name), state);
                }
                let orphans = find_orphans(tx, &attached, grace)?;
                free_all(tx)?;
                let kept = orphans.clone();
                tx.after_commit(move |state| {
                    // Not those that were renamed or forgotten: they have no cursor any more.
                    let is_kept = |name: &Arc<str>| kept.iter().any(|orphan| orphan.sink == *name);
                    state.sinks.retain(|name, _| is_kept(name));
                    for orphan in state.sinks.values_mut() {
                        (orphan.attached, orphan.required) = (false, false);
                    }
                    state.sinks.extend(attached);
                    state.cursors_moved = true;
                });
                Ok(orphans)
            })
            .await
    }

    /// The lanes of all tenants.
    #[must_use]
    pub fn lane(&self, tenant: &str, kind: LaneKind) -> Option<LaneId> {
        self.shared.look(|state| {
            let mut lanes = state.lanes.iter();
            lanes
                .find(|(_, lane)| &*lane.tenant == tenant && lane.kind == kind)
                .map(|(id, _)| *id)
        })
    }

    /// The name of a tenant in the configuration; its id if it is not there.
    #[must_use]
    pub fn tenant_name(&self, tenant: &str) -> Arc<str> {
        self.shared.look(|state| {
            let known = state.lanes.values().find(|lane| &*lane.tenant == tenant);
            known.map_or_else(|| tenant.into(), |lane| Arc::clone(&lane.tenant_name))
        })
    }

    /// The id of a tenant by its name or its id.
    #[must_use]
    pub fn tenant_named(&self, name: &str) -> Option<Arc<str>> {
        self.shared.look(|state| {
            let mut lanes = state.lanes.values();
            let known = lanes.find(|lane| [&*lane.tenant_name, &*lane.tenant].contains(&name));
            known.map(|lane| Arc::clone(&lane.tenant))
        })
    }

    /// Whether `sink` is one of the running configuration's.
    #[must_use]
    pub fn is_attached(&self, sink: &str) -> bool {
        self.shared
            .look(|state| state.sinks.get(sink).is_some_and(|sink| sink.attached))
    }

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
        self.writer.run(move |tx| apply(tx, &step)).await
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

    /// Frees an orphan's cursors, or those of a sink that will never come back. Returns whether it was known.
    pub async fn forget_sink(&self, sink: &str) -> Result<bool> {
        let sink: Arc<str> = sink.into();
        self.writer
            .run(move |tx| {
                let known = drop_sink(tx, &sink)?;
                free_all(tx)?;
                tx.after_commit(move |state| {
                    state.sinks.remove(&sink);
                    state.cursors_moved = true;
                });
                Ok(known)
            })
            .await
    }

    /// Forgets the orphans whose grace is over. Asked now and then while the program runs.
    pub async fn end_grace(&self) -> Result<()> {
        let grace = self.shared.limits.orphan_grace.as_secs() as i64;
        self.writer
            .run(move |tx| {
                let over: Vec<String> = {
                    let mut select = sql(tx
                        .conn
                        .prepare_cached("SELECT sink FROM sinks WHERE orphan_since < ?1"))?;
                    let rows = sql(select.query_map([tx.now_ms / 1000 - grace], |row| row.get(0)))?;
                    sql(rows.collect())?
                };
                for sink in &over {
                    tell_grace_is_over(sink);
                    drop_sink(tx, sink)?;
                }
                if !over.is_empty() {
                    free_all(tx)?;
                    tx.after_commit(move |state| {
                        state
                            .sinks
                            .retain(|name, _| !over.iter().any(|gone| **gone == **name));
                        state.cursors_moved = true;
                    });
                }
                Ok(())
            })
            .await
    }
}

fn tell_grace_is_over(sink: &str) {
    tracing::warn!(
        %sink,
        "the sink left the configuration and its grace is over; its cursors are freed"
    );
}

/// Makes a lane if it is new.
fn open_lane(tx: &mut Tx<'_>, tenant: &Arc<str>, name: &Arc<str>, kind: LaneKind) -> Result<()> {
    sql(tx.conn.execute(
        "INSERT OR IGNORE INTO lanes (tenant, kind) VALUES (?1, ?2)",
        params![tenant, stored_kind(kind)],
    ))?;
    let lane: LaneId = sql(tx.conn.query_row(
        "SELECT lane FROM lanes WHERE tenant = ?1 AND kind = ?2",
        params![tenant, stored_kind(kind)],
        |row| row.get(0),
    ))?;
    let (tenant, name) = (Arc::clone(tenant), Arc::clone(name));
    tx.after_commit(move |state| {
        let known = state.lanes.entry(lane).or_insert_with(|| LaneState {
            tenant,
            tenant_name: Arc::clone(&name),
            kind,
            head: 0,
            evicted: 0,
            bytes: 0,
        });
        known.tenant_name = name;
    });
    Ok(())
}

/// A renamed sink takes over cursors, receipt, store and coverage of its old name.
fn adopt(tx: &Tx<'_>, spec: &SinkSpec) -> Result<()> {
    let Some(old) = &spec.renamed_from else {
        return Ok(());
    };
    let known = |name: &str| -> Result<bool> {
        sql(tx.conn.query_row(
            "SELECT EXISTS (SELECT 1 FROM sinks WHERE sink = ?1)",
            [name],
            |row| row.get(0),
        ))
    };
    if known(&spec.name)? || !known(old)? {
        return Ok(());
    }
    for table in [
        "sinks",
        "cursors",
        "detached",
        "dead_letters",
        "coverage_sinks",
    ] {
        sql(tx.conn.execute(
            &format!("UPDATE {table} SET sink = ?1 WHERE sink = ?2"),
            params![spec.name, old],
        ))?;
    }
    sql(tx.conn.execute(
        "UPDATE OR REPLACE stores SET instance = 'sink/' || ?1 WHERE instance = 'sink/' || ?2",
        params![spec.name, old],
    ))?;
    Ok(())
}

/// Gives a sink a cursor in each lane of its tenants, and returns all its cursors.
fn attach_one(tx: &Tx<'_>, spec: &SinkSpec) -> Result<BTreeMap<LaneId, u64>> {
    sql(tx.conn.execute(
        "INSERT INTO sinks (sink) VALUES (?1) ON CONFLICT (sink) DO UPDATE SET orphan_since = NULL",
        [&spec.name],
    ))?;
    let begin = match spec.start {
        Start::Oldest => {
            "coalesce((SELECT min(seq) - 1 FROM batches b WHERE b.lane = l.lane), l.head)"
        }
        Start::Now => "l.head",
    };
    // The baseline is what the lane had journaled before the sink's first event, for the balance.
    let insert = format!(
        "INSERT OR IGNORE INTO cursors (sink, lane, seq, baseline) \
         SELECT ?1, l.lane, {begin}, l.journaled - coalesce((SELECT sum(events) FROM batches b \
         WHERE b.lane = l.lane AND b.seq > {begin}), 0) FROM lanes l WHERE l.tenant = ?2"
    );
    for tenant in &spec.tenants {
        sql(tx.conn.execute(&insert, params![spec.name, tenant]))?;
    }
    release_unselected(tx, spec)?;
    let mut select = sql(tx
        .conn
        .prepare("SELECT lane, seq FROM cursors WHERE sink = ?1"))?;
    let rows = sql(select.query_map([&spec.name], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))
    }))?;
    rows.map(sql).collect()
}

/// A sink that no longer selects a tenant no longer holds its data.
fn release_unselected(tx: &Tx<'_>, spec: &SinkSpec) -> Result<()> {
    let mut select = sql(tx
        .conn
        .prepare("SELECT lane, tenant FROM cursors JOIN lanes USING (lane) WHERE sink = ?1"))?;
    let rows = sql(select.query_map([&spec.name], |row| Ok((row.get(0)?, row.get(1)?))))?;
    for row in rows {
        let (lane, tenant): (LaneId, String) = sql(row)?;
        if !spec.tenants.iter().any(|selected| **selected == *tenant) {
            tracing::warn!(sink = %spec.name, %tenant, "the sink no longer takes this tenant; its cursor is dropped");
            sql(tx.conn.execute(
                "DELETE FROM cursors WHERE sink = ?1 AND lane = ?2",
                params![spec.name, lane],
            ))?;
            sql(tx.conn.execute(
                "DELETE FROM coverage_sinks WHERE sink = ?1 AND tenant = ?2",
                params![spec.name, tenant],
            ))?;
        }
    }
    Ok(())
}

/// Marks the sinks that are gone, forgets those past their grace, returns the rest.
fn find_orphans(
    tx: &Tx<'_>,
    attached: &BTreeMap<Arc<str>, SinkState>,
    grace_seconds: i64,
) -> Result<Vec<Orphan>> {
    let now = tx.now_ms / 1000;
    let mut select = sql(tx.conn.prepare("SELECT sink, orphan_since FROM sinks"))?;
    let rows = sql(select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))))?;
    let known: Vec<(String, Option<i64>)> = sql(rows.collect())?;
    let mut orphans = Vec::new();
    for (sink, since) in known {
        if attached.contains_key(sink.as_str()) {
            continue;
        }
        let since = since.unwrap_or(now);
        sql(tx.conn.execute(
            "UPDATE sinks SET orphan_since = ?1 WHERE sink = ?2",
            params![since, sink],
        ))?;
        if now - since > grace_seconds {
            tell_grace_is_over(&sink);
            drop_sink(tx, &sink)?;
        } else {
            orphans.push(Orphan {
                sink: sink.into(),
                since,
            });
        }
    }
    Ok(orphans)
}

/// Drops a sink with its account. Its dead letters stay: they are events.
fn drop_sink(tx: &Tx<'_>, sink: &str) -> Result<bool> {
    for table in ["cursors", "detached", "coverage_sinks"] {
        sql(tx
            .conn
            .execute(&format!("DELETE FROM {table} WHERE sink = ?1"), [sink]))?;
    }
    sql(tx
        .conn
        .execute("DELETE FROM stores WHERE instance = 'sink/' || ?1", [sink]))?;
    Ok(sql(tx.conn.execute("DELETE FROM sinks WHERE sink = ?1", [sink]))? > 0)
}

/// Frees what all sinks have passed, in every lane.
fn free_all(tx: &mut Tx<'_>) -> Result<()> {
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
    let mut upsert = sql(tx.conn.prepare_cached(
        "INSERT INTO coverage_sinks (sink, tenant, hour, filtered, delivered, dead, skipped) \
         SELECT ?1, tenant, ?3, ?4, ?5, ?6, ?7 FROM lanes WHERE lane = ?2 \
         ON CONFLICT (sink, tenant, hour) DO UPDATE SET filtered = filtered + excluded.filtered, \
         delivered = delivered + excluded.delivered, dead = dead + excluded.dead, skipped = skipped + excluded.skipped",
    ))?;
    for (hour, [filtered, delivered, dead, skipped]) in hours {
        sql(upsert.execute(params![
            sink,
            lane,
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
