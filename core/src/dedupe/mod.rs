//! The memory of what was journaled: decides exactly whether an event is a repeat.
//!
//! Microsoft sends the same event several times by design, and a unit that broke off is fetched again from its
//! start. An event is dropped only when its identity **and** its bytes were journaled before (identity: tenant + Id +
//! `CreationTime` to the second + Operation; without an Id: its place in its unit). No probabilistic answer ever
//! drops an event: a filter may only say "certainly new", anything else is looked up in the ids themselves.
//!
//! Ids live per day of `CreationTime`: the newest in a table in memory, backed by an append-only log that commits
//! with the events; older ones in sorted runs on disk, each behind a binary fuse filter of about 9 bits an id.

mod identity;
mod run;

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

pub(crate) use identity::{Fingerprint, Fingerprinter};
use run::Run;

use crate::error::Result;
use crate::journal::sql;

/// Ids held in memory before they become a sorted run. About 5 MB of table; a run of this size is built in
/// milliseconds and needs little scratch memory. Few in tests, so that they all cross it.
const TABLE_IDS: usize = if cfg!(test) { 50 } else { 65_536 };

/// How long ids are remembered after their run was written.
const KEEP_DAYS: i64 = 35;

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

/// The values (bytes' hash and source) seen for one identity; nearly always one.
#[derive(Debug)]
enum Values {
    One(u64),
    Many(Vec<u64>),
}

impl Values {
    fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    fn add(&mut self, value: u64) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, value]),
            Self::Many(values) => values.push(value),
        }
    }
}

type Table = HashMap<u128, Values, identity::Prehashed>;

/// The ids of one journal. Owned by the journal's writer thread.
#[derive(Debug)]
pub(crate) struct Dedupe {
    table: BTreeMap<i32, Table>,
    table_ids: usize,
    runs: BTreeMap<i32, Vec<Run>>,
    /// Fingerprints that the open transaction added: forgotten again if it fails.
    pending: Vec<Fingerprint>,
}

impl Dedupe {
    /// Loads the filters of the runs and the log of ids that are not in a run yet.
    pub(crate) fn load(conn: &Connection) -> Result<Self> {
        let mut dedupe = Self {
            table: BTreeMap::new(),
            table_ids: 0,
            runs: run::load(conn)?,
            pending: Vec::new(),
        };
        let mut log = sql(conn.prepare("SELECT ids FROM id_log ORDER BY entry"))?;
        let mut rows = sql(log.query([]))?;
        while let Some(row) = sql(rows.next())? {
            let ids: Vec<u8> = sql(row.get(0))?;
            for fingerprint in Fingerprint::decode(&ids) {
                dedupe.insert(fingerprint);
            }
        }
        dedupe.pending.clear();
        Ok(dedupe)
    }

    /// Judges an event and, unless it is a repeat, remembers it.
    pub(crate) fn admit(&mut self, conn: &Connection, new: Fingerprint) -> Result<Verdict> {
        let mut verdict = Verdict::New;
        if let Some(values) = self.table.get(&new.day).and_then(|t| t.get(&new.identity)) {
            verdict = new.judge(values.as_slice());
        }
        if verdict != Verdict::Repeat {
            for run in self.runs.get(&new.day).into_iter().flatten() {
                if run.may_hold(new.identity) {
                    let values = run.values(conn, new.identity)?;
                    verdict = verdict.max(new.judge(&values));
                    if verdict == Verdict::Repeat {
                        break;
                    }
                }
            }
        }
        if verdict != Verdict::Repeat {
            self.insert(new);
        }
        Ok(verdict)
    }

    fn insert(&mut self, new: Fingerprint) {
        self.table
            .entry(new.day)
            .or_default()
            .entry(new.identity)
            .and_modify(|values| values.add(new.value))
            .or_insert(Values::One(new.value));
        self.table_ids += 1;
        self.pending.push(new);
    }

    /// Writes the ids of one batch into the log, in the same transaction as the batch.
    pub(crate) fn log(conn: &Connection, fresh: &[Fingerprint]) -> Result<()> {
        let ids = Fingerprint::encode(fresh);
        sql(conn
            .prepare_cached("INSERT INTO id_log (ids) VALUES (?1)")
            .and_then(|mut insert| insert.execute([ids])))?;
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
        for gone in self.pending.split_off(mark) {
            let Some(table) = self.table.get_mut(&gone.day) else {
                continue;
            };
            let empty = match table.get_mut(&gone.identity) {
                Some(Values::Many(values)) => {
                    if let Some(at) = values.iter().rposition(|value| *value == gone.value) {
                        values.remove(at);
                    }
                    values.is_empty()
                }
                Some(Values::One(_)) => true,
                None => continue,
            };
            if empty {
                table.remove(&gone.identity);
            }
            self.table_ids -= 1;
        }
    }

    /// Whether the table should become runs; asked between transactions.
    pub(crate) fn is_full(&self) -> bool {
        self.table_ids >= TABLE_IDS
    }

    /// Writes the table as sorted runs, one a day, and empties the log. The caller owns the transaction and calls
    /// [`Dedupe::spilled`] with the result once it has committed.
    pub(crate) fn spill(&self, conn: &Connection, now_seconds: i64) -> Result<Vec<(i32, Run)>> {
        let mut written = Vec::with_capacity(self.table.len());
        for (day, table) in &self.table {
            let mut ids: Vec<(u128, u64)> = table
                .iter()
                .flat_map(|(identity, values)| values.as_slice().iter().map(|v| (*identity, *v)))
                .collect();
            ids.sort_unstable();
            written.push((*day, Run::write(conn, *day, now_seconds, &ids)?));
        }
        sql(conn.execute("DELETE FROM id_log", []))?;
        run::forget_before(conn, now_seconds - KEEP_DAYS * 86_400)?;
        Ok(written)
    }

    /// The spill has committed: the runs take the table's place.
    pub(crate) fn spilled(&mut self, written: Vec<(i32, Run)>, now_seconds: i64) {
        self.table.clear();
        self.table_ids = 0;
        for (day, run) in written {
            self.runs.entry(day).or_default().push(run);
        }
        for runs in self.runs.values_mut() {
            runs.retain(|run| run.written_at() >= now_seconds - KEEP_DAYS * 86_400);
        }
        self.runs.retain(|_, runs| !runs.is_empty());
    }
}

impl Verdict {
    fn max(self, other: Self) -> Self {
        match (self, other) {
            (Self::Repeat, _) | (_, Self::Repeat) => Self::Repeat,
            (Self::Variant, _) | (_, Self::Variant) => Self::Variant,
            (Self::New, Self::New) => Self::New,
        }
    }
}

#[cfg(test)]
mod tests;
