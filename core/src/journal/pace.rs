//! Keeping intake and sinks together: what a sink takes from memory need not be read back from the disk.

use std::sync::Arc;
use std::time::Duration;

use super::Journal;
use super::state::{Shared, State};

/// The longest that intake waits for sinks. One that takes longer falls behind, once, and reads from the disk until it
/// has caught up: it is not waited for meanwhile. So no sink holds up another for longer than this.
const PATIENCE: Duration = Duration::from_millis(500);

/// A batch that will be among the fresh ones. Hold it until the batch is committed.
#[must_use = "the batch is no longer counted when this is dropped"]
pub struct Coming {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.shared.look(|state| state.coming_bytes -= self.bytes);
    }
}

impl Journal {
    /// Waits a little if the memory for fresh batches is full and a sink that keeps up is about to make room for one
    /// of `bytes` more.
    pub async fn pace(&self, bytes: usize) -> Coming {
        let bound = self.shared.limits.handover_bytes;
        let mut changes = self.changes();
        let room = async {
            loop {
                changes.mark_unchanged();
                let wait = self.shared.look(|state| {
                    let wait = is_worth_waiting(state, bytes, bound);
                    if !wait {
                        state.coming_bytes += bytes;
                    }
                    wait
                });
                if !wait {
                    return;
                }
                if changes.changed().await.is_err() {
                    // The sender lives in the journal that we hold.
                    std::future::pending::<()>().await;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, room).await.is_err() {
            self.shared.look(|state| state.coming_bytes += bytes);
        }
        Coming {
            shared: Arc::clone(&self.shared),
            bytes,
        }
    }
}

/// Whether the next batch would drive one from memory that a sink is about to take.
fn is_worth_waiting(state: &State, bytes: usize, bound: usize) -> bool {
    // Room is left for what comes with the records.
    if state.recent_bytes + state.coming_bytes + bytes <= bound / 4 * 3 {
        return false;
    }
    let Some(oldest) = state.recent.front() else {
        return false;
    };
    let evicted = state.lanes.get(&oldest.lane).map_or(0, |lane| lane.evicted);
    let mut sinks = state.sinks.values().filter(|sink| sink.attached);
    sinks.any(|sink| {
        let cursor = sink.cursors.get(&oldest.lane);
        cursor.is_some_and(|cursor| (evicted..oldest.seq).contains(cursor))
    })
}
