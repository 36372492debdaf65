//! Counts of what was asked and answered.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;

use crate::state::{State, lock};

/// Counters that run along.
#[derive(Default)]
pub(crate) struct Counts {
    requests: Mutex<BTreeMap<&'static str, BTreeMap<String, u64>>>,
    pub(crate) bytes: AtomicU64,
    pub(crate) tokens_issued: AtomicU64,
    pub(crate) without_publisher: AtomicU64,
    pub(crate) foreign_requests: AtomicU64,
    pub(crate) foreign_tokens: AtomicU64,
    pub(crate) notifications: AtomicU64,
}

impl Counts {
    /// Counts one request with its outcome.
    pub(crate) fn request(&self, operation: &'static str, outcome: &str) {
        let mut requests = lock(&self.requests);
        let outcomes = requests.entry(operation).or_default();
        match outcomes.get_mut(outcome) {
            Some(count) => *count += 1,
            None => {
                outcomes.insert(outcome.to_owned(), 1);
            }
        }
    }
}

/// What has happened so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests by operation (`token`, `start`, `stop`, `subscriptions`, `content`, `blob`,
    /// `notifications`, `sensitive_types`, `send_mail`, `hec`, `graph_create`, `graph_list`, `graph_get`, `graph_records`, `invoke_command`, `legacy_search`) and outcome: the HTTP status, or the error code, or
    /// the name of the fault that damaged the answer.
    pub requests: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// Body bytes of blobs, as sent.
    pub bytes: u64,
    /// Access tokens issued.
    pub tokens_issued: u64,
    /// API requests without `PublisherIdentifier`, which share a throttling bucket with the world.
    pub without_publisher: u64,
    /// Requests that followed a redirect or a `contentUri` to the foreign host.
    pub foreign_requests: u64,
    /// Those of them that carried a token: each is a leak.
    pub foreign_tokens: u64,
    /// Webhook notifications sent.
    pub notifications: u64,
    /// Audit log queries that were created, whether or not the client was told, and are still kept.
    pub audit_queries: u64,
    /// Events that the HTTP Event Collector has indexed.
    pub hec_events: u64,
    /// Blobs that exist, whether or not they are listed yet.
    pub blobs: u64,
    /// Blobs that were in a listing.
    pub blobs_listed: u64,
    /// How many blobs were served whole how many times.
    pub blobs_served: BTreeMap<u32, u64>,
}

impl Stats {
    /// Requests of an operation with an outcome.
    #[must_use]
    pub fn count(&self, operation: &str, outcome: &str) -> u64 {
        self.requests
            .get(operation)
            .and_then(|outcomes| outcomes.get(outcome))
            .copied()
            .unwrap_or_default()
    }
}

/// Takes stock.
pub(crate) fn take(state: &State) -> Stats {
    let counts = &state.counts;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut so_far = Stats {
        requests: lock(&counts.requests).clone(),
        bytes: read(&counts.bytes),
        tokens_issued: read(&counts.tokens_issued),
        without_publisher: read(&counts.without_publisher),
        foreign_requests: read(&counts.foreign_requests),
        foreign_tokens: read(&counts.foreign_tokens),
        notifications: read(&counts.notifications),
        audit_queries: state.graph_audit.count(),
        hec_events: state.hec.count(),
        ..Stats::default()
    };
    for blob in state.tenants.iter().flat_map(crate::state::Tenant::blobs) {
        so_far.blobs += 1;
        so_far.blobs_listed += u64::from(blob.listed.load(Ordering::Relaxed) > 0);
        let served = blob.served.load(Ordering::Relaxed);
        if served > 0 {
            *so_far.blobs_served.entry(served).or_default() += 1;
        }
    }
    so_far
}
