//! The one thread that writes: whatever waits together is committed together, with one fsync.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::bodies::{Bodies, Mark, move_some};
use super::counts::Counts;
use super::free::free_passed;
use super::state::{Change, Shared, State};
use super::sums::Sums;
use super::{LaneId, sql};
use crate::dedupe::Dedupe;
use crate::error::{Error, Result};

/// Jobs that may wait for the writer. Each holds at most one batch, so this bounds memory too.
const QUEUE: usize = 32;
/// Jobs in one transaction: enough to share the fsync, few enough to keep its latency and size small.
const GROUP: usize = 64;
/// While jobs come thick and fast, transactions begin this far apart, so that more of them share one.
const REST: Duration = Duration::from_millis(5);

/// An open transaction, as a job sees it.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) dedupe: &'a mut Dedupe,
    pub(super) bodies: &'a mut Bodies,
    pub(super) counts: Counts,
    pub(super) compressor: &'a mut zstd::bulk::Compressor<'static>,
    pub(super) now_ms: i64,
    /// Lanes that hold more passed batches than one transaction should free.
    pub(super) owed: &'a mut BTreeSet<LaneId>,
    after: Vec<Change>,
}

impl Tx<'_> {
    /// Does this to the state in memory once the transaction has committed; not at all if it fails.
    pub(super) fn after_commit(&mut self, change: impl FnOnce(&mut State) + Send + 'static) {
        self.after.push(Box::new(change));
    }
}

/// Answers a job's caller once the transaction's fate is known.
type Answer = Box<dyn FnOnce(Result<(), &str>) + Send>;
/// Runs in a transaction; says whether it succeeded and how to answer.
type Job = Box<dyn FnOnce(&mut Tx<'_>) -> (bool, Answer) + Send>;

/// The way to the writer thread. Dropping the last one ends the thread after the jobs that wait.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    /// A test may have paused the time.
    is_tested: bool,
}

impl Writer {
    /// Starts the thread on its own connection. It keeps the `lock` until it ends: nobody may open the journal while
    /// jobs that were accepted are still being written.
    pub(super) fn start(
        conn: Connection,
        lock: File,
        (dedupe, bodies, sums): (Dedupe, Bodies, Sums),
        shared: Arc<Shared>,
    ) -> Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let is_tested = shared.clock.is_a_tests();
        let compressor = zstd::bulk::Compressor::new(super::body::LEVEL)?;
        // Shows the thread the runtime's time, which tests may have paused.
        let runtime = Handle::try_current().ok();
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let _time = runtime.as_ref().map(Handle::enter);
                let mut thread = Thread {
                    conn,
                    dedupe,
                    bodies,
                    compressor,
                    shared,
                    owed: BTreeSet::new(),
                };
                thread.run(queue, sums);
                drop(thread);
                drop(lock);
            })?;
        Ok((Self { jobs, is_tested }, thread))
    }

    /// Whether the thread has ended, which it does by itself only after a panic.
    pub(super) fn is_gone(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Returns when the thread has ended.
    pub(super) async fn gone(&self) {
        self.jobs.closed().await;
    }

    /// Runs `job` in the next transaction and returns its result once that has been committed and synced.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, result) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let result = job(tx);
            let succeeded = result.is_ok();
            let respond: Answer = Box::new(move |fate| {
                let result =
                    result.and_then(|value| fate.map(|()| value).map_err(Error::unavailable));
                // The caller may have gone; what it asked for has happened all the same.
                drop(answer.send(result));
            });
            (succeeded, respond)
        });
        self.jobs
            .send(job)
            .await
            .map_err(|_| Error::bug("the journal's writer has stopped"))?;
        let result = if self.is_tested {
            // Paused time would run on while it waits for a thread that tokio does not know.
            let waited = tokio::task::spawn_blocking(|| result.blocking_recv().ok());
            waited.await.ok().flatten()
        } else {
            result.await.ok()
        };
        result.ok_or_else(|| {
            Error::unavailable("the journal could not be written; the log says why")
        })?
    }
}

struct Thread {
    conn: Connection,
    dedupe: Dedupe,
    bodies: Bodies,
    compressor: zstd::bulk::Compressor<'static>,
    shared: Arc<Shared>,
    owed: BTreeSet<LaneId>,
}

impl Thread {
    fn run(&mut self, mut queue: mpsc::Receiver<Job>, mut sums: Sums) {
        while let Some(group) = self.next_group(&mut queue) {
            let (began, busy) = (Instant::now(), group.len() > 1);
            self.commit(group);
            if busy {
                std::thread::sleep(REST.saturating_sub(began.elapsed()));
            }
            let now = self.shared.clock.now().timestamp();
            if let Err(error) = self.dedupe.maintain(&self.conn, now) {
                tracing::warn!(%error, "the ids of events stay where they are for now");
            }
            sums.maintain(&self.conn);
        }
        sums.close(&self.conn);
    }

