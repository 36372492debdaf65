//! What every sink promises to the engine, as one suite that any plugin can run on itself.
//!
//! The engine builds on these promises alone: durable before `Ok`, nothing lost when a call fails or is dropped
//! half-way, each refused event named. A plugin of yours shows in a test of its own that it keeps them: it implements
//! [`Subject`] and calls [`check`]. The error says which promise was broken.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::event::{AuditEvent, Origin};
use crate::journal::{Changes, Position};
use crate::plugin::{Batch, Delivered, Receipt, Sink};

/// The tenant whose events the suite delivers: its name.
pub const TENANT: &str = "contoso";
/// The same: its id.
pub const TENANT_ID: &str = "11111111-1111-1111-1111-111111111111";

/// After how many polls a call is dropped, one after the other.
const DROPS: [usize; 6] = [1, 2, 3, 5, 8, 13];

/// A sink under test, with a far side that the test can look at.
#[async_trait(?Send)]
pub trait Subject {
    /// A fresh instance with the same destination and store, as after a restart of the process.
    async fn open(&self) -> Result<Box<dyn Sink>>;

    /// The records that the far side holds durably, each as often as it holds it.
    async fn contents(&self) -> Result<Vec<Bytes>>;

    /// What the far side holds of a record, where that is not its bytes.
    fn held(&self, record: &Bytes) -> Bytes {
        record.clone()
    }

    /// Stores what a delivery wants to be stored together with the cursor. Needed where the sink uses its store.
    async fn commit(&self, _changes: Changes) -> Result<()> {
        Ok(())
    }

    /// Takes the far side down, or brings it back. `false` if this subject cannot: what needs it is left out then.
    async fn set_down(&self, _down: bool) -> Result<bool> {
        Ok(false)
    }

    /// The id of the journal that the batches come from: that of the store which the sink was built with, if it uses it.
    fn journal(&self) -> Arc<str> {
        "11111111-2222-4333-8444-555555555555".into()
    }

    /// Whether the far side holds each event once even when an answer was lost, because the sink gives receipts or
    /// positions.
    fn exactly_once(&self) -> bool;
}

/// Runs the whole suite. Each part goes on with what the one before has left.
pub async fn check(subject: &dyn Subject) -> Result<()> {
    let mut suite = Suite {
        subject,
        expected: BTreeMap::new(),
        next: 0,
        receipt: None,
        sink: subject.open().await?,
    };
    suite.restart().await?;
    suite.what_is_answered_is_durable().await?;
    suite.what_is_refused_is_named().await?;
    suite.an_outage_loses_nothing().await?;
    suite.a_call_may_be_dropped().await?;
    suite.an_answer_may_be_lost().await?;
    suite.letters_leave_the_position_alone().await
}

struct Suite<'a> {
    subject: &'a dyn Subject,
    /// The records that must be there, as the far side holds them, and whether one of them may be there more than once.
    expected: BTreeMap<Bytes, bool>,
    /// The number of the next batch.
    next: u64,
    /// What the engine would have stored.
    receipt: Option<Receipt>,
    sink: Box<dyn Sink>,
}

