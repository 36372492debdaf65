//! Drives the exporter's engine through a history, in virtual time: life after life, then until everything has settled.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::config::Config;
use audit_exporter_core::engine::Engine;
use audit_exporter_core::journal::{SinkStatus, Status};
use audit_exporter_core::plugin::{Context, Registry, Sink, Source};
use audit_exporter_core::{Error, Result};

use super::account;
use super::history::{End, History, Life, Millis, SECOND};
use super::microsoft::{HOST, Microsoft};
use super::sinks::{FarSides, ModelSink, TIMEOUT};
use super::world::{World, tenant_id};

/// How long sinks may deliver after a graceful stop.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long everything may take to settle after the last pass: longer than Microsoft keeps any content that fails.
const SETTLING_HOURS: u32 = 10 * 24;

thread_local! {
    /// The world of the history that runs on this thread: plugins are built by plain functions.
    static WORLD: RefCell<Option<(Arc<World>, FarSides)>> = const { RefCell::new(None) };
}

/// Runs a history on a runtime of its own; says what is wrong with the exporter, if anything.
pub(crate) fn run(history: &History) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(live(history))
}

/// On a folder in memory where there is one: it is fast, and nothing here depends on a disk.
fn folder() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
}

async fn live(history: &History) -> Result<(), String> {
    let dir = folder().map_err(|error| format!("no folder for the journal: {error}"))?;
    let (world, far) = (Arc::new(World::new(history.clone())), FarSides::default());
    WORLD.set(Some((Arc::clone(&world), far.clone())));
    let run = Run {
        config: Config::from_toml(&config(history), dir.path()).map_err(said)?,
        world,
        far,
    };
    run.world.disrupt(0, history.begin + SECOND);
    run.sleep(history.begin).await;
    for life in &history.lives {
        run.live(life).await?;
    }
    let journal = run.settle().await?;
    account::check(&run.world, &run.far, &journal)
}

#[allow(clippy::needless_pass_by_value)] // For `map_err`.
fn said(error: Error) -> String {
    format!("the exporter does not work: {error}")
}

struct Run {
    world: Arc<World>,
    far: FarSides,
    config: Config,
}

impl Run {
    async fn sleep(&self, length: Millis) {
        tokio::time::sleep(Duration::from_millis(length.max(0) as u64)).await;
    }

    /// Starts the engine as soon as the one before has let go of the journal.
    async fn start(&self) -> Result<Engine, String> {
        let clock = self.world.clock();
        loop {
            match Engine::start(&self.config, &registry(), clock.clone()).await {
                Err(error) if error.to_string().contains("another audit-exporter") => {
                    tokio::task::yield_now().await;
                }
                started => return started.map_err(said),
            }
        }
    }

    async fn live(&self, life: &Life) -> Result<(), String> {
        let trigger = match life.end {
            End::CrashAt { call, nth, .. } => Some((call, nth)),
            End::Graceful | End::Crash => None,
        };
        self.world.end_at(trigger);
        let engine = self.start().await?;
        let reached = tokio::select! {
            () = self.world.reached.notified() => true,
            () = self.sleep(life.up) => false,
        };
        self.world.end_at(None);
        if let End::CrashAt { turns, .. } = life.end
            && reached
        {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        }
        let ended = self.world.now();
        if matches!(life.end, End::Graceful) {
            engine.shutdown(PATIENCE).await.map_err(said)?;
        } else {
            drop(engine);
        }
        for far in self.far.lock().values_mut() {
            far.life_ended();
        }
        // It needs a little until it is at work again.
        let again = self.world.now() + life.down + SECOND;
        self.world.disrupt(ended, again);
        self.sleep(life.down).await;
        Ok(())
    }

    /// The last life: lasts until every pass is over and everything is dealt with. Returns the journal's folder.
    async fn settle(&self) -> Result<PathBuf, String> {
        let engine = self.start().await?;
        self.sleep(self.world.history.span - self.world.now()).await;
        let mut hours = 0;
        loop {
            let status = engine.status().await.map_err(said)?;
            if is_settled(&status) {
                break;
            }
            if hours == SETTLING_HOURS {
                return Err(format!("it does not settle: {status:?}"));
            }
            hours += 1;
            tokio::time::sleep(Duration::from_hours(1)).await;
        }
        let status = engine.shutdown(PATIENCE).await.map_err(said)?;
        if !status.sinks.iter().all(SinkStatus::balances) || !is_settled(&status) {
            return Err(format!("an account does not balance: {status:?}"));
        }
        Ok(self.config.journal.path.clone())
    }
}

fn is_settled(status: &Status) -> bool {
    status.tenants.iter().all(|tenant| tenant.pending == 0)
        && status.sinks.iter().all(|sink| sink.pending == 0)
}

/// The configuration of the exporter in this history.
fn config(history: &History) -> String {
    let mut text = "[journal]\npath = \"journal\"\n[admin]\nenabled = false\n".to_owned();
    if history.small_batches {
        text += "[limits]\nbatch_size = \"1KiB\"\n";
    }
    let (poll, back) = (history.poll / SECOND, history.back / SECOND);
    write!(
        text,
        "[sources.activity]\ntype = \"management_activity\"\npoll_interval = \"{poll}s\"\nstart = \"{back}s\"\n"
    )
    .unwrap();
    for (number, types) in history.tenants.iter().enumerate() {
        let id = tenant_id(number);
        write!(
            text,
            "[sources.activity.per_tenant.t{number}]\ncontent_types = {types:?}\n\
             [tenants.t{number}]\nid = \"{id}\"\nclient_id = \"model\"\nclient_secret = \"model\"\n\
             authority = \"{HOST}\"\nmanagement_api = \"{HOST}\"\n"
        )
        .unwrap();
    }
    for sink in &history.sinks {
        let (name, seconds) = (sink.name, TIMEOUT / SECOND);
        let events = sink.batch_events;
        write!(
            text,
            "[sinks.{name}]\ntype = \"model\"\ntimeout = \"{seconds}s\"\nbatch_events = {events}\n"
        )
        .unwrap();
        if let Some(tenant) = sink.tenant {
            writeln!(text, "tenants = [\"t{tenant}\"]").unwrap();
        }
        if let Some(operation) = sink.without {
            write!(
                text,
                "filters = [\"of_{name}\"]\n[filters.of_{name}]\ntype = \"operation\"\n\
                 exclude = [\"{operation}\"]\n"
            )
            .unwrap();
        }
    }
    text
}

/// The shipped plugins; the source is answered by the model, and the model's sinks stand beside.
fn registry() -> Registry {
    audit_exporter_plugins::registry()
        .source("management_activity", source)
        .sink("model", sink)
}

fn here() -> Result<(Arc<World>, FarSides)> {
    WORLD.with_borrow(|world| world.clone().ok_or_else(|| Error::bug("no world here")))
}

fn source(mut context: Context) -> Result<Box<dyn Source>> {
    let (world, _) = here()?;
    context.http = context.http.answered_by(Arc::new(Microsoft(world)));
    audit_exporter_plugins::registry().build_source("management_activity", context)
}

#[allow(clippy::needless_pass_by_value)] // The registry's signature.
fn sink(context: Context) -> Result<Box<dyn Sink>> {
    let (world, far) = here()?;
    let mut plans = world.history.sinks.iter();
    let plan = plans.find(|plan| plan.name == &*context.name).cloned();
    let plan = plan.ok_or_else(|| Error::bug("no such far side"))?;
    Ok(Box::new(ModelSink { world, far, plan }))
}
