//! The units that wait to be fetched, and those that nobody will fetch any more.

use std::time::Duration;

use rusqlite::params;

use super::counts::Units;
use super::writer::Tx;
use super::{Journal, sql};
use crate::error::Result;

/// A unit that waits to be fetched again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfetched {
    /// The tenant's id.
    pub tenant: String,
    /// Its name at the source.
    pub unit: String,
    /// How often it was tried.
    pub attempts: i64,
    /// Why the last try failed.
    pub error: String,
}

/// Units of one content type that wait and were not tried yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untried {
    /// The tenant's id.
    pub tenant: String,
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// How many there are.
    pub units: i64,
    /// When the first of them became available, in milliseconds since 1970.
    pub first_ms: i64,
    /// When the last did.
    pub last_ms: i64,
}

/// A unit that was lost because its source is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The tenant's id.
    pub tenant: String,
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// Its name at the source.
    pub unit: String,
}

/// Units of sources that are gone are lost so many at a time, so that no commit is held up.
const MOST_LEFT: i64 = 1_000;
/// Why.
const LEFT: &str = "its source or tenant left the configuration before it was fetched, and Microsoft no longer has it";
impl Journal {
    /// Units that wait to be fetched, those that were tried most first; at most `most`.
    pub async fn unfetched(&self, most: u32) -> Result<Vec<Unfetched>> {
        self.ask(move |conn| {
            let mut select = sql(conn.prepare(
                "SELECT s.tenant, u.unit, u.attempts, u.error FROM units u JOIN streams s USING (stream) \
                 WHERE u.state = 0 AND u.error IS NOT NULL ORDER BY u.attempts DESC, u.due LIMIT ?1",
            ))?;
            let rows = sql(select.query_map([most], |row| {
                Ok(Unfetched {
                    tenant: row.get(0)?,
                    unit: row.get(1)?,
                    attempts: row.get(2)?,
                    error: row.get(3)?,
                })
            }))?;
            sql(rows.collect())
        })
        .await
    }

    /// How many units wait that were not tried yet, by source and content type.
    pub async fn untried(&self) -> Result<Vec<Untried>> {
        self.ask(|conn| {
            let mut select = sql(conn.prepare(
                "SELECT s.tenant, s.source, u.content_type, count(*), min(u.created), max(u.created) FROM units u \
                 JOIN streams s USING (stream) WHERE u.state = 0 AND u.error IS NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
            ))?;
            let rows = sql(select.query_map([], |row| {
                Ok(Untried {
                    tenant: row.get(0)?,
                    source: row.get(1)?,
                    content_type: row.get(2)?,
                    units: row.get(3)?,
                    first_ms: row.get(4)?,
                    last_ms: row.get(5)?,
                })
            }))?;
            sql(rows.collect())
        })
        .await
    }

    /// Sees to what only time makes due: units that a clock that was ahead has put off for longer than `longest` are due
    /// now, and those of sources that are gone are lost when they have expired for longer than `grace`. Returns these.
    pub async fn look_after_units(&self, longest: Duration, grace: Duration) -> Result<Vec<Left>> {
        let [longest, grace] = [longest, grace].map(|time| time.as_millis() as i64);
        self.writer
            .run(move |tx| {
                sql(tx.conn.execute(
                    "UPDATE units SET due = ?1 WHERE state = 0 AND due > ?1 + ?2",
                    [tx.now_ms, longest],
                ))?;
                lose_left(tx, tx.now_ms - grace)
            })
            .await
    }
}

/// Loses the units that expired before `before_ms` and whose stream collects nothing any more.
fn lose_left(tx: &mut Tx<'_>, before_ms: i64) -> Result<Vec<Left>> {
    let mut select = sql(tx.conn.prepare(
        "SELECT u.stream, u.created, s.tenant, s.source, u.content_type, u.unit FROM units u JOIN streams s USING (stream) \
         WHERE u.state = 0 AND u.expires < ?1 AND u.stream IN \
         (SELECT stream FROM reach GROUP BY stream HAVING count(*) = count(ended)) LIMIT ?2",
    ))?;
    let rows = sql(select.query_map([before_ms, MOST_LEFT], |row| {
        let left = Left {
            tenant: row.get(2)?,
            source: row.get(3)?,
            content_type: row.get(4)?,
            unit: row.get(5)?,
        };
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, left))
    }))?;
    let rows: Vec<_> = sql(rows.collect())?;
    for (stream, created, left) in &rows {
        sql(tx.conn.execute(
            "UPDATE units SET state = 2, error = ?1 WHERE stream = ?2 AND unit = ?3",
            params![LEFT, stream, left.unit],
        ))?;
        let one = Units {
            lost: 1,
            ..Units::default()
        };
        let content_type = left.content_type.as_str().into();
        tx.counts.units(*stream, &content_type, *created, one);
    }
    Ok(rows.into_iter().map(|(.., left)| left).collect())
}
