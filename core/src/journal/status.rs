//! What the journal tells about itself, for people and for metrics.

use std::path::Path;

use rusqlite::Connection;
use serde::Serialize;

use super::open::open_read_only;
use super::{FILE, Journal, place, schema, sql, writer};
use crate::error::{Error, Result};

/// The journal at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its random id.
    pub journal: String,
    /// Bytes in use on disk.
    pub used_bytes: u64,
    /// Each tenant and source.
    pub tenants: Vec<TenantStatus>,
    /// Times that sources could not list and never will, the newest first, at most a hundred.
    pub gaps: Vec<GapStatus>,
    /// Each sink and tenant.
    pub sinks: Vec<SinkStatus>,
    /// What sinks skipped, the newest first; at most [`SKIPS`].
    pub skips: Vec<Skip>,
}

/// The ranges that a status names; the counts of the sinks hold the rest.
pub const SKIPS: usize = 100;

/// A range of batches that a sink will not get any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skip {
    /// The sink's name.
    pub sink: String,
    /// The tenant's id.
    pub tenant: String,
    /// The first batch.
    pub first: i64,
    /// The last batch.
    pub last: i64,
    /// The events in them.
    pub events: i64,
    /// Why.
    pub reason: String,
    /// When it was left behind, in milliseconds since 1970.
    pub at_ms: i64,
}

/// Gaps that are told. The others are in the journal.
const MOST_GAPS: usize = 100;

/// A time that a source could not list and never will.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GapStatus {
    /// The tenant's id.
    pub tenant: String,
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// Where it begins, in milliseconds since 1970.
    pub from_ms: i64,
    /// Where it ends (not part of it), in milliseconds since 1970.
    pub to_ms: i64,
    /// Why.
    pub reason: String,
    /// When it was found, in milliseconds since 1970.
    pub at_ms: i64,
}

/// What one source has collected of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantStatus {
    /// The tenant's id.
    pub tenant: String,
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// Units that the source has listed, fetched, lost.
    pub listed: i64,
    /// See `listed`.
    pub fetched: i64,
    /// See `listed`.
    pub lost: i64,
    /// Units that wait to be fetched.
    pub pending: i64,
    /// When the first of them expires, in milliseconds since 1970.
    pub next_expiry_ms: Option<i64>,
}

/// How far one sink is with one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SinkStatus {
    /// The sink's name.
    pub sink: String,
    /// The tenant's id.
    pub tenant: String,
    /// When the sink left the configuration, in seconds since 1970.
    pub orphan_since: Option<i64>,
    /// When an operator paused the sink, in seconds since 1970.
    pub paused_since: Option<i64>,
    /// Events journaled since the sink's start.
    pub journaled: i64,
    /// Of these: dropped by its filters.
    pub filtered: i64,
    /// Of these: delivered.
    pub delivered: i64,
    /// Of these: in the dead letters.
    pub dead: i64,
    /// Of these: skipped when it was detached.
    pub skipped: i64,
    /// Of these: waiting.
    pub pending: i64,
    /// When the oldest waiting batch was journaled, in milliseconds since 1970.
    pub oldest_pending_ms: Option<i64>,
}

impl SinkStatus {
    /// Whether the account balances: journaled = filtered + delivered + dead + skipped + pending.
    #[must_use]
    pub fn balances(&self) -> bool {
        self.journaled == self.filtered + self.delivered + self.dead + self.skipped + self.pending
    }
}

impl Journal {
    /// The journal's status now.
    pub async fn status(&self) -> Result<Status> {
        self.ask_at_length(read).await
    }
}

impl Status {
    /// Reads the status of the journal in `dir` without disturbing the process that may hold it.
    pub fn read(dir: &Path) -> Result<Self> {
        read(&look_into(dir)?)
    }
}

/// The database of the journal in `dir`, only to be read. Another process may hold the journal.
pub(crate) fn look_into(dir: &Path) -> Result<Connection> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Err(Error::config(format!(
            "there is no journal in {}; has `audit-exporter run` been started with this configuration?",
            dir.display()
        )));
    }
    let conn = open_read_only(&path)?;
    schema::require_newest(&conn)?;
    Ok(conn)
}

fn read(conn: &Connection) -> Result<Status> {
    // One transaction, so that the figures belong together.
    sql(conn.execute_batch("BEGIN"))?;
    let status = read_in_transaction(conn);
    sql(conn.execute_batch("COMMIT"))?;
    status
}

