//! The promises of every sink, kept by this one. Its far side is its store: mails come later.

use async_trait::async_trait;
use audit_exporter_core::contract::{self, Subject};
use audit_exporter_core::journal::Changes;
use xxhash_rust::xxh3::xxh3_64;

use super::*;

#[async_trait(?Send)]
impl Subject for Bench {
    async fn open(&self) -> Result<Box<dyn Sink>> {
        Ok(self.sink("2026-03-01T12:00:00Z"))
    }

    async fn contents(&self) -> Result<Vec<Bytes>> {
        let rows = self.store.scan("row/", None, 10_000).await?.into_iter();
        let hash = |(key, _): (String, String)| key.rsplit('-').next().map(str::to_owned);
        Ok(rows.filter_map(hash).map(Bytes::from).collect())
    }

    /// A row, which its record's hash names.
    fn held(&self, record: &Bytes) -> Bytes {
        format!("{:016x}", xxh3_64(record)).into()
    }

    async fn commit(&self, changes: Changes) -> Result<()> {
        self.store.apply(changes).await
    }

    fn exactly_once(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_digest_keeps_the_promises_of_every_sink() {
    contract::check(&Bench::flows().await).await.unwrap();
}
