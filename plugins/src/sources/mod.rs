//! Where events come from.

#[cfg(test)]
mod bench;
pub(crate) mod graph_audit_query;
pub(crate) mod management_activity;
mod patience;
pub(crate) mod search_unified_audit_log;
mod slices;
