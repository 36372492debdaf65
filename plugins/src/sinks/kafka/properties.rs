//! From options to what librdkafka is configured with.

use std::collections::BTreeMap;
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Options;
use audit_exporter_core::{Error, Result, http, printable};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use tokio::runtime::Handle;

use super::config::Connection;
use super::oauth::Tokens;
use super::reports::Reports;
use super::security::{self, Sasl};

/// How long librdkafka itself tries to deliver a record, a broker's restart included. What it sends again it sends
/// under the same sequence number, so brokers drop the copy; what the engine sends again later they cannot tell.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// When the brokers take a transaction for abandoned. More than all the waits of one together: the records', the
/// position's, and the commit's. Brokers allow 15 minutes, unless they are told otherwise.
pub(super) const TRANSACTION: Duration = Duration::from_mins(5);
/// Records that librdkafka holds, in all: more than a delivery of the default size.
const QUEUE_BYTES: u64 = 16 << 20;

/// Properties that the options say, or that the promises of this sink rest on.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "`brokers` says it"),
    ("metadata.broker.list", "`brokers` says it"),
    ("security.protocol", "`tls` and `sasl` say it"),
    ("ssl.ca.location", "`tls.ca` says it"),
    ("ssl.certificate.location", "`tls.certificate` says it"),
    ("ssl.key.location", "`tls.key` says it"),
    ("ssl.key.pem", "`tls.key` says it"),
    ("ssl.key.password", "`tls.key_password` says it"),
    ("sasl.mechanism", "`sasl.mechanism` says it"),
    ("sasl.mechanisms", "`sasl.mechanism` says it"),
    ("sasl.username", "`sasl.username` says it"),
    ("sasl.password", "`sasl.password` says it"),
    ("sasl.oauthbearer.method", "`sasl.mechanism` says it"),
    ("compression.type", "`compression` says it"),
    ("compression.codec", "`compression` says it"),
    ("message.max.bytes", "`max_message_size` says it"),
    ("transactional.id", "`transactional` says it"),
    ("acks", "without all acknowledgements events could be lost"),
    (
        "request.required.acks",
        "without all acknowledgements events could be lost",
    ),
    (
        "enable.idempotence",
        "without it a broken connection would repeat events",
    ),
    ("enable.gapless.guarantee", "gaps are closed by this sink"),
    ("max.in.flight", "idempotence sets it"),
    (
        "max.in.flight.requests.per.connection",
        "idempotence sets it",
    ),
    ("retries", "idempotence sets it"),
    ("message.send.max.retries", "idempotence sets it"),
    ("queuing.strategy", "idempotence sets it"),
    ("message.timeout.ms", "the engine tries again by itself"),
    ("delivery.timeout.ms", "the engine tries again by itself"),
    ("transaction.timeout.ms", "it follows from the delivery's"),
    ("queue.buffering.max.kbytes", "memory is bounded by it"),
    ("queue.buffering.max.messages", "memory is bounded by it"),
    ("delivery.report.only.error", "every event's report counts"),
    ("isolation.level", "positions are read by it"),
    ("enable.partition.eof", "positions are read by it"),
    (
        "allow.auto.create.topics",
        "`check` and positions rest on it",
    ),
];

/// Checks the properties that are passed through.
pub(super) fn read(
    options: &Options,
    properties: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    for (name, value) in &properties {
        if let Some((_, why)) = OURS.iter().find(|(ours, _)| ours == name) {
            let problem = format!("{name} cannot be set here: {why}");
            return Err(options.problem("properties", &problem));
        }
        let mut alone = ClientConfig::new();
        alone.set(name, value);
        if let Err(error) = alone.create_native_config() {
            return Err(options.problem("properties", &refused(&error)));
        }
    }
    Ok(properties)
}

fn refused(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, name, _) => {
            format!("librdkafka refuses {name}: {}", printable(description))
        }
        other => other.to_string(),
    }
}

/// What a producer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending<'a> {
    /// As many records in a request as go into it.
    Together,
    /// Each record in a batch of its own, so that its verdict is its own.
    Alone,
    /// Together, in transactions under this id.
    Transactions(&'a str),
    /// Alone, in transactions under this id.
    TransactionsAlone(&'a str),
}

impl<'a> Sending<'a> {
    pub(super) fn is_alone(self) -> bool {
        matches!(self, Self::Alone | Self::TransactionsAlone(_))
    }

    pub(super) fn transactional_id(self) -> Option<&'a str> {
        match self {
            Self::Together | Self::Alone => None,
            Self::Transactions(id) | Self::TransactionsAlone(id) => Some(id),
        }
    }
}

/// What clients are made of.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) connection: Connection,
    pub(super) http: http::Client,
    pub(super) clock: Clock,
}

impl Network {
    /// A client's context. To be called on the runtime, which later gets the client's tokens.
    pub(super) fn reports(&self) -> Reports {
        let Some(Sasl::Token(provider)) = &self.connection.sasl else {
            return Reports::default();
        };
        Reports::with_tokens(Tokens {
            provider: provider.clone(),
            http: self.http.clone(),
            clock: self.clock.clone(),
            runtime: Handle::current(),
        })
    }

    /// What every client has in common.
    fn client(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config
            // What can be replaced by a property comes first.
            .set("client.id", "audit-exporter")
            .set("socket.keepalive.enable", "true")
            // As Java clients do: one key, one partition, whoever writes.
            .set("partitioner", "murmur2_random");
        for (name, value) in &self.connection.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.connection.brokers);
        security::apply(
            self.connection.tls.as_ref(),
            self.connection.sasl.as_ref(),
            &mut config,
        )?;
        config.set_log_level(RDKafkaLogLevel::Notice);
        Ok(config)
    }

    /// A producer's configuration.
    pub(super) fn producer(&self, sending: Sending<'_>) -> Result<ClientConfig> {
        let queue = QUEUE_BYTES.max(2 * self.connection.max_message_bytes);
        let mut config = self.client()?;
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("compression.type", self.connection.compression)
            .set(
                "message.max.bytes",
                self.connection.max_message_bytes.to_string(),
            )
            .set(
                "queue.buffering.max.kbytes",
                queue.div_ceil(1024).to_string(),
            );
        if sending.is_alone() {
            config.set("batch.num.messages", "1");
        }
        if let Some(id) = sending.transactional_id() {
            config.set("transactional.id", id).set(
                "transaction.timeout.ms",
                TRANSACTION.as_millis().to_string(),
            );
        }
        Ok(config)
    }

    /// The configuration of a client that only asks, and makes no topic by asking.
    pub(super) fn asking(&self) -> Result<ClientConfig> {
        let mut config = self.client()?;
        config.set("allow.auto.create.topics", "false");
        Ok(config)
    }

    /// The configuration of a consumer that reads what was committed, to the end.
    pub(super) fn reader(&self, isolation: &str) -> Result<ClientConfig> {
        let mut config = self.client()?;
        config
            // Partitions are assigned by hand; there is no group to speak of.
            .set("group.id", "audit-exporter")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation);
        Ok(config)
    }
}

/// Why a client cannot be made: a certificate, a combination of properties.
pub(super) fn not_made(error: KafkaError) -> Error {
    match error {
        KafkaError::ClientCreation(why) => Error::config(format!(
            "librdkafka refuses the options: {}",
            printable(&why)
        )),
        other => Error::config(format!(
            "librdkafka refuses the options: {}",
            refused(&other)
        )),
    }
}