    /// The jobs of the next transaction: those that wait, and a slice of what is to be freed, and moved. Waits if there
    /// is nothing to do; `None` once there will be nothing.
    fn next_group(&mut self, queue: &mut mpsc::Receiver<Job>) -> Option<Vec<Job>> {
        let mut group = Vec::new();
        if self.owed.is_empty() {
            group.push(queue.blocking_recv()?);
        }
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(job) => group.push(job),
                // What is left to be freed is freed at the next start.
                Err(TryRecvError::Disconnected) if group.is_empty() => return None,
                Err(_) => break,
            }
        }
        if let Some(lane) = self.owed.pop_first() {
            group.push(Box::new(move |tx| {
                let freed = free_passed(tx, lane);
                (freed.is_ok(), Box::new(|_| ()))
            }));
        }
        if let Some(file) = self.bodies.sparse() {
            group.push(Box::new(move |tx| {
                let moved = move_some(tx, file);
                (moved.is_ok(), Box::new(|_| ()))
            }));
        }
        Some(group)
    }

    /// Runs the jobs in one transaction and answers their callers: a job that fails is undone alone, a commit that
    /// fails has undone all.
    fn commit(&mut self, group: Vec<Job>) {
        let mut answers = Vec::with_capacity(group.len());
        let fate = self.transact(group, &mut answers).map_err(|error| {
            self.dedupe.roll_back(0);
            self.bodies.roll_back(Mark::default());
            self.shared.metrics.journal_errors.inc();
            tracing::error!(%error, "the journal could not be written; will be retried");
            error.to_string()
        });
        for answer in answers {
            answer(match &fate {
                Ok(()) => Ok(()),
                Err(why) => Err(why),
            });
        }
    }

    fn transact(&mut self, group: Vec<Job>, answers: &mut Vec<Answer>) -> Result<()> {
        if !self.conn.is_autocommit() {
            // An earlier one could not even be rolled back.
            sql(self.conn.execute_batch("ROLLBACK"))?;
        }
        let mut tx = Tx {
            conn: &self.conn,
            dedupe: &mut self.dedupe,
            bodies: &mut self.bodies,
            counts: Counts::default(),
            compressor: &mut self.compressor,
            now_ms: self.shared.clock.now().timestamp_millis(),
            owed: &mut self.owed,
            after: Vec::new(),
        };
        let begun = run(tx.conn, "BEGIN IMMEDIATE");
        let mut done = begun;
        for job in group {
            let (ids, bodies, changes) = (tx.dedupe.pending(), tx.bodies.mark(), tx.after.len());
            let counts = tx.counts.mark();
            if done.is_ok() {
                done = run(tx.conn, "SAVEPOINT job");
            }
            if done.is_err() {
                // The transaction is gone: the caller of a job that is dropped without having run tries again.
                drop(job);
                continue;
            }
            let (succeeded, answer) = job(&mut tx);
            answers.push(answer);
            if succeeded {
                done = run(tx.conn, "RELEASE job");
            } else {
                tx.dedupe.roll_back(ids);
                tx.bodies.roll_back(bodies);
                tx.counts.roll_back(counts);
                tx.after.truncate(changes);
                done = sql(tx.conn.execute_batch("ROLLBACK TO job; RELEASE job"));
            }
        }
        let done = done
            .and_then(|()| tx.counts.write(tx.conn))
            .and_then(|()| tx.dedupe.log(tx.conn));
        let after = tx.after;
        fail::fail_point!("journal::commit");
        // What a row names is on disk before the row.
        let done = done.and_then(|()| self.bodies.sync());
        if let Err(error) = done.and_then(|()| run(&self.conn, "COMMIT")) {
            if !self.conn.is_autocommit() {
                sql(self.conn.execute_batch("ROLLBACK"))?;
            }
            return Err(error);
        }
        fail::fail_point!("journal::committed");
        self.dedupe.committed();
        self.bodies.committed();
        let used = used_bytes(&self.conn, self.bodies.used_bytes());
        self.shared.update(|state| {
            state.apply(after);
            state.used_bytes = used.unwrap_or(state.used_bytes);
        });
        Ok(())
    }
}

/// Runs a statement of every transaction without parsing it each time.
fn run(conn: &Connection, statement: &str) -> Result<()> {
    sql(conn
        .prepare_cached(statement)
        .and_then(|mut run| run.execute([])))?;
    Ok(())
}

/// Bytes in use, of the database (free pages count as free), of runs of ids, and of `bodies`.
pub(super) fn used_bytes(conn: &Connection, bodies: u64) -> Result<u64> {
    let pragma = |question: &str| -> Result<u64> {
        sql(conn
            .prepare_cached(question)
            .and_then(|mut ask| ask.query_row([], |row| row.get::<_, i64>(0))))
        .map(|value| value as u64)
    };
    let runs: u64 = sql(conn
        .prepare_cached("SELECT coalesce(sum(bytes), 0) FROM id_runs")
        .and_then(|mut sum| sum.query_row([], |row| row.get(0))))?;
    let pages = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    Ok(pages * pragma("PRAGMA page_size")? + runs + bodies)
}
