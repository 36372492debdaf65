//! Keeps the accounts small: hours become days, and what is older than 400 days becomes one row.
//!
//! Nothing is dropped from the sums, so the accounts still add up.

use rusqlite::{Connection, OptionalExtension, params};

use super::commit::Hour;
use super::writer::Tx;
use super::{Journal, sql};
use crate::coverage::silence::LEARNED_HOURS;
use crate::error::Result;

/// The hour of all that is too old to be told apart.
pub(crate) const OLD_HOUR: Hour = -2;
/// Hours are told apart for so long; no source reaches back as far.
const KEPT_HOURS: i64 = 35 * 24;
/// Days are told apart for so long.
const KEPT_DAYS: i64 = 400;

/// An account: its table, what its rows are of besides the hour, what is summed up.
struct Table {
    name: &'static str,
    keys: &'static str,
    sums: &'static [&'static str],
}

const TABLES: [Table; 3] = [
    Table {
        name: "coverage_content",
        keys: "stream, content_type",
        sums: &["listed", "fetched", "lost"],
    },
    Table {
        name: "coverage_events",
        keys: "tenant",
        sums: &["journaled", "repeats", "variants", "late"],
    },
    Table {
        name: "coverage_sinks",
        keys: "sink, tenant",
        sums: &["filtered", "delivered", "dead", "skipped"],
    },
];

impl Journal {
    /// Folds what is old. Asked now and then while the program runs.
    pub async fn fold(&self) -> Result<()> {
        self.writer.run(|tx| fold(tx)).await
    }
}

/// Hours before this are folded into the first of their day.
pub(super) fn folded_to(conn: &Connection) -> Result<Hour> {
    let found: Option<String> = sql(conn
        .query_row(
            "SELECT value FROM meta WHERE key = 'folded_to'",
            [],
            |row| row.get(0),
        )
        .optional())?;
    Ok(found.and_then(|hour| hour.parse().ok()).unwrap_or(0))
}

fn fold(tx: &Tx<'_>) -> Result<()> {
    let today = tx.now_ms.div_euclid(86_400_000);
    let (days_to, hours_to) = ((today - KEPT_DAYS) * 24, today * 24 - KEPT_HOURS);
    for table in &TABLES {
        fold_table(tx, table, "-2", "hour >= 0 AND hour < ?1", days_to)?;
        let is_hour = "hour >= 0 AND hour < ?1 AND hour % 24 <> 0";
        fold_table(tx, table, "hour / 24 * 24", is_hour, hours_to)?;
    }
    let old = [
        ("DELETE FROM straggler_units WHERE hour < ?1", days_to),
        ("DELETE FROM gaps WHERE \"to\" < ?1 * 3600000", days_to),
        (
            "DELETE FROM activity WHERE hour < ?1",
            tx.now_ms / 3_600_000 - LEARNED_HOURS,
        ),
    ];
    for (delete, hour) in old {
        sql(tx.conn.execute(delete, [hour]))?;
    }
    sql(tx.conn.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES ('folded_to', ?1)",
        params![hours_to.to_string()],
    ))?;
    Ok(())
}

/// Adds the rows that are `meant` (those before hour ?1) to the rows of hour `into`.
fn fold_table(tx: &Tx<'_>, table: &Table, into: &str, meant: &str, hour: Hour) -> Result<()> {
    let Table { name, keys, sums } = table;
    let columns = sums.join(", ");
    let summed: Vec<String> = sums.iter().map(|column| format!("sum({column})")).collect();
    let added: Vec<String> = sums
        .iter()
        .map(|column| format!("{column} = {name}.{column} + excluded.{column}"))
        .collect();
    let fold = format!(
        "INSERT INTO {name} ({keys}, hour, {columns}) \
         SELECT {keys}, {into} AS day, {} FROM {name} WHERE {meant} GROUP BY {keys}, day \
         ON CONFLICT ({keys}, hour) DO UPDATE SET {}",
        summed.join(", "),
        added.join(", ")
    );
    sql(tx.conn.execute(&fold, [hour]))?;
    sql(tx
        .conn
        .execute(&format!("DELETE FROM {name} WHERE {meant}"), [hour]))?;
    Ok(())
}
