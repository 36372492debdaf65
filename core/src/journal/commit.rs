//! Into the journal: events, ids, coverage and the end of their unit, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::params;

use super::body::Wire;
use super::counts::Events;
use super::free::free_passed;
use super::marks::Marks;
use super::reach::Lag;
use super::read::Stored;
use super::writer::Tx;
use super::{Journal, LaneId, activity, body, sql};
use crate::dedupe::Verdict;
use crate::error::{Error, Result};
use crate::event::{AuditEvent, Origin};
use crate::journal::dead_letters::OversizePart;
use crate::journal::units::{self, Stream};

/// One batch of one unit, as its source hands it over.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The source's collection of the tenant.
    pub stream: Stream,
    /// The lane that takes the events.
    pub lane: LaneId,
    /// Where the events come from.
    pub origin: Arc<Origin>,
    /// The events; may be empty.
    pub events: Arc<Vec<AuditEvent>>,
    /// The index in the unit of the first of them.
    pub first_index: u64,
    /// Pieces of records too large to be events, which go to the dead letters.
    pub oversize: Arc<Vec<OversizePart>>,
    /// The body of a unit that is committed as a whole, if it came compressed.
    pub wire: Option<Wire>,
    /// Whether this is the unit's last batch.
    pub unit_done: bool,
    /// What [`Committed::again`] said of the unit's first batch, for those that follow.
    pub again: Option<bool>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Events that were journaled.
    pub journaled: usize,
    /// Events that were journaled before and dropped.
    pub repeats: usize,
    /// Bytes of these.
    pub repeated_bytes: usize,
    /// Events among the journaled whose identity was known with other bytes.
    pub variants: usize,
    /// The journaled once more, if their unit is a straggler.
    pub late: Option<Late>,
    /// Repeats were journaled too, for the journal has lost a batch of the unit.
    pub again: bool,
}

/// Events that came late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// The pass that found their unit.
    pub pass: Lag,
    /// How many, by workload: one of those that are known, or `other`.
    pub events: BTreeMap<&'static str, usize>,
}

/// Hours since 1970; [`NO_HOUR`] where the time cannot be read.
pub(crate) type Hour = i64;
pub(crate) const NO_HOUR: Hour = -1;

/// The hour that an event counts for.
pub(crate) fn hour_of(event: &AuditEvent) -> Hour {
    event
        .created()
        .map_or(NO_HOUR, |at| at.timestamp().div_euclid(3600).max(NO_HOUR))
}

impl Journal {
    /// Commits a batch. Durable when this returns; on error nothing of it has happened and it may be tried again.
    pub async fn commit(&self, commit: Commit) -> Result<Committed> {
        let bound = self.shared.limits.handover_bytes;
        let id = Arc::clone(&self.shared.id);
        let marked = Arc::new((self.marks(&commit), commit));
        self.writer
            .run_light(move |tx| apply(tx, &marked.1, &marked.0, &id, bound))
            .await
    }
}

pub(super) fn apply(
    tx: &mut Tx<'_>,
    commit: &Commit,
    marks: &Marks,
    id: &Arc<str>,
    bound: usize,
) -> Result<Committed> {
    let mut fresh: Vec<usize> = Vec::with_capacity(commit.events.len());
    let mut kinds = vec![Events::default(); marks.kinds.len()];
    let mut done = Committed::default();
    let again = super::struck::is_struck(tx, commit.stream.id, &commit.origin.unit)?;
    if commit.again.is_some_and(|before| before != again) {
        return Err(Error::unavailable(
            "the journal has lost a part of this content while the rest was fetched",
        ));
    }
    done.again = again;
    let unit = units::find(tx, &commit.stream, &commit.origin.unit)?;
    for (index, mark) in marks.events.iter().enumerate() {
        let verdict = tx.dedupe.admit(mark.fingerprint)?;
        let counts = &mut kinds[mark.kind as usize];
        if verdict == Verdict::Repeat && !again {
            done.repeats += 1;
            done.repeated_bytes += commit.events[index].raw().len();
            counts.repeats += 1;
            continue;
        }
        done.journaled += 1;
        counts.journaled += 1;
        if verdict == Verdict::Variant {
            done.variants += 1;
            counts.variants += 1;
        }
        fresh.push(index);
    }
    let mut hours: BTreeMap<Hour, Events> = BTreeMap::new();
    for (counts_for, events) in marks.kinds.iter().zip(&kinds) {
        hours.entry(counts_for.hour).or_default().add(*events);
    }
    if !fresh.is_empty() {
        insert(tx, commit, &fresh, &encode_hours(&hours), id, bound)?;
    }
    for (hour, events) in &hours {
        tx.counts.events(&commit.origin.tenant, *hour, *events);
    }
    if !fresh.is_empty() {
        let pass = unit.as_ref().and_then(|unit| unit.pass);
        done.late = activity::count(tx, commit, marks, &kinds, pass)?;
    }
    super::dead_letters::store_oversize(tx, commit)?;
    if let (true, Some(unit)) = (commit.unit_done, &unit) {
        units::finish_unit(tx, &commit.stream, &commit.origin, unit)?;
    }
    Ok(done)
}

