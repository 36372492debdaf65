//! Deliveries as transactions: all of a batch's records and its position are committed, or none.
//!
//! A commit whose answer was lost is settled before anything else is sent: the next producer of the same transactional
//! id waits until the brokers have ended what the last one began, and then the topic of positions says how.
//!
//! Brokers shut out a process alike if another one has taken over and if its transaction has become too old, as when the
//! machine was suspended. Only in the second case the sink goes on, and only if nobody else has left a mark meanwhile.

use std::collections::HashSet;

use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::journal::Position;
use audit_exporter_core::plugin::{Batch, Delivered, Rejected};
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, Utc};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

use super::errors;
use super::positions::{self, Mark, Owner};
use super::producer::{Producer, QUESTION};
use super::properties::{Network, PATIENCE, Sending, TRANSACTION};
use super::record::{Destinations, Encoder};

/// One sink's transactions.
pub(super) struct Transactions {
    owner: Owner,
    /// The topic of positions.
    topic: String,
    producer: Option<Producer>,
    under_way: UnderWay,
    /// The delivery of what is under way whose commit has not been answered.
    doubt: Option<String>,
    /// The topic of positions is there.
    ensured: bool,
    /// Another process has taken over.
    fenced: bool,
    /// When the last transaction was begun.
    begun: DateTime<Utc>,
    /// The brokers have ended it for its age.
    outlived: bool,
    /// The deliveries of earlier processes, as they were found at the start.
    earlier: HashSet<String>,
    /// Deliveries so far, for their names.
    count: u64,
    /// What tells this process's deliveries from those of others.
    process: String,
}

/// A batch that is not through. It outlives a call that fails or is dropped: what was found out about a batch in many
/// transactions need not be found out again.
#[derive(Default)]
struct UnderWay {
    batch: Option<Batch>,
    rejected: Vec<Rejected>,
    /// The brokers have refused something, so each record is sent alone.
    alone: bool,
}

impl UnderWay {
    fn is(&self, batch: &Batch) -> bool {
        let same = |(one, other): (&AuditEvent, &AuditEvent)| {
            one.raw() == other.raw() && one.origin() == other.origin()
        };
        self.batch.as_ref().is_some_and(|known| {
            known.position == batch.position
                && known.events.len() == batch.events.len()
                && known.events.iter().zip(batch.events.iter()).all(same)
        })
    }
}

impl Transactions {
    pub(super) fn new(owner: Owner, topic: String) -> Self {
        Self {
            owner,
            topic,
            producer: None,
            under_way: UnderWay::default(),
            doubt: None,
            ensured: false,
            fenced: false,
            begun: DateTime::UNIX_EPOCH,
            outlived: false,
            earlier: HashSet::new(),
            count: 0,
            process: format!("{:016x}", rand::random::<u64>()),
        }
    }

    /// Takes over from whoever wrote before, and says what was committed.
    pub(super) async fn recover(&mut self, network: &Network) -> Result<Vec<Position>> {
        self.producer = None;
        self.producer = Some(self.open(network, false).await?);
        let marks = positions::read(network, &self.topic, &self.owner).await?;
        self.earlier = marks.iter().map(|mark| mark.delivery.clone()).collect();
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
        let goes_on = self.under_way.is(batch);
        let alone = goes_on && self.under_way.alone;
        let mut producer = match self.producer.take() {
            Some(producer) => producer,
            None => self.open_again(&network, alone).await?,
        };
        if self.settle(&network).await? && goes_on {
            return Ok(self.delivered(producer));
        }
        if !goes_on {
            self.under_way = UnderWay {
                batch: Some(batch.clone()),
                ..UnderWay::default()
            };
        }
        loop {
            let refused = match self.attempt(&producer, destinations, batch, now).await {
                Ok(refused) if refused.is_empty() => return Ok(self.delivered(producer)),
                Ok(refused) => refused,
                Err(error) => {
                    self.abort(&network, &producer).await?;
                    return Err(error);
                }
            };
            if self.under_way.alone {
                self.under_way.rejected.extend(rejections(refused));
            }
            self.under_way.alone = true;
            self.abort(&network, &producer).await?;
            drop(producer);
            producer = self.open(&network, true).await?;
        }
    }

