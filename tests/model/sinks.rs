//! Far sides that take events, in the exporter's own process, and keep an account of what they were given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::journal::Position;
use audit_exporter_core::plugin::{Batch, Delivered, Receipt, Rejected, Sink};
use audit_exporter_core::{Error, Result};

use super::history::{Call, FarSide, Fate, MINUTE, Millis, Place};
use super::world::World;

/// How long the exporter waits for an answer.
pub(crate) const TIMEOUT: Millis = 5 * MINUTE;

/// What tells events apart: their bytes, and for those without an identity the blob too.
pub(crate) type Key = String;

/// An event's key.
pub(crate) fn key(unit: Option<&str>, raw: &str) -> Key {
    format!("{}\n{raw}", unit.unwrap_or_default())
}

/// What became of an event at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Delivered,
    Dead,
}

/// One sink's far side, as it is now.
#[derive(Debug, Default)]
pub(crate) struct Far {
    /// The events that it holds, in order, with their tenant.
    pub(crate) events: Vec<(Key, String)>,
    /// The last word on each event: a delivery that comes again replaces it.
    pub(crate) outcomes: BTreeMap<Key, Outcome>,
    /// Deliveries of which events were taken, but whose answer did not come through.
    pub(crate) unanswered: BTreeMap<Key, usize>,
    /// The length at the last answer that was given.
    confirmed: usize,
    positions: BTreeMap<i64, Position>,
    /// Taken and answered since the cursor is known to have moved, and the batch that it was.
    uncertain: (Option<(i64, u64)>, Vec<Key>),
    deliveries: usize,
}

impl Far {
    fn take(&mut self, event: &AuditEvent, key: Key) {
        self.outcomes.insert(key.clone(), Outcome::Delivered);
        self.events.push((key, event.origin().tenant.to_string()));
    }

    /// The life ended: nobody may have noted the last answer.
    pub(crate) fn life_ended(&mut self) {
        for key in std::mem::take(&mut self.uncertain.1) {
            *self.unanswered.entry(key).or_default() += 1;
        }
    }
}

/// All far sides of a world, by the names of their sinks.
#[derive(Clone, Default)]
pub(crate) struct FarSides(Arc<Mutex<BTreeMap<String, Far>>>);

impl FarSides {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Far>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sink of one far side.
pub(crate) struct ModelSink {
    pub(crate) world: Arc<World>,
    pub(crate) far: FarSides,
    pub(crate) plan: FarSide,
}

/// Says that a delivery whose events were taken was not answered, unless it was.
struct Taken<'a> {
    sink: &'a ModelSink,
    keys: Vec<Key>,
    is_answered: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.sink.with(|far| {
                for key in self.keys.drain(..) {
                    *far.unanswered.entry(key).or_default() += 1;
                }
            });
        }
    }
}

impl ModelSink {
    fn with<T>(&self, look: impl FnOnce(&mut Far) -> T) -> T {
        look(
            self.far
                .lock()
                .entry(self.plan.name.to_owned())
                .or_default(),
        )
    }

    fn is_down(&self) -> bool {
        let now = self.world.now();
        self.plan
            .down
            .is_some_and(|(from, to)| (from..to).contains(&now))
    }

    /// The indexes that it refuses, and what it takes of the rest.
    fn judge(&self, batch: &Batch) -> (Vec<usize>, Vec<(AuditEvent, Key)>) {
        let (mut refused, mut taken) = (Vec::new(), Vec::new());
        for (index, event) in batch.events.iter().enumerate() {
            let raw = String::from_utf8_lossy(event.raw());
            let origin = event.origin();
            let key = key(event.id().is_none().then_some(&*origin.unit), &raw);
            if self.plan.picky && raw.contains("\"Poison\":true") {
                self.with(|far| far.outcomes.insert(key, Outcome::Dead));
                refused.push(index);
            } else {
                taken.push((event.clone(), key));
            }
        }
        (refused, taken)
    }

