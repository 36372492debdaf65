//! All runs of a journal: which there are, what they hold of a day, whose filters are in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::run::{self, Section};
use crate::error::{Kind, Result};
use crate::journal::sql;

/// Files of runs: this and their number.
const FILE: &str = "ids.";
/// How long ids are remembered after they were journaled.
pub(crate) const KEEP_SECONDS: i64 = 35 * 86_400;

/// What the journal knows of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) number: i64,
    /// 0: ids from the log; 1: merged.
    pub(super) level: u8,
    /// When the newest of its ids was journaled, or later. Seconds since 1970.
    pub(super) journaled: i64,
}

#[derive(Debug)]
pub(super) struct Runs {
    dir: PathBuf,
    known: BTreeMap<i64, Run>,
    days: BTreeMap<u16, Vec<Section>>,
    last: i64,
}

/// Where a run lies.
pub(crate) fn path(dir: &Path, number: i64) -> PathBuf {
    dir.join(format!("{FILE}{number}"))
}

/// The runs in `dir` that do not hold what was written, and how that shows.
pub(crate) fn damaged(conn: &Connection, dir: &Path) -> Result<BTreeMap<i64, String>> {
    let mut found = BTreeMap::new();
    let mut select = sql(conn.prepare("SELECT run FROM id_runs"))?;
    let mut rows = sql(select.query([]))?;
    while let Some(row) = sql(rows.next())? {
        let number = sql(row.get(0))?;
        let sections = match run::open(&path(dir, number), number) {
            Err(error) if error.kind() == Kind::Config => {
                found.insert(number, "it is missing, or cut off".to_owned());
                continue;
            }
            sections => sections?,
        };
        let mut wrong = 0;
        for section in &sections {
            for block in &section.blocks {
                if !block.is_whole(&section.file, number)? {
                    wrong += block.ids();
                }
            }
        }
        if wrong > 0 {
            found.insert(number, format!("{wrong} ids are not what was written"));
        }
    }
    Ok(found)
}

impl Runs {
    /// Opens the runs that the journal in `dir` knows, and removes files of runs that it does not: what was being
    /// written when the process ended, and what had been replaced.
    pub(super) fn load(conn: &Connection, dir: &Path) -> Result<Self> {
        let mut runs = Self {
            dir: dir.to_owned(),
            known: BTreeMap::new(),
            days: BTreeMap::new(),
            last: 0,
        };
        let mut select =
            sql(conn.prepare("SELECT run, level, journaled FROM id_runs ORDER BY run"))?;
        let mut rows = sql(select.query([]))?;
        while let Some(row) = sql(rows.next())? {
            let known = Run {
                number: sql(row.get(0))?,
                level: sql(row.get(1))?,
                journaled: sql(row.get(2))?,
            };
            runs.add(known, runs.open(known.number)?);
            runs.last = known.number;
        }
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix(FILE)?.parse().ok());
            if number.is_some_and(|number| !runs.known.contains_key(&number)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(runs)
    }

    pub(super) fn path(&self, number: i64) -> PathBuf {
        path(&self.dir, number)
    }

    /// A number for a run that is to be written.
    pub(super) fn next(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// The runs of a level, oldest first.
    pub(super) fn of_level(&self, level: u8) -> impl Iterator<Item = Run> {
        let runs = self.known.values().copied();
        runs.filter(move |run| run.level == level)
    }

    /// What there is of a day.
    pub(super) fn of_day(&self, day: u16) -> &[Section] {
        self.days.get(&day).map_or(&[], Vec::as_slice)
    }

    /// What there is in some runs.
    pub(super) fn of(&self, runs: &[i64]) -> impl Iterator<Item = &Section> {
        let sections = self.days.values().flatten();
        sections.filter(|section| runs.contains(&section.run))
    }

    fn open(&self, number: i64) -> Result<Vec<Section>> {
        run::open(&self.path(number), number)
    }

    fn add(&mut self, run: Run, sections: Vec<Section>) {
        self.known.insert(run.number, run);
        for mut section in sections {
            section.level = run.level;
            self.days.entry(section.day).or_default().push(section);
        }
    }

    /// Puts a run whose file is complete in the place of others, and of those that are too old: on the disk in one
    /// transaction, in which `more` is done too, then in memory. On error nothing has changed.
    pub(super) fn switch(
        &mut self,
        conn: &Connection,
        (new, bytes): (Run, u64),
        replaced: &[i64],
        now: i64,
        more: impl FnOnce(&Connection) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let sections = self.open(new.number)?;
        // The file's name is on the disk before anything counts on it.
        File::open(&self.dir)?.sync_all()?;
        let old = self
            .known
            .values()
            .filter(|run| run.journaled < now - KEEP_SECONDS);
        let gone: Vec<i64> = replaced
            .iter()
            .copied()
            .chain(old.map(|run| run.number))
            .collect();
        sql((|| {
            let transaction = conn.unchecked_transaction()?;
            conn.execute(
                "INSERT INTO id_runs (run, level, journaled, bytes) VALUES (?1, ?2, ?3, ?4)",
                params![new.number, new.level, new.journaled, bytes as i64],
            )?;
            for run in &gone {
                conn.execute("DELETE FROM id_runs WHERE run = ?1", [run])?;
            }
            more(conn)?;
            transaction.commit()
        })())?;
        fail::fail_point!("dedupe::switched");
        self.days.retain(|_, sections| {
            sections.retain(|section| !gone.contains(&section.run));
            !sections.is_empty()
        });
        for number in gone {
            self.known.remove(&number);
            if let Err(error) = fs::remove_file(self.path(number)) {
                tracing::warn!(%error, number, "a run of ids that is not needed any more stays until the next start");
            }
        }
        self.add(new, sections);
        Ok(())
    }

    /// Keeps the filters of the days nearest to `today` in memory, as far as `filter_bytes` reach. Without its filter
    /// a block is as exact, and slower.
    pub(super) fn warm(&mut self, today: u16, filter_bytes: usize) {
        let mut sections: Vec<&mut Section> = self.days.values_mut().flatten().collect();
        sections.sort_by_key(|section| today.abs_diff(section.day));
        let (mut left, mut cold) = (filter_bytes, Vec::new());
        for section in sections {
            for block in &mut section.blocks {
                // Once one does not fit, none after it does: they are of days further away.
                left = left.saturating_sub(block.filter_bytes());
                if left == 0 {
                    block.cool();
                } else if !block.is_warm() {
                    cold.push((&section.file, block));
                }
            }
        }
        for (file, block) in cold {
            if let Err(error) = block.warm(file) {
                tracing::warn!(%error, "ids are looked up without their filter, which is slower");
            }
        }
    }
}
