//! The promises of every sink, kept by this one.

use async_trait::async_trait;
use audit_exporter_core::contract::{self, Subject};
use bytes::Bytes;

use super::*;

/// A sink with these options, and its topic.
struct Topic {
    bench: Bench,
    options: &'static str,
}

#[async_trait(?Send)]
impl Subject for Topic {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(self.bench.sink(self.options))
    }

    async fn contents(&self) -> Result<Vec<Bytes>> {
        Ok(self.bench.raw("events"))
    }

    fn journal(&self) -> Arc<str> {
        Arc::clone(self.bench.store.journal())
    }

    fn exactly_once(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kafka_sink_keeps_the_promises_of_every_sink() {
    let topic = Topic {
        bench: Bench::new(&["events"]),
        options: "topic = \"events\"",
    };
    contract::check(&topic).await.unwrap();
}

/// librdkafka's cluster shows what was aborted too: that a record is there once is tested against the real brokers
/// (tests/live/kafka).
#[tokio::test(flavor = "multi_thread")]
async fn the_kafka_sink_with_transactions_keeps_the_promises_of_every_sink() {
    let topic = Topic {
        bench: Bench::new(&["events"]),
        options: "topic = \"events\"\ntransactional = true",
    };
    contract::check(&topic).await.unwrap();
}
