//! The size limit: who may still write, who is detached, who waits.
//!
//! Half of the limit is guaranteed to the tenants in equal shares, half is a pool that any may borrow from. A tenant
//! may write while it is within its share or the pool has room, so the sum never passes the limit and one tenant's
//! backlog never takes another's share. A tenant that may not write first detaches the optional sinks and orphans
//! that hold its data, on record; if a required sink holds it, the tenant alone waits.
//!
//! Room is reserved before a batch is committed, by the size of its records, so that commits at the same time cannot
//! pass the limit together. A tenant of which nothing waits may always write one batch: whatever else fills the disk,
//! it goes on, batch by batch.
//!
//! A tenant that had to wait counts as paused until there is room to spare. Where sinks give room back batch by batch it
//! goes on and waits in turn, many times a second, and that is one pause.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::commit::{Hour, decode_hours};
use super::cursors::{count, move_cursor};
use super::free::free_passed;
use super::state::{Shared, State};
use super::writer::Tx;
use super::{Journal, LaneId, sql};
use crate::error::Result;

/// Whether a tenant may write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Yes,
    /// Optional sinks and orphans that hold data which every required sink has: sink, lane, and the sequence number
    /// up to which they are to be detached.
    Detach(Vec<(Arc<str>, LaneId, u64)>),
    /// Required sinks hold it.
    No(Vec<Arc<str>>),
}

/// Room for one batch of a tenant. Hold it until the batch is committed.
#[must_use = "the room is given back when this is dropped"]
pub struct Room {
    shared: Arc<Shared>,
    tenant: Arc<str>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.update(|state| {
            if let Some(reserved) = state.reserved.get_mut(&self.tenant) {
                *reserved = reserved.saturating_sub(self.bytes);
                if *reserved == 0 {
                    state.reserved.remove(&self.tenant);
                }
            }
        });
    }
}

/// Why a sink that is not required skips.
const FULL: &str = "the journal was full";

