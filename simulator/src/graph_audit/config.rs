//! How audit queries behave, and what goes wrong with them.

use serde::{Deserialize, Serialize};

use crate::faults::AnswerFaults;

/// Audit log queries of Microsoft Graph.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GraphAuditConfig {
    /// How long a query takes from its creation to its end; minutes are usual.
    pub run_seconds: u64,
    /// Whether `/v1.0` serves the tenants; `/beta` always does.
    pub v1: bool,
    /// Whether `/v1.0` takes new queries; if not, it answers 404 to them alone.
    pub v1_creates: bool,
    /// Queries that a tenant may create in 24 hours.
    pub creates_per_day: usize,
    /// Queries of a tenant that may wait or run at a time.
    pub at_once: usize,
    /// Records that a query has at most.
    pub most_records: usize,
    /// Records on a page, unless `$top` says otherwise. The service does not document its own.
    pub page_size: usize,
    /// How long a query and its records are kept.
    pub kept_days: u32,
    /// How far back events can be searched.
    pub retention_days: u32,
}

impl Default for GraphAuditConfig {
    fn default() -> Self {
        Self {
            run_seconds: 2,
            v1: true,
            v1_creates: true,
            creates_per_day: 200,
            at_once: 50,
            most_records: 1_000_000,
            page_size: 150,
            kept_days: 30,
            retention_days: 180,
        }
    }
}

/// Faults of audit queries, as probabilities for each request or query.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GraphAuditFaults {
    /// Faults of any answer. Throttling is 429; `throttled_403` is the page of a gateway.
    pub answers: AnswerFaults,
    /// A query is created, and the answer is lost.
    pub lost_create: f64,
    /// A query ends as `failed`.
    pub failed: f64,
    /// A query ends as `cancelled`.
    pub cancelled: f64,
    /// A query takes longer by `slow_seconds`.
    pub slow: f64,
    /// By how much.
    pub slow_seconds: u64,
    /// A reading of all pages lacks some of the records.
    pub unstable: f64,
    /// An `@odata.nextLink` is no longer valid when it is followed.
    pub stale_page: f64,
    /// An `@odata.nextLink` leads to a foreign host.
    pub foreign_page: f64,
    /// Queries with more pages than so many answer 500 after them, always.
    pub breaks_after_pages: Option<usize>,
}

impl GraphAuditFaults {
    /// Each of them at some percent, and nothing lost for good.
    #[must_use]
    pub fn all() -> Self {
        Self {
            answers: AnswerFaults {
                // Compressed bodies are not asked for, and a wait of an hour is no test.
                cut_gzip: 0.0,
                internal_error_in_an_hour: 0.0,
                ..AnswerFaults::all()
            },
            lost_create: 0.1,
            failed: 0.1,
            cancelled: 0.05,
            slow: 0.1,
            slow_seconds: 2,
            unstable: 0.3,
            stale_page: 0.02,
            foreign_page: 0.02,
            breaks_after_pages: None,
        }
    }
}
