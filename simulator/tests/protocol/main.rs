//! The simulator against the protocol references, over real HTTP: exact statuses and bodies.

mod client;
mod faults;
mod ledger;
mod listing;
mod subscriptions;
mod tokens;
mod webhooks;
