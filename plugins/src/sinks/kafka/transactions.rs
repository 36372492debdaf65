//! Deliveries as transactions: all of a batch's records and its position are committed, or none.
//!
//! A commit whose answer was lost is settled before anything else is sent: the next producer of the same transactional
//! id waits until the brokers have ended what the last one began, and then the topic of positions says how.

use std::sync::Arc;

use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::journal::Position;
use audit_exporter_core::plugin::{Batch, Delivered, Rejected};
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, Utc};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::errors;
use super::positions::{self, Mark, Owner};
use super::producer::{Outcome, Producer, QUESTION};
use super::properties::{Network, PATIENCE, Sending};
use super::record::{Destinations, Encoder};

/// One sink's transactions.
pub(super) struct Transactions {
    owner: Owner,
    /// The topic of positions.
    topic: String,
    producer: Option<Producer>,
    /// The delivery whose commit has not been answered.
    doubt: Option<Doubt>,
    /// The topic of positions is there.
    ensured: bool,
    /// Another process has taken over.
    fenced: bool,
    /// Deliveries so far, for their names.
    count: u64,
    /// What tells this process's deliveries from those of others.
    process: String,
}

struct Doubt {
    delivery: String,
    position: Option<Position>,
    events: Arc<Vec<AuditEvent>>,
    rejected: Vec<Rejected>,
}

impl Doubt {
    /// Whether `batch` is what was delivered.
    fn is_about(&self, batch: &Batch) -> bool {
        let same = |one: &AuditEvent, other: &AuditEvent| {
            one.raw() == other.raw() && one.origin() == other.origin()
        };
        self.position == batch.position
            && self.events.len() == batch.events.len()
            && self
                .events
                .iter()
                .zip(batch.events.iter())
                .all(|(a, b)| same(a, b))
    }
}

impl Transactions {
    pub(super) fn new(owner: Owner, topic: String) -> Self {
        Self {
            owner,
            topic,
            producer: None,
            doubt: None,
            ensured: false,
            fenced: false,
            count: 0,
            process: format!("{:016x}", rand::random::<u64>()),
        }
    }

    /// Takes over from whoever wrote before, and says what was committed.
    pub(super) async fn recover(&mut self, network: &Network) -> Result<Vec<Position>> {
        self.producer = None;
        self.producer = Some(self.open(network, false).await?);
        let marks = positions::read(network, &self.topic, &self.owner).await?;
        Ok(marks.into_iter().filter_map(|mark| mark.position).collect())
    }

    /// Delivers a batch in one transaction.
    pub(super) async fn deliver(
        &mut self,
        destinations: &mut Destinations,
        batch: &Batch,
        now: DateTime<Utc>,
    ) -> Result<Delivered> {
        if self.fenced {
            return Err(fenced(&self.owner));
        }
        let network = destinations.network().clone();
        let mut producer = match self.producer.take() {
            Some(producer) => producer,
            None => self.open(&network, false).await?,
        };
        if let Some(rejected) = self.settle(&network, batch).await? {
            self.producer = Some(producer);
            return Ok(Delivered {
                rejected,
                ..Delivered::default()
            });
        }
        let (mut rejected, mut alone): (Vec<Rejected>, bool) = (Vec::new(), false);
        loop {
            let tried = self
                .attempt(&producer, destinations, batch, &mut rejected, now)
                .await;
            match tried {
                Ok(outcome) if outcome.refused_there.is_empty() => break,
                Ok(outcome) => {
                    self.abort(&producer).await?;
                    if alone {
                        rejected.extend(rejections(outcome.refused_there));
                    }
                    alone = true;
                    drop(producer);
                    producer = self.open(&network, alone).await?;
                }
                Err(error) => {
                    self.abort(&producer).await?;
                    return Err(error);
                }
            }
        }
        // A producer that sends each record alone has done its work.
        self.producer = (!alone).then_some(producer);
        rejected.sort_by_key(|rejected| rejected.index);
        Ok(Delivered {
            rejected,
            ..Delivered::default()
        })
    }

    /// A producer that is alone in writing under our id; what its predecessor left open is aborted.
    async fn open(&mut self, network: &Network, alone: bool) -> Result<Producer> {
        if !self.ensured {
            positions::ensure(network, &self.topic).await?;
            self.ensured = true;
        }
        let id = self.owner.transactional_id();
        let sending = if alone {
            Sending::TransactionsAlone(id)
        } else {
            Sending::Transactions(id)
        };
        let producer = Producer::new(network, sending).await?;
        let begun = producer.blocking(|client| client.init_transactions(PATIENCE));
        match begun.await? {
            Ok(()) => Ok(producer),
            Err(error) => Err(producer
                .error(&error)
                .context("transactions cannot be begun")),
        }
    }

