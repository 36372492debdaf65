//! What users start from: every file in `config/` and the program in `examples/`, run against a simulated tenant.

// A test may stop at what it does not expect.
#![allow(clippy::unwrap_used)]

mod configs;
mod custom_sink;
mod program;
