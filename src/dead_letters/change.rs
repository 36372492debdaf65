//! `dead-letters replay` and `drop`: by the process that holds the journal, or here if none runs.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use audit_exporter_core::config::Config;
use audit_exporter_core::engine::letters::{self, Desk, Failed, Replayed};
use audit_exporter_core::journal::{DeadLetters, Journal, Letters};
use audit_exporter_core::plugin::Registry;
use audit_exporter_core::{Error, Result, admin};
use tokio::time::Instant;

use super::{Which, print};
use crate::terminal::{self, LogFormat, complain, json, number, say};
use crate::{ConfigArgs, Outcome, exit};

/// Letters in one request.
const REQUEST: u32 = 100;
/// Letters that `drop` names before and after.
const NAMED: u32 = 100;
/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    #[command(flatten)]
    which: Which,
    /// All that there are
    #[arg(long)]
    all: bool,
    /// Send them to this sink instead
    #[arg(long, value_name = "NAME")]
    into: Option<String>,
    /// Seconds that a sink is tried which takes none
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// Say what became of them as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct Drop {
    #[command(flatten)]
    which: Which,
    /// All that there are
    #[arg(long)]
    all: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Who changes the journal.
enum Holder {
    Running(PathBuf),
    Here(Box<Desk>),
}

impl Holder {
    async fn find(config: &Config, registry: &Registry, sinks: &BTreeSet<String>) -> Result<Self> {
        if Journal::is_held(&config.journal.path)? {
            return Ok(Self::Running(config.journal.path.clone()));
        }
        let desk = Desk::open(config, registry, sinks).await?;
        Ok(Self::Here(Box::new(desk)))
    }

    async fn replay(&self, wish: &letters::Replay, patience: Duration) -> Result<Replayed> {
        let answer = async {
            match self {
                Self::Here(desk) => Ok(desk.replay(wish).await),
                // The clock outside is the one that counts.
                Self::Running(path) => admin::ask_to_replay(path, wish, 2 * patience).await,
            }
        };
        let slow = |_| {
            Error::unavailable(format!(
                "the sink has taken nothing for {} s: it is down or busy, and its log says more; \
                 see `audit-exporter dead-letters list` for what is left",
                patience.as_secs()
            ))
        };
        tokio::time::timeout(patience, answer).await.map_err(slow)?
    }

    async fn drop_letters(&self, numbers: Vec<i64>) -> Result<Vec<i64>> {
        match self {
            Self::Here(desk) => desk.drop_letters(numbers).await,
            Self::Running(path) => admin::ask_to_drop(path, &numbers).await,
        }
    }

    async fn close(self) -> Result<()> {
        match self {
            Self::Here(desk) => desk.close().await,
            Self::Running(_) => Ok(()),
        }
    }
}

/// Those that are meant, once it is clear that some were meant.
fn meant(which: &Which, all: bool, config: &Config, letters: &DeadLetters) -> Result<Letters> {
    let meant = which.meant(config, letters)?;
    if !all && meant == Letters::default() {
        return Err(Error::config(
            "which dead letters? give numbers, --sink, --reason, --tenant, --oversized, --from or --to; or --all",
        ));
    }
    Ok(meant)
}

pub(super) async fn replay(args: Replay, registry: &Registry) -> Outcome {
    let config = args.config.load()?;
    let letters = DeadLetters::read(&config.journal.path)?;
    let meant = meant(&args.which, args.all, &config, &letters)?;
    if let Some(into) = &args.into
        && !config.sinks.iter().any(|sink| *sink.name == **into)
    {
        return Err(crate::no_sink(&config, into));
    }
    let progress = terminal::log(LogFormat::Auto, "warn", true);
    let sinks = match &args.into {
        Some(into) => vec![into.clone()],
        None => letters.sinks(&meant)?,
    };
    let (count, last) = letters.count(&meant)?;
    let holder = Holder::find(&config, registry, &sinks.into_iter().collect()).await?;
    let (mut all, mut after) = (Replayed::default(), 0);
    while all.failed.is_none() {
        let mut numbers = letters.numbers(&meant, after, REQUEST)?;
        // Those that are refused meanwhile are of another time.
        numbers.retain(|number| *number <= last);
        let Some(newest) = numbers.last() else { break };
        after = *newest;
        let wish = letters::Replay {
            letters: numbers,
            into: args.into.clone(),
        };
        let patience = Duration::from_secs(args.patience.max(1));
        persist(&holder, wish, patience, &mut all).await;
        progress.show(format!(
            "{} of {} dead letters",
            number(dealt_with(&all) as u64),
            number(count)
        ));
    }
    progress.clear();
    holder.close().await?;
    tell(&all, args.json)
}

