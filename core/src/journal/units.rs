//! What sources have listed, and what became of it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{OptionalExtension, params};

use super::counts::Units;
use super::reach::{self, Lag, Passes};
use super::writer::Tx;
use super::{Journal, sql, stored_kind};
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::plugin::{Gap, LaneKind, Listing, Unit};

/// One source's collection of one tenant, as the journal numbers it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    pub(super) id: i64,
    /// The source's number in the ids' hashes.
    pub(super) number: u8,
}

/// What was new in a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// Units that are to be fetched again.
    pub reopened: usize,
    /// Units, by content type; zero where all were known.
    pub new: BTreeMap<Arc<str>, usize>,
    /// Of these, the stragglers, by content type and by the pass that found them.
    pub stragglers: BTreeMap<(Arc<str>, Lag), usize>,
}

/// A unit that is due, with its history.
#[derive(Clone, Debug)]
pub struct Due {
    /// The unit.
    pub unit: Unit,
    /// How often it was tried.
    pub attempts: u32,
}

/// Fetched units are remembered for so long after the source has forgotten them, so that none is fetched twice.
const REMEMBER_FETCHED_MS: i64 = 2 * 86_400_000;
/// Lost units are what somebody may ask for by name.
const REMEMBER_LOST_MS: i64 = 90 * 86_400_000;
pub(super) const MS_PER_HOUR: i64 = 3_600_000;

impl Journal {
    /// The stream of `source` for `tenant`, made at its first use.
    pub async fn stream(&self, source: &str, tenant: &str) -> Result<Stream> {
        let (source, tenant) = (source.to_owned(), tenant.to_owned());
        self.writer
            .run(move |tx| {
                sql(tx.conn.execute(
                    "INSERT OR IGNORE INTO streams (source, tenant) VALUES (?1, ?2)",
                    [&source, &tenant],
                ))?;
                sql(tx.conn.execute(
                    "INSERT OR IGNORE INTO source_numbers (source) VALUES (?1)",
                    [&source],
                ))?;
                let (id, number): (i64, i64) = sql(tx.conn.query_row(
                    "SELECT stream, number FROM streams JOIN source_numbers USING (source) \
                     WHERE source = ?1 AND tenant = ?2",
                    [&source, &tenant],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                ))?;
                let number = u8::try_from(number).map_err(|_| {
                    Error::config("this journal has seen 255 sources; start a new one")
                })?;
                Ok(Stream { id, number })
            })
            .await
    }

    /// The source's checkpoint, as it last stored it.
    pub async fn checkpoint(&self, stream: &Stream) -> Result<Option<String>> {
        let id = stream.id;
        self.ask(move |conn| {
            sql(conn.query_row(
                "SELECT checkpoint FROM streams WHERE stream = ?1",
                [id],
                |row| row.get(0),
            ))
        })
        .await
    }

    /// Registers listed units and the checkpoint in one transaction. Known units stay as they are. Returns what was
    /// new.
    pub async fn register(
        &self,
        stream: &Stream,
        units: Vec<Unit>,
        checkpoint: Option<String>,
    ) -> Result<Registered> {
        let listing = Listing {
            units,
            ..Listing::default()
        };
        self.register_listing(stream, listing, checkpoint).await
    }

    /// The same, with all else that a listing brings.
    pub async fn register_listing(
        &self,
        stream: &Stream,
        listing: Listing,
        checkpoint: Option<String>,
    ) -> Result<Registered> {
        let stream = stream.id;
        self.writer
            .run(move |tx| {
                let mut done = Registered::default();
                let mut passes = Passes::of(tx.conn, stream);
                for unit in &listing.units {
                    register_unit(tx, stream, unit, &mut passes, &mut done)?;
                }
                for gap in &listing.gaps {
                    note_gap(tx, stream, gap)?;
                }
                for reach in &listing.reach {
                    reach::store(tx, stream, reach)?;
                }
                if let Some(checkpoint) = checkpoint {
                    sql(tx
                        .conn
                        .prepare_cached("UPDATE streams SET checkpoint = ?1 WHERE stream = ?2")
                        .and_then(|mut update| update.execute(params![checkpoint, stream])))?;
                }
                forget_settled(tx)?;
                Ok(done)
            })
            .await
    }

