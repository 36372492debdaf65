//! One librdkafka producer. It serves until something fails, and is replaced then: whatever it still holds is thrown
//! away first, so that the engine's next try finds an empty queue.

use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::{Error, Result};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer};
use tokio::task::{spawn_blocking, yield_now};

use super::errors::{self, Verdict};
use super::properties::{Network, Sending, not_made};
use super::record::Encoder;
use super::reports::{Reports, Trouble};

/// Records that are handed over before other tasks get their turn.
const AT_A_TIME: usize = 256;

/// A producer and the reports of what it sends.
pub(super) struct Producer {
    /// None when it is being dropped.
    client: Option<Arc<ThreadedProducer<Reports>>>,
    reports: Reports,
    in_transactions: bool,
}

/// The records of a delivery that were not taken, by their index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Refused before they were sent: that is certain.
    pub(super) refused_here: Vec<(usize, RDKafkaErrorCode)>,
    /// Refused by the brokers, perhaps for others in the same batch.
    pub(super) refused_there: Vec<(usize, RDKafkaErrorCode)>,
}

impl Producer {
    /// A producer for `sending`.
    pub(super) async fn new(network: &Network, sending: Sending<'_>) -> Result<Self> {
        let in_transactions = sending.transactional_id().is_some();
        Self::with(network, network.producer(sending)?, in_transactions).await
    }

    /// One that sends nothing.
    pub(super) async fn asking(network: &Network) -> Result<Self> {
        Self::with(network, network.asking()?, false).await
    }

    async fn with(network: &Network, config: ClientConfig, in_transactions: bool) -> Result<Self> {
        let reports = network.reports();
        let context = reports.clone();
        // It reads certificates.
        let made = spawn_blocking(move || config.create_with_context(context)).await;
        let client: ThreadedProducer<Reports> = made.map_err(broken_off)?.map_err(not_made)?;
        Ok(Self {
            client: Some(Arc::new(client)),
            reports,
            in_transactions,
        })
    }

    /// Sends the events of `indexes` and waits for their reports. After an error the producer is of no more use.
    pub(super) async fn send(
        &self,
        encoder: &mut Encoder<'_>,
        events: &[AuditEvent],
        indexes: impl Iterator<Item = usize>,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for (count, index) in indexes.enumerate() {
            if count % AT_A_TIME == AT_A_TIME - 1 {
                yield_now().await;
            }
            let record = encoder.record(index, &events[index])?;
            match self.hand_over(record).await {
                Ok(Ok(())) => {}
                Ok(Err(code)) => outcome.refused_here.push((index, code)),
                // The transaction takes no more since a record has failed: the reports say why.
                Err(_) if self.in_transactions && self.reports.some_failed() => break,
                Err(error) => return Err(error),
            }
        }
        // A transaction ends with its first failure: what waits behind it is not sent any more.
        let failed = if self.in_transactions {
            self.reports.all_or_failed().await
        } else {
            self.reports.all().await
        };
        if let Some(trouble) = self.reports.trouble().filter(Trouble::stays)
            && !self.reports.complete()
        {
            return Err(errors::refused(&trouble));
        }
        let mut failure = None;
        for (index, code) in failed {
            match errors::verdict(code) {
                Verdict::Refused => outcome.refused_there.push((index, code)),
                Verdict::Failed => failure = failure.or(Some(code)),
            }
        }
        // In a transaction whatever else failed has failed for the refusal's sake.
        let follows = self.in_transactions && !outcome.refused_there.is_empty();
        if let Some(code) = failure.filter(|_| !follows) {
            return Err(self.failed(code));
        }
        self.reports.works();
        Ok(outcome)
    }

    /// Sends one record that is not an event, and waits for its report.
    pub(super) async fn send_one(&self, record: BaseRecord<'_, str, [u8], usize>) -> Result<()> {
        let refused = self.hand_over(record).await?.err();
        let failed = self.reports.all().await;
        match refused.or_else(|| failed.first().map(|(_, code)| *code)) {
            None if self.reports.complete() => Ok(()),
            code => Err(self.failed(code.unwrap_or(RDKafkaErrorCode::Authentication))),
        }
    }

    /// Puts a record into librdkafka's queue, when there is room. Inside: why it never will be taken.
    async fn hand_over(
        &self,
        mut record: BaseRecord<'_, str, [u8], usize>,
    ) -> Result<Result<(), RDKafkaErrorCode>> {
        loop {
            self.reports.sent();
            let Err((error, back)) = self.client()?.send(record) else {
                return Ok(Ok(()));
            };
            self.reports.not_sent();
            let code = code_of(&error);
            if code != RDKafkaErrorCode::QueueFull {
                return match errors::verdict(code) {
                    Verdict::Refused => Ok(Err(code)),
                    Verdict::Failed => Err(self.failed(code)),
                };
            }
            record = back;
            self.reports.some().await;
            if let Some(trouble) = self.reports.trouble().filter(Trouble::stays) {
                return Err(errors::refused(&trouble));
            }
        }
    }

    /// Runs `work`, which blocks, with the client.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ThreadedProducer<Reports>) -> T + Send + 'static,
    ) -> Result<T> {
        let client = Arc::clone(self.client()?);
        spawn_blocking(move || work(&client))
            .await
            .map_err(broken_off)
    }

    /// The error of an operation that is not about a record.
    pub(super) fn error(&self, error: &KafkaError) -> Error {
        self.failed(code_of(error))
    }

    /// The code that ended this producer for good, if one did.
    pub(super) fn fatal(&self) -> Option<RDKafkaErrorCode> {
        let client = self.client.as_ref()?;
        client.client().fatal_error().map(|(code, _)| code)
    }

    fn failed(&self, code: RDKafkaErrorCode) -> Error {
        errors::failed(code, self.reports.trouble().as_ref())
    }

    fn client(&self) -> Result<&Arc<ThreadedProducer<Reports>>> {
        self.client
            .as_ref()
            .ok_or_else(|| Error::bug("a producer was used after its end"))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else {
            return;
        };
        client.purge(PurgeConfig::default().queue().inflight());
        // To destroy it takes as long as its threads do, which may wait for a name server. If no thread can be had, the
        // closure is dropped here, and the client with it.
        drop(
            std::thread::Builder::new()
                .name("kafka-end".to_owned())
                .spawn(move || drop(client)),
        );
    }
}

/// librdkafka's code in any of the crate's errors.
pub(super) fn code_of(error: &KafkaError) -> RDKafkaErrorCode {
    match error {
        KafkaError::Transaction(error) => error.code(),
        other => other.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail),
    }
}

/// Asks a client something that blocks; for everything but producers.
pub(super) async fn ask<T: Send + 'static>(
    work: impl FnOnce() -> KafkaResult<T> + Send + 'static,
) -> Result<KafkaResult<T>> {
    spawn_blocking(work).await.map_err(broken_off)
}

/// How long the brokers may take to answer a question.
pub(super) const QUESTION: Duration = Duration::from_secs(15);

fn broken_off(error: tokio::task::JoinError) -> Error {
    if error.is_panic() {
        Error::bug("work with librdkafka broke off").with_cause(error)
    } else {
        Error::unavailable("the program is stopping")
    }
}
