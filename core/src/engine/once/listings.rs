//! How far the sources of a single run are, with listing and with what they read for long.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::journal::Stream;

/// What a source does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Stage {
    /// It has more to list.
    Lists,
    /// It has more to list, once its peer has done what it was asked for.
    Awaits,
    /// It has nothing left to list.
    Ended,
}

/// What the sources do, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    /// Sources that have nothing left to list.
    pub(super) ended: usize,
    /// Sources that await their peer.
    pub(super) awaiting: usize,
    /// How often one of them had nothing left to list, and then had more.
    resumed: u64,
    /// How often one of them has listed a part of what it has to.
    pub(super) parts: u64,
    /// How often a fetch has got further than those of the same unit before.
    pub(super) further: u64,
}

/// What all sources of an engine do.
#[derive(Clone, Debug, Default)]
pub(in crate::engine) struct Listings(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    sum: Sum,
    /// How many pages of a unit a fetch has read, at most.
    farthest: HashMap<(Stream, Arc<str>), u64>,
}

impl Listings {
    /// The place of one more source, which has something to list.
    pub(in crate::engine) fn place(&self) -> Place {
        Place {
            all: self.clone(),
            stage: Stage::Lists,
        }
    }

    pub(super) fn sum(&self) -> Sum {
        self.state().sum
    }

    /// A fetch has read so many pages of a unit. A unit whose fetches break off again and again gets no further.
    pub(in crate::engine) fn has_read(&self, stream: &Stream, unit: &Arc<str>, pages: u64) {
        let mut state = self.state();
        let key = (stream.clone(), Arc::clone(unit));
        let farthest = state.farthest.entry(key).or_default();
        if pages > *farthest {
            *farthest = pages;
            state.sum.further += 1;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Sum)) {
        change(&mut self.state().sum);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one source does. One that is gone has not ended, and nothing is awaited for it.
#[derive(Debug)]
pub(in crate::engine) struct Place {
    all: Listings,
    stage: Stage,
}

impl Place {
    /// Says what the source does from now on.
    pub(in crate::engine) fn is_at(&mut self, stage: Stage) {
        let before = std::mem::replace(&mut self.stage, stage);
        self.all.change(|sum| {
            match before {
                Stage::Lists => {}
                Stage::Awaits => sum.awaiting -= 1,
                Stage::Ended => sum.ended -= 1,
            }
            match stage {
                Stage::Lists => {}
                Stage::Awaits => sum.awaiting += 1,
                Stage::Ended => sum.ended += 1,
            }
            sum.resumed += u64::from(before == Stage::Ended && stage != Stage::Ended);
        });
    }

    /// A listing begins. What the source awaits, it awaits until the listing says otherwise.
    pub(in crate::engine) fn begins(&mut self) {
        if self.stage == Stage::Ended {
            self.is_at(Stage::Lists);
        }
    }

    /// It has listed a part, and goes on at once.
    pub(in crate::engine) fn has_listed_a_part(&self) {
        self.all.change(|sum| sum.parts += 1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_at(Stage::Lists);
    }
}
