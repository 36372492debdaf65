//! Brokers for a configuration that names some: librdkafka's own cluster, and what a consumer finds there.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message};

/// How long the cluster may take to answer on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Brokers(MockCluster<'static, DefaultProducerContext>);

impl Brokers {
    /// A cluster with these topics; others are made when they are first written.
    pub(crate) fn new(topics: &[&str]) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        for topic in topics {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        Self(cluster)
    }

    pub(crate) fn address(&self) -> String {
        self.0.bootstrap_servers()
    }

    /// The values of all records of a topic.
    pub(crate) fn values(&self, topic: &str) -> Vec<String> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.address())
            .set("group.id", "test")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let mut all = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            all.add_partition_offset(topic, partition.id(), Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&all).unwrap();
        let (mut values, mut ended) = (Vec::new(), 0);
        while ended < all.count() {
            match consumer.poll(PATIENCE).unwrap() {
                Ok(record) => {
                    values.push(String::from_utf8(record.payload().unwrap().to_vec()).unwrap());
                }
                Err(KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        values
    }
}
