//! The journal: the one durable thing between unreliable sources and unreliable sinks.
//!
//! Invariants, each with a test that would fail without it:
//!
//! - A batch, its ids, its part of coverage and the end of its unit are committed in one transaction, or not at all.
//! - A cursor, its receipt, its dead letters and its counts are committed in one transaction, after the delivery.
//! - A sequence number is never used again, a position carries the journal's id: a sink cannot be led astray.
//! - A batch is freed only when every sink that takes its lane has passed it, or was detached from it on record.
//! - Events that wait never exceed the size limit; free pages count as free.
//!
//! One thread writes (`writer`): whatever waits together shares one transaction and one fsync. Sinks that have caught
//! up get batches from memory and never read them back. Reads hold no transaction across a delivery, which would keep
//! `SQLite`'s log from being checkpointed.

mod account;
mod activity;
mod bodies;
mod body;
mod commit;
mod counts;
mod cursors;
mod damage;
mod dead_letters;
mod fold;
mod letters;
mod limits;
mod pace;
mod pause;
mod reach;
mod read;
mod resend;
mod schema;
mod standing;
mod state;
mod status;
mod store;
mod struck;
mod sums;
mod units;
mod wal;
mod writer;

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::dedupe::{Dedupe, Fingerprinter, Sizes};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::plugin::LaneKind;

pub use body::Wire;
pub(crate) use commit::NO_HOUR;
pub use commit::{Commit, Committed};
pub use cursors::{Advance, Orphan, SinkSpec, Start, Tally};
pub use damage::{Damage, Recovered, SourceAndTenant, recover};
pub use dead_letters::{DeadLetter, OversizePart};
pub(crate) use fold::OLD_HOUR;
pub use letters::{DeadLetters, Letter, Letters};
pub use limits::Room;
pub use reach::Lag;
pub use read::{Position, Stored};
pub use resend::{Fate, Found, Kept};
pub(crate) use status::look_into;
pub use status::{GapStatus, SKIPS, SinkStatus, Skip, Status, TenantStatus};
pub use store::{Changes, Store};
pub use units::{Due, Registered, Stream, Unfetched, Untried};

use bodies::Bodies;
use state::{LaneState, Shared, State};
use sums::Sums;
use writer::Writer;

/// A lane's number in its journal.
pub type LaneId = i64;

/// What the journal may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes on disk; beyond it optional sinks are detached and tenants over their share wait.
    pub max_bytes: u64,
    /// Bytes of fresh batches kept in memory for sinks that have caught up.
    pub handover_bytes: usize,
    /// How long the cursor of a sink that left the configuration holds its data.
    pub orphan_grace: std::time::Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 10 << 30,
            handover_bytes: 8 << 20,
            orphan_grace: std::time::Duration::from_hours(7 * 24),
        }
    }
}

/// A journal, open for collecting and delivering. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    writer: Writer,
    readers: Arc<Readers>,
    dir: Arc<Path>,
    fingerprinter: Fingerprinter,
}

/// Connections that only read, lent to one question at a time.
#[derive(Debug)]
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// One for each question that may be asked at a time.
    places: Arc<Semaphore>,
}

/// Ends the journal when all its users are gone: waits for the writer thread, which lets go of the lock.
pub struct Closer {
    thread: JoinHandle<()>,
}

impl Closer {
    /// Waits until everything that was accepted is written. All clones of the journal must be dropped first.
    pub fn wait(self) {
        if self.thread.join().is_err() {
            tracing::error!("the journal's writer ended by a panic");
        }
    }
}

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

    /// The journal's random id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.shared.id
    }

    /// Whether nothing can be written any more, because the writer has panicked.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.writer.is_gone()
    }

    /// Returns when nothing can be written any more.
    pub(crate) async fn gone(&self) {
        self.writer.gone().await;
    }

    /// Wakes at every commit and every cursor that moves.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.subscribe()
    }

    /// Returns once everything that was asked of the journal before has happened, and shows.
    pub async fn settled(&self) -> Result<()> {
        self.writer.run(|_| Ok(())).await
    }

    /// Asks the database a question on a thread for blocking work.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let readers = Arc::clone(&self.readers);
        // Without a limit, a thousand tenants that ask at once would have a thread and a connection each.
        let place = Arc::clone(&readers.places).acquire_owned().await;
        let place = place.map_err(|_| Error::bug("the journal's readers are gone"))?;
        let answer = move || {
            let answer = readers.with(question);
            drop(place);
            answer
        };
        tokio::task::spawn_blocking(answer)
            .await
            .map_err(|error| Error::bug("a reader of the journal stopped").with_cause(error))?
    }
}

