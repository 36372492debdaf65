//! The acknowledgements of each channel: counted from 0, and forgotten once they were told (reference:
//! sinks-protocols.md §1.4).

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// The channels of all tokens.
#[derive(Debug, Default)]
pub(super) struct Acks(HashMap<(String, String), Channel>);

#[derive(Debug, Default)]
struct Channel {
    next: u64,
    /// When each is acknowledged; never, if it is lost.
    pending: BTreeMap<u64, Option<Instant>>,
}

impl Acks {
    /// Takes a request; gives the number of its acknowledgement, which comes after this time, or never.
    pub(super) fn open(&mut self, token: &str, channel: &str, after: Option<Duration>) -> u64 {
        let channel = self
            .0
            .entry((token.to_owned(), channel.to_owned()))
            .or_default();
        let id = channel.next;
        channel.next += 1;
        channel
            .pending
            .insert(id, after.map(|after| Instant::now() + after));
        id
    }

    /// Tells, once, which of these were acknowledged.
    pub(super) fn tell(&mut self, token: &str, channel: &str, ids: &[u64]) -> BTreeMap<u64, bool> {
        let mut channel = self.0.get_mut(&(token.to_owned(), channel.to_owned()));
        let now = Instant::now();
        let mut is_told = |id: u64| {
            let Some(channel) = &mut channel else {
                return false;
            };
            let due = channel.pending.get(&id).copied().flatten();
            due.is_some_and(|due| due <= now) && channel.pending.remove(&id).is_some()
        };
        ids.iter().map(|id| (*id, is_told(*id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_told_once_and_in_its_channel_alone() {
        let mut acks = Acks::default();
        assert_eq!(acks.open("t", "a", Some(Duration::ZERO)), 0);
        assert_eq!(acks.open("t", "a", None), 1);
        assert_eq!(acks.open("t", "b", Some(Duration::ZERO)), 0);
        assert_eq!(acks.tell("u", "a", &[0]), BTreeMap::from([(0, false)]));
        let first = BTreeMap::from([(0, true), (1, false), (7, false)]);
        assert_eq!(acks.tell("t", "a", &[0, 1, 7]), first);
        assert_eq!(acks.tell("t", "a", &[0]), BTreeMap::from([(0, false)]));
        assert_eq!(acks.tell("t", "b", &[0]), BTreeMap::from([(0, true)]));
    }
}
