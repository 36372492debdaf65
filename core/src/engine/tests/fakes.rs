//! A far side on either end, in memory. Plugins are built by plain functions, so each test's world has a name.

mod plugins;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::clock::Clock;
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Kind, Result};
use crate::journal::Position;
use crate::plugin::{LaneKind, Standing, Unit};

pub(super) use plugins::registry;

static WORLDS: LazyLock<Mutex<HashMap<String, Weak<Inner>>>> = LazyLock::new(Mutex::default);

/// What a call of a plugin does instead of its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fail(Kind),
    Panic,
    /// Never comes back.
    Hang,
    /// Works, but takes so long.
    Last(Duration),
    /// Works, but the answer is lost.
    Lose,
    /// Breaks off half-way.
    Half,
    /// Goes on after an error of the engine's.
    Swallow,
    /// Writes record after record, whatever becomes of each.
    GoOn,
    /// Goes on after a compressed body of so many bytes that is damaged.
    SwallowGzip(usize),
    /// Works, and sends so many gzip members in chunks of so many bytes.
    Gzip {
        members: usize,
        chunk: usize,
        says_end: bool,
    },
    /// Sends a record beside compressed content, and goes on.
    Mix,
    /// Ends the body before its end and does not say so.
    Truncate,
    /// These events are refused.
    Refuse(Vec<usize>),
    /// There is more to list another time.
    More,
    /// The same, for the peer is at work.
    Await,
    /// The peer is at work, and something else fails.
    AwaitAndFail,
    /// The unit cannot be had, but there is another to list in its place.
    Replace,
    /// Works, once it has read so many pages that bring nothing, one a minute.
    Pages(u64),
    /// Breaks off after them.
    BreakOff(u64),
    /// Works, but the peer asks for so much time in the middle.
    Wait(Duration),
}

/// How a sink's far side keeps its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// Not at all.
    None,
    /// It goes back to the length that the last receipt tells, as a file does.
    Receipt,
    /// It stores the position with the events, as a log does.
    Position,
}

#[derive(Default)]
pub(super) struct FarSide {
    pub(super) events: Vec<String>,
    /// The most events of one delivery.
    pub(super) largest: usize,
    /// The length at the last answer that was given.
    confirmed: usize,
    pub(super) positions: BTreeMap<i64, Position>,
    pub(super) fates: VecDeque<Fate>,
    /// What it was told when it was asked by the clock.
    pub(super) ticks: Vec<Standing>,
    pub(super) on_tick: VecDeque<Fate>,
}

#[derive(Default)]
struct Inner {
    units: Mutex<Vec<(String, Unit, Vec<String>)>>,
    list: Mutex<VecDeque<Fate>>,
    lists: Mutex<usize>,
    fetch: Mutex<HashMap<String, VecDeque<Fate>>>,
    always: Mutex<HashMap<String, Fate>>,
    sinks: Mutex<BTreeMap<String, FarSide>>,
    /// Every instance that was built: a source's name and its tenant's, or a sink's name.
    built: Mutex<Vec<String>>,
}

/// A test's far sides.
#[derive(Clone)]
pub(super) struct World {
    name: String,
    inner: Arc<Inner>,
    dir: Arc<tempfile::TempDir>,
    clock: Clock,
}

pub(super) const TENANTS: [&str; 2] = ["contoso", "fabrikam"];

impl World {
    pub(super) fn new() -> Self {
        let (name, inner) = (uuid::Uuid::new_v4().to_string(), Arc::new(Inner::default()));
        WORLDS
            .lock()
            .unwrap()
            .insert(name.clone(), Arc::downgrade(&inner));
        Self {
            name,
            inner,
            dir: Arc::new(tempfile::tempdir().unwrap()),
            clock: Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap()),
        }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Shows a unit of `count` records to a tenant's source.
    pub(super) fn show(&self, tenant: &str, unit: &str, count: usize) {
        let record = |n: usize| {
            format!(
                r#"{{"Id":"{unit}-{n}","CreationTime":"2026-03-01T00:00:00","Operation":"Op{}"}}"#,
                n % 2
            )
        };
        self.show_records(tenant, unit, (0..count).map(record).collect());
    }

