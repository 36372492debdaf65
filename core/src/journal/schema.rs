//! The tables, their version, and how older versions become the newest.

use rusqlite::Connection;

use super::sql;
use crate::error::{Error, Result};

/// Each entry takes the journal from its index to the next version. Entries are only ever added.
const MIGRATIONS: &[&str] = &[include_str!("schema_v1.sql")];

/// Brings a journal to the newest version, in one transaction.
pub(super) fn migrate(conn: &mut Connection) -> Result<()> {
    let found: usize = sql(conn.query_row("PRAGMA user_version", [], |row| row.get(0)))?;
    if found > MIGRATIONS.len() {
        return Err(Error::config(format!(
            "the journal has schema version {found}, this program knows up to {}: use a newer program",
            MIGRATIONS.len()
        )));
    }
    for (version, step) in MIGRATIONS.iter().enumerate().skip(found) {
        let tx = sql(conn.transaction())?;
        sql(tx.execute_batch(step))?;
        sql(tx.pragma_update(None, "user_version", version + 1))?;
        sql(tx.commit())?;
    }
    Ok(())
}

/// Refuses to read a journal whose tables this program does not know.
pub(super) fn require_newest(conn: &Connection) -> Result<()> {
    let found: usize = sql(conn.query_row("PRAGMA user_version", [], |row| row.get(0)))?;
    if found == MIGRATIONS.len() {
        Ok(())
    } else {
        Err(Error::config(format!(
            "the journal has schema version {found}, this program reads {}: use the version that runs on it",
            MIGRATIONS.len()
        )))
    }
}
