//! The memory of what was journaled: decides exactly whether an event is a repeat.
//!
//! Microsoft sends the same event several times by design, and a unit that broke off is fetched again from its
//! start. An event is dropped only when its identity **and** its bytes were journaled before (identity: tenant + Id +
//! `CreationTime` to the second + Operation; without an Id: its place in its unit). No probabilistic answer ever
//! drops an event: a filter may only say "certainly new", anything else is looked up in the ids themselves.
//!
//! - An id commits with its event, into an append-only **log** in the journal's database; a **table** in memory holds
//!   the same ids.
//! - A full table is **spilled** into a **run**, a file of sorted ids, and the log is emptied.
//! - Runs are **merged** on a thread of their own, so that a look-up has few to ask. Every id is written three times.
//! - Each block of a run has a binary fuse filter of about 9 bits an id. Those of the days nearest to today are kept
//!   in memory, as many as a fixed number of bytes holds.
//!
//! A spill and a merge each become true in one transaction, which names the new run and strikes out what it replaces.
//! Before it, the new file counts for nothing; after it, the old ones do.

mod front;
mod identity;
mod memory;
mod merge;
mod run;
mod runs;
mod table;

use std::path::Path;

use rusqlite::Connection;

use front::Front;
use identity::Id;
pub(crate) use identity::{Fingerprint, Fingerprinter, Key};
pub(crate) use memory::{Memory, fingerprinter};
use merge::{Background, Merge};
use run::RunWriter;
pub(crate) use runs::{KEEP_SECONDS, damaged as damaged_runs, path as run_path};
use runs::{Run, Runs};
use table::Table;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::journal::sql;
use crate::sizes::size;

/// What bounds memory and work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Ids in the table before they become a run.
    table_ids: usize,
    /// Ids in a block. Building its filter takes some 30 bytes an id for a moment; smaller filters take more bits.
    block_ids: usize,
    /// Runs from the log that are merged into one. A look-up asks half of them, and one for each merge of its day.
    merge_runs: usize,
    /// Filters in memory: enough for 50 million ids, those of the newest days. Ids of other days are looked up on disk.
    filter_bytes: usize,
}

impl Sizes {
    /// So small that a few hundred events cross every border.
    const SMALL: Self = Self {
        table_ids: 50,
        block_ids: 40,
        merge_runs: 3,
        filter_bytes: 4_000,
    };
    /// The table fills a hash table of 2^17 slots to 7/8, which takes 3.3 MB.
    const REAL: Self = Self {
        table_ids: 114_688,
        block_ids: 30_000,
        merge_runs: 32,
        filter_bytes: 58_000_000,
    };

    /// A filter over the ids that wait to be merged.
    fn front(&self) -> Front {
        Front::new(self.merge_runs * self.table_ids)
    }

    /// Small for a test, which is known by its clock.
    pub(crate) fn by(clock: &Clock) -> Self {
        if clock.is_a_tests() {
            return Self::SMALL;
        }
        let ids = size("IDS_IN_MEMORY", Self::REAL.table_ids as u64) as usize;
        if ids < Self::REAL.table_ids {
            return Self {
                table_ids: ids,
                block_ids: ids,
                merge_runs: 3,
                ..Self::REAL
            };
        }
        Self::REAL
    }
}

/// Ids that the table may hold while it cannot be spilled. Then commits fail rather than memory grow.
const TABLE_LIMIT: usize = 1 << 20;

/// What the memory says about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Never seen: deliver.
    New,
    /// Same identity, other bytes: deliver, and count.
    Variant,
    /// Seen: drop, and count.
    Repeat,
}

