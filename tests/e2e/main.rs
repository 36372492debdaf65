//! End to end: the real binary as its users run it, over real HTTP, against a simulated Microsoft 365.
//!
//! What arrives is judged by `tests/compare_ledger.py`, which shares no code with the exporter, against the
//! simulator's own ledger. Tests wait for what they can observe (metrics, the status command, the log), never for time
//! to pass.

// A test may fail by a panic, and says what it skips.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod backfill;
mod complete;
mod coverage;
mod credentials;
mod damage;
mod dead_letters;
mod exporter;
mod http;
mod life;
mod microsoft;
mod month;
mod odd;
mod once;
mod reconcile;
mod refusals;
mod reload;
mod replay;
mod search;
mod tenants;
mod webhook;

use std::io::Write as _;

/// Says what a test skips. Not by `println!`, which is only shown of tests that fail.
fn skipped(what: &str) {
    let told = format!("skipped: {what}\n");
    std::io::stderr().write_all(told.as_bytes()).unwrap();
}
