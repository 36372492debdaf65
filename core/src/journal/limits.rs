//! The size limit: who may still write, who is detached, who waits.
//!
//! Half of the limit is guaranteed to the tenants in equal shares, half is a pool that any may borrow from. A tenant
//! may write while it is within its share or the pool has room, so the sum never passes the limit and one tenant's
//! backlog never takes another's share. A tenant that may not write first detaches the optional sinks and orphans
//! that hold its data, on record; if a required sink holds it, the tenant alone waits.

use std::sync::Arc;

use rusqlite::params;

use super::cursors::{free_passed, move_cursor};
use super::state::State;
use super::{Journal, LaneId, sql};
use crate::error::Result;

/// Whether a tenant may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Yes,
    /// Optional sinks and orphans that hold data which every required sink has: sink, lane, and the sequence number
    /// up to which they are to be detached.
    Detach(Vec<(Arc<str>, LaneId, u64)>),
    /// Required sinks hold it.
    No(Vec<Arc<str>>),
}

impl Journal {
    /// Waits until `tenant` may write. Detaches optional sinks rather than wait for them.
    pub async fn room(&self, tenant: &str) -> Result<()> {
        let mut changes = self.changes();
        let mut told = false;
        loop {
            changes.mark_unchanged();
            match self
                .shared
                .look(|state| judge(state, tenant, self.shared.limits.max_bytes))
            {
                Room::Yes => {
                    if told {
                        tracing::info!(%tenant, "the journal has room again; collecting goes on");
                        self.shared.metrics.paused(tenant, false);
                    }
                    return Ok(());
                }
                Room::Detach(held) => self.detach(held).await?,
                Room::No(sinks) => {
                    if !told {
                        told = true;
                        self.shared.metrics.paused(tenant, true);
                        tracing::error!(
                            %tenant,
                            sinks = %sinks.join(", "),
                            "the journal is full and these required sinks hold it: collecting this tenant waits; \
                             Microsoft drops content 7 days after it lists it"
                        );
                    }
                    if changes.changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Moves sinks past what they hold and records the range that they skipped.
    async fn detach(&self, held: Vec<(Arc<str>, LaneId, u64)>) -> Result<()> {
        self.writer
            .run(move |tx| {
                for (sink, lane, until) in held {
                    let skipped: (i64, i64, i64) = sql(tx.conn.query_row(
                        "SELECT c.seq, coalesce(max(b.seq), c.seq), coalesce(sum(b.events), 0) FROM cursors c \
                         LEFT JOIN batches b ON b.lane = c.lane AND b.seq > c.seq AND b.seq <= ?3 \
                         WHERE c.sink = ?1 AND c.lane = ?2",
                        params![sink, lane, until as i64],
                        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                    ))?;
                    let (cursor, last, events) = skipped;
                    if events == 0 {
                        continue;
                    }
                    tracing::error!(
                        %sink, lane, first = cursor + 1, last, events,
                        "the journal is full and this sink is not required: it skips these batches"
                    );
                    sql(tx.conn.execute(
                        "INSERT INTO detached (sink, lane, first, last, events, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                        params![sink, lane, cursor + 1, last, events, tx.now_ms],
                    ))?;
                    sql(tx.conn.execute(
                        "UPDATE cursors SET seq = ?1, skipped = skipped + ?2 WHERE sink = ?3 AND lane = ?4",
                        params![last, events, sink, lane],
                    ))?;
                    move_cursor(tx, sink, lane, last as u64);
                    free_passed(tx, lane)?;
                }
                Ok(())
            })
            .await
    }
}

fn judge(state: &State, tenant: &str, max_bytes: u64) -> Room {
    let total: u64 = state.lanes.values().map(|lane| lane.bytes).sum();
    // Ids, units and coverage are needed to be exact and are not anybody's to give back.
    let overhead = state.used_bytes.saturating_sub(total);
    let limit = max_bytes.saturating_sub(overhead);
    let mut tenants: Vec<&str> = state.lanes.values().map(|lane| &*lane.tenant).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let share = limit / 2 / (tenants.len().max(1) as u64);
    let borrowed: u64 = tenants
        .iter()
        .map(|tenant| state.tenant_bytes(tenant).saturating_sub(share))
        .sum();
    if state.tenant_bytes(tenant) < share || borrowed < limit / 2 {
        return Room::Yes;
    }
    let (mut optional, mut required) = (Vec::new(), Vec::new());
    for (lane, known) in state
        .lanes
        .iter()
        .filter(|(_, lane)| &*lane.tenant == tenant)
    {
        let cursors = || {
            state
                .sinks
                .iter()
                .filter_map(|(name, s)| Some((name, s, *s.cursors.get(lane)?)))
        };
        let behind = cursors().filter(|(_, sink, cursor)| sink.required && *cursor < known.head);
        required.extend(behind.map(|(name, ..)| Arc::clone(name)));
        let needed = cursors()
            .filter(|(_, sink, _)| sink.required)
            .map(|(.., cursor)| cursor)
            .min();
        let until = needed.unwrap_or(known.head);
        let held = cursors().filter(|(_, sink, cursor)| !sink.required && *cursor < until);
        optional.extend(held.map(|(name, ..)| (Arc::clone(name), *lane, until)));
    }
    required.sort_unstable();
    required.dedup();
    if optional.is_empty() {
        Room::No(required)
    } else {
        Room::Detach(optional)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::state::LaneState;
    use crate::plugin::LaneKind;

    fn state(bytes: &[u64], required: bool) -> State {
        let mut state = State {
            used_bytes: bytes.iter().sum(),
            ..State::default()
        };
        for (lane, bytes) in (1..).zip(bytes) {
            let tenant: Arc<str> = format!("t{lane}").into();
            let known = LaneState {
                tenant_name: Arc::clone(&tenant),
                tenant,
                kind: LaneKind::Live,
                head: 9,
                evicted: 9,
                bytes: *bytes,
            };
            state.lanes.insert(lane, known);
            let sink = state.sinks.entry("s".into()).or_default();
            sink.cursors.insert(lane, 1);
            sink.required = required;
        }
        state
    }

    #[test]
    fn one_tenants_backlog_leaves_the_others_their_shares() {
        // Limit 100, two tenants: 25 guaranteed each, 50 in the pool.
        let full = state(&[75, 24], true);
        assert_eq!(judge(&full, "t1", 100), Room::No(vec!["s".into()]));
        assert_eq!(judge(&full, "t2", 100), Room::Yes);
        let half = state(&[74, 0], true);
        assert_eq!(judge(&half, "t1", 100), Room::Yes);
    }

    #[test]
    fn an_optional_sink_is_detached_before_anybody_waits() {
        let full = state(&[75, 24], false);
        assert_eq!(
            judge(&full, "t1", 100),
            Room::Detach(vec![("s".into(), 1, 9)])
        );
    }

    #[test]
    fn ids_and_coverage_count_against_the_limit() {
        let mut full = state(&[40, 0], true);
        full.used_bytes = 40 + 50;
        assert_eq!(judge(&full, "t1", 100), Room::No(vec!["s".into()]));
    }
}
