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
use super::sums::{PAGE, Sums};
use super::{LaneId, sql};
use crate::dedupe::Dedupe;
use crate::error::{Error, Result};

/// Jobs that may wait for the writer. Each holds at most one batch, so this bounds memory too.
const QUEUE: usize = 32;
/// Jobs in one transaction: enough to share the fsync, few enough to keep its latency and size small.
const GROUP: usize = 64;
/// While jobs come thick and fast, transactions begin this far apart, so that more of them share one.
const REST: Duration = Duration::from_millis(8);
/// How long after a job has failed each is undone alone if it fails.
const CAREFUL: Duration = Duration::from_mins(10);

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
    /// Those whose batches could not be freed now.
    put_off: &'a mut BTreeSet<LaneId>,
    after: Vec<Change>,
}

impl Tx<'_> {
    /// Does this to the state in memory once the transaction has committed; not at all if it fails.
    pub(super) fn after_commit(&mut self, change: impl FnOnce(&mut State) + Send + 'static) {
        self.after.push(Box::new(change));
    }

    /// Does a job's work. What fails is undone alone, at the price of a savepoint, if the transaction is careful.
    fn add(&mut self, job: Job, is_careful: bool, answers: &mut Vec<Answer>) -> Result<(), Broken> {
        if !is_careful {
            let (succeeded, answer) = (job.work)(self);
            answers.push(answer);
            return if succeeded { Ok(()) } else { Err(Broken::Job) };
        }
        let (ids, bodies) = (self.dedupe.pending(), self.bodies.mark());
        let (counts, changes) = (self.counts.mark(), self.after.len());
        run(self.conn, "SAVEPOINT job")?;
        let (succeeded, answer) = (job.work)(self);
        answers.push(answer);
        if succeeded {
            return Ok(run(self.conn, "RELEASE job")?);
        }
        self.dedupe.roll_back(ids);
        self.bodies.roll_back(bodies);
        self.counts.roll_back(counts);
        self.after.truncate(changes);
        Ok(sql(self
            .conn
            .execute_batch("ROLLBACK TO job; RELEASE job"))?)
    }
}

/// What became of a transaction.
#[derive(Clone, Copy)]
enum Fate<'a> {
    Committed,
    /// A job failed that could not be undone alone.
    Undone,
    Failed(&'a str),
}

/// Answers a job's caller once the transaction's fate is known.
type Answer = Box<dyn FnOnce(Fate<'_>) + Send>;
/// What runs in a transaction. It says whether it succeeded and how to answer.
type Work = Box<dyn FnOnce(&mut Tx<'_>) -> (bool, Answer) + Send>;

struct Job {
    work: Work,
    /// It needs no savepoint: undone with others, it is done once more.
    is_light: bool,
}

impl Job {
    /// One that nobody waits for, and nobody would do again.
    fn chore(work: impl FnOnce(&mut Tx<'_>) -> Result<()> + Send + 'static) -> Self {
        Self {
            work: Box::new(move |tx| (work(tx).is_ok(), Box::new(|_| ()))),
            is_light: false,
        }
    }
}

/// Why a transaction is no more.
enum Broken {
    /// A job failed that could not be undone alone.
    Job,
    Journal(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Journal(error)
    }
}

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
                    put_off: BTreeSet::new(),
                    freeing: None,
                    careful_until: None,
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

    /// Runs `work` in the next transaction and returns its result once that has been committed and synced.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let result = self.queue(work, false).await?;
        result.ok_or_else(|| {
            Error::unavailable("the journal could not be written; the log says why")
        })?
    }

    /// The same for what is done often: as long as nothing fails, nothing is spent on undoing it alone. When another
    /// job's failure has undone it, it is done again.
    pub(super) async fn run_light<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Tx<'_>) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T> {
        match self.queue(work.clone(), true).await? {
            Some(result) => result,
            None => self.run(work).await,
        }
    }

    /// Its own result, or nothing if something else has kept it from being committed that may not do so again.
    async fn queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
        is_light: bool,
    ) -> Result<Option<Result<T>>> {
        let (answer, result) = oneshot::channel();
        let work: Work = Box::new(move |tx| {
            let result = work(tx);
            let succeeded = result.is_ok();
            let respond: Answer = Box::new(move |fate| {
                let result = match (fate, result) {
                    (Fate::Undone, Ok(_)) => None,
                    (Fate::Failed(why), Ok(_)) => Some(Err(Error::unavailable(why))),
                    (_, result) => Some(result),
                };
                // The caller may have gone; what it asked for has happened all the same.
                drop(answer.send(result));
            });
            (succeeded, respond)
        });
        self.jobs
            .send(Job { work, is_light })
            .await
            .map_err(|_| Error::bug("the journal's writer has stopped"))?;
        if self.is_tested {
            // Paused time would run on while it waits for a thread that tokio does not know.
            let waited = tokio::task::spawn_blocking(|| result.blocking_recv().ok());
            return Ok(waited.await.ok().flatten().flatten());
        }
        Ok(result.await.ok().flatten())
    }
}