    /// What is under way is through.
    fn delivered(&mut self, producer: Producer) -> Delivered {
        let UnderWay {
            mut rejected,
            alone,
            ..
        } = std::mem::take(&mut self.under_way);
        // A producer that sends each record alone has done its work.
        self.producer = (!alone).then_some(producer);
        rejected.sort_by_key(|rejected| rejected.index);
        Delivered {
            rejected,
            ..Delivered::default()
        }
    }

    /// A producer in place of one that is gone.
    async fn open_again(&mut self, network: &Network, alone: bool) -> Result<Producer> {
        if self.outlived {
            // Before it takes over: who has taken over from us meanwhile must not be shut out in turn.
            self.marks(network).await?;
        }
        self.open(network, alone).await
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

    /// Whether a commit has happened that was not answered.
    async fn settle(&mut self, network: &Network) -> Result<bool> {
        if self.doubt.is_none() && !self.outlived {
            return Ok(false);
        }
        let marks = self.marks(network).await?;
        self.outlived = false;
        let doubt = self.doubt.take();
        Ok(doubt.is_some_and(|doubt| marks.iter().any(|mark| mark.delivery == doubt)))
    }

    /// What was committed. An error if another process has committed something since the start.
    async fn marks(&mut self, network: &Network) -> Result<Vec<Mark>> {
        let marks = positions::read(network, &self.topic, &self.owner).await?;
        let is_known = |mark: &Mark| {
            mark.delivery.starts_with(&self.process) || self.earlier.contains(&mark.delivery)
        };
        self.fenced = !marks.iter().all(is_known);
        if self.fenced {
            return Err(fenced(&self.owner));
        }
        Ok(marks)
    }

    /// One transaction, without what is rejected. It is still open if the brokers refused something: that is given.
    async fn attempt(
        &mut self,
        producer: &Producer,
        destinations: &mut Destinations,
        batch: &Batch,
        now: DateTime<Utc>,
    ) -> Result<Vec<(usize, RDKafkaErrorCode)>> {
        self.begun = destinations.network().clock.now();
        let begun = producer.blocking(ThreadedProducer::begin_transaction);
        begun.await?.map_err(|error| producer.error(&error))?;
        let mut wanted = vec![true; batch.events.len()];
        for refused in &self.under_way.rejected {
            wanted[refused.index] = false;
        }
        let indexes = (0..batch.events.len()).filter(|index| wanted[*index]);
        let mut encoder = Encoder::new(destinations, now);
        let outcome = producer.send(&mut encoder, &batch.events, indexes).await?;
        let rejected = &mut self.under_way.rejected;
        rejected.extend(rejections(outcome.refused_here));
        if !outcome.refused_there.is_empty() {
            return Ok(outcome.refused_there);
        }
        fail::fail_point!("sink::kafka::sent");
        // What was refused is not at the far side, so the far side must not be believed to have the whole batch.
        let position = batch.position.clone().filter(|_| rejected.is_empty());
        self.doubt = Some(self.mark(producer, position).await?);
        fail::fail_point!("sink::kafka::marked");
        self.commit(producer).await?;
        fail::fail_point!("sink::kafka::committed");
        Ok(Vec::new())
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

    /// Ends a transaction that has failed. An error if the brokers have shut us out: if that was another process, to
    /// begin again would take over in turn.
    async fn abort(&mut self, network: &Network, producer: &Producer) -> Result<()> {
        // If the brokers do not answer, the next producer ends it.
        let aborted = producer.blocking(|client| client.abort_transaction(QUESTION));
        if let Err(error) = aborted.await? {
            tracing::debug!("a transaction was not aborted: {error}");
        }
        let is_shut_out = producer.fatal().is_some_and(|code| {
            matches!(
                code,
                RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced
            )
        });
        if !is_shut_out {
            return Ok(());
        }
        // By the clock on the wall: while a machine is suspended, no other goes on.
        let age = (network.clock.now() - self.begun).to_std();
        self.outlived = age.is_ok_and(|age| age >= TRANSACTION);
        if self.outlived {
            return Err(outlived());
        }
        self.fenced = true;
        Err(fenced(&self.owner))
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

fn outlived() -> Error {
    Error::unavailable(format!(
        "the transaction was open for more than {} s, so the brokers have ended it; it is begun again",
        TRANSACTION.as_secs()
    ))
    .with_code("Fenced")
}
