//! What plugins may count.

use std::sync::Arc;
use std::time::Duration;

use super::Metrics;

/// What a plugin may count: its requests and its waits. Everything else is counted by the runners.
#[derive(Clone, Debug, Default)]
pub struct Meter(Option<Arc<Labels>>);

#[derive(Debug)]
struct Labels {
    metrics: Metrics,
    tenant: String,
    source: String,
}

impl Metrics {
    /// The counters that a source gets.
    #[must_use]
    pub fn meter(&self, tenant: &str, source: &str) -> Meter {
        Meter(Some(Arc::new(Labels {
            metrics: self.clone(),
            tenant: tenant.to_owned(),
            source: source.to_owned(),
        })))
    }
}

impl Meter {
    /// Counts a request to the peer: `operation` is the plugin's word (`list`), `outcome` is `ok` or an error kind.
    pub fn request(&self, operation: &'static str, outcome: &'static str) {
        if let Some(l) = &self.0 {
            l.metrics
                .requests
                .with_label_values(&[&*l.tenant, &*l.source, operation, outcome])
                .inc();
        }
    }

    /// Adds time spent waiting because the peer, or our own rate limit, asked for it.
    pub fn throttled(&self, wait: Duration) {
        if let Some(l) = &self.0 {
            l.metrics
                .throttle_wait
                .with_label_values(&[&l.tenant, &l.source])
                .inc_by(wait.as_secs_f64());
        }
    }
}
