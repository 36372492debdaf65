//! `dead-letters`: the records that were refused for good, as the journal keeps them, and what can be done about them.

mod change;

use std::io::{self, IsTerminal as _, Write as _};

use audit_exporter_core::config::Config;
use audit_exporter_core::journal::{DeadLetters, Letter, Letters};
use audit_exporter_core::plugin::Registry;
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, Utc};

use crate::terminal::{json, say, table, time};
use crate::{ConfigArgs, Outcome, exit, moment};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List them, the newest first
    List {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        config: ConfigArgs,
        /// The most to list
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write the record of one to standard output, byte for byte; on a terminal, what would command it is escaped
    Show {
        /// Its number, as in the list
        letter: i64,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Hand them to their sink again; those that were too large for all go to every sink. What is refused again stays
    Replay(change::Replay),
    /// Delete them for good. The account keeps counting them as dead
    Drop(change::Drop),
}

/// Which dead letters. Everything that is given must hold.
#[derive(Clone, Debug, clap::Args)]
struct Which {
    /// These numbers
    #[arg(value_name = "LETTER")]
    letters: Vec<i64>,
    /// Refused by this sink
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Too large for all sinks
    #[arg(long, conflicts_with = "sink")]
    oversized: bool,
    /// The reason contains this
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Of this tenant: its name in the configuration, or its id
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Refused since this day or time (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    from: Option<DateTime<Utc>>,
    /// Refused before this day or time (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    to: Option<DateTime<Utc>>,
}

impl Which {
    /// Those that are meant. A number that there is none of is an error.
    fn meant(&self, config: &Config, letters: &DeadLetters) -> Result<Letters> {
        let tenant = self.tenant.as_ref().map(|name| {
            let known = config.tenant(name).map(|tenant| tenant.id.to_string());
            known.unwrap_or_else(|| name.to_ascii_lowercase())
        });
        for number in &self.letters {
            let this = Letters {
                numbers: vec![*number],
                ..Letters::default()
            };
            if letters.count(&this)?.0 == 0 {
                return Err(no_letter(*number));
            }
        }
        Ok(Letters {
            numbers: self.letters.clone(),
            sink: self.sink.clone(),
            oversized: self.oversized,
            reason: self.reason.clone(),
            tenant,
            from_ms: self.from.map(|at| at.timestamp_millis()),
            to_ms: self.to.map(|at| at.timestamp_millis()),
        })
    }
}

fn no_letter(number: i64) -> Error {
    Error::config(format!(
        "the journal has no dead letter {number}; `audit-exporter dead-letters list` names those it has"
    ))
}

pub(crate) async fn run(args: Args, registry: &Registry) -> Outcome {
    match args.command {
        Command::List {
            which,
            config,
            limit,
            json,
        } => list(&config, &which, limit, json),
        Command::Show { letter, config } => show(&config, letter),
        Command::Replay(args) => change::replay(args, registry).await,
        Command::Drop(args) => change::drop_letters(args, registry).await,
    }
}

fn list(config: &ConfigArgs, which: &Which, limit: u32, as_json: bool) -> Outcome {
    let config = config.load()?;
    let letters = DeadLetters::read(&config.journal.path)?;
    let found = letters.newest(&which.meant(&config, &letters)?, limit)?;
    if as_json {
        say(json(&found)?);
    } else {
        print(&config, found);
    }
    Ok(exit::OK)
}

fn print(config: &Config, letters: Vec<Letter>) {
    let heads = ["LETTER", "BYTES", "TRIES", "AT", "SINK", "TENANT", "REASON"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(letters.into_iter().map(|letter| {
        let sink = letter.sink.unwrap_or_else(|| "(none)".to_owned());
        [
            letter.letter.to_string(),
            letter.bytes.to_string(),
            letter.attempts.to_string(),
            time(letter.at_ms),
            sink,
            config.tenant_of(&letter.tenant).to_owned(),
            // A line each, whatever a destination answers.
            letter.reason.replace('\n', " "),
        ]
    }));
    table(&rows, 0..3);
}

fn show(config: &ConfigArgs, letter: i64) -> Outcome {
    let letters = DeadLetters::read(&config.load()?.journal.path)?;
    let found = if io::stdout().is_terminal() {
        let mut record = Vec::new();
        let found = letters.write(letter, &mut record)?;
        if found {
            say(String::from_utf8_lossy(&record));
        }
        found
    } else {
        piped(&letters, letter)?
    };
    if found {
        return Ok(exit::OK);
    }
    Err(no_letter(letter))
}

fn piped(letters: &DeadLetters, letter: i64) -> Result<bool> {
    let mut out = io::stdout().lock();
    let found = letters.write(letter, &mut out)?;
    out.flush()?;
    Ok(found)
}
