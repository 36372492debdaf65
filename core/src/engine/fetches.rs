//! The fetches of one source of one tenant: those that run, and those whose turn comes next.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::error::Result;
use crate::journal::Due;

/// The fetches of one tenant: what runs, and what was taken from the journal to run next.
pub(super) struct Fetches {
    pub(super) running: JoinSet<Result<()>>,
    /// For those that fetch, and do not only wait to be committed.
    pub(super) places: Arc<Semaphore>,
    pub(super) busy: HashMap<Id, Due>,
    pub(super) live: Line,
    pub(super) catch_up: Line,
    /// Units that failed since the last success.
    pub(super) failing: HashSet<Arc<str>>,
    /// When it was last said that something will soon be lost.
    pub(super) reminded: Option<Instant>,
    /// Around each.
    pub(super) span: tracing::Span,
}

/// Units of one kind that wait their turn.
pub(super) struct Line {
    pub(super) units: VecDeque<Due>,
    /// Nothing else is due before this, so the journal need not be asked.
    pub(super) next: Instant,
}

impl Fetches {
    pub(super) fn new(parallel: usize, span: tracing::Span) -> Self {
        let line = || Line {
            units: VecDeque::new(),
            next: Instant::now(),
        };
        Self {
            running: JoinSet::new(),
            places: Arc::new(Semaphore::new(parallel)),
            busy: HashMap::new(),
            live: line(),
            catch_up: line(),
            failing: HashSet::new(),
            reminded: None,
            span,
        }
    }

    /// Returns when there is a place, if there is none now.
    pub(super) fn place(&self) -> impl Future<Output = ()> + use<> {
        let full = (self.places.available_permits() == 0).then(|| Arc::clone(&self.places));
        async move {
            match full {
                Some(places) => drop(places.acquire().await),
                None => std::future::pending().await,
            }
        }
    }

    /// Something will be due after `wait`: asks the journal then.
    pub(super) fn look_after(&mut self, wait: Duration) {
        let then = Instant::now() + wait;
        for line in [&mut self.live, &mut self.catch_up] {
            line.next = line.next.min(then);
        }
    }
}
