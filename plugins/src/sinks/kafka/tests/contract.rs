//! The promises of every sink, kept by this one.

use async_trait::async_trait;
use audit_exporter_core::contract::{self, Subject};
use bytes::Bytes;

use super::*;

#[async_trait(?Send)]
impl Subject for Bench {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(self.sink("topic = \"events\""))
    }

    async fn contents(&self) -> Result<Vec<Bytes>> {
        Ok(self.raw("events"))
    }

    fn journal(&self) -> Arc<str> {
        Arc::clone(self.store.journal())
    }

    fn exactly_once(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kafka_sink_keeps_the_promises_of_every_sink() {
    contract::check(&Bench::new(&["events"])).await.unwrap();
}
