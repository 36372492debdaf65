//! What keeps a source from asking its peer for a while, listing and fetching alike.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::retry;
use crate::error::Error;

/// Keeps the source from asking the peer for anything for a while.
pub(super) struct Gate(Mutex<GateState>);

struct GateState {
    until: Instant,
    /// Pauses in a row without a success between.
    pauses: u32,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self(Mutex::new(GateState {
            until: Instant::now(),
            pauses: 0,
        }))
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Several that fail together are one reason to wait, not several.
    pub(super) fn pause(&self, error: &Error) {
        let mut state = self.state();
        let now = Instant::now();
        if error.retry_after().is_none() {
            if state.until > now {
                return;
            }
            state.pauses = state.pauses.saturating_add(1);
        }
        let until = now + retry::wait(error, state.pauses);
        state.until = state.until.max(until);
    }

    pub(super) fn success(&self) {
        self.state().pauses = 0;
    }

    pub(super) async fn wait(&self) {
        loop {
            let until = self.state().until;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}
