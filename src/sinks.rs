//! `sinks`: how far each sink is, and letting go of those that are gone.

use std::path::Path;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Config;
use audit_exporter_core::journal::{Journal, Limits, SKIPS, SinkStatus, Status};
use audit_exporter_core::metrics::Metrics;
use audit_exporter_core::{Error, Result, admin};

use crate::terminal::{self, say};
use crate::{ConfigArgs, Outcome, exit};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how far each sink is, for each tenant
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a sink have nothing until it is resumed; it keeps its place, also over a restart
    Pause(Named),
    /// Let a paused sink go on where it stopped
    Resume(Named),
    /// Free the data that a sink no longer in the configuration still holds
    Forget(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The sink's name
    name: String,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) async fn run(args: Args) -> Outcome {
    match args.command {
        Command::Status { config, json } => status(&config.load()?, json),
        Command::Pause(sink) => set_paused(&sink.config.load()?, &sink.name, true).await,
        Command::Resume(sink) => set_paused(&sink.config.load()?, &sink.name, false).await,
        Command::Forget(sink) => forget(&sink.config.load()?, &sink.name).await,
    }
}

fn status(config: &Config, json: bool) -> Outcome {
    let status = Status::read(&config.journal.path)?;
    let balanced = status.sinks.iter().all(SinkStatus::balances);
    let code = if balanced { exit::OK } else { exit::FAILED };
    if json {
        say(terminal::json(&status)?);
        return Ok(code);
    }
    let heads = [
        "SINK",
        "TENANT",
        "JOURNALED",
        "DELIVERED",
        "FILTERED",
        "DEAD",
        "SKIPPED",
        "PENDING",
        "",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for sink in &status.sinks {
        let remark = match sink {
            sink if !sink.balances() => "DOES NOT BALANCE",
            sink if sink.orphan_since.is_some() => "not configured any more",
            sink if sink.paused_since.is_some() => "paused",
            _ => "",
        };
        let counts = [
            sink.journaled,
            sink.delivered,
            sink.filtered,
            sink.dead,
            sink.skipped,
            sink.pending,
        ];
        let [journaled, delivered, filtered, dead, skipped, pending] =
            counts.map(|count| count.to_string());
        rows.push([
            sink.sink.clone(),
            config.tenant_of(&sink.tenant).to_owned(),
            journaled,
            delivered,
            filtered,
            dead,
            skipped,
            pending,
            remark.to_owned(),
        ]);
    }
    terminal::table(&rows, 2..8);
    for skip in &status.skips {
        say(format!(
            "{}: {} skipped {} events of {} (batches {} to {}): {}",
            terminal::time(skip.at_ms),
            skip.sink,
            skip.events,
            config.tenant_of(&skip.tenant),
            skip.first,
            skip.last,
            skip.reason
        ));
    }
    if status.skips.len() == SKIPS {
        say("… and others before");
    }
    for gap in &status.gaps {
        say(format!(
            "{}: {} of {} was not listed by {} from {} to {}, and will not be: {}",
            terminal::time(gap.at_ms),
            gap.content_type,
            config.tenant_of(&gap.tenant),
            gap.source,
            terminal::time(gap.from_ms),
            terminal::time(gap.to_ms),
            gap.reason
        ));
    }
    Ok(code)
}

/// Asks the running process, or does it here if none runs.
async fn forget(config: &Config, name: &str) -> Outcome {
    if config.sinks.iter().any(|sink| *sink.name == *name) {
        return Err(Error::config(format!(
            "sink {name} is in the configuration; remove it there first"
        )));
    }
    let path = journal_of(config)?;
    let known = if Journal::is_held(path)? {
        admin::ask_to_forget(path, name).await?
    } else {
        with_journal(path, async |journal| journal.forget_sink(name).await).await?
    };
    if !known {
        return Err(unknown(name));
    }
    say(format!(
        "sink {name} is forgotten; what only it held is freed"
    ));
    Ok(exit::OK)
}

/// Asks the running process, or does it here if none runs.
async fn set_paused(config: &Config, name: &str, paused: bool) -> Outcome {
    let path = journal_of(config)?;
    let known = if Journal::is_held(path)? {
        admin::ask_to_pause(path, name, paused).await?
    } else {
        with_journal(path, async |journal| journal.pause_sink(name, paused).await).await?
    };
    if !known {
        return Err(unknown(name));
    }
    say(if paused {
        format!("sink {name} is paused; the journal keeps what it misses: `sinks resume {name}`")
    } else {
        format!("sink {name} goes on where it stopped")
    });
    Ok(exit::OK)
}

/// The journal's folder. A journal that is not there would be made.
fn journal_of(config: &Config) -> Result<&Path> {
    Status::read(&config.journal.path)?;
    Ok(&config.journal.path)
}

/// Does something to the journal while nothing runs.
async fn with_journal<T>(path: &Path, work: impl AsyncFnOnce(&Journal) -> Result<T>) -> Result<T> {
    let (journal, closer) =
        Journal::open(path, Limits::default(), Clock::system(), Metrics::new()?)?;
    admin::withdraw(path)?;
    let done = work(&journal).await;
    drop(journal);
    closer.wait();
    done
}

fn unknown(sink: &str) -> Error {
    Error::config(format!("the journal knows no sink {sink}"))
}