/// The ids of one journal. Owned by the journal's writer thread.
#[derive(Debug)]
pub(crate) struct Dedupe {
    sizes: Sizes,
    table: Table,
    /// How full the table is when it is spilled next: more after one that failed.
    spill_at: usize,
    runs: Runs,
    /// Over all ids in runs from the log; nothing while that is not known, after a start.
    front: Option<Front>,
    /// Over those in runs that came since the merge began: what is left of them when it ends.
    next_front: Option<Front>,
    merging: Option<(Replacement, Background)>,
    /// Ids that the open transaction added: forgotten again if it fails.
    pending: Vec<Id>,
    /// The values known for the event that is judged. Kept for its room.
    known: Vec<u64>,
}

/// A run that is to take the place of others.
#[derive(Debug)]
struct Replacement {
    run: Run,
    replaced: Vec<i64>,
}

impl Dedupe {
    /// Opens the runs of the journal in `dir` and loads the log of ids that are in none yet.
    pub(crate) fn load(conn: &Connection, dir: &Path, now: i64, sizes: Sizes) -> Result<Self> {
        let mut table = Table::default();
        let mut log = sql(conn.prepare("SELECT ids FROM id_log ORDER BY entry"))?;
        let mut rows = sql(log.query([]))?;
        while let Some(row) = sql(rows.next())? {
            let ids = sql(sql(row.get_ref(0))?.as_blob().map_err(Into::into))?;
            identity::decode(ids).for_each(|id| table.insert(id));
        }
        let mut runs = Runs::load(conn, dir)?;
        runs.warm(day_of(now), sizes.filter_bytes);
        Ok(Self {
            sizes,
            table,
            spill_at: sizes.table_ids,
            front: (runs.of_level(0).count() == 0).then(|| sizes.front()),
            next_front: None,
            runs,
            merging: None,
            pending: Vec::new(),
            known: Vec::new(),
        })
    }

    /// Judges an event and, unless it is a repeat, remembers it.
    pub(crate) fn admit(&mut self, new: Fingerprint) -> Result<Verdict> {
        self.known.clear();
        self.table.find(new.id.key, &mut self.known);
        let mut verdict = new.judge(&self.known);
        let front = self.front.as_ref();
        let only_merged = front.is_some_and(|front| !front.may_hold(new.id.key));
        for section in self.runs.of_day(new.id.key.day()) {
            if verdict == Verdict::Repeat {
                return Ok(verdict);
            }
            if only_merged && section.level == 0 {
                continue;
            }
            let before = self.known.len();
            section.find(new.id.key, &mut self.known)?;
            if self.known.len() > before {
                verdict = new.judge(&self.known);
            }
        }
        if verdict != Verdict::Repeat {
            if self.table.len() >= TABLE_LIMIT {
                return Err(Error::unavailable(
                    "the ids of events cannot be written to the journal's folder; the log says why",
                ));
            }
            self.table.insert(new.id);
            self.pending.push(new.id);
        }
        Ok(verdict)
    }

