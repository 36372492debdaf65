//! How long to wait after a failure.

use std::time::Duration;

use rand::RngExt;

use crate::error::{Error, Kind};

/// Shortest and longest wait after an outage.
const UNAVAILABLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// Throttling: starts as soon, but must be able to wait out an hour of it.
const THROTTLED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));
/// Refused credentials and configuration that only a person can mend; somebody may be mending it now.
const REFUSED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_hours(1));
/// "At once" would be a loop.
const SHORTEST: Duration = Duration::from_secs(1);
/// No peer may keep us waiting longer than this, whatever it asks for.
pub(super) const LONGEST: Duration = Duration::from_hours(6);

/// The error that a plugin's panic stands for. What it said is in the panic's own message.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Error::bug(format!(
        "it panicked: {}",
        said.unwrap_or("no reason given")
    ))
}

/// The wait before try number `attempt` (from 1) after `error`: the peer's wish, or exponential back-off with jitter.
#[must_use]
pub fn wait(error: &Error, attempt: u32) -> Duration {
    let (shortest, longest) = match error.kind() {
        Kind::Throttled => THROTTLED,
        Kind::Auth | Kind::Config | Kind::Bug => REFUSED,
        Kind::Unavailable | Kind::Rejected | Kind::Lost => UNAVAILABLE,
    };
    let wait = match error.retry_after() {
        Some(wish) => return wish.clamp(SHORTEST, LONGEST),
        None => shortest
            .saturating_mul(1 << attempt.saturating_sub(1).min(16))
            .min(longest),
    };
    // Half fixed, half random: many that failed together do not come back together.
    wait.mul_f64(rand::rng().random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        let error = Error::unavailable("down");
        for attempt in 1..40 {
            let waited = wait(&error, attempt);
            assert!(
                waited >= UNAVAILABLE.0 / 2 && waited <= UNAVAILABLE.1,
                "{waited:?}"
            );
        }
        assert!(wait(&error, 12) >= UNAVAILABLE.1 / 2);
    }

    #[test]
    fn the_peers_wish_is_honoured_within_reason() {
        let wish = |seconds| {
            Error::throttled("slow down").with_retry_after(Some(Duration::from_secs(seconds)))
        };
        assert_eq!(wait(&wish(17), 1), Duration::from_secs(17));
        assert_eq!(wait(&wish(1_000_000), 1), LONGEST);
        assert_eq!(wait(&wish(0), 1), SHORTEST);
    }
}
