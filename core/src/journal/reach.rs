//! Which passes over a stream's content have come how far, and what they found late.
//!
//! A source reports this with what it has listed, in the same transaction: no pass counts before its finds are
//! registered. What a pass finds in a time that was listed before is a straggler.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::units::MS_PER_HOUR;
use super::writer::Tx;
use super::{Journal, Stream, sql};
use crate::error::{Error, Result};
use crate::plugin::{Reach, Unit};

/// How many seconds after a moment a pass comes; 0 for the first listing, and for the polls that overlap it.
pub type Lag = i64;

impl Journal {
    /// Says what a stream collects from now on. What it collected before and no longer does has ended.
    pub async fn collects(&self, stream: &Stream, all: Vec<Reach>) -> Result<()> {
        let stream = stream.id;
        self.writer
            .run(move |tx| {
                for known in content_types(tx, stream)? {
                    if !all.iter().any(|reach| *reach.content_type == *known) {
                        sql(tx.conn.execute(
                            "UPDATE reach SET ended = coalesce(ended, ?1) WHERE stream = ?2 AND content_type = ?3",
                            params![tx.now_ms, stream, known],
                        ))?;
                    }
                }
                all.iter().try_for_each(|reach| store(tx, stream, reach))
            })
            .await
    }

    /// Says which streams there are. What all others collected has ended.
    pub async fn collect_only(&self, streams: Vec<Stream>) -> Result<()> {
        self.writer
            .run(move |tx| {
                let known: Vec<i64> = {
                    let mut select = sql(tx.conn.prepare("SELECT stream FROM streams"))?;
                    let rows = sql(select.query_map([], |row| row.get(0)))?;
                    sql(rows.collect())?
                };
                for stream in known {
                    if streams.iter().any(|one| one.id == stream) {
                        continue;
                    }
                    sql(tx.conn.execute(
                        "UPDATE reach SET ended = ?1 WHERE stream = ?2 AND ended IS NULL",
                        params![tx.now_ms, stream],
                    ))?;
                    set_trouble(tx, stream, None)?;
                }
                Ok(())
            })
            .await
    }

    /// Notes why a stream cannot list, or that it can. What is noted already keeps its time.
    pub async fn trouble(&self, stream: &Stream, error: Option<&Error>) -> Result<()> {
        let stream = stream.id;
        let trouble = error.map(|error| (error.kind().as_str(), error.to_string()));
        self.writer
            .run(move |tx| set_trouble(tx, stream, trouble))
            .await
    }
}

fn set_trouble(tx: &Tx<'_>, stream: i64, trouble: Option<(&str, String)>) -> Result<()> {
    let (kind, text) = trouble.unzip();
    sql(tx.conn.execute(
        "UPDATE streams SET trouble = ?1, trouble_kind = ?2, \
         trouble_since = CASE WHEN ?1 IS NULL THEN NULL ELSE coalesce(trouble_since, ?3) END WHERE stream = ?4",
        params![text, kind, tx.now_ms, stream],
    ))?;
    Ok(())
}

fn content_types(tx: &Tx<'_>, stream: i64) -> Result<Vec<String>> {
    let mut select = sql(tx
        .conn
        .prepare("SELECT content_type FROM reach WHERE stream = ?1"))?;
    let rows = sql(select.query_map([stream], |row| row.get(0)))?;
    sql(rows.collect())
}

/// Stores how far a source is, in place of what it said before.
pub(super) fn store(tx: &Tx<'_>, stream: i64, reach: &Reach) -> Result<()> {
    let kept = i64::try_from(reach.kept.as_millis()).unwrap_or(i64::MAX);
    sql(tx
        .conn
        .prepare_cached(
            "INSERT INTO reach (stream, content_type, since, kept) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (stream, content_type) DO UPDATE SET since = excluded.since, kept = excluded.kept, ended = NULL",
        )
        .and_then(|mut upsert| {
            let since = reach.since.timestamp_millis();
            upsert.execute(params![stream, reach.content_type, since, kept])
        }))?;
    sql(tx
        .conn
        .prepare_cached("DELETE FROM passes WHERE stream = ?1 AND content_type = ?2")
        .and_then(|mut delete| delete.execute(params![stream, reach.content_type])))?;
    let mut insert = sql(tx.conn.prepare_cached(
        "INSERT OR REPLACE INTO passes (stream, content_type, lag, listed_to) VALUES (?1, ?2, ?3, ?4)",
    ))?;
    for pass in &reach.passes {
        sql(insert.execute(params![
            stream,
            reach.content_type,
            seconds(pass.lag),
            pass.to.timestamp_millis()
        ]))?;
    }
    Ok(())
}