impl Suite<'_> {
    async fn what_is_answered_is_durable(&mut self) -> Result<()> {
        for count in [1, 3, 200] {
            let batch = self.batch(count);
            self.deliver(&batch).await?;
            self.look("a batch was answered").await?;
        }
        self.restart().await?;
        self.look("the process was started anew").await
    }

    /// Records of any bytes are delivered or refused by their index; none goes away.
    async fn what_is_refused_is_named(&mut self) -> Result<()> {
        let before = self.subject.contents().await?.len();
        let mut batch = self.batch(2);
        let odd = [
            &b"not json"[..],
            b"{\"Id\":",
            b"[1,2]",
            b"\xff\xfe",
            b"null",
        ];
        let mut events = batch.events.to_vec();
        events.splice(1..1, odd.iter().map(|raw| event(Bytes::from_static(raw))));
        batch.events = events.into();
        let delivered = well(self.sink.deliver(&batch).await)?;
        self.receipt = delivered.receipt.or(self.receipt.take());
        self.subject.commit(delivered.changes).await?;
        let mut indices: Vec<usize> = delivered.rejected.iter().map(|one| one.index).collect();
        indices.sort_unstable();
        indices.dedup();
        ensure(indices.len() == delivered.rejected.len(), || {
            "an event was refused twice".to_owned()
        })?;
        let last = batch.events.len() - 1;
        for index in [0, last] {
            ensure(!indices.contains(&index), || {
                "a good event was refused because of another in its batch".to_owned()
            })?;
            self.expect(batch.events[index].raw(), false);
        }
        ensure(indices.iter().all(|index| *index < last), || {
            "an event was refused that the batch does not have".to_owned()
        })?;
        let there = self.subject.contents().await?.len() - before;
        let due = batch.events.len() - indices.len();
        ensure(there == due, || {
            format!("{due} odd and good events were not refused, but {there} are there")
        })?;
        self.restart().await.map(drop)
    }

    async fn an_outage_loses_nothing(&mut self) -> Result<()> {
        let batch = self.batch(5);
        if !self.subject.set_down(true).await? {
            return self.deliver(&batch).await;
        }
        for _ in 0..3 {
            let failed = self.sink.deliver(&batch).await;
            let kind = failed.as_ref().err().map(Error::kind);
            let passing = [Kind::Unavailable, Kind::Throttled, Kind::Auth, Kind::Config];
            ensure(kind.is_some_and(|kind| passing.contains(&kind)), || {
                format!(
                    "the far side was down, and the answer was {failed:?}: it must be tried again"
                )
            })?;
        }
        self.subject.set_down(false).await?;
        // The same instance: the engine does not build another.
        self.deliver(&batch).await?;
        self.look("the far side was down").await
    }

    /// The time is up, and the same instance gets the same batch again. (When a process ends, nothing of it goes on; so
    /// that is not tried here, where an instance that is dropped may still have work under way.)
    async fn a_call_may_be_dropped(&mut self) -> Result<()> {
        for polls in DROPS {
            let batch = self.batch(20);
            match drop_after(polls, self.sink.deliver(&batch)).await {
                Some(answer) => self.settle(&batch, answer).await?,
                None => self.deliver_unless_held(&batch, &[]).await?,
            }
            self.look("a delivery was dropped half-way").await?;
        }
        Ok(())
    }

    async fn an_answer_may_be_lost(&mut self) -> Result<()> {
        let batch = self.batch(7);
        well(self.sink.deliver(&batch).await)?;
        let held = self.restart().await?;
        self.deliver_unless_held(&batch, &held).await?;
        self.look("an answer was lost").await
    }

    /// Dead letters that come again have no position.
    async fn letters_leave_the_position_alone(&mut self) -> Result<()> {
        let mut letters = self.batch(2);
        letters.position = None;
        self.deliver(&letters).await?;
        let batch = self.batch(3);
        self.deliver(&batch).await?;
        self.restart().await?;
        self.look("dead letters came again").await
    }

    /// The next batch, of records that no other has.
    fn batch(&mut self, count: usize) -> Batch {
        self.next += 1;
        let seq = self.next;
        let record = |n: usize| {
            let text = format!(
                r#"{{"Id":"{seq:08}-0000-4000-8000-{n:012}","CreationTime":"2026-03-01T10:{:02}:00","Operation":"CreateFlow","RecordType":30,"Workload":"MicrosoftFlow","UserId":"ann@contoso.example","OrganizationId":"{TENANT_ID}"}}"#,
                n % 60
            );
            event(Bytes::from(text))
        };
        Batch {
            position: Some(Position {
                journal: self.subject.journal(),
                lane: 1,
                first: seq,
                last: seq,
            }),
            events: Arc::new((0..count).map(record).collect()),
        }
    }

    fn expect(&mut self, raw: &Bytes, may_repeat: bool) {
        self.expected.insert(self.subject.held(raw), may_repeat);
    }

    /// Delivers good records, and stores the answer as the engine does.
    async fn deliver(&mut self, batch: &Batch) -> Result<()> {
        let answer = self.sink.deliver(batch).await;
        self.settle(batch, answer).await
    }

    async fn settle(&mut self, batch: &Batch, answer: Result<Delivered>) -> Result<()> {
        let delivered = well(answer)?;
        ensure(delivered.rejected.is_empty(), || {
            format!("good events were refused: {:?}", delivered.rejected)
        })?;
        self.receipt = delivered.receipt.or(self.receipt.take());
        self.subject.commit(delivered.changes).await?;
        for event in batch.events.iter() {
            self.expect(event.raw(), false);
        }
        Ok(())
    }

    /// As the engine does after a delivery whose answer it does not have: what the far side says it holds is not
    /// delivered again.
    async fn deliver_unless_held(&mut self, batch: &Batch, held: &[Position]) -> Result<()> {
        let last = batch.position.as_ref().map_or(0, |position| position.last);
        if held.iter().all(|position| position.last < last) {
            self.deliver(batch).await?;
        }
        let may_repeat = !self.subject.exactly_once();
        for event in batch.events.iter() {
            self.expect(event.raw(), may_repeat);
        }
        Ok(())
    }

    /// Returns what the far side says it holds.
    async fn restart(&mut self) -> Result<Vec<Position>> {
        self.sink = self.subject.open().await?;
        let positions = self.sink.recover(self.receipt.as_ref()).await?;
        let beyond = positions.iter().find(|position| position.last > self.next);
        ensure(beyond.is_none(), || {
            format!("it recovers a position that was never delivered: {beyond:?}")
        })?;
        Ok(positions)
    }

    /// Compares the far side with what must be there.
    async fn look(&self, after: &str) -> Result<()> {
        let mut there: BTreeMap<Bytes, usize> = BTreeMap::new();
        for record in self.subject.contents().await? {
            *there.entry(record).or_default() += 1;
        }
        for (record, may_repeat) in &self.expected {
            let count = there.get(record).copied().unwrap_or(0);
            let text = String::from_utf8_lossy(record);
            ensure(count > 0, || {
                format!("{after}, and this record is missing: {text}")
            })?;
            ensure(count == 1 || *may_repeat, || {
                format!("{after}, and this record is there {count} times: {text}")
            })?;
        }
        Ok(())
    }
}

fn event(raw: Bytes) -> AuditEvent {
    let origin = Origin {
        tenant: TENANT_ID.into(),
        tenant_name: TENANT.into(),
        source: "activity".into(),
        content_type: "Audit.General".into(),
        unit: "blob".into(),
    };
    AuditEvent::new(raw, Arc::new(origin))
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::bug(format!(
        "a sink's promise is broken: {}",
        otherwise()
    )))
}

fn well(answer: Result<Delivered>) -> Result<Delivered> {
    answer.map_err(|error| error.context("the far side is well, and a delivery failed"))
}

/// Polls a call so many times, and then drops it, unless it has ended.
async fn drop_after<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(|context| {
        left -= 1;
        match call.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