    /// Writes the ids of the open transaction into the log, before it ends.
    pub(crate) fn log(&self, conn: &Connection) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        sql(conn
            .prepare_cached("INSERT INTO id_log (ids) VALUES (?1)")
            .and_then(|mut insert| insert.execute([identity::encode(&self.pending)])))?;
        Ok(())
    }

    /// The transaction holds: what was added stays.
    pub(crate) fn committed(&mut self) {
        self.pending.clear();
    }

    /// How many ids the open transaction has added: a mark for [`Dedupe::roll_back`].
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Forgets what the open transaction added after `mark`.
    pub(crate) fn roll_back(&mut self, mark: usize) {
        for gone in self.pending.drain(mark..) {
            self.table.remove(gone);
        }
    }

    /// Spills and merges what is due, between transactions. On error nothing is lost, and it is tried again later.
    pub(crate) fn maintain(&mut self, conn: &Connection, now: i64) -> Result<()> {
        let full = self.table.len() >= self.spill_at;
        let behind = || self.runs.of_level(0).count() >= 3 * self.sizes.merge_runs;
        if let Some((replacement, merge)) = self
            .merging
            .take_if(|(_, merge)| merge.is_finished() || (full && behind()))
        {
            let bytes = merge.wait()?;
            self.switch(conn, &replacement, bytes, now)?;
        }
        if full {
            self.spill_at = self.table.len() + self.sizes.table_ids / 8;
            self.spill(conn, now)?;
            self.spill_at = self.sizes.table_ids;
            self.start_merge()?;
        }
        Ok(())
    }

    /// Writes the table as a run and empties the log.
    fn spill(&mut self, conn: &Connection, now: i64) -> Result<()> {
        let replacement = Replacement {
            run: Run {
                number: self.runs.next(),
                level: 0,
                journaled: now,
            },
            replaced: Vec::new(),
        };
        let path = self.runs.path(replacement.run.number);
        let bytes =
            write_run(&path, &self.table.sorted(), self.sizes.block_ids).inspect_err(|_| {
                // If it stays, the next start removes it.
                drop(std::fs::remove_file(&path));
            })?;
        self.switch(conn, &replacement, bytes, now)
    }

    /// A merge of the runs from the log, if there are enough of them.
    fn prepare_merge(&mut self) -> Result<Option<(Replacement, Merge)>> {
        let inputs: Vec<Run> = self.runs.of_level(0).collect();
        if inputs.len() < self.sizes.merge_runs {
            return Ok(None);
        }
        let run = Run {
            number: self.runs.next(),
            level: 1,
            journaled: inputs.iter().map(|run| run.journaled).max().unwrap_or(0),
        };
        let replaced: Vec<i64> = inputs.iter().map(|run| run.number).collect();
        let path = self.runs.path(run.number);
        let merge = Merge::new(&path, self.sizes.block_ids, self.runs.of(&replaced))?;
        Ok(Some((Replacement { run, replaced }, merge)))
    }

    fn start_merge(&mut self) -> Result<()> {
        if self.merging.is_none()
            && let Some((replacement, merge)) = self.prepare_merge()?
        {
            let path = self.runs.path(replacement.run.number);
            self.merging = Some((replacement, Background::start(merge, path)?));
            self.next_front = Some(self.sizes.front());
        }
        Ok(())
    }

    /// Makes a run whose file is complete count, in the place of what it replaces.
    fn switch(&mut self, conn: &Connection, new: &Replacement, bytes: u64, now: i64) -> Result<()> {
        let spilled = new.run.level == 0;
        fail::fail_point!(if spilled {
            "dedupe::spill"
        } else {
            "dedupe::merge"
        });
        self.runs
            .switch(conn, (new.run, bytes), &new.replaced, now, |conn| {
                if spilled {
                    conn.execute("DELETE FROM id_log", [])?;
                }
                Ok(())
            })?;
        if spilled {
            let fronts = [&mut self.front, &mut self.next_front];
            for front in fronts.into_iter().flatten() {
                self.table.keys().for_each(|key| front.insert(key));
            }
            self.table.clear(self.sizes.table_ids);
        } else {
            self.front = self.next_front.take();
        }
        self.runs.warm(day_of(now), self.sizes.filter_bytes);
        Ok(())
    }
}

fn day_of(seconds: i64) -> u16 {
    u16::try_from(seconds.div_euclid(86_400)).unwrap_or(0)
}

/// Writes sorted ids as a run.
fn write_run(path: &Path, ids: &[Id], block_ids: usize) -> Result<u64> {
    let mut out = RunWriter::create(path)?;
    for ids in ids.chunk_by(|a, b| a.key.day() == b.key.day()) {
        let parts = ids.len().div_ceil(block_ids);
        let mut rest = ids;
        for at in 0..parts {
            let count = rest.partition_point(|id| run::part(id.key.lead(), parts).0 <= at);
            let (block, after) = rest.split_at(count);
            out.block(ids[0].key.day(), block)?;
            rest = after;
        }
    }
    out.finish()
}

#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;
