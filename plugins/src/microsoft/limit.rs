//! A steady pace for one tenant's requests.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets at most `requests_per_minute` requests pass in any minute, in the order in which they ask.
///
/// One twentieth of the quota may go in a burst, the rest is spaced evenly (the generic cell rate algorithm), so that
/// a catch-up does not use up a minute's quota in its first seconds and then wait for the rest of it.
#[derive(Debug)]
pub(crate) struct RateLimit {
    interval: Duration,
    tolerance: Duration,
    next: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// A limit of `requests_per_minute`, at least one.
    pub(crate) fn per_minute(requests_per_minute: u32) -> Self {
        let quota = requests_per_minute.max(1);
        let burst = quota / 20;
        let interval = Duration::from_mins(1) / (quota - burst);
        Self {
            interval,
            tolerance: interval * burst,
            next: Mutex::new(None),
        }
    }

    /// Waits for this request's turn and returns how long that took.
    pub(crate) async fn wait(&self) -> Duration {
        let now = Instant::now();
        let turn = self.reserve(now);
        sleep_until(turn).await;
        turn - now
    }

    fn reserve(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = next.map_or(now, |next| next.max(now));
        *next = Some(arrival + self.interval);
        now.max(arrival.checked_sub(self.tolerance).unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_minute_holds_more_requests_than_the_quota() {
        for quota in [1, 7, 60, 2000] {
            let limit = RateLimit::per_minute(quota);
            let mut turns = Vec::new();
            for _ in 0..quota * 2 {
                limit.wait().await;
                turns.push(Instant::now());
            }
            for (index, start) in turns.iter().enumerate() {
                // A timer fires up to a millisecond late.
                let end = *start + Duration::from_millis(59_998);
                let in_minute = turns[index..]
                    .iter()
                    .take_while(|turn| **turn < end)
                    .count();
                assert!(in_minute <= quota as usize + 1, "{in_minute} of {quota}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_tenant_waits_for_nothing() {
        let limit = RateLimit::per_minute(2000);
        for _ in 0..100 {
            assert_eq!(limit.wait().await, Duration::ZERO);
        }
        assert!(limit.wait().await < Duration::from_millis(40));
    }
}