    /// Up to `wanted` units that are due now and not in `busy`, and when the next one will be due.
    pub async fn due(
        &self,
        stream: &Stream,
        kind: LaneKind,
        busy: HashSet<Arc<str>>,
        wanted: usize,
    ) -> Result<(Vec<Due>, Option<DateTime<Utc>>)> {
        let (stream, now) = (stream.id, self.shared.clock.now().timestamp_millis());
        self.ask(move |conn| {
            let mut select = sql(conn.prepare_cached(
                "SELECT unit, content_type, locator, created, expires, attempts, due FROM units \
                 WHERE stream = ?1 AND lane_kind = ?2 AND state = 0 ORDER BY due LIMIT ?3",
            ))?;
            let mut rows =
                sql(select.query(params![stream, stored_kind(kind), wanted + busy.len() + 1]))?;
            let mut found = Vec::new();
            while let Some(row) = sql(rows.next())? {
                let id: String = sql(row.get(0))?;
                if busy.contains(id.as_str()) {
                    continue;
                }
                let due: i64 = sql(row.get(6))?;
                if due > now || found.len() == wanted {
                    return Ok((found, DateTime::from_timestamp_millis(due)));
                }
                found.push(Due {
                    unit: Unit {
                        id: id.into(),
                        content_type: sql(row.get::<_, String>(1))?.into(),
                        locator: sql(row.get(2))?,
                        created: time(sql(row.get(3))?),
                        expires: time(sql(row.get(4))?),
                        lane: kind,
                    },
                    attempts: sql(row.get(5))?,
                });
            }
            Ok((found, None))
        })
        .await
    }

    /// Puts a unit off after a failure.
    pub async fn put_off(
        &self,
        stream: &Stream,
        unit: &Unit,
        wait: Duration,
        error: String,
    ) -> Result<()> {
        let (stream, unit) = (stream.id, Arc::clone(&unit.id));
        self.writer
            .run(move |tx| {
                sql(tx.conn.execute(
                    "UPDATE units SET attempts = attempts + 1, due = ?1, error = ?2 \
                     WHERE stream = ?3 AND unit = ?4 AND state = 0",
                    params![tx.now_ms + wait.as_millis() as i64, error, stream, unit],
                ))?;
                Ok(())
            })
            .await
    }

    /// Counts a unit as lost. It is never fetched again; its name and the reason stay.
    pub async fn lose(&self, stream: &Stream, unit: &Unit, error: String) -> Result<()> {
        let (stream, unit) = (stream.id, unit.clone());
        self.writer
            .run(move |tx| {
                let changed = sql(tx.conn.execute(
                    "UPDATE units SET state = 2, error = ?1 WHERE stream = ?2 AND unit = ?3 AND state = 0",
                    params![error, stream, unit.id],
                ))?;
                if changed > 0 {
                    let one = Units { lost: 1, ..Units::default() };
                    let created = unit.created.timestamp_millis();
                    tx.counts.units(stream, &unit.content_type, created, one);
                }
                Ok(())
            })
            .await
    }
}

