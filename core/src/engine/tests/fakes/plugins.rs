//! A source, a filter and a sink whose far sides are in a [`World`](super::World).

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::RngExt;
use serde::Deserialize;

use super::{FarSide, Fate, Inner, Place, WORLDS};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::event::AuditEvent;
use crate::journal::{Changes, Position};
use crate::plugin::{
    Answer, Batch, Context, Delivered, Filter, Finding, Heard, Intake, Listing, Next, Pass, Reach,
    Receipt, Registry, Rejected, Sink, Source, Standing, Tick, Trouble, Unit, UnitWriter,
};

pub(in crate::engine::tests) fn registry() -> Registry {
    Registry::default()
        .source("fake", |context| {
            let fake = Fake::of(&context)?;
            fake.note(&format!("{} of {}", fake.name, fake.tenant));
            Ok(Box::new(FakeSource(fake)))
        })
        .filter("no_op1", |_| Ok(Box::new(NoOp1)))
        .filter("no_time", |_| Ok(Box::new(NoTime)))
        .sink("fake", |context| {
            let fake = Fake::of(&context)?;
            fake.note(&format!("sink {}", fake.name));
            Ok(Box::new(FakeSink(fake)))
        })
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(plain).unwrap();
    out.finish().unwrap()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FakeOptions {
    world: String,
    #[serde(default = "no_place")]
    place: Place,
    /// After how many seconds a source wants to be asked again.
    #[serde(default = "minute")]
    lists_every: u64,
    /// Whether a source lists again and again, and says each time how far it is.
    #[serde(default)]
    restless: bool,
    /// Whether calls take a random number of turns of the runtime.
    #[serde(default)]
    slow: bool,
    /// After how many seconds it wants to be asked again by the clock.
    ticks_every: Option<u64>,
    /// Whether its store gets a row for each event.
    #[serde(default)]
    rows: bool,
}

fn minute() -> u64 {
    60
}

fn no_place() -> Place {
    Place::None
}

struct Fake {
    world: Arc<Inner>,
    name: String,
    tenant: String,
    options: FakeOptions,
    clock: Clock,
}

impl Fake {
    fn of(context: &Context) -> Result<Self> {
        let options: FakeOptions = context.options.parse()?;
        let world = WORLDS.lock().unwrap()[&options.world].upgrade();
        Ok(Self {
            world: world.ok_or_else(|| Error::bug("the world is gone"))?,
            name: context.name.to_string(),
            tenant: context.tenants[0].name.to_string(),
            options,
            clock: context.clock.clone(),
        })
    }

    fn note(&self, built: &str) {
        self.world.built.lock().unwrap().push(built.to_owned());
    }

    fn reach(&self) -> Reach {
        let now = self.clock.now();
        Reach {
            content_type: "Audit.General".into(),
            since: now,
            passes: vec![Pass {
                lag: Duration::ZERO,
                to: now,
            }],
            kept: Duration::from_hours(7 * 24),
        }
    }

    async fn take_turns(&self) {
        if self.options.slow {
            let turns = rand::rng().random_range(0..20);
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// What a fate means that needs no more than this.
async fn suffer(fate: Option<&Fate>) -> Result<()> {
    match fate {
        Some(Fate::Fail(kind)) => {
            tracing::warn!("it fails, as it was told");
            Err(Error::new(*kind, "as told"))
        }
        Some(Fate::Panic) => panic!("as told"),
        Some(Fate::Hang) => std::future::pending().await,
        Some(Fate::Last(time)) => {
            tokio::time::sleep(*time).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

struct FakeSource(Fake);

#[async_trait]
impl Source for FakeSource {
    async fn list(&self, intake: &Intake) -> Result<Next> {
        let Fake { world, tenant, .. } = &self.0;
        let until = intake.lists_until(self.0.clock.now());
        *world.lists.lock().unwrap() += 1;
        self.0.take_turns().await;
        let fate = world.list.lock().unwrap().pop_front();
        suffer(fate.as_ref()).await?;
        let wait = Duration::from_secs(self.0.options.lists_every);
        if matches!(fate, Some(Fate::Await | Fate::AwaitAndFail)) {
            intake.peer_is_at_work();
        }
        match fate {
            Some(Fate::AwaitAndFail) => return Err(Error::unavailable("as told")),
            Some(Fate::Await | Fate::More) => return Ok(Next::Soon(wait)),
            _ => {}
        }
        let units: Vec<Unit> = {
            let units = world.units.lock().unwrap();
            let mine = units
                .iter()
                .filter(|(of, unit, _)| of == tenant && unit.created <= until);
            mine.map(|(_, unit, _)| unit.clone()).collect()
        };
        if self.0.options.restless {
            let listing = Listing {
                units,
                reach: vec![self.0.reach()],
                ..Listing::default()
            };
            intake.register_listing(listing, None::<&()>).await?;
            return Ok(Next::Now);
        }
        intake.register(units, None::<&()>).await?;
        Ok(Next::After(wait))
    }

    async fn fetch(&self, unit: &Unit, out: &mut UnitWriter) -> Result<()> {
        let Fake { world, .. } = &self.0;
        let queued = {
            let mut fates = world.fetch.lock().unwrap();
            fates.get_mut(&*unit.id).and_then(VecDeque::pop_front)
        };
        let always = world.always.lock().unwrap().get(&*unit.id).cloned();
        let fate = queued.or(always);
        suffer(fate.as_ref()).await?;
        if let Some(Fate::Pages(pages) | Fate::BreakOff(pages)) = fate {
            for _ in 0..pages {
                tokio::time::sleep(Duration::from_mins(1)).await;
                out.has_read_a_page();
            }
        }
        if let Some(Fate::BreakOff(_)) = fate {
            return Err(Error::unavailable("as told"));
        }
        let records = {
            let units = world.units.lock().unwrap();
            let mut found = units.iter().filter(|(_, known, _)| known.id == unit.id);
            found.next().map(|(.., records)| records.clone()).unwrap()
        };
        if fate == Some(Fate::Swallow) {
            // A record that no unit may hold, and the error is ignored.
            let whole = Bytes::from(vec![b'x'; 5 << 20]);
            assert!(out.record(whole).await.is_err());
            return Ok(());
        }
        if fate == Some(Fate::GoOn) {
            for record in records {
                drop(out.record(Bytes::from(record)).await);
            }
            return Ok(());
        }
        if let Some(Fate::SwallowGzip(bytes)) = fate {
            drop(out.write_gzip(&vec![b'x'; bytes]).await);
            return Ok(());
        }
        if fate == Some(Fate::Replace) {
            let other = Unit {
                id: format!("in place of {}", unit.id).into(),
                ..unit.clone()
            };
            let shown = (self.0.tenant.clone(), other, records);
            world.units.lock().unwrap().push(shown);
            out.list_again();
            return Err(Error::unavailable("as told"));
        }
        let body = format!("[{}]", records.join(",\n"));
        if let (Some(Fate::Mix), Some((last, others))) = (&fate, records.split_last()) {
            let others = format!("[{}]", others.join(","));
            out.write_gzip(&compressed(others.as_bytes())).await?;
            drop(out.record(Bytes::from(last.clone())).await);
            return Ok(());
        }
        if let Some(Fate::Gzip {
            members,
            chunk,
            says_end,
        }) = fate
        {
            let parts = body.as_bytes().chunks(body.len().div_ceil(members));
            let gzip: Vec<u8> = parts.flat_map(compressed).collect();
            for chunk in gzip.chunks(chunk) {
                out.write_gzip(chunk).await?;
            }
            if says_end {
                out.end_of_body().await?;
            }
            return Ok(());
        }
        let end = match fate {
            Some(Fate::Half | Fate::Truncate) => body.len() / 2,
            _ => body.len(),
        };
        for (number, chunk) in body.as_bytes()[..end].chunks(300).enumerate() {
            out.write(chunk)?;
            out.settle().await?;
            if let (1, Some(Fate::Wait(time))) = (number, &fate) {
                out.wait(*time).await?;
            }
            self.0.take_turns().await;
        }
        match fate {
            Some(Fate::Truncate) => Ok(()),
            Some(Fate::Lose) => Err(Error::unavailable("the answer was lost")),
            _ => out.end_of_body().await,
        }
    }

    fn expects(&self, headers: &HeaderMap) -> bool {
        headers.get("password").is_some_and(|word| word == "sesame")
    }

    fn notified(&self, _headers: &HeaderMap, body: &[u8]) -> Heard {
        match body {
            b"news" => Heard::News,
            b"hello" => Heard::Nothing,
            b"panic" => panic!("as told"),
            _ => Heard::Unreadable,
        }
    }

    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }
}

struct FakeSink(Fake);

impl FakeSink {
    fn far<T>(&self, look: impl FnOnce(&mut FarSide) -> T) -> T {
        let mut sinks = self.0.world.sinks.lock().unwrap();
        look(sinks.entry(self.0.name.clone()).or_default())
    }
}

fn text(event: &AuditEvent) -> String {
    String::from_utf8(event.raw().to_vec()).unwrap()
}

#[async_trait]
impl Sink for FakeSink {
    async fn recover(&self, last: Option<&Receipt>) -> Result<Vec<Position>> {
        self.0.take_turns().await;
        match self.0.options.place {
            Place::None => Ok(Vec::new()),
            Place::Receipt => {
                let length: usize = last.map(Receipt::parse).transpose()?.unwrap_or(0);
                self.far(|far| {
                    far.events.truncate(length);
                    far.confirmed = length;
                });
                Ok(Vec::new())
            }
            Place::Position => Ok(self.far(|far| far.positions.values().cloned().collect())),
        }
    }

    fn holds_positions(&self) -> bool {
        self.0.options.place == Place::Position
    }

    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let fate = self.far(|far| {
            far.largest = far.largest.max(batch.events.len());
            far.fates.pop_front()
        });
        suffer(fate.as_ref()).await?;
        self.0.take_turns().await;
        let refused = match &fate {
            Some(Fate::Refuse(refused)) => refused.clone(),
            _ => Vec::new(),
        };
        let taken = batch.events.iter().enumerate();
        let events: Vec<String> = taken
            .filter(|(index, _)| !refused.contains(index))
            .map(|(_, event)| text(event))
            .collect();
        let half = events.len() / 2;
        match self.0.options.place {
            // One event after the other, and broken off anywhere.
            Place::None | Place::Receipt => {
                if self.0.options.place == Place::Receipt {
                    // What an earlier try left behind.
                    self.far(|far| far.events.truncate(far.confirmed));
                }
                for (index, event) in events.into_iter().enumerate() {
                    if fate == Some(Fate::Half) && index == half {
                        return Err(Error::unavailable("broken off"));
                    }
                    self.far(|far| far.events.push(event));
                    if index % 3 == 0 {
                        self.0.take_turns().await;
                    }
                }
            }
            Place::Position => self.far(|far| {
                let Some(position) = &batch.position else {
                    far.events.extend(events);
                    return;
                };
                let known = far.positions.get(&position.lane);
                if known.map_or(0, |known| known.last) < position.last {
                    far.events.extend(events);
                    far.positions.insert(position.lane, position.clone());
                }
            }),
        }
        self.0.take_turns().await;
        if fate == Some(Fate::Lose) {
            return Err(Error::unavailable("the answer was lost"));
        }
        let receipt = match self.0.options.place {
            Place::Receipt => Some(Receipt::of(&self.far(|far| {
                far.confirmed = far.events.len();
                far.confirmed
            }))?),
            _ => None,
        };
        let reject = |index| Rejected {
            index,
            reason: "400 as told".to_owned(),
        };
        Ok(Delivered {
            receipt,
            rejected: refused.into_iter().map(reject).collect(),
            changes: self.rows(batch),
        })
    }

    async fn tick(&self, standing: &Standing) -> Result<Tick> {
        let fate = self.far(|far| {
            far.ticks.push(standing.clone());
            far.on_tick.pop_front()
        });
        suffer(fate.as_ref()).await?;
        let wait = self.0.options.ticks_every;
        let mut changes = Changes::default();
        changes.put("ticked", "yes");
        Ok(Tick {
            changes,
            trouble: match fate {
                Some(Fate::Half) => Trouble::Failed(Error::config("a part as told")),
                Some(Fate::More) => Trouble::Waits,
                _ => Trouble::None,
            },
            next: wait.map(|seconds| self.0.clock.now() + Duration::from_secs(seconds)),
        })
    }

    async fn command(&self, request: &str) -> Result<Answer> {
        let mut changes = Changes::default();
        changes.put("asked", request);
        Ok(Answer {
            text: format!("{request} is done"),
            changes,
        })
    }
}

impl FakeSink {
    /// Its store gets a row an event.
    fn rows(&self, batch: &Batch) -> Changes {
        let mut changes = Changes::default();
        if self.0.options.rows {
            for event in batch.events.iter() {
                changes.put(format!("row/{}", text(event)), "");
            }
        }
        changes
    }
}

/// Drops every event of operation `Op1`.
struct NoOp1;

impl Filter for NoOp1 {
    fn apply(&self, event: AuditEvent) -> Option<AuditEvent> {
        (event.operation().as_deref() != Some("Op1")).then_some(event)
    }
}

/// Takes the time from every event.
struct NoTime;

impl Filter for NoTime {
    fn apply(&self, event: AuditEvent) -> Option<AuditEvent> {
        let text = text(&event).replace("CreationTime", "x");
        let origin = Arc::clone(event.origin());
        Some(AuditEvent::new(Bytes::from(text), origin))
    }
}
