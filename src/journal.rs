//! `journal`: whether the journal is whole, and the way on if it is not.

use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Config;
use audit_exporter_core::journal::{Damage, SourceAndTenant, recover};

use crate::terminal::say;
use crate::{ConfigArgs, Outcome, exit};

/// How far back Microsoft lists content.
const LISTED: Duration = Duration::from_hours(7 * 24);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read all of it and say what is damaged; exit code 1 if anything is. Changes nothing; no `run` may use it
    Check(ConfigArgs),
    /// Keep aside what is damaged and save the rest, so that `run` can go on. Deletes nothing; no `run` may use it
    Recover(ConfigArgs),
}

pub(crate) fn run(args: &Args) -> Outcome {
    match &args.command {
        Command::Check(config) => check(&config.load()?),
        Command::Recover(config) => mend(&config.load()?),
    }
}

fn check(config: &Config) -> Outcome {
    let damage = Damage::find(&config.journal.path)?;
    if damage.is_none() {
        say("the journal is whole");
        return Ok(exit::OK);
    }
    for line in damage.lines() {
        say(line);
    }
    say("`audit-exporter journal recover` keeps aside what is damaged and saves the rest");
    Ok(exit::FAILED)
}

fn mend(config: &Config) -> Outcome {
    let now = Clock::system().now();
    let path = &config.journal.path;
    let Some(recovered) = recover(path, &streams(config), LISTED, now)? else {
        say("the journal is whole: there is nothing to recover");
        return Ok(exit::OK);
    };
    for line in recovered.damage.lines() {
        say(line);
    }
    say(format!(
        "what is damaged is kept in {}",
        recovered.aside.display()
    ));
    for line in recovered.told {
        say(line);
    }
    Ok(exit::OK)
}

/// Each source with each of its tenants.
fn streams(config: &Config) -> Vec<SourceAndTenant> {
    let sources = config.sources.iter();
    let pairs = sources.flat_map(|source| source.tenants.iter().map(move |name| (source, name)));
    let known = pairs.filter_map(|(source, name)| Some((source, config.tenant(name)?)));
    known
        .map(|(source, tenant)| (source.name.to_string(), tenant.id.to_string()))
        .collect()
}