struct Thread {
    conn: Connection,
    dedupe: Dedupe,
    bodies: Bodies,
    compressor: zstd::bulk::Compressor<'static>,
    shared: Arc<Shared>,
    owed: BTreeSet<LaneId>,
    /// Lanes that are owed too, but not before somebody has something else to do: freeing them has failed.
    put_off: BTreeSet<LaneId>,
    /// The lane that the open transaction frees.
    freeing: Option<LaneId>,
    careful_until: Option<Instant>,
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
            self.owed.append(&mut self.put_off);
        }
        while group.len() < GROUP {
            match queue.try_recv() {
                Ok(job) => group.push(job),
                // What is left to be freed is freed at the next start.
                Err(TryRecvError::Disconnected) if group.is_empty() => return None,
                Err(_) => break,
            }
        }
        self.freeing = self.owed.pop_first();
        if let Some(lane) = self.freeing {
            group.push(Job::chore(move |tx| {
                free_passed(tx, lane).inspect_err(|_| {
                    tx.put_off.insert(lane);
                })
            }));
        }
        if let Some(file) = self.bodies.sparse() {
            group.push(Job::chore(move |tx| move_some(tx, file)));
        }
        Some(group)
    }

    /// Runs the jobs in one transaction and answers their callers: a job that fails is undone alone, a commit that
    /// fails has undone all.
    fn commit(&mut self, group: Vec<Job>) {
        let mut answers = Vec::with_capacity(group.len());
        let ended = self.transact(group, &mut answers);
        if ended.is_err() {
            self.dedupe.roll_back(0);
            self.bodies.roll_back(Mark::default());
            self.put_off.extend(self.freeing.take());
        }
        let why;
        let fate = match ended {
            Ok(()) => Fate::Committed,
            Err(Broken::Job) => {
                self.careful_until = Some(Instant::now() + CAREFUL);
                Fate::Undone
            }
            Err(Broken::Journal(error)) => {
                self.shared.metrics.journal_errors.inc();
                tracing::error!(%error, "the journal could not be written; will be retried");
                why = error.to_string();
                Fate::Failed(&why)
            }
        };
        for answer in answers {
            answer(fate);
        }
    }

    fn transact(&mut self, group: Vec<Job>, answers: &mut Vec<Answer>) -> Result<(), Broken> {
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
            put_off: &mut self.put_off,
            after: Vec::new(),
        };
        let failed_lately = self.careful_until.is_some_and(|end| Instant::now() < end);
        let is_careful = failed_lately || !group.iter().all(|job| job.is_light);
        let mut done = run(tx.conn, "BEGIN IMMEDIATE").map_err(Broken::from);
        for job in group {
            // Once the transaction is gone, the caller of a job that is dropped without having run tries again.
            if done.is_ok() {
                done = tx.add(job, is_careful, answers);
            }
        }
        let done = done
            .and_then(|()| Ok(tx.counts.write(tx.conn)?))
            .and_then(|()| Ok(tx.dedupe.log(tx.conn)?));
        let after = tx.after;
        fail::fail_point!("journal::commit");
        // Asked in the transaction, for each one of its own takes locks.
        let used = used_bytes(&self.conn);
        // What a row names is on disk before the row.
        let done = done.and_then(|()| Ok(self.bodies.sync()?));
        let done = done.and_then(|()| {
            run(&self.conn, "COMMIT").map_err(|error| {
                self.bodies.give_up();
                Broken::from(error)
            })
        });
        if let Err(broken) = done {
            if !self.conn.is_autocommit() {
                sql(self.conn.execute_batch("ROLLBACK"))?;
            }
            return Err(broken);
        }
        fail::fail_point!("journal::committed");
        self.dedupe.committed();
        self.bodies.committed();
        let bodies = self.bodies.used_bytes();
        self.shared.update(|state| {
            state.apply(after);
            state.used_bytes = used.map_or(state.used_bytes, |used| used + bodies);
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

/// Bytes in use, of the database (free pages count as free) and of runs of ids.
pub(super) fn used_bytes(conn: &Connection) -> Result<u64> {
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
    Ok(pages * PAGE as u64 + runs)
}
