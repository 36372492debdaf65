//! The promises of every sink, kept by this one.

use async_trait::async_trait;
use audit_exporter_core::Result;
use audit_exporter_core::contract::{self, Subject};
use bytes::Bytes;

use super::*;

struct Splunk(Simulator);

#[async_trait(?Send)]
impl Subject for Splunk {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(sink(&self.0, ""))
    }

    async fn contents(&self) -> Result<Vec<Bytes>> {
        let events = self.0.hec_events().into_iter();
        Ok(events
            .map(|event| Bytes::from(event.event.get().to_owned()))
            .collect())
    }

    fn exactly_once(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn the_splunk_sink_keeps_the_promises_of_every_sink() {
    let subject = Splunk(splunk(HecConfig::default()).await);
    contract::check(&subject).await.unwrap();
}
