//! The engine of `audit-exporter`: it collects audit events completely and delivers them durably.
//!
//! ```text
//! source ──units──▶ intake ──batches──▶ journal ──▶ sink worker: filters → deliver → cursor
//! ```

#![forbid(unsafe_code)]

pub mod admin;
pub mod archive;
mod buffer;
pub mod clock;
pub mod config;
pub mod contract;
pub mod coverage;
mod dedupe;
pub mod durable;
pub mod engine;
pub mod error;
pub mod event;
pub mod http;
pub mod journal;
pub mod metrics;
pub mod plugin;
mod printable;
pub mod sizes;

pub use error::{Error, Kind, Result};
pub use printable::printable;