impl Journal {
    /// Waits until `tenant` may write `bytes`. Detaches optional sinks rather than wait for them.
    pub async fn room(&self, tenant: &str, bytes: usize) -> Result<Room> {
        let (tenant, bytes): (Arc<str>, u64) = (tenant.into(), bytes as u64);
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let shared = &self.shared;
            match shared.look(|state| shared.reserve(state, &tenant, bytes)) {
                Verdict::Yes => {
                    return Ok(Room {
                        shared: Arc::clone(&self.shared),
                        tenant,
                        bytes,
                    });
                }
                Verdict::Detach(held) => self.detach(held).await?,
                Verdict::No(_) => {
                    if changes.changed().await.is_err() {
                        // The sender lives in the journal that we hold.
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    /// Moves sinks past what they hold and records the range that they skipped.
    pub(super) async fn detach(&self, held: Vec<(Arc<str>, LaneId, u64)>) -> Result<()> {
        self.writer
            .run(move |tx| {
                for (sink, lane, until) in held {
                    detach_one(tx, sink, lane, until, FULL)?;
                }
                Ok(())
            })
            .await
    }
}

impl Shared {
    /// Keeps room for a tenant if there is any. If not, the tenant is paused from now on.
    fn reserve(&self, state: &mut State, tenant: &Arc<str>, bytes: u64) -> Verdict {
        let verdict = judge(state, tenant, bytes, self.limits.max_bytes);
        match &verdict {
            Verdict::Yes => {
                *state.reserved.entry(Arc::clone(tenant)).or_default() += bytes;
            }
            Verdict::No(sinks) => {
                let is_new = !state.paused.contains_key(tenant);
                let asked = state.paused.entry(Arc::clone(tenant)).or_default();
                *asked = bytes.max(*asked);
                if is_new {
                    let tenant = state.tenant_name(tenant);
                    self.metrics.paused(&tenant, true);
                    tracing::error!(
                        %tenant,
                        sinks = %sinks.join(", "),
                        "the journal is full and these required sinks hold it: collecting this tenant waits; \
                         what its sources keep for a limited time must be collected before that is over"
                    );
                }
            }
            Verdict::Detach(_) => {}
        }
        verdict
    }

    /// Ends the pauses of the tenants that have room to spare now.
    pub(super) fn end_pauses(&self, state: &mut State) {
        if state.paused.is_empty() {
            return;
        }
        let uses = Uses::of(state, self.limits.max_bytes);
        let is_over =
            |(tenant, asked): &(&Arc<str>, &u64)| uses.by(tenant).has_room_to_spare(**asked);
        let over = state.paused.iter().filter(is_over);
        let over: Vec<Arc<str>> = over.map(|(tenant, _)| Arc::clone(tenant)).collect();
        for tenant in over {
            state.paused.remove(&tenant);
            let tenant = state.tenant_name(&tenant);
            self.metrics.paused(&tenant, false);
            tracing::info!(%tenant, "the journal has room again; collecting goes on");
        }
    }
}

/// Moves a sink past what it has not got of a lane up to `until`, and records what it skipped, and why.
pub(super) fn detach_one(
    tx: &mut Tx<'_>,
    sink: Arc<str>,
    lane: LaneId,
    until: u64,
    reason: &str,
) -> Result<()> {
    let cursor: Option<i64> = sql(tx
        .conn
        .query_row(
            "SELECT seq FROM cursors WHERE sink = ?1 AND lane = ?2",
            params![sink, lane],
            |row| row.get(0),
        )
        .optional())?;
    let Some(cursor) = cursor else {
        // Forgotten meanwhile: not to be asked for again.
        tx.after_commit(move |state| {
            if let Some(known) = state.sinks.get_mut(&sink) {
                known.cursors.remove(&lane);
            }
        });
        return Ok(());
    };
    if cursor as u64 >= until {
        // Gone on by itself.
        return Ok(());
    }
    let mut hours: BTreeMap<Hour, [u64; 4]> = BTreeMap::new();
    let (mut events, mut last) = (0_i64, cursor);
    {
        let mut select = sql(tx.conn.prepare_cached(
            "SELECT seq, events, hours FROM batches WHERE lane = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq",
        ))?;
        let mut rows = sql(select.query(params![lane, cursor, until as i64]))?;
        while let Some(row) = sql(rows.next())? {
            last = sql(row.get(0))?;
            events += sql(row.get::<_, i64>(1))?;
            let skipped = sql(sql(row.get_ref(2))?.as_blob().map_err(Into::into))?;
            for (hour, count) in decode_hours(skipped) {
                hours.entry(hour).or_default()[3] += u64::from(count);
            }
        }
    }
    if events > 0 {
        let (name, why) = (Arc::clone(&sink), reason.to_owned());
        tx.after_commit(move |state| {
            let tenant = state.lanes.get(&lane).map(|lane| &*lane.tenant_name);
            tracing::error!(
                sink = %name, tenant, first = cursor + 1, last, events,
                "this sink skips these batches: {why}"
            );
        });
        sql(tx.conn.execute(
            "INSERT INTO detached (sink, lane, first, last, events, at, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![sink, lane, cursor + 1, last, events, tx.now_ms, reason],
        ))?;
        count(tx, &sink, lane, hours)?;
    }
    sql(tx.conn.execute(
        "UPDATE cursors SET seq = ?1, skipped = skipped + ?2 WHERE sink = ?3 AND lane = ?4",
        params![until as i64, events, sink, lane],
    ))?;
    move_cursor(tx, sink, lane, until);
    free_passed(tx, lane)
}

/// What the tenants have of the limit.
struct Uses<'a> {
    /// Bytes of each tenant's batches, those that are being committed included.
    held: BTreeMap<&'a str, u64>,
    /// Half of the limit, which they borrow from.
    pool: u64,
    /// What each has of the other half.
    share: u64,
    /// What all have borrowed.
    borrowed: u64,
}

/// What one tenant has of it.
struct Use {
    held: u64,
    /// Bytes that it may hold now: its share, and what the others leave of the pool.
    most: u64,
}

impl<'a> Uses<'a> {
    fn of(state: &'a State, max_bytes: u64) -> Self {
        let mut held: BTreeMap<&str, u64> = BTreeMap::new();
        let mut total = 0;
        for lane in state.lanes.values() {
            *held.entry(&lane.tenant).or_default() += lane.bytes;
            total += lane.bytes;
        }
        for (tenant, reserved) in &state.reserved {
            *held.entry(tenant).or_default() += reserved;
        }
        // Ids, units and coverage are needed to be exact and are not anybody's to give back.
        let overhead = state.used_bytes.saturating_sub(total);
        let pool = max_bytes.saturating_sub(overhead) / 2;
        let share = pool / held.len().max(1) as u64;
        let borrowed = held.values().map(|bytes| bytes.saturating_sub(share)).sum();
        Self {
            held,
            pool,
            share,
            borrowed,
        }
    }

    fn by(&self, tenant: &str) -> Use {
        let held = self.held.get(tenant).copied().unwrap_or(0);
        let others = self.borrowed - held.saturating_sub(self.share);
        Use {
            held,
            most: self.share + self.pool.saturating_sub(others),
        }
    }
}

impl Use {
    fn has_room(&self, bytes: u64) -> bool {
        self.held == 0 || self.held + bytes <= self.most
    }

    /// Whether a tenth of that is free, or more if `asked` is more. Not if it only goes on because nothing of it waits.
    fn has_room_to_spare(&self, asked: u64) -> bool {
        self.held + asked.max(self.most / 10) < self.most
    }
}

fn judge(state: &State, tenant: &str, bytes: u64, max_bytes: u64) -> Verdict {
    if Uses::of(state, max_bytes).by(tenant).has_room(bytes) {
        Verdict::Yes
    } else {
        holders(state, tenant)
    }
}

/// Who holds what a tenant has in the journal.
fn holders(state: &State, tenant: &str) -> Verdict {
    let (mut optional, mut required) = (Vec::new(), Vec::new());
    let lanes = state.lanes.iter();
    for (lane, known) in lanes.filter(|(_, lane)| &*lane.tenant == tenant) {
        let cursors = || {
            let sinks = state.sinks.iter();
            sinks.filter_map(|(name, s)| Some((name, s, *s.cursors.get(lane)?)))
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
        Verdict::No(required)
    } else {
        Verdict::Detach(optional)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::journal::Limits;
    use crate::journal::state::LaneState;
    use crate::metrics::Metrics;
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
        assert_eq!(judge(&full, "t1", 1, 100), Verdict::No(vec!["s".into()]));
        assert_eq!(judge(&full, "t2", 1, 100), Verdict::Yes);
        let half = state(&[74, 0], true);
        assert_eq!(judge(&half, "t1", 1, 100), Verdict::Yes);
    }

    #[test]
    fn batches_that_are_being_committed_count() {
        let mut half = state(&[70, 0], true);
        assert_eq!(judge(&half, "t1", 5, 100), Verdict::Yes);
        half.reserved.insert("t1".into(), 5);
        assert_eq!(judge(&half, "t1", 5, 100), Verdict::No(vec!["s".into()]));
    }

    #[test]
    fn a_pause_ends_once_a_tenth_is_free_or_what_was_asked_for() {
        // Limit 100, two tenants: the first may hold 75.
        let spare = |held, asked| {
            let state = state(&[held, 0], true);
            Uses::of(&state, 100).by("t1").has_room_to_spare(asked)
        };
        let table = [
            (75, 1, false),
            (68, 1, false),
            (67, 1, true),
            (67, 20, false),
            (54, 20, true),
            (0, 75, false),
        ];
        for (held, asked, expected) in table {
            assert_eq!(spare(held, asked), expected, "{held} held, {asked} asked");
        }
        let mut overfull = state(&[0, 0], true);
        overfull.used_bytes = 1000;
        let only_goes_on = Uses::of(&overfull, 100).by("t1");
        assert!(only_goes_on.has_room(1) && !only_goes_on.has_room_to_spare(1));
    }

    #[test]
    fn a_tenant_that_goes_on_and_waits_in_turn_is_paused_once_until_a_tenth_is_free() {
        let limits = Limits {
            max_bytes: 100,
            ..Limits::default()
        };
        let (clock, metrics) = (Clock::system(), Metrics::new().unwrap());
        let shared = Shared::new("j".into(), clock, metrics, limits, state(&[0, 0], true));
        let gauge = shared.metrics.tenant_paused.with_label_values(&["t1"]);
        let hold = |bytes| {
            shared.update(|state| {
                state.lanes.get_mut(&1).unwrap().bytes = bytes;
                (state.used_bytes, state.reserved) = (bytes, BTreeMap::new());
            });
        };
        let goes_on = || {
            let verdict = shared.look(|state| shared.reserve(state, &"t1".into(), 1));
            verdict == Verdict::Yes
        };
        for round in 0..20 {
            hold(75);
            assert!(!goes_on());
            hold(74);
            assert!(goes_on() && gauge.get() == 1, "round {round}");
        }
        hold(68);
        assert_eq!(gauge.get(), 1);
        hold(67);
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn an_optional_sink_is_detached_before_anybody_waits() {
        let full = state(&[75, 24], false);
        assert_eq!(
            judge(&full, "t1", 1, 100),
            Verdict::Detach(vec![("s".into(), 1, 9)])
        );
    }

    #[test]
    fn ids_and_coverage_count_against_the_limit() {
        let mut full = state(&[40, 0], true);
        full.used_bytes = 40 + 50;
        assert_eq!(judge(&full, "t1", 1, 100), Verdict::No(vec!["s".into()]));
    }

    #[test]
    fn a_tenant_of_which_nothing_waits_goes_on_whatever_fills_the_disk() {
        let mut full = state(&[0, 0], true);
        full.used_bytes = 1000;
        assert_eq!(judge(&full, "t1", 1, 100), Verdict::Yes);
    }
}
