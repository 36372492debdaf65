//! The journal's guarantees, a theme a file. Each test is named after what it guarantees.

mod balance;
mod commits;
mod coverage;
mod cursors;
mod damage;
mod dead_letters;
mod files;
mod limits;
mod reads;
mod resend;
mod standing;
mod units;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::open::{open_database, open_read_only};
use super::state::State;
use super::*;
use crate::clock::Clock;
use crate::event::{AuditEvent, Origin};
use crate::metrics::Metrics;
use crate::plugin::{Receipt, Unit};

/// The tenant of most tests.
const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const OTHER: &str = "22222222-2222-2222-2222-222222222222";
const DAY: Duration = Duration::from_hours(24);

fn start() -> DateTime<Utc> {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

/// A journal in a folder of its own, that can be closed and opened again.
struct Bench {
    dir: tempfile::TempDir,
    clock: Clock,
    limits: Limits,
    open: Option<(Journal, Closer)>,
}

impl Bench {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let mut bench = Self {
            dir: tempfile::tempdir().unwrap(),
            clock: Clock::starting_at(start()),
            limits,
            open: None,
        };
        bench.open = Some(bench.try_open().unwrap());
        bench
    }

    /// A journal whose tenants are known and taken by `sinks`.
    async fn attached(sinks: &[SinkSpec]) -> Self {
        let bench = Self::new();
        bench.attach(sinks).await;
        bench
    }

    fn try_open(&self) -> Result<(Journal, Closer)> {
        Journal::open(
            &self.dir.path().join("journal"),
            self.limits.clone(),
            self.clock.clone(),
            Metrics::new().unwrap(),
        )
    }

    fn journal(&self) -> &Journal {
        &self.open.as_ref().unwrap().0
    }

    fn close(&mut self) {
        if let Some((journal, closer)) = self.open.take() {
            drop(journal);
            closer.wait();
        }
    }

    /// Closes the journal and opens it again. Nothing is attached afterwards.
    fn reopen(&mut self) {
        self.close();
        self.open = Some(self.try_open().unwrap());
    }

    async fn attach(&self, sinks: &[SinkSpec]) -> Vec<Orphan> {
        let tenants = [(TENANT, "contoso"), (OTHER, "fabrikam")];
        let tenants = tenants.map(|(id, name)| (id.into(), name.into())).into();
        self.journal()
            .attach(sinks.to_vec(), tenants)
            .await
            .unwrap()
    }

    fn lane(&self) -> LaneId {
        self.journal().lane(TENANT, LaneKind::Live).unwrap()
    }

    async fn stream(&self) -> Stream {
        self.journal().stream("activity", TENANT).await.unwrap()
    }

    /// Commits records as one unit of the first tenant.
    async fn commit(&self, unit: &str, records: &[String]) -> Committed {
        let commit = self.batch(TENANT, unit, records).await;
        self.journal().commit(commit).await.unwrap()
    }

    async fn batch(&self, tenant: &str, unit: &str, records: &[String]) -> Commit {
        let origin = origin(tenant, "activity", unit);
        Commit {
            stream: self.journal().stream("activity", tenant).await.unwrap(),
            lane: self.journal().lane(tenant, LaneKind::Live).unwrap(),
            events: Arc::new(events(&origin, records)),
            origin,
            first_index: 0,
            oversize: Arc::default(),
            wire: None,
            again: None,
            unit_done: true,
        }
    }

    /// All that a sink has not passed, as text.
    async fn rest(&self, lane: LaneId, after: u64) -> Vec<String> {
        let found = self.journal().read(lane, after, usize::MAX, usize::MAX);
        texts(&found.await.unwrap())
    }

    /// Moves a sink past everything up to `last`, all delivered.
    async fn pass(&self, sink: &str, lane: LaneId, last: u64) {
        let step = self.step(sink, lane, last).await;
        self.journal().advance(step).await.unwrap();
    }

    /// The step of a sink that has delivered everything up to `last`.
    async fn step(&self, sink: &str, lane: LaneId, last: u64) -> Advance {
        let behind = self.journal().behind(sink);
        let cursor = behind
            .iter()
            .find(|(l, ..)| *l == lane)
            .map_or(last, |b| b.2);
        let mut tally = Tally::default();
        let found = self.journal().read(lane, cursor, usize::MAX, usize::MAX);
        for stored in found.await.unwrap().iter().filter(|s| s.seq <= last) {
            for event in stored.events.iter() {
                tally.delivered(stored.seq, hour_of(event));
            }
        }
        Advance {
            sink: sink.into(),
            lane,
            last,
            receipt: None,
            tally,
            changes: Changes::default(),
        }
    }

    async fn sink(&self, sink: &str) -> SinkStatus {
        let status = self.journal().status().await.unwrap();
        let mut sinks = status.sinks.into_iter();
        sinks
            .find(|s| s.sink == sink && s.tenant == TENANT)
            .unwrap()
    }

    /// A figure straight from the database, seen once all that was asked for is done.
    fn figure(&self, query: &str) -> i64 {
        let conn = open_read_only(&self.dir.path().join("journal").join(FILE)).unwrap();
        conn.query_row(query, [], |row| row.get(0)).unwrap()
    }

    /// A job that holds the writer up in its transaction; it says when it begins, and ends when it is told.
    fn hold(&self) -> Hold<impl Future<Output = Result<()>>> {
        let (proceed, wait) = std::sync::mpsc::channel::<()>();
        let (began, begins) = tokio::sync::oneshot::channel();
        let hold = move |_: &mut writer::Tx<'_>| {
            began.send(()).ok();
            wait.recv()
                .map_err(|_| crate::Error::bug("the test is gone"))
        };
        Hold {
            job: Box::pin(self.journal().writer.run(hold)),
            begins,
            proceed,
        }
    }

    /// Waits until the journal's state in memory is as wanted.
    async fn until(&self, wanted: impl Fn(&State) -> bool) {
        let mut changes = self.journal().changes();
        while !self.journal().shared.look(|state| wanted(state)) {
            changes.changed().await.unwrap();
        }
    }
}