    /// Whether the far side has all of a batch already, by the position that it stored.
    fn has(&self, batch: &Batch) -> bool {
        self.plan.place == Place::Position
            && self.with(|far| {
                let known = far.positions.get(&position(batch).lane);
                known.is_some_and(|known| known.last >= position(batch).last)
            })
    }

    /// Stores the events of a batch, as far as it comes.
    fn store(&self, batch: &Batch, taken: Vec<(AuditEvent, Key)>, is_whole: bool) -> Vec<Key> {
        let mut keys: Vec<Key> = taken.iter().map(|(_, key)| key.clone()).collect();
        self.with(|far| {
            if self.plan.place == Place::Receipt {
                // What an earlier try left behind.
                far.events.truncate(far.confirmed);
                keys.clear();
            }
            for (event, key) in taken {
                far.take(&event, key);
            }
            if self.plan.place == Place::Position && is_whole {
                far.positions
                    .insert(position(batch).lane, position(batch).clone());
                keys.clear();
            }
        });
        keys
    }
}

#[async_trait]
impl Sink for ModelSink {
    async fn recover(&self, last: Option<&Receipt>) -> Result<Vec<Position>> {
        match self.plan.place {
            Place::None => Ok(Vec::new()),
            Place::Receipt => {
                let length: usize = last.map(Receipt::parse).transpose()?.unwrap_or(0);
                self.with(|far| {
                    far.events.truncate(length);
                    far.confirmed = length;
                });
                Ok(Vec::new())
            }
            Place::Position => Ok(self.with(|far| far.positions.values().cloned().collect())),
        }
    }

    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        self.world.call(Call::Deliver);
        let nth = self.with(|far| {
            let same = Some((position(batch).lane, position(batch).first));
            if far.uncertain.0 != same {
                // The cursor has passed what came before.
                far.uncertain = (same, Vec::new());
            }
            far.deliveries += 1;
            far.deliveries - 1
        });
        let mut fates = self.plan.fates.iter();
        let fate = fates.find(|(at, _)| *at == nth).map(|(_, fate)| *fate);
        let pause = self.world.chance(nth, 4) * 300;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if self.is_down() || fate == Some(Fate::Fail) {
            return Err(Error::unavailable("the far side is down"));
        }
        if self.has(batch) {
            return Ok(Delivered::default());
        }
        if fate == Some(Fate::RefuseAll) {
            self.with(|far| {
                if self.plan.place == Place::Receipt {
                    far.events.truncate(far.confirmed);
                }
                for event in batch.events.iter() {
                    let raw = String::from_utf8_lossy(event.raw());
                    let unit = event.id().is_none().then(|| event.origin().unit.clone());
                    far.outcomes
                        .insert(key(unit.as_deref(), &raw), Outcome::Dead);
                }
            });
            return Err(Error::rejected("413 as told"));
        }
        let (refused, mut taken) = self.judge(batch);
        if fate == Some(Fate::Half) && self.plan.place != Place::Position {
            taken.truncate(taken.len() / 2);
        }
        let keys = self.store(batch, taken, refused.is_empty());
        let mut taken = Taken {
            sink: self,
            keys,
            is_answered: false,
        };
        if let Some(Fate::Slow(seconds)) = fate {
            tokio::time::sleep(Duration::from_secs(seconds.into())).await;
        }
        if matches!(fate, Some(Fate::LoseAnswer | Fate::Half)) {
            return Err(Error::unavailable("the answer was lost"));
        }
        taken.is_answered = true;
        let keys = std::mem::take(&mut taken.keys);
        drop(taken);
        let length = self.with(|far| {
            far.uncertain.1.extend(keys);
            far.confirmed = far.events.len();
            far.confirmed
        });
        let reject = |index| Rejected {
            index,
            reason: "400 as told".to_owned(),
        };
        Ok(Delivered {
            receipt: match self.plan.place {
                Place::Receipt => Some(Receipt::of(&length)?),
                _ => None,
            },
            rejected: refused.into_iter().map(reject).collect(),
            ..Delivered::default()
        })
    }
}

/// Where a batch of the journal lies.
fn position(batch: &Batch) -> &Position {
    batch.position.as_ref().expect("only replays have none")
}
