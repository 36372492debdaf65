//! The plugins that come with `audit-exporter`.
//!
//! One folder or file a plugin; each knows `audit-exporter-core` alone, never another. [`registry`] is the one place
//! that names them: a plugin of your own stands beside them in the same way, `registry().sink("mine", mine::build)`.

#![forbid(unsafe_code)]

mod filters;
mod http;
mod microsoft;
mod sinks;
mod sources;
#[cfg(test)]
mod testing;

use audit_exporter_core::plugin::Registry;

pub use microsoft::explain::{Explanation, explain};

/// Every plugin that ships with `audit-exporter`. Add yours to it in a `main` of your own.
#[must_use]
pub fn registry() -> Registry {
    let registry = Registry::default()
        .source("graph_audit_query", sources::graph_audit_query::build)
        .source("management_activity", sources::management_activity::build)
        .source(
            "search_unified_audit_log",
            sources::search_unified_audit_log::build,
        )
        .filter("field", filters::field::build)
        .filter("operation", filters::operation::build)
        .sink("email_digest", sinks::email_digest::build)
        .sink("file", sinks::file::build)
        .sink("http", sinks::http::build)
        .sink("splunk_hec", sinks::splunk_hec::build)
        .sink("stdout", sinks::stdout::build)
        .sink("syslog", sinks::syslog::build);
    #[cfg(feature = "kafka")]
    let registry = registry.sink("kafka", sinks::kafka::build);
    registry
}
