//! Out of the journal: batches by lane, from memory or from disk.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::place::Place;
use super::{Journal, LaneId, body, sql};
use crate::error::{Error, Result};
use crate::event::{AuditEvent, Origin};

/// Where a batch lies: what a far side stores to say how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The journal's random id.
    pub journal: Arc<str>,
    /// The lane's number.
    pub lane: LaneId,
    /// The first sequence number.
    pub first: u64,
    /// The last sequence number.
    pub last: u64,
}

/// A batch as it was journaled.
#[derive(Debug)]
pub struct Stored {
    /// The journal's id.
    pub journal: Arc<str>,
    /// Its lane.
    pub lane: LaneId,
    /// Its sequence number.
    pub seq: u64,
    /// The sum of its records' bytes.
    pub raw_bytes: usize,
    /// When it was journaled, in milliseconds since 1970.
    pub journaled_ms: i64,
    /// The memory that its records keep from being freed.
    pub(super) held: usize,
    /// Its events.
    pub events: Arc<Vec<AuditEvent>>,
}

impl Stored {
    /// The memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.held + self.events.len() * size_of::<AuditEvent>()
    }
}

impl Journal {
    /// The batches of `lane` after `after`, in order: at least one if there is any, then as many as fit `max_events`
    /// and `max_bytes`.
    pub async fn read(
        &self,
        lane: LaneId,
        after: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<Arc<Stored>>> {
        let (fresh, name) = self.shared.look(|state| {
            let Some(known) = state.lanes.get(&lane) else {
                return (Some(Vec::new()), None);
            };
            // Memory holds all that is after the cursor unless some of it was evicted or came before this start.
            let fresh = (after >= known.evicted).then(|| {
                let after_cursor = |s: &&Arc<Stored>| s.lane == lane && s.seq > after;
                take_fitting(
                    &mut state.recent.iter().filter(after_cursor),
                    max_events,
                    max_bytes,
                )
            });
            (fresh, Some(Arc::clone(&known.tenant_name)))
        });
        match (fresh, name) {
            (None, Some(name)) => {
                self.read_disk(lane, name, after, max_events, max_bytes)
                    .await
            }
            (fresh, _) => Ok(fresh.unwrap_or_default()),
        }
    }

    /// How many events and raw bytes `lane` holds after `after`; nothing if not all of them are in memory.
    #[must_use]
    pub fn fresh(&self, lane: LaneId, after: u64) -> Option<(usize, usize)> {
        self.shared.look(|state| {
            let known = state.lanes.get(&lane)?;
            (after >= known.evicted).then(|| {
                let mine = |s: &&Arc<Stored>| s.lane == lane && s.seq > after;
                let sum = |(events, bytes), stored: &Arc<Stored>| {
                    (events + stored.events.len(), bytes + stored.raw_bytes)
                };
                state.recent.iter().filter(mine).fold((0, 0), sum)
            })
        })
    }

    async fn read_disk(
        &self,
        lane: LaneId,
        tenant_name: Arc<str>,
        after: u64,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Vec<Arc<Stored>>> {
        let slice = Slice {
            journal: Arc::clone(&self.shared.id),
            dir: Arc::clone(&self.dir),
            lane,
            tenant_name,
            after,
            max_events,
            max_bytes,
        };
        self.ask(move |conn| {
            // A file that is gone was freed or moved after its rows were read: they say something else now.
            match slice.read(conn)? {
                Found::Batches(found) => Ok(found),
                Found::Gone(gone) => match slice.read(conn)? {
                    Found::Gone(still) if still == gone => Err(gone.missing(&slice.dir)),
                    Found::Batches(found) => Ok(found),
                    Found::Gone(_) => Err(Error::unavailable("batches are being moved")),
                },
            }
        })
        .await
    }
}

/// What to read from the disk.
struct Slice {
    journal: Arc<str>,
    dir: Arc<Path>,
    lane: LaneId,
    tenant_name: Arc<str>,
    after: u64,
    max_events: usize,
    max_bytes: usize,
}

enum Found {
    Batches(Vec<Arc<Stored>>),
    /// The file of the first one is gone.
    Gone(Place),
}

impl Slice {
    fn read(&self, conn: &Connection) -> Result<Found> {
        let mut select = sql(conn.prepare_cached(
            "SELECT b.seq, b.content_type, b.unit, b.events, b.raw_bytes, b.journaled_at, b.cuts, s.source, s.tenant, \
             b.file, b.offset, b.stored_bytes, b.sum \
             FROM batches b JOIN streams s USING (stream) WHERE b.lane = ?1 AND b.seq > ?2 ORDER BY b.seq",
        ))?;
        let mut rows = sql(select.query(params![self.lane, self.after as i64]))?;
        let mut found: Vec<Arc<Stored>> = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some(row) = sql(rows.next())? {
            events += sql(row.get::<_, usize>(3))?;
            bytes += sql(row.get::<_, usize>(4))?;
            if !found.is_empty() && (events > self.max_events || bytes > self.max_bytes) {
                break;
            }
            let place = Place::of(row, 9)?;
            let body = match place.read(&self.dir) {
                // What lies before it first.
                Err(_) if !found.is_empty() => break,
                body => body?,
            };
            match body {
                Some(body) => found.push(Arc::new(self.stored(row, &body)?)),
                None if found.is_empty() => return Ok(Found::Gone(place)),
                None => break,
            }
        }
        Ok(Found::Batches(found))
    }

    fn stored(&self, row: &Row<'_>, body: &[u8]) -> Result<Stored> {
        let origin = Arc::new(Origin {
            tenant: sql(row.get::<_, String>(8))?.into(),
            tenant_name: Arc::clone(&self.tenant_name),
            source: sql(row.get::<_, String>(7))?.into(),
            content_type: sql(row.get::<_, String>(1))?.into(),
            unit: sql(row.get::<_, String>(2))?.into(),
        });
        let shape = body::Shape {
            events: sql(row.get(3))?,
            raw_bytes: sql(row.get(4))?,
            cuts: sql(sql(row.get_ref(6))?.as_blob_or_null().map_err(Into::into))?,
        };
        Ok(Stored {
            journal: Arc::clone(&self.journal),
            lane: self.lane,
            seq: sql(row.get::<_, i64>(0))? as u64,
            raw_bytes: shape.raw_bytes,
            journaled_ms: sql(row.get(5))?,
            // Never among those that are kept in memory.
            held: 0,
            events: Arc::new(body::decode(body, &shape, &origin)?),
        })
    }
}

fn take_fitting<'a>(
    batches: &mut impl Iterator<Item = &'a Arc<Stored>>,
    max_events: usize,
    max_bytes: usize,
) -> Vec<Arc<Stored>> {
    let (mut events, mut bytes) = (0, 0);
    let mut taken = Vec::new();
    for stored in batches {
        events += stored.events.len();
        bytes += stored.raw_bytes;
        if !taken.is_empty() && (events > max_events || bytes > max_bytes) {
            break;
        }
        taken.push(Arc::clone(stored));
    }
    taken
}
