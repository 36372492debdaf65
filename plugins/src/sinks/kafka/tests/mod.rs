//! The sink against librdkafka's own cluster, in this process.

mod contract;
mod delivery;
mod oauth;
mod options;
mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::Result;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::journal::{Position, Store};
use audit_exporter_core::plugin::{Batch, Context, Delivered, Sink};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::metadata::MetadataPartition;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message};

use super::build;
use crate::testing::{context, event, tenant};

const PARTITIONS: i32 = 3;
const POSITIONS: &str = "audit-exporter-positions";

/// A cluster, and what a sink on it is built from.
pub(super) struct Bench {
    pub(super) cluster: MockCluster<'static, DefaultProducerContext>,
    pub(super) store: Store,
}

/// A record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) partition: i32,
    pub(super) key: Option<String>,
    pub(super) value: String,
    pub(super) headers: BTreeMap<String, String>,
}

impl Bench {
    /// A cluster of one broker with these topics, and that of positions.
    pub(super) fn new(topics: &[&str]) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        for topic in topics {
            cluster.create_topic(topic, PARTITIONS, 1).unwrap();
        }
        cluster.create_topic(POSITIONS, 1, 1).unwrap();
        Self {
            cluster,
            store: Store::in_memory(),
        }
    }

    pub(super) fn context(&self, options: &str) -> Context {
        let brokers = self.cluster.bootstrap_servers();
        let options = format!("brokers = [\"{brokers}\"]\n{options}");
        Context {
            store: self.store.clone(),
            tenants: Arc::new([tenant("contoso"), tenant("fabrikam")]),
            ..context("sinks.kafka", &options)
        }
    }

    pub(super) fn sink(&self, options: &str) -> Box<dyn Sink> {
        build(self.context(options)).unwrap()
    }

    /// All records of a topic, in the order of each partition.
    pub(super) fn read(&self, topic: &str) -> Vec<Found> {
        let mut found = self.consume(topic, |message| Found::of(message));
        found.sort_by_key(|record| record.partition);
        found
    }

    /// The values of all records of a topic, whatever bytes they are.
    pub(super) fn raw(&self, topic: &str) -> Vec<bytes::Bytes> {
        self.consume(topic, |message| {
            bytes::Bytes::copy_from_slice(message.payload().unwrap())
        })
    }

    fn consume<T>(&self, topic: &str, of: impl Fn(&BorrowedMessage<'_>) -> T) -> Vec<T> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "test")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let ids = consumer
            .fetch_metadata(Some(topic), Duration::from_secs(30))
            .unwrap();
        let ids: Vec<i32> = ids.topics()[0]
            .partitions()
            .iter()
            .map(MetadataPartition::id)
            .collect();
        let mut all = TopicPartitionList::new();
        for id in &ids {
            all.add_partition_offset(topic, *id, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&all).unwrap();
        let (mut found, mut ended) = (Vec::new(), 0);
        while ended < ids.len() {
            match consumer.poll(Duration::from_secs(30)).expect("no answer") {
                Ok(message) => found.push(of(&message)),
                Err(KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        found
    }

    /// All values of a topic, sorted.
    pub(super) fn values(&self, topic: &str) -> Vec<String> {
        let mut values: Vec<String> = self.read(topic).into_iter().map(|r| r.value).collect();
        values.sort();
        values
    }
}

impl Found {
    fn of(message: &impl Message) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = message.headers().map(|headers| {
            let pair = |h: rdkafka::message::Header<'_, &[u8]>| {
                (h.key.to_owned(), text(h.value.unwrap_or_default()))
            };
            headers.iter().map(pair).collect()
        });
        Self {
            partition: message.partition(),
            key: message.key().map(text),
            value: text(message.payload().unwrap()),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// `count` different events of one tenant.
pub(super) fn events(from: usize, count: usize) -> Vec<AuditEvent> {
    let record = |n: usize| format!(r#"{{"Id":"id-{n:05}","Operation":"CreateFlow"}}"#);
    (from..from + count).map(|n| event(&record(n))).collect()
}

pub(super) fn values_of(events: &[AuditEvent]) -> Vec<String> {
    let text = |event: &AuditEvent| String::from_utf8(event.raw().to_vec()).unwrap();
    let mut values: Vec<String> = events.iter().map(text).collect();
    values.sort();
    values
}

/// Events at a place of the journal that `store` stands for.
pub(super) fn batch_at(store: &Store, lane: i64, last: u64, events: Vec<AuditEvent>) -> Batch {
    Batch {
        position: Some(Position {
            journal: Arc::clone(store.journal()),
            lane,
            first: last,
            last,
        }),
        events: events.into(),
    }
}

pub(super) async fn deliver(sink: &dyn Sink, events: &[AuditEvent]) -> Result<Delivered> {
    sink.deliver(&crate::testing::batch(events.iter().cloned()))
        .await
}
