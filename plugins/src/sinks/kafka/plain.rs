//! Deliveries without transactions.

use audit_exporter_core::Result;
use audit_exporter_core::plugin::{Batch, Delivered, Rejected};
use chrono::{DateTime, Utc};

use super::producer::Producer;
use super::properties::Sending;
use super::record::{Destinations, Encoder};
use super::transactions::rejections;

/// An idempotent producer, while it serves.
#[derive(Default)]
pub(super) struct Plain {
    producer: Option<Producer>,
}

impl Plain {
    /// Delivers a batch. What the brokers refuse among others is sent again alone, and what they refuse then is
    /// rejected.
    pub(super) async fn deliver(
        &mut self,
        destinations: &mut Destinations,
        batch: &Batch,
        now: DateTime<Utc>,
    ) -> Result<Delivered> {
        let network = destinations.network().clone();
        let producer = match self.producer.take() {
            Some(producer) => producer,
            None => Producer::new(&network, Sending::Together).await?,
        };
        let mut encoder = Encoder::new(destinations, now);
        let all = 0..batch.events.len();
        let together = producer.send(&mut encoder, &batch.events, all).await?;
        let mut rejected: Vec<Rejected> = rejections(together.refused_here).collect();
        if !together.refused_there.is_empty() {
            let alone = Producer::new(&network, Sending::Alone).await?;
            let again = together.refused_there.iter().map(|(index, _)| *index);
            let outcome = alone.send(&mut encoder, &batch.events, again).await?;
            rejected.extend(rejections(outcome.refused_here));
            rejected.extend(rejections(outcome.refused_there));
        }
        // It serves again only now: dropped in mid-call, or after an error, it would hold what comes again.
        self.producer = Some(producer);
        rejected.sort_by_key(|rejected| rejected.index);
        Ok(Delivered {
            receipt: None,
            rejected,
        })
    }
}
