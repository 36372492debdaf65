//! Sinks: where events go.

pub(crate) mod email_digest;
pub(crate) mod file;
pub(crate) mod http;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
mod line;
mod per_tenant;
mod post;
pub(crate) mod splunk_hec;
pub(crate) mod stdout;
pub(crate) mod syslog;
mod template;
mod trust;
mod value;
