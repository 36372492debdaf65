//! The newest ids, exactly, in memory.

use std::collections::HashMap;

use super::identity::{Id, Key, Prehashed};

/// Ids that are in the log and in no run yet. Some 25 bytes a slot.
#[derive(Debug, Default)]
pub(super) struct Table {
    first: HashMap<Key, u64, Prehashed>,
    /// Further values of a key: events with one identity and other bytes. Rare.
    more: HashMap<Key, Vec<u64>, Prehashed>,
    more_values: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.more_values
    }

    /// Adds the values of a key to `known`.
    pub(super) fn find(&self, key: Key, known: &mut Vec<u64>) {
        if let Some(first) = self.first.get(&key) {
            known.push(*first);
            if self.more_values > 0 {
                known.extend(self.more.get(&key).into_iter().flatten());
            }
        }
    }

    /// Adds an id that is not in the table.
    pub(super) fn insert(&mut self, id: Id) {
        if let Some(first) = self.first.insert(id.key, id.value) {
            self.more.entry(id.key).or_default().push(first);
            self.more_values += 1;
        }
    }

    /// Takes an id out again.
    pub(super) fn remove(&mut self, id: Id) {
        if let Some(values) = self.more.get_mut(&id.key) {
            if let Some(at) = values.iter().position(|value| *value == id.value) {
                values.remove(at);
            } else if let Some(last) = values.pop() {
                self.first.insert(id.key, last);
            }
            self.more_values -= 1;
            if values.is_empty() {
                self.more.remove(&id.key);
            }
        } else {
            self.first.remove(&id.key);
        }
    }

    /// The keys of all ids.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.first.keys().copied()
    }

    /// All ids, in order.
    pub(super) fn sorted(&self) -> Vec<Id> {
        let mut ids = Vec::with_capacity(self.len());
        ids.extend(self.first.iter().map(|(key, value)| Id {
            key: *key,
            value: *value,
        }));
        for (key, values) in &self.more {
            ids.extend(values.iter().map(|value| Id {
                key: *key,
                value: *value,
            }));
        }
        ids.sort_unstable();
        ids
    }

    /// Forgets all, and keeps room for `ids`.
    pub(super) fn clear(&mut self, ids: usize) {
        self.first.clear();
        self.first.shrink_to(ids);
        self.more = HashMap::default();
        self.more_values = 0;
    }
}
