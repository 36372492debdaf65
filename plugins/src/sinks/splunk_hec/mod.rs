//! `splunk_hec`: a Splunk HTTP Event Collector (reference: sinks-protocols.md §1).
//!
//! What it promises:
//!
//! - **Verbatim**: `event` is the record's own bytes. A record that is no JSON object travels as a string, so that it
//!   cannot spoil its envelope: Splunk answers an envelope that it does not understand with success, and drops what
//!   comes behind it.
//! - **At least once**: a delivery is `Ok` after Splunk has answered each request with success; with `acknowledgement`,
//!   after the indexers have acknowledged it. What was answered is not sent again when another request fails. A
//!   request whose answer, or whose acknowledgement, did not come is.
//! - **One poisoned event stops nothing**: Splunk says which it was; it goes to the dead letters and the rest is sent.
//! - **Apart**: token, index and addresses are a tenant's own where they differ.

mod ack;
mod answer;
mod client;
mod config;
mod envelope;
#[cfg(test)]
mod tests;

use audit_exporter_core::Result;
use audit_exporter_core::config::Options;
use audit_exporter_core::plugin::{Context, Sink};

use super::post::Posting;
use client::Collector;

/// Builds a `splunk_hec` sink.
pub(crate) fn build(context: Context) -> Result<Box<dyn Sink>> {
    let Context {
        options,
        tenants,
        http,
        clock,
        ..
    } = context;
    let read = move |options: &Options, _: &str, _: &str| {
        let settings = config::read(options)?;
        let http = settings.trust.http(options, http.clone())?;
        Ok(Collector::new(settings, http, clock.clone()))
    };
    Ok(Box::new(Posting::new(options, &tenants, read)?))
}
