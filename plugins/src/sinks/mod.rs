//! Sinks: where events go.

pub(crate) mod email_digest;
pub(crate) mod file;
mod line;
pub(crate) mod stdout;
