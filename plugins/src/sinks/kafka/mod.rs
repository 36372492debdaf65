//! `kafka`: one record an event, by librdkafka.
//!
//! What it promises:
//!
//! - **Durable**: a delivery is `Ok` after the brokers have confirmed each record with all in-sync replicas.
//! - **At least once**, in order of the journal within a partition: librdkafka's producer is idempotent, so only a
//!   delivery whose answer was lost for good is repeated. With `transactional`, **exactly once** for consumers that
//!   read committed records: the position of a delivery is part of its transaction ([`transactions`]).
//! - **Nothing poisons**: a record that the brokers refuse is found by itself and becomes a dead letter.
//! - **Bounded**: librdkafka's queue has a limit, and is emptied before a delivery is tried again.
//!
//! A producer serves for one delivery at a time and is replaced when one fails or is dropped in mid-call.

mod check;
mod config;
mod errors;
mod oauth;
mod plain;
mod positions;
mod producer;
mod properties;
mod record;
mod reports;
mod security;
#[cfg(test)]
mod tests;
mod transactions;

use async_trait::async_trait;
use audit_exporter_core::Result;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::journal::Position;
use audit_exporter_core::plugin::{Batch, Context, Delivered, Finding, Receipt, Sink};
use tokio::sync::Mutex;

use plain::Plain;
use positions::Owner;
use record::Destinations;
use transactions::Transactions;

struct Kafka {
    clock: Clock,
    is_transactional: bool,
    state: Mutex<State>,
}

struct State {
    destinations: Destinations,
    mode: Mode,
}

/// How batches are delivered.
enum Mode {
    Plain(Plain),
    Transactions(Box<Transactions>),
}

/// Builds a `kafka` sink.
pub(crate) fn build(context: Context) -> Result<Box<dyn Sink>> {
    let destinations = Destinations::new(
        context.options,
        &context.tenants,
        context.http,
        context.clock.clone(),
    )?;
    let mode = match &destinations.network().connection.positions {
        None => Mode::Plain(Plain::default()),
        Some(topic) => {
            let (journal, replay) = (context.store.journal(), context.replay.as_deref());
            let owner = Owner::new(journal, &context.name, replay);
            Mode::Transactions(Box::new(Transactions::new(owner, topic.clone())))
        }
    };
    Ok(Box::new(Kafka {
        clock: context.clock,
        is_transactional: matches!(mode, Mode::Transactions(_)),
        state: Mutex::new(State { destinations, mode }),
    }))
}

#[async_trait]
impl Sink for Kafka {
    async fn recover(&self, _last: Option<&Receipt>) -> Result<Vec<Position>> {
        let State { destinations, mode } = &mut *self.state.lock().await;
        match mode {
            Mode::Plain(_) => Ok(Vec::new()),
            Mode::Transactions(transactions) => transactions.recover(destinations.network()).await,
        }
    }

    fn holds_positions(&self) -> bool {
        self.is_transactional
    }

    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let now = self.clock.now();
        let State { destinations, mode } = &mut *self.state.lock().await;
        match mode {
            Mode::Plain(plain) => plain.deliver(destinations, batch, now).await,
            Mode::Transactions(transactions) => {
                transactions.deliver(destinations, batch, now).await
            }
        }
    }

    async fn check(&self) -> Vec<Finding> {
        check::brokers(&self.state.lock().await.destinations).await
    }
}