    pub(super) fn show_records(&self, tenant: &str, unit: &str, records: Vec<String>) {
        let now = self.clock.now();
        let shown = Unit {
            id: unit.into(),
            content_type: "Audit.General".into(),
            locator: String::new(),
            created: now,
            expires: now + Duration::from_hours(if unit == "bad" { 7 } else { 7 * 24 }),
            lane: if unit.contains("late") {
                LaneKind::CatchUp
            } else {
                LaneKind::Live
            },
        };
        let mut units = self.inner.units.lock().unwrap();
        units.push((tenant.to_owned(), shown, records));
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn units(&self) -> usize {
        self.inner.units.lock().unwrap().len()
    }

    /// Every record of every unit, or of a tenant's.
    pub(super) fn records(&self, tenant: Option<&str>) -> Vec<String> {
        let units = self.inner.units.lock().unwrap();
        let wanted = units
            .iter()
            .filter(|(of, ..)| tenant.is_none_or(|tenant| of == tenant));
        let mut records: Vec<String> = wanted.flat_map(|(.., records)| records.clone()).collect();
        records.sort();
        records
    }

    pub(super) fn on_list(&self, fate: Fate) {
        self.inner.list.lock().unwrap().push_back(fate);
    }

    pub(super) fn lists(&self) -> usize {
        *self.inner.lists.lock().unwrap()
    }

    pub(super) fn on_fetch(&self, unit: &str, fate: Fate) {
        let mut fates = self.inner.fetch.lock().unwrap();
        fates.entry(unit.to_owned()).or_default().push_back(fate);
    }

    pub(super) fn on_each_fetch(&self, unit: &str, fate: Fate) {
        let mut fates = self.inner.always.lock().unwrap();
        fates.insert(unit.to_owned(), fate);
    }

    pub(super) fn on_delivery(&self, sink: &str, fate: Fate) {
        self.far(sink, |far| far.fates.push_back(fate));
    }

    pub(super) fn far<T>(&self, sink: &str, look: impl FnOnce(&mut FarSide) -> T) -> T {
        let mut sinks = self.inner.sinks.lock().unwrap();
        look(sinks.entry(sink.to_owned()).or_default())
    }

    /// What a sink's far side has, sorted.
    pub(super) fn has(&self, sink: &str) -> Vec<String> {
        let mut events = self.far(sink, |far| far.events.clone());
        events.sort();
        events
    }

    /// What was built since the last call, sorted.
    pub(super) fn built(&self) -> Vec<String> {
        let mut built = std::mem::take(&mut *self.inner.built.lock().unwrap());
        built.sort();
        built
    }

    /// Changes the journal's database behind its back.
    pub(super) fn tamper(&self, statement: &str) {
        let path = self.dir.path().join("journal/journal.sqlite");
        let conn = crate::journal::tables_at(&path);
        conn.execute_batch(statement).unwrap();
    }

    /// The number that a question to the journal's database is answered with.
    pub(super) fn count(&self, question: &str) -> i64 {
        let path = self.dir.path().join("journal/journal.sqlite");
        let conn = crate::journal::tables_at(&path);
        conn.query_row(question, [], |row| row.get(0)).unwrap()
    }

    pub(super) fn config(&self, more: &str) -> Config {
        self.config_of(&TENANTS, more)
    }

    /// The configuration with these tenants.
    pub(super) fn config_of(&self, tenants: &[&str], more: &str) -> Config {
        let name = &self.name;
        let (tables, sinks) = more.split_once("[sinks]").unwrap_or(("", more));
        let mut text = format!(
            "[journal]\npath = \"journal\"\nmax_size = \"1GiB\"\n[admin]\nenabled = false\n\
             [sources.activity]\ntype = \"fake\"\nworld = \"{name}\"\n{tables}\n"
        );
        for tenant in tenants {
            // Made from the name, so that each keeps its own.
            let id = uuid::Uuid::from_u128(
                tenant
                    .bytes()
                    .fold(0, |id, byte| id << 8 | u128::from(byte)),
            );
            writeln!(text, "[tenants.{tenant}]\nid = \"{id}\"").unwrap();
        }
        for line in sinks.lines().map(str::trim).filter(|line| !line.is_empty()) {
            // `name: keys`, the keys separated by semicolons.
            let (sink, keys) = line.split_once(':').unwrap_or((line, ""));
            let keys = keys.replace(';', "\n");
            writeln!(
                text,
                "[sinks.{sink}]\ntype = \"fake\"\nworld = \"{name}\"\n{keys}"
            )
            .unwrap();
        }
        Config::from_toml(&text, self.dir.path()).unwrap()
    }

    /// Starts an engine on this world's journal, as soon as the one before has let go of it.
    pub(super) async fn start(&self, more: &str) -> Engine {
        self.start_with(&self.config(more)).await
    }

    pub(super) async fn try_start(&self, config: &Config) -> Result<Engine> {
        Engine::start(config, &registry(), self.clock.clone()).await
    }

    /// Starts a single run that collects contoso.
    pub(super) async fn start_once(&self, more: &str) -> Engine {
        let config = self.config_of(&["contoso"], more);
        Engine::start_once(&config, &registry(), self.clock.clone())
            .await
            .unwrap()
    }

    pub(super) async fn start_with(&self, config: &Config) -> Engine {
        loop {
            match self.try_start(config).await {
                Ok(engine) => return engine,
                Err(error) if error.to_string().contains("another audit-exporter") => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}
