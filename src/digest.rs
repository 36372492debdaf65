//! `digest`: the mails of an `email_digest` sink, sent and to come, and sending one by hand.
//!
//! What can be asked is the sink's own affair: it gets the request as JSON, and answers. To look, a sink is built here
//! that reads the journal and nothing else; to send, the running process is asked, if there is one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use audit_exporter_core::config::Config;
use audit_exporter_core::engine;
use audit_exporter_core::engine::letters::Desk;
use audit_exporter_core::journal::{Journal, Status};
use audit_exporter_core::plugin::Registry;
use audit_exporter_core::{Error, Result, admin};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::json;

use crate::terminal::{say, table};
use crate::{ConfigArgs, Outcome, exit};

/// The type of sink that these commands are about.
const KIND: &str = "email_digest";
/// How long a mail server may take, to each tenant's mail.
const PATIENCE: Duration = Duration::from_mins(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a mail as HTML, from what is stored, without sending it
    Preview {
        #[command(flatten)]
        which: Which,
        /// A day, or days as 2026-11-16..2026-11-22, in the sink's time zone; the next mail, as it is now, if absent
        #[arg(long, value_name = "DAY")]
        period: Option<String>,
        /// Where to write it; standard output if absent
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// All rows as CSV instead
        #[arg(long)]
        csv: bool,
    },
    /// Send the mail of a period now, whatever was sent before. The mails of the schedule go on as they would
    Send {
        #[command(flatten)]
        which: Which,
        /// A day, or days as 2026-11-16..2026-11-22, in the sink's time zone
        #[arg(long, value_name = "DAY")]
        period: String,
    },
    /// Show which mails were sent, and what waits for the next
    List {
        #[command(flatten)]
        which: Which,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The sink; the only one of this type if absent
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Of this tenant: its name in the configuration, or its id
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl Which {
    fn sink(&self, config: &Config) -> Result<String> {
        let digests: Vec<&str> = config
            .sinks
            .iter()
            .filter(|sink| sink.kind == KIND)
            .map(|sink| &*sink.name)
            .collect();
        match (&self.sink, digests.as_slice()) {
            (Some(name), known) if known.contains(&name.as_str()) => Ok(name.clone()),
            (Some(name), known) => Err(Error::config(format!(
                "the configuration has no email digest {name}; it has {}",
                list(known)
            ))),
            (None, [only]) => Ok((*only).to_owned()),
            (None, known) => Err(Error::config(format!(
                "say which email digest, by --sink: the configuration has {}",
                list(known)
            ))),
        }
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// One tenant's mails, as the sink lists them.
#[derive(Deserialize)]
struct Listed {
    tenant: String,
    next: Option<[DateTime<Utc>; 3]>,
    sending: bool,
    rows: u64,
    late: u64,
    sent: Vec<Past>,
}

#[derive(Deserialize)]
struct Past {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    at: DateTime<Utc>,
    rows: u64,
    late: u64,
    message_id: Option<String>,
}

pub(crate) async fn run(args: Args, registry: &Registry) -> Outcome {
    match args.command {
        Command::Preview {
            which,
            period,
            out,
            csv,
        } => {
            let what = if csv { "csv" } else { "preview" };
            let request = json!({"do": what, "tenant": which.tenant, "period": period});
            let text = ask_here(&which, registry, &request).await?;
            match out {
                Some(path) => std::fs::write(&path, text).map_err(|error| {
                    Error::unavailable(format!("{} cannot be written", path.display()))
                        .with_cause(error)
                })?,
                None => say(text),
            }
            Ok(exit::OK)
        }
        Command::Send { which, period } => {
            let config = which.config.load()?;
            let sink = which.sink(&config)?;
            let request = json!({"do": "send", "tenant": which.tenant, "period": period});
            say(ask(&config, registry, sink, request.to_string()).await?);
            Ok(exit::OK)
        }
        Command::List { which, json } => {
            let text = ask_here(&which, registry, &json!({"do": "list"})).await?;
            if json {
                say(text);
            } else {
                print(&text, which.tenant.as_deref())?;
            }
            Ok(exit::OK)
        }
    }
}

/// Asks the running process, or does it here if none runs.
async fn ask(
    config: &Config,
    registry: &Registry,
    sink: String,
    request: String,
) -> Result<String> {
    let path = &config.journal.path;
    // A journal that is not there would be made.
    Status::read(path)?;
    if Journal::is_held(path)? {
        return admin::ask_sink(path, &sink, &request, PATIENCE).await;
    }
    let desk = Desk::open(config, registry, &BTreeSet::from([sink.clone()])).await?;
    let answer = desk.ask(&sink, request).await;
    desk.close().await?;
    answer
}

/// Asks a sink that is built here and only reads.
async fn ask_here(
    which: &Which,
    registry: &Registry,
    request: &serde_json::Value,
) -> Result<String> {
    let config = which.config.load()?;
    let sink = which.sink(&config)?;
    engine::look(&config, registry, &sink, &request.to_string()).await
}

/// The list as a table: for each tenant what was sent, the oldest first, and what is to come.
fn print(list: &str, tenant: Option<&str>) -> Result<()> {
    let listed: Vec<Listed> = serde_json::from_str(list)
        .map_err(|error| Error::bug("the sink's list cannot be read").with_cause(error))?;
    let heads = ["TENANT", "FROM", "TO", "ROWS", "LATE", "SENT", "MESSAGE-ID"];
    let mut rows = vec![heads.map(str::to_owned)];
    let wanted = |listed: &&Listed| tenant.is_none_or(|tenant| tenant == listed.tenant);
    for listed in listed.iter().filter(wanted) {
        for past in &listed.sent {
            rows.push([
                listed.tenant.clone(),
                time(past.start),
                time(past.end),
                past.rows.to_string(),
                past.late.to_string(),
                time(past.at),
                past.message_id
                    .clone()
                    .unwrap_or_else(|| "(nothing to say)".to_owned()),
            ]);
        }
        let [from, to, sent] = match listed.next {
            Some([start, end, _]) if listed.sending => {
                [time(start), time(end), "being sent".to_owned()]
            }
            Some([start, end, due]) => [time(start), time(end), format!("due {}", time(due))],
            None => [(); 3].map(|()| "-".to_owned()),
        };
        let (waiting, late) = (listed.rows.to_string(), listed.late.to_string());
        rows.push([
            listed.tenant.clone(),
            from,
            to,
            waiting,
            late,
            sent,
            String::new(),
        ]);
    }
    table(&rows, 3..5);
    Ok(())
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
