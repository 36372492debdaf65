//! `sinks`: how far each sink is, and letting go of those that are gone.

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Config;
use audit_exporter_core::journal::{Journal, Limits, Status};
use audit_exporter_core::metrics::Metrics;
use audit_exporter_core::{Error, admin, http};

use crate::terminal::say;
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
    /// Free the data that a sink no longer in the configuration still holds
    Forget {
        /// The sink's name
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(crate) async fn run(args: Args) -> Outcome {
    match args.command {
        Command::Status { config, json } => status(&config.load()?, json),
        Command::Forget { name, config } => forget(&config.load()?, &name).await,
    }
}

fn status(config: &Config, json: bool) -> Outcome {
    let status = Status::read(&config.journal.path)?;
    if json {
        let text = serde_json::to_string_pretty(&status).map_err(|error| {
            Error::bug("the status cannot be written as JSON").with_cause(error)
        })?;
        say(text);
        return Ok(exit::OK);
    }
    let name = |id: &str| {
        let known = config.tenants.iter().find(|tenant| *tenant.id == *id);
        known.map_or_else(|| id.to_owned(), |tenant| tenant.name.to_string())
    };
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
        let remark = match (sink.orphan_since, sink.balances()) {
            (_, false) => "DOES NOT BALANCE",
            (Some(_), true) => "not configured any more",
            (None, true) => "",
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
            name(&sink.tenant),
            journaled,
            delivered,
            filtered,
            dead,
            skipped,
            pending,
            remark.to_owned(),
        ]);
    }
    table(&rows);
    Ok(exit::OK)
}

/// Writes rows as columns: the first two and the last to the left, numbers to the right.
fn table<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if column < 2 || column == N - 1 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        say(cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Asks the running process, or does it here if none runs.
async fn forget(config: &Config, name: &str) -> Outcome {
    if config.sinks.iter().any(|sink| *sink.name == *name) {
        return Err(Error::config(format!(
            "sink {name} is in the configuration; remove it there first"
        )));
    }
    // A journal that is not there would be made.
    Status::read(&config.journal.path)?;
    let here = Journal::open(
        &config.journal.path,
        Limits::default(),
        Clock::system(),
        Metrics::new()?,
    );
    let known = match here {
        Ok((journal, closer)) => {
            let known = journal.forget_sink(name).await?;
            drop(journal);
            closer.wait();
            known
        }
        Err(locked) => {
            let Some((address, token)) = admin::find(&config.journal.path) else {
                return Err(locked);
            };
            let answer = http::client()?
                .post(format!("http://{address}/-/sinks/{name}/forget"))
                .bearer_auth(token)
                .send()
                .await
                .map_err(|error| locked.with_cause(error.without_url()))?;
            match answer.status().as_u16() {
                200 => true,
                404 => false,
                401 => {
                    return Err(Error::config(
                        "the running process does not know the token in the journal's folder",
                    ));
                }
                409 => {
                    return Err(Error::config(format!(
                        "sink {name} is in the running configuration; remove it there, and start the program anew"
                    )));
                }
                status => {
                    return Err(Error::unavailable(format!(
                        "the running process answers HTTP {status}; its log says why"
                    )));
                }
            }
        }
    };
    if !known {
        return Err(Error::config(format!("the journal knows no sink {name}")));
    }
    say(format!(
        "sink {name} is forgotten; what only it held is freed"
    ));
    Ok(exit::OK)
}
