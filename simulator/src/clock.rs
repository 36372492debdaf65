//! The simulator's time: the machine's, plus what a test has added.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// A clock that a test can set forward.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    ahead_millis: AtomicI64,
}

impl Clock {
    /// Now, to the millisecond, as the service writes its times.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let ahead = TimeDelta::milliseconds(self.ahead_millis.load(Ordering::Relaxed));
        (Utc::now() + ahead).trunc_subsecs(3)
    }

    /// Moves the clock.
    pub(crate) fn advance(&self, by: TimeDelta) {
        self.ahead_millis
            .fetch_add(by.num_milliseconds(), Ordering::Relaxed);
    }
}

/// A time as the Management Activity API writes it: ISO 8601, milliseconds, `Z`.
pub(crate) fn wire_time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