fn read_in_transaction(conn: &Connection) -> Result<Status> {
    Ok(Status {
        journal: sql(
            conn.query_row("SELECT value FROM meta WHERE key = 'id'", [], |row| {
                row.get(0)
            }),
        )?,
        used_bytes: writer::used_bytes(conn)? + place::on_disk(conn)?,
        tenants: tenants(conn)?,
        gaps: gaps(conn)?,
        sinks: sinks(conn)?,
        skips: skips(conn)?,
    })
}

fn tenants(conn: &Connection) -> Result<Vec<TenantStatus>> {
    let mut select = sql(conn.prepare(
        "SELECT s.tenant, s.source, c.content_type, sum(c.listed), sum(c.fetched), sum(c.lost), \
         (SELECT min(u.expires) FROM units u WHERE u.state = 0 AND u.stream = c.stream \
          AND u.content_type = c.content_type) \
         FROM coverage_content c JOIN streams s USING (stream) GROUP BY c.stream, c.content_type ORDER BY 1, 2, 3",
    ))?;
    let rows = sql(select.query_map([], |row| {
        let (listed, fetched, lost): (i64, i64, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
        Ok(TenantStatus {
            tenant: row.get(0)?,
            source: row.get(1)?,
            content_type: row.get(2)?,
            listed,
            fetched,
            lost,
            pending: listed - fetched - lost,
            next_expiry_ms: row.get(6)?,
        })
    }))?;
    sql(rows.collect())
}

fn gaps(conn: &Connection) -> Result<Vec<GapStatus>> {
    let mut select = sql(conn.prepare(
        "SELECT s.tenant, s.source, g.content_type, g.\"from\", g.\"to\", g.reason, g.at \
         FROM gaps g JOIN streams s USING (stream) ORDER BY g.rowid DESC LIMIT ?1",
    ))?;
    let rows = sql(select.query_map([MOST_GAPS], |row| {
        Ok(GapStatus {
            tenant: row.get(0)?,
            source: row.get(1)?,
            content_type: row.get(2)?,
            from_ms: row.get(3)?,
            to_ms: row.get(4)?,
            reason: row.get(5)?,
            at_ms: row.get(6)?,
        })
    }))?;
    sql(rows.collect())
}

pub(super) fn sinks(conn: &Connection) -> Result<Vec<SinkStatus>> {
    let mut select = sql(conn.prepare(
        "SELECT c.sink, l.tenant, k.orphan_since, k.paused_since, sum(l.journaled - c.baseline), sum(c.filtered), sum(c.delivered), \
         sum(c.dead), sum(c.skipped), \
         sum((SELECT coalesce(sum(b.events), 0) FROM batches b WHERE b.lane = c.lane AND b.seq > c.seq)), \
         min((SELECT b.journaled_at FROM batches b WHERE b.lane = c.lane AND b.seq > c.seq ORDER BY b.seq LIMIT 1)) \
         FROM cursors c JOIN lanes l USING (lane) JOIN sinks k USING (sink) GROUP BY c.sink, l.tenant ORDER BY 1, 2",
    ))?;
    let rows = sql(select.query_map([], |row| {
        Ok(SinkStatus {
            sink: row.get(0)?,
            tenant: row.get(1)?,
            orphan_since: row.get(2)?,
            paused_since: row.get(3)?,
            journaled: row.get(4)?,
            filtered: row.get(5)?,
            delivered: row.get(6)?,
            dead: row.get(7)?,
            skipped: row.get(8)?,
            pending: row.get(9)?,
            oldest_pending_ms: row.get(10)?,
        })
    }))?;
    sql(rows.collect())
}

fn skips(conn: &Connection) -> Result<Vec<Skip>> {
    let mut select = sql(conn.prepare(
        "SELECT d.sink, l.tenant, d.first, d.last, d.events, d.at, d.reason \
         FROM detached d JOIN lanes l USING (lane) ORDER BY d.rowid DESC LIMIT ?1",
    ))?;
    let rows = sql(select.query_map([SKIPS as i64], |row| {
        Ok(Skip {
            sink: row.get(0)?,
            tenant: row.get(1)?,
            first: row.get(2)?,
            last: row.get(3)?,
            events: row.get(4)?,
            at_ms: row.get(5)?,
            reason: row.get(6)?,
        })
    }))?;
    sql(rows.collect())
}
