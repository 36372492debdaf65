//! Every metric series, declared once.

use std::time::Duration;

/// What a plugin may count: its requests and its waits. Everything else is counted by the runners.
#[derive(Clone, Default)]
pub struct Meter {}

impl Meter {
    /// Counts a request to the peer: `operation` is the plugin's word (`list`), `outcome` is `ok` or an error kind.
    pub fn request(&self, operation: &'static str, outcome: &'static str) {
        let _ = (operation, outcome);
    }

    /// Adds time spent waiting because the peer, or our own rate limit, asked for it.
    pub fn throttled(&self, wait: Duration) {
        let _ = wait;
    }
}
