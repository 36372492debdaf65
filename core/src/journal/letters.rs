//! The dead letters that are kept: which there are, and what they hold.

use std::io::Write;
use std::path::Path;

use rusqlite::{Connection, Row, named_params};
use serde::{Deserialize, Serialize};

use super::sql;
use super::status::look_into;
use crate::error::{Error, Result};

/// Which dead letters are meant: those for which everything holds that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Letters {
    /// One of these numbers; empty for any.
    pub numbers: Vec<i64>,
    /// Refused by this sink.
    pub sink: Option<String>,
    /// Refused by no sink, but too large for all.
    pub oversized: bool,
    /// The reason contains this, in upper or lower case.
    pub reason: Option<String>,
    /// Of the tenant with this id.
    pub tenant: Option<String>,
    /// Refused at this time or later, in milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Refused before this time, in milliseconds since 1970.
    pub to_ms: Option<i64>,
}

/// What is known about a kept record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// Its number.
    pub letter: i64,
    /// The sink that refused it; none for a record that was too large for all.
    pub sink: Option<String>,
    /// The tenant's id.
    pub tenant: String,
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// The unit that it came in.
    pub unit: String,
    /// Why it was refused, the last time.
    pub reason: String,
    /// When it was refused first, in milliseconds since 1970.
    pub at_ms: i64,
    /// How often it was handed over.
    pub attempts: i64,
    /// The record's size.
    pub bytes: i64,
    /// Whether all of it is there.
    pub complete: bool,
}

/// The condition of [`Letters`].
const MEANT: &str = "\
    (:numbers = '[]' OR letter IN (SELECT value FROM json_each(:numbers))) \
    AND (:sink IS NULL OR sink = :sink) AND (NOT :oversized OR sink IS NULL) \
    AND (:reason IS NULL OR instr(lower(reason), lower(:reason)) > 0) \
    AND (:tenant IS NULL OR tenant = :tenant) \
    AND (:from IS NULL OR at >= :from) AND (:to IS NULL OR at < :to)";

impl Letters {
    /// The rows that `query` finds, which has the condition in the place of `MEANT`, and may name `:after` and
    /// `:limit`.
    fn find<T>(
        &self,
        conn: &Connection,
        query: &str,
        (after, limit): (i64, i64),
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut select = sql(conn.prepare(&query.replace("MEANT", MEANT)))?;
        let numbers = serde_json::to_string(&self.numbers)
            .map_err(|error| Error::bug("numbers make no JSON").with_cause(error))?;
        let rows = sql(select.query_map(
            named_params! {
                ":numbers": numbers,
                ":sink": self.sink,
                ":oversized": self.oversized,
                ":reason": self.reason,
                ":tenant": self.tenant,
                ":from": self.from_ms,
                ":to": self.to_ms,
                ":after": after,
                ":limit": limit,
            },
            read,
        ))?;
        sql(rows.collect())
    }
}

/// The dead letters of a journal, read without disturbing the process that may hold it.
pub struct DeadLetters(Connection);

impl DeadLetters {
    /// Those of the journal in `dir`.
    pub fn read(dir: &Path) -> Result<Self> {
        look_into(dir).map(Self)
    }

    /// The newest `limit` of those that are meant, the newest first.
    pub fn newest(&self, meant: &Letters, limit: u32) -> Result<Vec<Letter>> {
        let query = "SELECT letter, sink, tenant, source, content_type, unit, reason, at, attempts, complete, \
             (SELECT coalesce(sum(length(body)), 0) FROM dead_letter_parts p WHERE p.letter = d.letter) \
             FROM dead_letters d WHERE letter > :after AND MEANT ORDER BY letter DESC LIMIT :limit";
        meant.find(&self.0, query, (0, limit.into()), |row| {
            Ok(Letter {
                letter: row.get(0)?,
                sink: row.get(1)?,
                tenant: row.get(2)?,
                source: row.get(3)?,
                content_type: row.get(4)?,
                unit: row.get(5)?,
                reason: row.get(6)?,
                at_ms: row.get(7)?,
                attempts: row.get(8)?,
                complete: row.get(9)?,
                bytes: row.get(10)?,
            })
        })
    }

    /// The numbers of those that are meant, the oldest first: the first `limit` after number `after`.
    pub fn numbers(&self, meant: &Letters, after: i64, limit: u32) -> Result<Vec<i64>> {
        let query = "SELECT letter FROM dead_letters WHERE letter > :after AND MEANT ORDER BY letter LIMIT :limit";
        meant.find(&self.0, query, (after, limit.into()), |row| row.get(0))
    }

    /// How many are meant, and the last of them.
    pub fn count(&self, meant: &Letters) -> Result<(u64, i64)> {
        let query = "SELECT count(*), coalesce(max(letter), 0) FROM (SELECT letter FROM dead_letters \
             WHERE letter > :after AND MEANT LIMIT :limit)";
        let counted = meant.find(&self.0, query, (0, -1), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        Ok(counted.first().copied().unwrap_or_default())
    }

    /// The sinks that refused those that are meant.
    pub fn sinks(&self, meant: &Letters) -> Result<Vec<String>> {
        let query = "SELECT DISTINCT sink FROM dead_letters WHERE sink IS NOT NULL AND letter > :after AND MEANT \
             ORDER BY sink LIMIT :limit";
        meant.find(&self.0, query, (0, -1), |row| row.get(0))
    }

    /// Writes the bytes of one, a part at a time. `false` if there is none of this number.
    pub fn write(&self, letter: i64, out: &mut dyn Write) -> Result<bool> {
        let mut select = sql(self
            .0
            .prepare("SELECT body FROM dead_letter_parts WHERE letter = ?1 ORDER BY part"))?;
        let mut rows = sql(select.query([letter]))?;
        let mut found = false;
        while let Some(row) = sql(rows.next())? {
            out.write_all(sql(sql(row.get_ref(0))?.as_blob().map_err(Into::into))?)?;
            found = true;
        }
        Ok(found)
    }
}
