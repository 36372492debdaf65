//! How much time one session searches: as much as holds well fewer rows than a session shows.

use chrono::{DateTime, TimeDelta, Utc};

/// A stretch of event time: from `from` (included) to `to` (excluded), in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Where it begins.
    pub(super) from: DateTime<Utc>,
    /// Where it ends.
    pub(super) to: DateTime<Utc>,
}

impl Window {
    fn seconds(self) -> i64 {
        (self.to - self.from).num_seconds()
    }

    /// Whether it is a second, of which there are no parts.
    pub(super) fn is_shortest(self) -> bool {
        self.seconds() < 2
    }
}

/// A length that follows what sessions hold. Only a hint: whether a session is complete is seen from its rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    seconds: i64,
}

/// Sessions that could be this many times as full are made longer.
const ROOM: u64 = 8;

impl Pace {
    /// As long as the first time that is searched.
    pub(super) fn new() -> Self {
        Self { seconds: i64::MAX }
    }

    /// The next window of the time from `from` to `to`.
    pub(super) fn window(self, from: DateTime<Utc>, to: DateTime<Utc>) -> Window {
        let left = (to - from).num_seconds();
        let seconds = self.seconds.clamp(1, left.max(1));
        let to = (from + TimeDelta::seconds(seconds)).min(to);
        Window { from, to }
    }

    /// A window held too much: the next is half as long. False if it cannot be any shorter.
    pub(super) fn shorten(&mut self, window: Window) -> bool {
        if !window.is_shortest() {
            self.seconds = window.seconds() / 2;
        }
        !window.is_shortest()
    }

    /// A window held so many rows: if many more would have fitted, windows become longer.
    pub(super) fn held(&mut self, window: Window, rows: u64, ceiling: u64) {
        if rows.saturating_mul(ROOM) < ceiling {
            let longer = window.seconds().saturating_mul(2);
            self.seconds = self.seconds.max(longer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn windows_become_shorter_when_they_hold_too_much_and_longer_when_they_hold_little() {
        let mut pace = Pace::new();
        let whole = pace.window(at(0), at(1000));
        assert_eq!(whole.to, at(1000));
        assert!(pace.shorten(whole));
        let half = pace.window(at(0), at(1000));
        assert_eq!((half.from, half.to), (at(0), at(500)));
        pace.held(half, 50_000 / ROOM, 50_000);
        assert_eq!(pace.window(at(500), at(5000)).to, at(1000));
        pace.held(half, 100, 50_000);
        assert_eq!(pace.window(at(500), at(5000)).to, at(1500));
        assert_eq!(pace.window(at(900), at(1000)).to, at(1000));
    }

    #[test]
    fn a_second_cannot_be_cut() {
        let mut pace = Pace::new();
        let mut window = pace.window(at(0), at(7));
        let mut lengths = vec![window.seconds()];
        while pace.shorten(window) {
            window = pace.window(at(0), at(7));
            lengths.push(window.seconds());
        }
        assert_eq!(lengths, [7, 3, 1]);
    }
}
