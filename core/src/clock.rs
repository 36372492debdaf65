//! The time, so that tests can own it.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// Tells the time: the system's, or one that follows tokio's (paused) clock from a chosen start.
#[derive(Clone, Debug)]
pub struct Clock(Option<(DateTime<Utc>, Instant)>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that shows `start` now and advances with tokio's time, which tests can pause.
    #[must_use]
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        Self(Some((start, Instant::now())))
    }

    /// Whether it follows tokio's time rather than the system's.
    #[must_use]
    pub(crate) fn is_a_tests(&self) -> bool {
        self.0.is_some()
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match self.0 {
            None => Utc::now(),
            Some((start, since)) => start + since.elapsed(),
        }
    }
}
