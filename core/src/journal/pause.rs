//! Sinks that an operator has paused: they keep their place, and get nothing until they are resumed.

use rusqlite::{OptionalExtension, params};

use super::writer::Tx;
use super::{Journal, sql};
use crate::error::Result;

impl Journal {
    /// Pauses or resumes a sink; what it is stays over a restart. Returns whether it was known.
    pub async fn pause_sink(&self, sink: &str, paused: bool) -> Result<bool> {
        let sink = sink.to_owned();
        self.writer
            .run(move |tx| {
                let since = paused.then_some(tx.now_ms / 1000);
                let known = sql(tx.conn.execute(
                    "UPDATE sinks SET paused_since = CASE WHEN ?1 IS NULL THEN NULL ELSE coalesce(paused_since, ?1) END \
                     WHERE sink = ?2",
                    params![since, sink],
                ))?;
                tx.after_commit(move |state| {
                    if let Some(known) = state.sinks.get_mut(sink.as_str()) {
                        known.paused = paused;
                    }
                });
                Ok(known > 0)
            })
            .await
    }

    /// Whether a sink is paused.
    #[must_use]
    pub fn is_paused(&self, sink: &str) -> bool {
        self.shared
            .look(|state| state.sinks.get(sink).is_some_and(|sink| sink.paused))
    }

    /// Returns when a sink is not paused, at once if it is not.
    pub async fn resumed(&self, sink: &str) {
        let mut changes = self.changes();
        while self.is_paused(sink) && changes.changed().await.is_ok() {}
    }
}

pub(super) fn is_stored(tx: &Tx<'_>, sink: &str) -> Result<bool> {
    let since: Option<Option<i64>> = sql(tx
        .conn
        .query_row(
            "SELECT paused_since FROM sinks WHERE sink = ?1",
            [sink],
            |row| row.get(0),
        )
        .optional())?;
    Ok(since.flatten().is_some())
}
