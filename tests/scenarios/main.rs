//! What users start from: every file in `config/` and the program in `examples/`, run against a simulated tenant.

// A test may stop at what it does not expect.
#![allow(clippy::unwrap_used, clippy::panic)]

mod command_line;
mod configs;
mod custom_sink;
mod docs;
mod intake;
#[cfg(feature = "kafka")]
mod kafka;
mod program;
mod siem;
mod sources;
mod syslog;
mod tenants;