/// Whether there is a journal in folder `dir`.
pub(crate) fn is_in(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

const FILE: &str = "journal.sqlite";
/// Locked by the process that holds the journal.
const LOCK: &str = "lock";
/// Questions that are asked at a time, and connections kept for the next.
const READERS: usize = 4;

impl Readers {
    fn with<T>(&self, question: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let lent = self
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop();
        let conn = match lent {
            Some(conn) => conn,
            None => open_read_only(&self.path)?,
        };
        let answer = question(&conn);
        if !conn.is_autocommit() {
            // A transaction that was left open would keep the log from being checkpointed.
            return answer;
        }
        let mut idle = self
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < READERS {
            idle.push(conn);
        }
        answer
    }
}

/// Takes the folder's lock, creating the folder if needed: private, because records hold personal data.
fn lock(dir: &Path) -> Result<File> {
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

fn open_database(path: &Path) -> Result<Connection> {
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
         PRAGMA cache_size = -4096; PRAGMA journal_size_limit = 16777216; PRAGMA temp_store = MEMORY;",
    ))?;
    conn.set_prepared_statement_cache_capacity(64);
    // Otherwise a statement whose plan may depend on a value is planned anew with each value.
    sql(conn.set_db_config(
        rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG,
        true,
    ))?;
    // Checkpoints come with sums (sums.rs): none is made behind their back.
    sql(conn.set_db_config(
        rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE,
        true,
    ))?;
    Ok(conn)
}

/// A database with the journal's tables, for tests of what lives in them.
#[cfg(test)]
pub(crate) fn tables_at(path: &Path) -> Connection {
    let mut conn = open_database(path).unwrap();
    schema::migrate(&mut conn).unwrap();
    conn
}

fn open_read_only(path: &Path) -> Result<Connection> {
    let conn = sql(Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    ))?;
    sql(conn.execute_batch("PRAGMA cache_size = -512; PRAGMA query_only = ON;"))?;
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
        used_bytes: writer::used_bytes(conn, bodies.used_bytes())?,
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

fn lane_kind(stored: i64) -> LaneKind {
    if stored == 0 {
        LaneKind::Live
    } else {
        LaneKind::CatchUp
    }
}

fn stored_kind(kind: LaneKind) -> i64 {
    match kind {
        LaneKind::Live => 0,
        LaneKind::CatchUp => 1,
    }
}

const DISK_FULL: &str =
    "the disk that holds the journal is full; free some space, collecting goes on by itself";

/// The error of a file of the journal that does not hold what was written.
pub(crate) fn damaged(file: &Path, how: &str) -> Error {
    Error::config(format!(
        "the file {} is damaged: {how}; `audit-exporter journal recover` keeps it aside and saves what is intact, and \
         the next run collects again what Microsoft still has",
        file.display()
    ))
}

/// Turns `SQLite`'s errors into ours: a full or failing disk may pass, a damaged file will not.
pub(crate) fn sql<T>(result: rusqlite::Result<T>) -> Result<T> {
    use rusqlite::ErrorCode;
    result.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::unavailable(DISK_FULL).with_cause(error),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged(Path::new(FILE), "SQLite cannot read it").with_cause(error)
        }
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied,
        ) => Error::unavailable("the journal's database cannot be used").with_cause(error),
        _ => Error::bug("the journal's database refused a statement").with_cause(error),
    })
}

#[cfg(test)]
mod tests;
