//! `dead-letters`: the records that were refused for good, as the journal keeps them.

use std::io::{self, IsTerminal as _, Write as _};

use audit_exporter_core::journal::DeadLetters;
use audit_exporter_core::{Error, Result};

use crate::terminal::{json, say, table, time};
use crate::{ConfigArgs, Outcome, exit};

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
}

pub(crate) fn run(args: Args) -> Outcome {
    match args.command {
        Command::List {
            config,
            limit,
            json,
        } => list(&config, limit, json),
        Command::Show { letter, config } => show(&config, letter),
    }
}

fn list(config: &ConfigArgs, limit: u32, as_json: bool) -> Outcome {
    let config = config.load()?;
    let letters = DeadLetters::read(&config.journal.path)?.newest(limit)?;
    if as_json {
        say(json(&letters)?);
        return Ok(exit::OK);
    }
    let heads = ["LETTER", "BYTES", "AT", "SINK", "TENANT", "REASON"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(letters.into_iter().map(|letter| {
        let sink = letter.sink.unwrap_or_else(|| "(none)".to_owned());
        [
            letter.letter.to_string(),
            letter.bytes.to_string(),
            time(letter.at_ms),
            sink,
            config.tenant_of(&letter.tenant).to_owned(),
            // A line each, whatever a destination answers.
            letter.reason.replace('\n', " "),
        ]
    }));
    table(&rows, 0..2);
    Ok(exit::OK)
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
    Err(Error::config(format!(
        "the journal has no dead letter {letter}; `audit-exporter dead-letters list` names those it has"
    )))
}

fn piped(letters: &DeadLetters, letter: i64) -> Result<bool> {
    let mut out = io::stdout().lock();
    let found = letters.write(letter, &mut out)?;
    out.flush()?;
    Ok(found)
}
