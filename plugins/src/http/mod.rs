//! What all plugins that speak HTTP share: bodies that are read within bounds, the headers that steer a client, and a
//! peer's own words.

pub(crate) mod body;
pub(crate) mod headers;
pub(crate) mod text;

pub(crate) use audit_exporter_core::http::is_loopback;
