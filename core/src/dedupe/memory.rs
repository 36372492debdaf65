//! The ids of one day, read beside the process that may hold the journal.

use std::path::Path;

use rusqlite::Connection;

use super::identity::{Fingerprinter, Key, decode};
use super::run::{self, Section};
use super::runs::path;
use super::table::Table;
use crate::error::{Error, Result};
use crate::journal::{self, look_into, sql};

/// A merge may remove a run between the moment that the database names it and the moment that it is opened.
const TRIES: u32 = 10;

/// Whether a journal has had events of one day, as far as its ids reach back.
pub(crate) struct Memory {
    seed: u64,
    table: Table,
    sections: Vec<Section>,
}

impl Memory {
    /// Reads the ids of events of `day` (since 1970) that the journal in `dir` holds. Changes nothing and locks nothing.
    pub(crate) fn read(dir: &Path, day: u16) -> Result<Self> {
        let conn = look_into(dir)?;
        for _ in 0..TRIES {
            if let Some(memory) = Self::try_read(&conn, dir, day)? {
                return Ok(memory);
            }
        }
        Err(Error::unavailable(
            "the journal's ids could not be read while they were merged; try again",
        ))
    }

    /// None if a run was removed meanwhile.
    pub(super) fn try_read(conn: &Connection, dir: &Path, day: u16) -> Result<Option<Self>> {
        // One transaction: what leaves the log is in a run.
        let transaction = sql(conn.unchecked_transaction())?;
        let mut table = Table::default();
        let mut log = sql(transaction.prepare("SELECT ids FROM id_log"))?;
        let mut rows = sql(log.query([]))?;
        while let Some(row) = sql(rows.next())? {
            let ids = sql(sql(row.get_ref(0))?.as_blob().map_err(Into::into))?;
            let of_day = decode(ids).filter(|id| id.key.day() == day);
            of_day.for_each(|id| table.insert(id));
        }
        let mut sections = Vec::new();
        let mut runs = sql(transaction.prepare("SELECT run FROM id_runs"))?;
        let mut rows = sql(runs.query([]))?;
        while let Some(row) = sql(rows.next())? {
            let number = sql(row.get(0))?;
            match run::open(&path(dir, number), number) {
                Ok(all) => sections.extend(all.into_iter().filter(|section| section.day == day)),
                Err(_) if !path(dir, number).exists() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Self {
            seed: seed(conn)?,
            table,
            sections,
        }))
    }

    /// Whether it has had this event of the day, whatever its bytes. The key must be by the journal's own seed, of
    /// [`fingerprinter`].
    pub(crate) fn holds(&self, key: Key) -> Result<bool> {
        let mut known = Vec::new();
        self.table.find(key, &mut known);
        for section in &self.sections {
            if !known.is_empty() {
                break;
            }
            section.find(key, &mut known)?;
        }
        Ok(!known.is_empty())
    }

    /// Whether it is of the journal that these fingerprints are for.
    pub(crate) fn is_for(&self, fingerprinter: Fingerprinter) -> bool {
        fingerprinter.is_seeded_by(self.seed)
    }
}

/// Makes fingerprints as the journal in `dir` does, if there is one.
pub(crate) fn fingerprinter(dir: &Path) -> Result<Option<Fingerprinter>> {
    if !journal::is_in(dir) {
        return Ok(None);
    }
    Ok(Some(Fingerprinter::new(seed(&look_into(dir)?)?)))
}

fn seed(conn: &Connection) -> Result<u64> {
    let select = "SELECT value FROM meta WHERE key = 'seed'";
    let seed: String = sql(conn.query_row(select, [], |row| row.get(0)))?;
    seed.parse()
        .map_err(|_| Error::config("the journal's meta table is damaged: seed is not a number"))
}
