//! Where events come from.

pub(crate) mod graph_audit_query;
pub(crate) mod management_activity;
mod slices;
