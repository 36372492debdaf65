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
mod attach;
mod bodies;
mod body;
mod commit;
mod counts;
mod cursors;
mod damage;
mod dead_letters;
mod fold;
mod free;
mod letters;
mod limits;
mod marks;
mod open;
mod pace;
mod pause;
mod place;
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
mod waiting;
mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::dedupe::Fingerprinter;
use crate::error::{Error, Result};
use crate::plugin::LaneKind;

pub use attach::{Orphan, SinkSpec, Start};
pub use body::Wire;
pub(crate) use commit::NO_HOUR;
pub use commit::{Commit, Committed, Late};
pub(crate) use commit::{Hour, hour_of};
pub use cursors::{Advance, Tally};
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
pub use units::{Due, Registered, Stream};
pub use waiting::{Left, Unfetched, Untried};

use open::open_read_only;
#[cfg(test)]
pub(crate) use open::tables_at;
use state::Shared;
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
    /// One for each short question that may be asked at a time.
    places: Arc<Semaphore>,
    /// The one place for long questions.
    long: Arc<Semaphore>,
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
        self.ask_in(&self.readers.places, question).await
    }

    /// A question about all that the journal holds, which takes seconds where tenants are many: one at a time, and not
    /// in a place that fetching and delivering need.
    async fn ask_at_length<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ask_in(&self.readers.long, question).await
    }

    async fn ask_in<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        question: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let readers = Arc::clone(&self.readers);
        // Without a limit, a thousand tenants that ask at once would have a thread and a connection each.
        let place = Arc::clone(places).acquire_owned().await;
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
