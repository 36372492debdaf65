//! Sinks: where events go.

pub(crate) mod file;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
mod line;
pub(crate) mod stdout;
mod template;
mod value;
