//! What the journal knows without asking the disk: heads, cursors, sizes, and the newest batches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use super::store::Turn;
use super::{LaneId, Limits, Stored};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::plugin::LaneKind;

/// A lane as it stands after the last commit.
#[derive(Debug)]
pub(super) struct LaneState {
    pub(super) tenant: Arc<str>,
    /// The tenant's name in the configuration; its id until it is known.
    pub(super) tenant_name: Arc<str>,
    pub(super) kind: LaneKind,
    /// The last sequence number committed to the lane; 0 before the first.
    pub(super) head: u64,
    /// Batches up to here are not in memory: they were evicted, or came before this start.
    pub(super) evicted: u64,
    /// Bytes of the batches that are kept.
    pub(super) bytes: u64,
}

/// A sink's cursors as they stand after the last commit.
#[derive(Debug, Default)]
pub(super) struct SinkState {
    pub(super) cursors: BTreeMap<LaneId, u64>,
    /// A sink of the configuration that may hold its tenants back; orphans and optional sinks may not.
    pub(super) required: bool,
    /// In the running configuration.
    pub(super) attached: bool,
    /// Gets nothing until an operator says so.
    pub(super) paused: bool,
}

/// The state behind one lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) lanes: BTreeMap<LaneId, LaneState>,
    pub(super) sinks: BTreeMap<Arc<str>, SinkState>,
    pub(super) recent: VecDeque<Arc<Stored>>,
    pub(super) recent_bytes: usize,
    /// Raw bytes of batches that are on their way there.
    pub(super) coming_bytes: usize,
    /// Some batches in memory may be wanted by nobody any more.
    pub(super) cursors_moved: bool,
    pub(super) used_bytes: u64,
    /// Bytes of batches that are being committed, by tenant.
    pub(super) reserved: BTreeMap<Arc<str>, u64>,
    /// The tenants that had to wait for room, with the bytes that they asked for, until there is room to spare.
    pub(super) paused: BTreeMap<Arc<str>, u64>,
}

impl State {
    /// The name of a tenant in the configuration; its id if it is not there.
    pub(super) fn tenant_name(&self, tenant: &str) -> Arc<str> {
        let known = self.lanes.values().find(|lane| &*lane.tenant == tenant);
        known.map_or_else(|| tenant.into(), |lane| Arc::clone(&lane.tenant_name))
    }

    /// Keeps a fresh batch for the sinks that have caught up, within the bound.
    pub(super) fn remember(&mut self, stored: Arc<Stored>, bound: usize) {
        self.recent_bytes += stored.memory_bytes();
        self.recent.push_back(stored);
        while self.recent_bytes > bound
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_bytes -= oldest.memory_bytes();
            if let Some(lane) = self.lanes.get_mut(&oldest.lane) {
                lane.evicted = lane.evicted.max(oldest.seq);
            }
        }
    }

    /// Drops fresh batches that every sink has passed.
    fn forget_passed(&mut self) {
        let mut lowest: BTreeMap<LaneId, u64> = BTreeMap::new();
        for (lane, cursor) in self.sinks.values().flat_map(|sink| &sink.cursors) {
            let known = lowest.entry(*lane).or_insert(*cursor);
            *known = (*known).min(*cursor);
        }
        let (mut kept_bytes, lanes) = (0, &mut self.lanes);
        self.recent.retain(|stored| {
            let low = lowest.get(&stored.lane);
            if low.is_some_and(|low| *low < stored.seq) {
                kept_bytes += stored.memory_bytes();
                return true;
            }
            // It may be on disk for a while, and a sink that is attached meanwhile begins there.
            if let Some(lane) = lanes.get_mut(&stored.lane) {
                lane.evicted = lane.evicted.max(stored.seq);
            }
            false
        });
        self.recent_bytes = kept_bytes;
    }

    /// Applies what a transaction has changed.
    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            change(self);
        }
        // Once, however many cursors have moved.
        if std::mem::take(&mut self.cursors_moved) {
            self.forget_passed();
        }
    }
}

/// Changes the state once its transaction has committed.
pub(super) type Change = Box<dyn FnOnce(&mut State) + Send>;

/// What the writer thread and the journal's users share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: Arc<str>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) limits: Limits,
    pub(super) state: Mutex<State>,
    turns: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
    changed: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(
        id: Arc<str>,
        clock: Clock,
        metrics: Metrics,
        limits: Limits,
        state: State,
    ) -> Self {
        Self {
            id,
            clock,
            metrics,
            limits,
            state: Mutex::new(state),
            turns: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// The turn of a plugin instance and of those that follow it under its name.
    pub(super) fn turn(&self, instance: &str) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(instance).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Turn::default();
        turns.insert(instance.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// Looks at the state. Never held across an await.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state and wakes all who wait for a change.
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        self.look(|state| {
            change(state);
            self.end_pauses(state);
        });
        self.changed.send_modify(|version| *version += 1);
    }

    /// Sees every change from now on.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