/// Hands letters over until all are dealt with, or nothing has worked for as long as `patience`.
async fn persist(
    holder: &Holder,
    mut wish: letters::Replay,
    patience: Duration,
    all: &mut Replayed,
) {
    let (mut began, mut wait) = (Instant::now(), Duration::from_secs(1));
    loop {
        let mut done = match holder.replay(&wish, patience).await {
            Ok(done) => done,
            Err(error) => Replayed {
                failed: Some(Failed {
                    message: error.to_string(),
                    may_pass: false,
                }),
                ..Replayed::default()
            },
        };
        if dealt_with(&done) > 0 {
            began = Instant::now();
        }
        let settled: BTreeSet<i64> = [&done.delivered, &done.journaled, &done.known, &done.gone]
            .into_iter()
            .flatten()
            .copied()
            .chain(done.stay.iter().map(|stay| stay.letter))
            .collect();
        wish.letters.retain(|letter| !settled.contains(letter));
        all.delivered.append(&mut done.delivered);
        all.journaled.append(&mut done.journaled);
        all.known.append(&mut done.known);
        all.stay.append(&mut done.stay);
        all.gone.append(&mut done.gone);
        let Some(failed) = done.failed else { return };
        if !failed.may_pass || began.elapsed() + wait > patience {
            all.failed = Some(failed);
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (2 * wait).min(LONGEST_WAIT);
    }
}

fn dealt_with(done: &Replayed) -> usize {
    done.delivered.len()
        + done.journaled.len()
        + done.known.len()
        + done.stay.len()
        + done.gone.len()
}

fn tell(all: &Replayed, as_json: bool) -> Outcome {
    if as_json {
        say(json(all)?);
    } else {
        for stay in &all.stay {
            say(format!(
                "dead letter {} stays: {}",
                stay.letter,
                stay.reason.replace('\n', " ")
            ));
        }
        let mut line = format!("{} delivered", number(all.delivered.len() as u64));
        for (count, what) in [
            (all.journaled.len(), "journaled for every sink"),
            (
                all.known.len(),
                "let go, for they had been journaled before",
            ),
            (all.stay.len(), "stay dead letters"),
            (all.gone.len(), "gone meanwhile"),
        ] {
            if count > 0 {
                line = format!("{line}, {} {what}", number(count as u64));
            }
        }
        say(line);
    }
    if let Some(failed) = &all.failed {
        complain(&Error::unavailable(format!(
            "{}; the rest stays",
            failed.message
        )));
    }
    let done = all.failed.is_none() && all.stay.is_empty();
    Ok(if done { exit::OK } else { exit::FAILED })
}

pub(super) async fn drop_letters(args: Drop, registry: &Registry) -> Outcome {
    let config = args.config.load()?;
    let letters = DeadLetters::read(&config.journal.path)?;
    let meant = meant(&args.which, args.all, &config, &letters)?;
    let (count, last) = letters.count(&meant)?;
    if count == 0 {
        say("there are no such dead letters");
        return Ok(exit::OK);
    }
    let named = letters.newest(&meant, NAMED)?;
    print(&config, named);
    if count > u64::from(NAMED) {
        say(format!(
            "… and {} older ones",
            number(count - u64::from(NAMED))
        ));
    }
    if !args.yes && !confirmed(count)? {
        say("nothing is dropped");
        return Ok(exit::FAILED);
    }
    let holder = Holder::find(&config, registry, &BTreeSet::new()).await?;
    let (mut dropped, mut after) = (0, 0);
    loop {
        let mut numbers = letters.numbers(&meant, after, REQUEST)?;
        numbers.retain(|number| *number <= last);
        let Some(newest) = numbers.last() else { break };
        after = *newest;
        dropped += holder.drop_letters(numbers).await?.len();
    }
    holder.close().await?;
    say(format!(
        "dropped {} of them; the account still counts them as dead",
        number(dropped as u64)
    ));
    Ok(exit::OK)
}

fn confirmed(count: u64) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Error::config(
            "dropping dead letters loses their records for good; give --yes if that is meant",
        ));
    }
    say(format!("Drop {} for good? Type yes:", number(count)));
    io::stdout().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