fn insert(
    tx: &mut Tx<'_>,
    commit: &Commit,
    fresh: &[usize],
    hours: &[u8],
    id: &Arc<str>,
    bound: usize,
) -> Result<()> {
    let body::Encoded {
        body,
        cuts,
        events,
        held,
    } = body::encode(tx.compressor, commit.wire.as_ref(), &commit.events, fresh)?;
    let raw_bytes: usize = events.iter().map(|event| event.raw().len()).sum();
    let place = tx.bodies.append(&body)?;
    let stored_bytes = place.bytes;
    sql(tx
        .conn
        .prepare_cached(
            "INSERT INTO batches (lane, stream, content_type, unit, events, raw_bytes, stored_bytes, journaled_at, \
             hours, cuts, file, offset, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                commit.lane,
                commit.stream.id,
                commit.origin.content_type,
                commit.origin.unit,
                events.len(),
                raw_bytes,
                stored_bytes as i64,
                tx.now_ms,
                hours,
                cuts,
                place.file,
                place.offset as i64,
                place.sum
            ])
        }))?;
    let seq = tx.conn.last_insert_rowid() as u64;
    sql(tx
        .conn
        .prepare_cached("UPDATE lanes SET journaled = journaled + ?1, head = ?2 WHERE lane = ?3")
        .and_then(|mut update| update.execute(params![events.len(), seq as i64, commit.lane])))?;
    let lane = commit.lane;
    let stored = Arc::new(Stored {
        journal: Arc::clone(id),
        lane,
        seq,
        raw_bytes,
        held,
        journaled_ms: tx.now_ms,
        events,
    });
    tx.after_commit(move |state| {
        let claimed = state
            .sinks
            .values()
            .any(|sink| sink.cursors.contains_key(&lane));
        if let Some(lane) = state.lanes.get_mut(&lane) {
            lane.head = seq;
            lane.bytes += stored_bytes;
            if !claimed {
                lane.evicted = seq;
            }
        }
        if claimed {
            state.remember(stored, bound);
        }
    });
    free_unclaimed(tx, lane)
}

/// How many events of which hour were journaled with a batch: pairs of `hour, count`.
fn encode_hours(hours: &BTreeMap<Hour, Events>) -> Vec<u8> {
    let mut out = Vec::with_capacity(hours.len() * 12);
    for (hour, counts) in hours.iter().filter(|(_, counts)| counts.journaled > 0) {
        out.extend_from_slice(&hour.to_le_bytes());
        out.extend_from_slice(&counts.journaled.to_le_bytes());
    }
    out
}

/// The hours of a batch, as they were journaled with it.
pub(super) fn decode_hours(hours: &[u8]) -> impl Iterator<Item = (Hour, u32)> {
    hours.chunks_exact(12).filter_map(|pair| {
        let (hour, count) = pair.split_first_chunk::<8>()?;
        Some((
            Hour::from_le_bytes(*hour),
            u32::from_le_bytes(*count.first_chunk::<4>()?),
        ))
    })
}

/// A lane that no sink takes keeps nothing.
fn free_unclaimed(tx: &mut Tx<'_>, lane: LaneId) -> Result<()> {
    let claimed: bool = sql(tx
        .conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM cursors WHERE lane = ?1)")
        .and_then(|mut ask| ask.query_row([lane], |row| row.get(0))))?;
    if claimed {
        Ok(())
    } else {
        free_passed(tx, lane)
    }
}