fn register_unit(
    tx: &mut Tx<'_>,
    stream: i64,
    unit: &Unit,
    passes: &mut Passes<'_>,
    done: &mut Registered,
) -> Result<()> {
    let created = unit.created.timestamp_millis();
    let pass = passes.straggling(&unit.content_type, created)?;
    let new = sql(tx
        .conn
        .prepare_cached(
            "INSERT OR IGNORE INTO units (stream, unit, content_type, locator, created, expires, lane_kind, due, pass) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, min(?5, ?8), ?9)",
        )
        .and_then(|mut insert| {
            insert.execute(params![
                stream,
                unit.id,
                unit.content_type,
                unit.locator,
                created,
                unit.expires.timestamp_millis(),
                stored_kind(unit.lane),
                // A source whose clock is ahead of ours does not make a unit wait.
                tx.now_ms,
                pass
            ])
        }))?;
    *done.new.entry(Arc::clone(&unit.content_type)).or_default() += new;
    if new == 0 {
        done.reopened += super::struck::reopen(tx, stream, unit)?;
        return Ok(());
    }
    let one = Units {
        listed: 1,
        ..Units::default()
    };
    tx.counts.units(stream, &unit.content_type, created, one);
    if let Some(pass) = pass {
        reach::count_straggler(tx, stream, unit, pass)?;
        let key = (Arc::clone(&unit.content_type), pass);
        *done.stragglers.entry(key).or_default() += 1;
    }
    Ok(())
}

fn note_gap(tx: &Tx<'_>, stream: i64, gap: &Gap) -> Result<()> {
    sql(tx.conn.execute(
        "INSERT INTO gaps (stream, content_type, \"from\", \"to\", reason, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            stream,
            gap.content_type,
            gap.from.timestamp_millis(),
            gap.to.timestamp_millis(),
            gap.reason,
            tx.now_ms
        ],
    ))?;
    Ok(())
}

/// What is known of a unit whose events come.
#[derive(Debug)]
pub(super) struct Known {
    /// That it was listed under.
    content_type: Arc<str>,
    created_ms: i64,
    is_pending: bool,
    /// The pass that found it, if it is a straggler.
    pub(super) pass: Option<Lag>,
}

pub(super) fn find(tx: &Tx<'_>, stream: &Stream, unit: &str) -> Result<Option<Known>> {
    sql(tx
        .conn
        .prepare_cached(
            "SELECT content_type, created, state = 0, pass FROM units WHERE stream = ?1 AND unit = ?2",
        )
        .and_then(|mut find| {
            find.query_row(params![stream.id, unit], |row| {
                Ok(Known {
                    content_type: row.get::<_, String>(0)?.into(),
                    created_ms: row.get(1)?,
                    is_pending: row.get(2)?,
                    pass: row.get(3)?,
                })
            })
            .optional()
        }))
}

/// Marks a unit as fetched, in the transaction of its last batch.
pub(super) fn finish_unit(
    tx: &mut Tx<'_>,
    stream: &Stream,
    origin: &Origin,
    known: &Known,
) -> Result<()> {
    if !known.is_pending {
        return Ok(());
    }
    // Not with `RETURNING`: for that SQLite copies each page that it changes, and makes a table.
    sql(tx
        .conn
        .prepare_cached(
            "UPDATE units SET state = 1, locator = NULL, error = NULL WHERE stream = ?1 AND unit = ?2",
        )
        .and_then(|mut update| update.execute(params![stream.id, origin.unit])))?;
    let one = Units {
        fetched: 1,
        ..Units::default()
    };
    tx.counts
        .units(stream.id, &known.content_type, known.created_ms, one);
    Ok(())
}

/// Forgets settled units that no source can list any more. A few at a time, so that no commit is held up.
fn forget_settled(tx: &Tx<'_>) -> Result<()> {
    for (state, kept_ms) in [(1, REMEMBER_FETCHED_MS), (2, REMEMBER_LOST_MS)] {
        sql(tx
            .conn
            .prepare_cached(
                "DELETE FROM units WHERE (stream, unit) IN (SELECT stream, unit FROM units \
                 WHERE state <> 0 AND state = ?1 AND expires < ?2 LIMIT 200)",
            )
            .and_then(|mut delete| delete.execute([state, tx.now_ms - kept_ms])))?;
    }
    Ok(())
}

fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}