fn seconds(lag: Duration) -> Lag {
    Lag::try_from(lag.as_secs()).unwrap_or(Lag::MAX)
}

/// The passes of one stream as they were before a listing, read once a content type.
pub(super) struct Passes<'a> {
    conn: &'a Connection,
    stream: i64,
    known: BTreeMap<Arc<str>, Vec<(Lag, i64)>>,
}

impl<'a> Passes<'a> {
    pub(super) fn of(conn: &'a Connection, stream: i64) -> Self {
        Self {
            conn,
            stream,
            known: BTreeMap::new(),
        }
    }

    /// The pass that finds what became available at `created_ms`, if it is a straggler.
    pub(super) fn straggling(
        &mut self,
        content_type: &Arc<str>,
        created_ms: i64,
    ) -> Result<Option<Lag>> {
        if !self.known.contains_key(content_type) {
            let mut select = sql(self.conn.prepare_cached(
                "SELECT lag, listed_to FROM passes WHERE stream = ?1 AND content_type = ?2 ORDER BY lag",
            ))?;
            let rows = sql(select.query_map(params![self.stream, content_type], |row| {
                Ok((row.get(0)?, row.get(1)?))
            }))?;
            let passes = sql(rows.collect())?;
            self.known.insert(Arc::clone(content_type), passes);
        }
        let passes = self.known.get(content_type).map_or(&[][..], Vec::as_slice);
        Ok(straggling(passes, created_ms))
    }
}

/// By the passes (lag, how far): none if the moment was never listed before; else the first pass that was still to come
/// over it. 0, an ordinary poll, if it is younger than what any pass looks for, or the last has been there.
fn straggling(passes: &[(Lag, i64)], created_ms: i64) -> Option<Lag> {
    let (_, listed_to) = *passes.first()?;
    if created_ms >= listed_to {
        return None;
    }
    let age = (listed_to - created_ms) / 1000;
    let is_young = passes.get(1).is_none_or(|(lag, _)| age < *lag);
    let mut rest = passes.iter();
    let next = rest.find(|(_, to)| !is_young && created_ms >= *to);
    Some(next.map_or(0, |(lag, _)| *lag))
}

/// Counts a straggler by the pass that found it.
pub(super) fn count_straggler(tx: &Tx<'_>, stream: i64, unit: &Unit, pass: Lag) -> Result<()> {
    sql(tx
        .conn
        .prepare_cached(
            "INSERT INTO straggler_units (stream, content_type, hour, pass, units, first, last) \
             VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5) \
             ON CONFLICT (stream, content_type, hour, pass) DO UPDATE SET units = units + 1, last = excluded.last",
        )
        .and_then(|mut upsert| {
            let hour = unit.created.timestamp_millis().div_euclid(MS_PER_HOUR);
            upsert.execute(params![stream, unit.content_type, hour, pass, tx.now_ms])
        }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_straggler_is_what_shows_up_in_a_time_that_was_listed_before() {
        // Listed to 100 h, again after 1 h and after 24 h.
        let passes = [(0, 100 * HOUR), (3600, 99 * HOUR), (86_400, 76 * HOUR)];
        for (created, pass) in [
            (100 * HOUR, None),
            (100 * HOUR - 1, Some(0)),
            // The pass after an hour does not look for it yet: a poll found it.
            (99 * HOUR + 1, Some(0)),
            (99 * HOUR, Some(3600)),
            (98 * HOUR, Some(86_400)),
            (76 * HOUR, Some(86_400)),
            // After the last.
            (75 * HOUR, Some(0)),
        ] {
            assert_eq!(straggling(&passes, created), pass, "{created}");
        }
        assert_eq!(straggling(&[], 5), None, "a source that does not say");
    }
}
