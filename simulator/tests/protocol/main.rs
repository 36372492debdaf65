//! The simulator against the protocol references, over real HTTP: exact statuses and bodies.

// A test may stop at what it does not expect, and reads small bodies of its own simulator.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod client;
mod faults;
mod graph_audit;
mod identity;
mod ledger;
mod listing;
mod mail;
mod search;
mod subscriptions;
mod tokens;
mod webhooks;
