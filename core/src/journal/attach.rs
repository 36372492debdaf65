//! Which sinks there are: those of the configuration, and the orphans that earlier ones left behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::free::free_all;
use super::state::{LaneState, SinkState};
use super::writer::Tx;
use super::{Journal, LaneId, pause, sql, stored_kind};
use crate::error::Result;
use crate::plugin::LaneKind;

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

/// Tenants, by id and name.
type Tenants = Vec<(Arc<str>, Arc<str>)>;

impl Journal {
    /// Makes the lanes of tenants that have none yet. Nothing else changes, so it may be for nothing.
    pub async fn open_lanes(&self, tenants: Tenants) -> Result<()> {
        self.writer
            .run(move |tx| {
                let mut tenants = tenants.iter();
                tenants.try_for_each(|(id, name)| open_lanes(tx, id, name))
            })
            .await
    }

    /// Makes the journal's sinks those of the configuration: new ones get cursors, renamed ones keep theirs, the rest
    /// become orphans. An orphan past its grace is forgotten. Returns the orphans that still hold data. There is no way
    /// back: what only a cursor that went had held is freed.
    pub async fn attach(&self, sinks: Vec<SinkSpec>, tenants: Tenants) -> Result<Vec<Orphan>> {
        let grace = self.shared.limits.orphan_grace.as_secs() as i64;
        self.writer
            .run(move |tx| {
                for (id, name) in &tenants {
                    open_lanes(tx, id, name)?;
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
                    let names: BTreeMap<_, _> = tenants.into_iter().collect();
                    for lane in state.lanes.values_mut() {
                        if let Some(name) = names.get(&lane.tenant) {
                            lane.tenant_name = Arc::clone(name);
                        }
                    }
                });
                Ok(orphans)
            })
            .await
    }

    /// A tenant's lane of this kind.
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
        self.shared.look(|state| state.tenant_name(tenant))
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

    /// Frees an orphan's cursors, or those of a sink that will never come back. Returns whether it was known.
    pub async fn forget_sink(&self, sink: &str) -> Result<bool> {
        let forgotten = self.forget(sink, false).await?;
        Ok(forgotten == Some(true))
    }

    /// The same beside a running configuration, which may get the sink back meanwhile: `None` if it has it.
    pub(crate) async fn forget_orphan(&self, sink: &str) -> Result<Option<bool>> {
        self.forget(sink, true).await
    }

    async fn forget(&self, sink: &str, only_orphan: bool) -> Result<Option<bool>> {
        let sink: Arc<str> = sink.into();
        self.writer
            .run(move |tx| {
                let is_orphan: Option<bool> = sql(tx
                    .conn
                    .query_row(
                        "SELECT orphan_since IS NOT NULL FROM sinks WHERE sink = ?1",
                        [&sink],
                        |row| row.get(0),
                    )
                    .optional())?;
                if only_orphan && is_orphan == Some(false) {
                    return Ok(None);
                }
                let known = drop_sink(tx, &sink)?;
                free_all(tx)?;
                tx.after_commit(move |state| {
                    state.sinks.remove(&sink);
                    state.cursors_moved = true;
                });
                Ok(Some(known))
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

/// Makes a tenant's lanes if they are new. One that is known keeps its name.
fn open_lanes(tx: &mut Tx<'_>, tenant: &Arc<str>, name: &Arc<str>) -> Result<()> {
    for kind in [LaneKind::Live, LaneKind::CatchUp] {
        sql(tx.conn.execute(
            "INSERT OR IGNORE INTO lanes (tenant, kind) VALUES (?1, ?2)",
            params![tenant, stored_kind(kind)],
        ))?;
        let lane: LaneId = sql(tx.conn.query_row(
            "SELECT lane FROM lanes WHERE tenant = ?1 AND kind = ?2",
            params![tenant, stored_kind(kind)],
            |row| row.get(0),
        ))?;
        let (tenant, tenant_name) = (Arc::clone(tenant), Arc::clone(name));
        tx.after_commit(move |state| {
            state.lanes.entry(lane).or_insert_with(|| LaneState {
                tenant,
                tenant_name,
                kind,
                head: 0,
                evicted: 0,
                bytes: 0,
            });
        });
    }
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
fn attach_one(tx: &mut Tx<'_>, spec: &SinkSpec) -> Result<BTreeMap<LaneId, u64>> {
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
fn release_unselected(tx: &mut Tx<'_>, spec: &SinkSpec) -> Result<()> {
    let known: Vec<String> = {
        let mut select = sql(tx.conn.prepare(
            "SELECT DISTINCT tenant FROM cursors JOIN lanes USING (lane) WHERE sink = ?1",
        ))?;
        let rows = sql(select.query_map([&spec.name], |row| row.get(0)))?;
        sql(rows.collect())?
    };
    let is_selected = |tenant: &str| spec.tenants.iter().any(|selected| **selected == *tenant);
    for tenant in known.into_iter().filter(|tenant| !is_selected(tenant)) {
        for delete in [
            "DELETE FROM cursors WHERE sink = ?1 AND lane IN (SELECT lane FROM lanes WHERE tenant = ?2)",
            "DELETE FROM coverage_sinks WHERE sink = ?1 AND tenant = ?2",
        ] {
            sql(tx.conn.execute(delete, params![spec.name, tenant]))?;
        }
        let sink = Arc::clone(&spec.name);
        tx.after_commit(move |state| {
            let tenant = state.tenant_name(&tenant);
            tracing::warn!(%sink, %tenant, "the sink no longer takes this tenant; its cursor is dropped");
        });
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