    /// If a commit was not answered: whether it happened, and was `batch`. What was refused in it then.
    async fn settle(&mut self, network: &Network, batch: &Batch) -> Result<Option<Vec<Rejected>>> {
        let Some(doubt) = &self.doubt else {
            return Ok(None);
        };
        let marks = positions::read(network, &self.topic, &self.owner).await?;
        let happened = marks.iter().any(|mark| mark.delivery == doubt.delivery);
        let doubt = self.doubt.take();
        Ok(doubt
            .filter(|doubt| happened && doubt.is_about(batch))
            .map(|doubt| doubt.rejected))
    }

    /// One transaction, without what is `rejected`. It is still open if the brokers refused something.
    async fn attempt(
        &mut self,
        producer: &Producer,
        destinations: &mut Destinations,
        batch: &Batch,
        rejected: &mut Vec<Rejected>,
        now: DateTime<Utc>,
    ) -> Result<Outcome> {
        let begun = producer.blocking(ThreadedProducer::begin_transaction);
        begun.await?.map_err(|error| producer.error(&error))?;
        let mut wanted = vec![true; batch.events.len()];
        for refused in rejected.iter() {
            wanted[refused.index] = false;
        }
        let indexes = (0..batch.events.len()).filter(|index| wanted[*index]);
        let mut encoder = Encoder::new(destinations, now);
        let mut outcome = producer.send(&mut encoder, &batch.events, indexes).await?;
        rejected.extend(rejections(std::mem::take(&mut outcome.refused_here)));
        if !outcome.refused_there.is_empty() {
            return Ok(outcome);
        }
        fail::fail_point!("sink::kafka::sent");
        // What was refused is not at the far side, so the far side must not be believed to have the whole batch.
        let position = batch.position.clone().filter(|_| rejected.is_empty());
        let delivery = self.mark(producer, position).await?;
        self.doubt = Some(Doubt {
            delivery,
            position: batch.position.clone(),
            events: Arc::clone(&batch.events),
            rejected: rejected.clone(),
        });
        fail::fail_point!("sink::kafka::marked");
        self.commit(producer).await?;
        fail::fail_point!("sink::kafka::committed");
        Ok(outcome)
    }

    /// Sends the position, as the transaction's last record.
    async fn mark(&mut self, producer: &Producer, position: Option<Position>) -> Result<String> {
        self.count += 1;
        let delivery = format!("{}-{}", self.process, self.count);
        let key = self.owner.key(position.as_ref());
        let mark = Mark {
            delivery: delivery.clone(),
            position,
        };
        let value = serde_json::to_vec(&mark)
            .map_err(|error| Error::bug("a position is no JSON").with_cause(error))?;
        let record = BaseRecord::with_opaque_to(&self.topic, usize::MAX)
            .key(key.as_str())
            .payload(value.as_slice());
        producer.send_one(record).await.map_err(|error| {
            error.context(format_args!("writing the position to topic {}", self.topic))
        })?;
        Ok(delivery)
    }

    async fn commit(&mut self, producer: &Producer) -> Result<()> {
        let committed = producer.blocking(|client| client.commit_transaction(PATIENCE));
        let error = match committed.await? {
            Ok(()) => {
                self.doubt = None;
                return Ok(());
            }
            Err(error) => error,
        };
        if matches!(&error, KafkaError::Transaction(error) if error.txn_requires_abort()) {
            self.doubt = None;
        }
        Err(producer
            .error(&error)
            .context("the transaction was not committed"))
    }

    /// Ends a transaction that has failed. An error if another process has taken over: to begin again would take over
    /// in turn.
    async fn abort(&mut self, producer: &Producer) -> Result<()> {
        // If the brokers do not answer, the next producer ends it.
        let aborted = producer.blocking(|client| client.abort_transaction(QUESTION));
        if let Err(error) = aborted.await? {
            tracing::debug!("a transaction was not aborted: {error}");
        }
        self.fenced = producer.fatal().is_some_and(|code| {
            matches!(
                code,
                RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced
            )
        });
        if self.fenced {
            return Err(fenced(&self.owner));
        }
        Ok(())
    }
}

/// What the brokers refused, for the dead letters.
pub(super) fn rejections(
    refused: Vec<(usize, RDKafkaErrorCode)>,
) -> impl Iterator<Item = Rejected> {
    refused.into_iter().map(|(index, code)| Rejected {
        index,
        reason: errors::reason(code),
    })
}

/// Stops this sink, not the others: two that take over from each other would never end.
fn fenced(owner: &Owner) -> Error {
    Error::bug(format!(
        "another process has taken over the transactional id {}: it runs this sink on a copy of this journal; \
         end one of the two, then start this one again",
        owner.transactional_id()
    ))
    .with_code("Fenced")
}
