//! What an operator asks of one sink: it passes the request on to the plugin, between two deliveries, and the answer back.

use tokio::sync::oneshot;

use super::letters::{Desk, Job, Replayer};
use super::sink::Worker;
use crate::error::Result;
use crate::journal::Changes;

impl Replayer {
    /// Passes a request on to `sink`, once.
    pub(crate) async fn ask(&self, sink: &str, request: String) -> Result<String> {
        let (answer, answered) = oneshot::channel();
        self.send(sink, Job::Ask { request, answer }).await?;
        answered.await.map_err(|_| super::letters::stopped(sink))?
    }
}

impl Worker {
    /// Takes what is in the sink's line.
    pub(super) async fn take(&self, job: Job) {
        match job {
            Job::Letters { letters, answer } if !answer.is_closed() => {
                let fates = self.redeliver(letters).await;
                // Who asked may have gone; what was done is in the journal.
                drop(answer.send(fates));
            }
            Job::Ask { request, answer } if !answer.is_closed() => {
                drop(answer.send(self.answer(&request).await));
            }
            Job::Letters { .. } | Job::Ask { .. } => {}
        }
    }

    async fn answer(&self, request: &str) -> Result<String> {
        let answer = self.in_time(self.sink.command(request)).await?;
        self.keep(&answer.changes).await?;
        Ok(answer.text)
    }

    /// Changes the sink's store, however long it takes: what the changes tell of has happened.
    pub(super) async fn keep(&self, changes: &Changes) -> Result<()> {
        let store = self.journal.store(&format!("sink/{}", self.name));
        self.persist("keeping what was done", || store.apply(changes.clone()))
            .await
    }
}

impl Desk {
    /// Passes a request on to `sink`, once.
    pub async fn ask(&self, sink: &str, request: String) -> Result<String> {
        self.replayer.ask(sink, request).await
    }
}
