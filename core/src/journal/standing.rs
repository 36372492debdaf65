//! Up to when the events of a sink's tenants are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;
use rusqlite::Connection;

use super::{Journal, sql};
use crate::error::Result;
use crate::plugin::Standing;

impl Journal {
    /// For each tenant that `sink` takes from these sources: up to when all is listed, fetched and delivered to it.
    pub async fn standing(&self, sink: &str, sources: &[Arc<str>]) -> Result<Standing> {
        let (sink, sources) = (sink.to_owned(), sources.to_vec());
        self.ask(move |conn| {
            // One moment for all of it: what was fetched before is seen as waiting or as delivered.
            sql(conn.execute_batch("BEGIN"))?;
            let standing = read(conn, &sink, &sources);
            sql(conn.execute_batch("COMMIT"))?;
            standing
        })
        .await
    }
}

fn read(conn: &Connection, sink: &str, sources: &[Arc<str>]) -> Result<Standing> {
    let behind = behind(conn, sink)?;
    let mut complete: BTreeMap<String, Option<i64>> = BTreeMap::new();
    // A content type that is not listed yet, or is to be fetched, holds its tenant back.
    let mut select = sql(conn.prepare_cached(
        "SELECT s.tenant, s.source, (SELECT p.listed_to FROM passes p WHERE p.stream = r.stream \
          AND p.content_type = r.content_type AND p.lag = 0), \
         (SELECT min(u.created) FROM units u WHERE u.state = 0 AND u.stream = r.stream AND u.content_type = r.content_type) \
         FROM reach r JOIN streams s USING (stream) WHERE r.ended IS NULL",
    ))?;
    let mut rows = sql(select.query([]))?;
    while let Some(row) = sql(rows.next())? {
        let (tenant, source): (String, String) = (sql(row.get(0))?, sql(row.get(1))?);
        if !sources.iter().any(|known| **known == *source) {
            continue;
        }
        let (listed, pending): (Option<i64>, Option<i64>) = (sql(row.get(2))?, sql(row.get(3))?);
        let to = listed.map(|listed| pending.map_or(listed, |pending| listed.min(pending)));
        let known = complete.entry(tenant).or_insert(to);
        *known = known.zip(to).map(|(known, to)| known.min(to));
    }
    let complete = complete.into_iter().filter_map(|(tenant, to)| {
        let to = DateTime::from_timestamp_millis(to?)?;
        (!behind.contains(&tenant)).then(|| (tenant.into(), to))
    });
    Ok(Standing::of(complete))
}

/// The tenants of which something waits to be delivered.
fn behind(conn: &Connection, sink: &str) -> Result<BTreeSet<String>> {
    let mut select = sql(conn.prepare_cached(
        "SELECT DISTINCT l.tenant FROM cursors c JOIN lanes l USING (lane) WHERE c.sink = ?1 \
         AND EXISTS (SELECT 1 FROM batches b WHERE b.lane = c.lane AND b.seq > c.seq)",
    ))?;
    let rows = sql(select.query_map([sink], |row| row.get(0)))?;
    sql(rows.collect())
}
