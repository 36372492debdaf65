//! What the jobs of a transaction count, written once at its end: many batches count for the same few hours.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::commit::Hour;
use super::sql;
use super::units::MS_PER_HOUR;
use crate::error::Result;

/// Of a tenant's events of one hour.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Events {
    pub(super) journaled: u32,
    pub(super) repeats: u32,
    pub(super) variants: u32,
    /// Of the journaled: in content that came late.
    pub(super) late: u32,
}

impl Events {
    pub(super) fn add(&mut self, more: Self) {
        self.journaled += more.journaled;
        self.repeats += more.repeats;
        self.variants += more.variants;
        self.late += more.late;
    }
}

/// Of a stream's units of one hour.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Units {
    pub(super) listed: u32,
    pub(super) fetched: u32,
    pub(super) lost: u32,
}

/// The counts of the open transaction, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Counts {
    units: Vec<(i64, Arc<str>, Hour, Units)>,
    events: Vec<(Arc<str>, Hour, Events)>,
    activity: Vec<(i64, Box<str>, Hour, u32)>,
}

/// A place in them, to go back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    units: usize,
    events: usize,
    activity: usize,
}

impl Counts {
    /// Units of a content type, by when they became available.
    pub(super) fn units(
        &mut self,
        stream: i64,
        content_type: &Arc<str>,
        created_ms: i64,
        units: Units,
    ) {
        let hour = created_ms.div_euclid(MS_PER_HOUR);
        self.units
            .push((stream, Arc::clone(content_type), hour, units));
    }

    pub(super) fn events(&mut self, tenant: &Arc<str>, hour: Hour, events: Events) {
        self.events.push((Arc::clone(tenant), hour, events));
    }

    /// Events of a workload in a stream.
    pub(super) fn activity(&mut self, stream: i64, workload: &str, hour: Hour, events: u32) {
        self.activity.push((stream, workload.into(), hour, events));
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            units: self.units.len(),
            events: self.events.len(),
            activity: self.activity.len(),
        }
    }

    pub(super) fn roll_back(&mut self, mark: Mark) {
        self.units.truncate(mark.units);
        self.events.truncate(mark.events);
        self.activity.truncate(mark.activity);
    }

    /// Adds them to the account.
    pub(super) fn write(&self, conn: &Connection) -> Result<()> {
        self.write_units(conn)?;
        self.write_events(conn)?;
        self.write_activity(conn)
    }

    fn write_units(&self, conn: &Connection) -> Result<()> {
        let mut units: BTreeMap<(i64, &str, Hour), [i64; 3]> = BTreeMap::new();
        for (stream, content_type, hour, counts) in &self.units {
            let sums = units.entry((*stream, content_type, *hour)).or_default();
            let Units {
                listed,
                fetched,
                lost,
            } = *counts;
            for (sum, count) in sums.iter_mut().zip([listed, fetched, lost]) {
                *sum += i64::from(count);
            }
        }
        let mut upsert = sql(conn.prepare_cached(
            "INSERT INTO coverage_content (stream, content_type, hour, listed, fetched, lost) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (stream, content_type, hour) DO UPDATE SET listed = listed + excluded.listed, \
             fetched = fetched + excluded.fetched, lost = lost + excluded.lost",
        ))?;
        for ((stream, content_type, hour), [listed, fetched, lost]) in units {
            sql(upsert.execute(params![stream, content_type, hour, listed, fetched, lost]))?;
        }
        Ok(())
    }

    fn write_events(&self, conn: &Connection) -> Result<()> {
        let mut events: BTreeMap<(&str, Hour), [i64; 4]> = BTreeMap::new();
        for (tenant, hour, counts) in &self.events {
            let sums = events.entry((tenant, *hour)).or_default();
            let Events {
                journaled,
                repeats,
                variants,
                late,
            } = *counts;
            for (sum, count) in sums.iter_mut().zip([journaled, repeats, variants, late]) {
                *sum += i64::from(count);
            }
        }
        let mut upsert = sql(conn.prepare_cached(
            "INSERT INTO coverage_events (tenant, hour, journaled, repeats, variants, late) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (tenant, hour) DO UPDATE SET journaled = journaled + excluded.journaled, \
             repeats = repeats + excluded.repeats, variants = variants + excluded.variants, \
             late = late + excluded.late",
        ))?;
        for ((tenant, hour), [journaled, repeats, variants, late]) in events {
            sql(upsert.execute(params![tenant, hour, journaled, repeats, variants, late]))?;
        }
        Ok(())
    }

    fn write_activity(&self, conn: &Connection) -> Result<()> {
        let mut activity: BTreeMap<(i64, &str, Hour), i64> = BTreeMap::new();
        for (stream, workload, hour, events) in &self.activity {
            *activity.entry((*stream, workload, *hour)).or_default() += i64::from(*events);
        }
        let mut upsert = sql(conn.prepare_cached(
            "INSERT INTO activity (stream, workload, hour, events) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (stream, workload, hour) DO UPDATE SET events = events + excluded.events",
        ))?;
        for ((stream, workload, hour), events) in activity {
            sql(upsert.execute(params![stream, workload, hour, events]))?;
        }
        Ok(())
    }
}
