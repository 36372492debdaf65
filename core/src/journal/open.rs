//! Opening the journal: its lock, its database, and what is known of it from then on.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::bodies::Bodies;
use super::state::{LaneState, Shared, State};
use super::sums::{self, Sums};
use super::writer::{self, Writer};
use super::{Closer, FILE, Journal, Limits, READERS, Readers, lane_kind, schema, sql};
use crate::clock::Clock;
use crate::dedupe::{Dedupe, Fingerprinter, Sizes};
use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// Locked by the process that holds the journal.
pub(super) const LOCK: &str = "lock";

impl Journal {
    /// Opens (or creates) the journal in folder `dir` and locks it against a second process.
    pub fn open(
        dir: &Path,
        limits: Limits,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<(Self, Closer)> {
        let at = |error: Error| error.context(format_args!("journal {}", dir.display()));
        let lock = lock(dir).map_err(at)?;
        let path = dir.join(FILE);
        let known = sums::verify(dir).map_err(at)?;
        let mut conn = open_database(&path).map_err(at)?;
        let mut sums = Sums::watch(&mut conn, dir, &known).map_err(at)?;
        schema::migrate(&mut conn).map_err(at)?;
        sums.begin(&conn, &known).map_err(at)?;
        let (id, seed) = identity(&conn).map_err(at)?;
        let (now, sizes) = (clock.now().timestamp(), Sizes::by(&clock));
        let dedupe = Dedupe::load(&conn, dir, now, sizes).map_err(at)?;
        let bodies = Bodies::load(&conn, dir).map_err(at)?;
        let state = load_state(&conn, &bodies).map_err(at)?;
        let shared = Arc::new(Shared::new(id, clock, metrics, limits, state));
        let readers = Arc::new(Readers {
            path,
            idle: Mutex::default(),
            places: Arc::new(Semaphore::new(READERS)),
            long: Arc::new(Semaphore::new(1)),
        });
        let (writer, thread) =
            Writer::start(conn, lock, (dedupe, bodies, sums), Arc::clone(&shared))?;
        Ok((
            Self {
                shared,
                writer,
                readers,
                dir: dir.into(),
                fingerprinter: Fingerprinter::new(seed),
            },
            Closer { thread },
        ))
    }

    /// Whether a process holds the journal in folder `dir`. Makes nothing.
    pub fn is_held(dir: &Path) -> Result<bool> {
        let lock = match File::open(dir.join(LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => Ok(true),
            Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }
}

/// Takes the folder's lock, creating the folder if needed: private, because records hold personal data.
pub(super) fn lock(dir: &Path) -> Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| {
            Error::config("the folder cannot be created; give a folder that this user may write")
                .with_cause(error)
        })?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join(LOCK))
        .map_err(|error| {
            Error::config("the folder cannot be written; give this user write permission")
                .with_cause(error)
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::config(
            "another audit-exporter uses this journal; stop it first, or give this one its own journal.path",
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

pub(super) fn open_database(path: &Path) -> Result<Connection> {
    // Created by us first, so that it never exists with wider permissions.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    let conn = sql(Connection::open(path))?;
    // `FULL`: a commit is on the disk when it returns.
    sql(conn.execute_batch(
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA cache_size = -2048; PRAGMA journal_size_limit = 16777216; PRAGMA temp_store = MEMORY;",
    ))?;
    conn.set_prepared_statement_cache_capacity(64);
    plan_once(&conn)?;
    // Checkpoints come with sums (sums.rs): none is made behind their back.
    sql(conn.set_db_config(
        rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
        true,
    ))?;
    Ok(conn)
}

/// Otherwise a statement whose plan may depend on a value is planned anew with each value.
fn plan_once(conn: &Connection) -> Result<()> {
    sql(conn.set_db_config(
        rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG,
        true,
    ))?;
    Ok(())
}

/// A database with the journal's tables, for tests of what lives in them.
#[cfg(test)]
pub(crate) fn tables_at(path: &Path) -> Connection {
    let mut conn = open_database(path).unwrap();
    schema::migrate(&mut conn).unwrap();
    conn
}

pub(super) fn open_read_only(path: &Path) -> Result<Connection> {
    let conn = sql(Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    ))?;
    sql(conn.execute_batch("PRAGMA cache_size = -512; PRAGMA query_only = ON;"))?;
    plan_once(&conn)?;
    sql(conn.busy_timeout(std::time::Duration::from_secs(5)))?;
    Ok(conn)
}

/// The journal's id and hash seed, made at its first opening.
fn identity(conn: &Connection) -> Result<(Arc<str>, u64)> {
    let fresh = uuid::Uuid::new_v4();
    for (key, value) in [
        ("id", fresh.to_string()),
        ("seed", uuid::Uuid::new_v4().as_u64_pair().0.to_string()),
    ] {
        sql(conn.execute(
            "INSERT OR IGNORE INTO meta (key, value) VALUES (?1, ?2)",
            [key, &value],
        ))?;
    }
    let get = |key: &str| -> Result<String> {
        sql(
            conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| {
                row.get(0)
            }),
        )
    };
    let seed = get("seed")?
        .parse()
        .map_err(|_| Error::config("the journal's meta table is damaged: seed is not a number"))?;
    Ok((get("id")?.into(), seed))
}

fn load_state(conn: &Connection, bodies: &Bodies) -> Result<State> {
    let mut state = State {
        used_bytes: writer::used_bytes(conn)? + bodies.used_bytes(),
        ..State::default()
    };
    let mut lanes = sql(conn.prepare(
        "SELECT lane, tenant, kind, head, (SELECT coalesce(sum(b.stored_bytes), 0) FROM batches b \
         WHERE b.lane = l.lane) FROM lanes l",
    ))?;
    let mut rows = sql(lanes.query([]))?;
    while let Some(row) = sql(rows.next())? {
        let tenant: Arc<str> = sql(row.get::<_, String>(1))?.into();
        let head = sql(row.get::<_, i64>(3))? as u64;
        state.lanes.insert(
            sql(row.get(0))?,
            LaneState {
                tenant_name: Arc::clone(&tenant),
                tenant,
                kind: lane_kind(sql(row.get(2))?),
                head,
                evicted: head,
                bytes: sql(row.get::<_, i64>(4))? as u64,
            },
        );
    }
    let mut cursors = sql(conn.prepare("SELECT sink, lane, seq FROM cursors"))?;
    let mut rows = sql(cursors.query([]))?;
    while let Some(row) = sql(rows.next())? {
        state
            .sinks
            .entry(sql(row.get::<_, String>(0))?.into())
            .or_default()
            .cursors
            .insert(sql(row.get(1))?, sql(row.get::<_, i64>(2))? as u64);
    }
    Ok(state)
}
