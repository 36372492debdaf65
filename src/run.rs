//! `run`: collects and delivers until stopped.

use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Config;
use audit_exporter_core::engine::reload::Reloaded;
use audit_exporter_core::engine::{Engine, Reload};
use audit_exporter_core::journal::Status;
use audit_exporter_core::plugin::Registry;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::terminal::{self, LogFormat, Progress, number};
use crate::{ConfigArgs, Outcome, asked_to_stop, exit, once};

/// How often the progress line is made anew.
const REFRESH: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The form of the log, which goes to standard error; how much of it, `RUST_LOG` says (error, warn, info, debug)
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) log: LogFormat,
    /// Seconds that sinks get to deliver what is journaled when the program is asked to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    patience: u64,
    /// Collect what is available now, deliver it, say what became of it, and end: 0 if all of it was delivered, else 1
    #[arg(long)]
    once: bool,
    /// With --once: seconds after which it ends although something still fails, if nothing has got further meanwhile and
    /// no Graph query runs at Microsoft
    #[arg(long, value_name = "SECONDS", default_value_t = 120, requires = "once")]
    pub(crate) give_up: u64,
    /// With --once: say what became of it as JSON
    #[arg(long, requires = "once")]
    pub(crate) json: bool,
}

pub(crate) async fn run(args: Args, registry: &Registry) -> Outcome {
    let config = args.config.load()?;
    if args.once {
        return once::run(&args, &config, registry).await;
    }
    // Events and a progress line on one terminal would write over each other.
    let shows_events = config.sinks.iter().any(|sink| sink.kind == "stdout");
    let progress = !(shows_events && std::io::stdout().is_terminal());
    let progress = terminal::log(args.log, "info", progress);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut engine = Engine::start(&config, registry, Clock::system()).await?;
    for orphan in engine.orphans() {
        tracing::warn!(
            sink = %orphan.sink,
            "this sink left the configuration and its cursor holds data; `audit-exporter sinks forget {}` frees it",
            orphan.sink
        );
    }
    let mut hangup = signal(SignalKind::hangup())?;
    if let Some(address) = engine.admin() {
        tracing::info!(%address, "collecting; metrics at http://{address}/metrics");
    } else {
        tracing::info!("collecting");
    }
    // Made once: who asks during a reload is heard after it.
    let mut stop = pin!(asked_to_stop());
    loop {
        let asked = tokio::select! {
            () = &mut stop => break,
            () = watch(&engine, &progress) => break,
            broken = engine.broken() => {
                progress.clear();
                return Err(broken);
            }
            asked = engine.asked_to_reload() => Some(asked),
            () = asked_to_reload(&mut hangup) => None,
        };
        reload(&mut engine, &args.config, asked).await;
    }
    progress.show("stopping: delivering what is journaled …".to_owned());
    tracing::info!("stopping: delivering what is journaled");
    let status = tokio::select! {
        status = engine.shutdown(Duration::from_secs(args.patience)) => status?,
        () = asked_to_stop() => {
            progress.clear();
            tracing::warn!("broken off; nothing is lost, the next run goes on where this one was");
            return Ok(exit::OK);
        }
    };
    progress.clear();
    let figures = Figures::of(&status);
    tracing::info!(
        delivered = figures.delivered,
        pending = figures.pending,
        "stopped; {}",
        if figures.pending == 0 {
            "nothing waits"
        } else {
            "what waits is kept in the journal for the next run"
        }
    );
    Ok(exit::OK)
}

/// Returns at the next SIGHUP.
async fn asked_to_reload(hangup: &mut Signal) {
    if hangup.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Reads the configuration anew and goes on with it, or with the one before if anything is wrong with it.
async fn reload(engine: &mut Engine, config: &ConfigArgs, asked: Option<Reload>) {
    let load = async {
        let config: Config = config.load()?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        engine.reload(config).await
    };
    let result = load.await;
    match &result {
        Ok(reloaded) => tracing::info!("the configuration was read anew; {reloaded}"),
        Err(error) => tracing::error!("the configuration stays as it was: {error}"),
    }
    if let Some(asked) = asked {
        let answer = result.as_ref().map(Reloaded::to_string);
        // Who asked may not have waited.
        drop(asked.send(answer.map_err(ToString::to_string)));
    }
}

/// Keeps the progress line fresh, if there is one: with a thousand tenants the journal's account is not for nothing.
/// Never ends.
pub(crate) async fn watch(engine: &Engine, progress: &Progress) {
    if !progress.is_shown() {
        std::future::pending::<()>().await;
    }
    let mut changes = engine.changes();
    loop {
        if let Ok(status) = engine.status().await {
            progress.show(Figures::of(&status).line());
        }
        tokio::time::sleep(REFRESH).await;
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The few figures that a person wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) listed: i64,
    pub(crate) fetched: i64,
    pub(crate) waiting: i64,
    pub(crate) lost: i64,
    pub(crate) delivered: i64,
    pub(crate) filtered: i64,
    pub(crate) dead: i64,
    pub(crate) pending: i64,
}

impl Figures {
    /// Sums of a status.
    pub(crate) fn of(status: &Status) -> Self {
        let mut sum = Self::default();
        for unit in &status.tenants {
            sum.listed += unit.listed;
            sum.fetched += unit.fetched;
            sum.waiting += unit.pending;
            sum.lost += unit.lost;
        }
        for sink in &status.sinks {
            sum.delivered += sink.delivered;
            sum.filtered += sink.filtered;
            sum.dead += sink.dead;
            sum.pending += sink.pending;
        }
        sum
    }

    /// The progress line.
    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "{} of {} content blobs fetched · {} deliveries of events, {} pending",
            number(self.fetched),
            number(self.listed),
            number(self.delivered),
            number(self.pending)
        );
        for (count, word) in [(self.dead, "dead letters"), (self.lost, "blobs LOST")] {
            if count > 0 {
                line = format!("{line} · {} {word}", number(count));
            }
        }
        line
    }
}