/// See [`Bench::hold`].
struct Hold<F> {
    job: std::pin::Pin<Box<F>>,
    begins: tokio::sync::oneshot::Receiver<()>,
    proceed: std::sync::mpsc::Sender<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The folder goes after the writer.
        self.close();
    }
}

fn sink(name: &str) -> SinkSpec {
    SinkSpec {
        name: name.into(),
        renamed_from: None,
        required: true,
        start: Start::Oldest,
        tenants: vec![TENANT.into(), OTHER.into()],
    }
}

fn optional(name: &str) -> SinkSpec {
    SinkSpec {
        required: false,
        ..sink(name)
    }
}

fn origin(tenant: &str, source: &str, unit: &str) -> Arc<Origin> {
    Arc::new(Origin {
        tenant: tenant.into(),
        tenant_name: if tenant == TENANT {
            "contoso"
        } else {
            "fabrikam"
        }
        .into(),
        source: source.into(),
        content_type: "Audit.General".into(),
        unit: unit.into(),
    })
}

fn events(origin: &Arc<Origin>, records: &[String]) -> Vec<AuditEvent> {
    let event = |record: &String| AuditEvent::new(Bytes::from(record.clone()), Arc::clone(origin));
    records.iter().map(event).collect()
}

/// A record with an Id that is a GUID made of `number`, created in hour `number / 10` of the first of March.
fn record(number: u64) -> String {
    let hour = number / 10 % 24;
    format!(
        r#"{{"Id":"00000000-0000-0000-0000-{number:012}","CreationTime":"2026-03-01T{hour:02}:00:00","Operation":"Op"}}"#
    )
}

fn records(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
    numbers.into_iter().map(record).collect()
}

fn texts(batches: &[Arc<Stored>]) -> Vec<String> {
    let events = batches.iter().flat_map(|stored| stored.events.iter());
    events
        .map(|event| String::from_utf8(event.raw().to_vec()).unwrap())
        .collect()
}

fn unit(id: &str) -> Unit {
    Unit {
        id: id.into(),
        content_type: "Audit.General".into(),
        locator: format!("https://example.com/{id}"),
        created: start(),
        expires: start() + 7 * DAY,
        lane: LaneKind::Live,
    }
}
