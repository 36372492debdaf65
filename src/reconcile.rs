//! `reconcile`: what each of a tenant's sources holds of one day, what only one has, and what the journal never had.

use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;

use audit_exporter_core::config::{Config, Source, Tenant};
use audit_exporter_core::engine::reconcile::{Difference, Question, Reconciliation, reconcile};
use audit_exporter_core::plugin::Registry;
use audit_exporter_core::{Error, Result, printable};
use chrono::{NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Utc};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::terminal::{self, LogFormat, number, say};
use crate::{ConfigArgs, Outcome, exit, moment};

/// Lines of a table for people; `--json` has all.
const MOST_LINES: usize = 50;
/// What happened so lately may still be on its way at Microsoft.
const YOUNG: TimeDelta = TimeDelta::days(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tenant: its name in the configuration, or its id
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// The day, in UTC, by the time of the events. It must be over
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = moment::day)]
    day: NaiveDate,
    /// A source of the configuration to ask; may be given several times. Without it, all of the tenant's
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Seconds after which a source that fails or gets no further, and has no Graph query running, is left as it is
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    give_up: u64,
    /// Everything as JSON, with each event that differs
    #[arg(long)]
    json: bool,
    /// The form of the log, which goes to standard error
    #[arg(long, value_enum, default_value = "auto")]
    log: LogFormat,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) async fn run(args: Args, registry: &Registry) -> Outcome {
    let config = args.config.load()?;
    let tenant = crate::tenant(&config, &args.tenant)?;
    let end = args.day.and_time(NaiveTime::MIN).and_utc() + TimeDelta::days(1);
    if end > Utc::now() {
        return Err(Error::config(format!(
            "{} is not over yet in UTC; only whole days can be compared",
            args.day
        )));
    }
    let sources = sources(&config, tenant, &args.source)?;
    // Before there is a folder, which no signal is to leave behind.
    let stopped = CancellationToken::new();
    let _listening = listen(&stopped)?;
    let folder = tempfile::Builder::new()
        .prefix("audit-exporter-reconcile-")
        // It holds personal data.
        .permissions(Permissions::from_mode(0o700))
        .tempdir()?;
    let question = Question {
        tenant,
        sources,
        day: args.day,
        give_up: std::time::Duration::from_secs(args.give_up),
        folder: folder.path(),
    };
    let progress = terminal::log(args.log, "error", true);
    let names: Vec<&str> = question.sources.iter().map(|one| &*one.name).collect();
    progress.show(format!("asking {} for {} …", names.join(", "), args.day));
    let found = reconcile(&config, registry, &question, &stopped).await;
    progress.clear();
    let found = found?;
    if let Some(found) = &found
        && args.json
    {
        tell_json(found, &stopped)?;
    }
    let Some(found) = found.filter(|_| !stopped.is_cancelled()) else {
        terminal::tell(true, "broken off; nothing is left behind");
        return Ok(exit::FAILED);
    };
    if !args.json {
        tell(&found)?;
        if end > Utc::now() - YOUNG {
            say(
                "note: the day ended less than 24 hours ago; some of its events may still be on their way at Microsoft",
            );
        }
    }
    Ok(if is_well(&found) {
        exit::OK
    } else {
        exit::FAILED
    })
}

/// From now on, whoever asks to stop (Ctrl-C, SIGTERM) or closes the terminal (SIGHUP) cancels `stopped`.
fn listen(stopped: &CancellationToken) -> Result<JoinSet<()>> {
    let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
    if !outlives_terminal() {
        kinds.push(SignalKind::hangup());
    }
    let mut listening = JoinSet::new();
    for kind in kinds {
        let (mut signal, stopped) = (signal(kind)?, stopped.clone());
        listening.spawn(async move {
            signal.recv().await;
            stopped.cancel();
        });
    }
    Ok(listening)
}

/// Whether whoever started this process (`nohup`) has it ignore SIGHUP, as far as Linux says.
fn outlives_terminal() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = SignalKind::hangup().as_raw_value() - 1;
    ignored.is_some_and(|mask| mask >> bit & 1 == 1)
}

/// Whether all sources could be asked, and the journal has had all that they hold; without a journal, whether they hold
/// the same.
fn is_well(found: &Reconciliation) -> bool {
    let complete = found.sources.iter().all(|one| one.complete);
    complete && found.unrecorded.unwrap_or(found.different) == 0
}

/// The tenant's sources of these names; without names, all.
fn sources<'a>(config: &'a Config, tenant: &Tenant, names: &[String]) -> Result<Vec<&'a Source>> {
    let mut sources: Vec<&Source> = config.sources.iter().collect();
    sources.retain(|source| source.tenants.contains(&tenant.name));
    let known: Vec<&str> = sources.iter().map(|source| &*source.name).collect();
    if known.is_empty() {
        let problem = format!("no source collects tenant {}", tenant.name);
        return Err(Error::config(problem));
    }
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Error::config(format!(
            "no source {unknown} collects tenant {}; it has {}",
            tenant.name,
            known.join(", ")
        )));
    }
    sources.retain(|source| names.is_empty() || names.iter().any(|name| **name == *source.name));
    Ok(sources)
}

fn tell(found: &Reconciliation) -> Result<()> {
    let missing = |figure: Option<u64>| figure.map_or_else(|| "?".to_owned(), number);
    let mut rows = vec![
        [
            "SOURCE",
            "TYPE",
            "EVENTS",
            "ONLY HERE",
            "MISSING HERE",
            "UNITS",
            "REQUESTS",
        ]
        .map(str::to_owned),
    ];
    rows.extend(found.sources.iter().map(|one| {
        [
            one.source.clone(),
            one.kind.clone(),
            number(one.figures.events),
            number(one.figures.only_here),
            missing(one.figures.missing_here),
            number(one.units),
            number(one.requests),
        ]
    }));
    say(format!("{} on {} (UTC)", found.tenant, found.day));
    terminal::table(&rows, 2..7);
    for one in &found.sources {
        for reason in &one.reasons {
            say(format!("NOT COMPLETE: source {}: {reason}", one.source));
        }
        if one.incomparable > 0 {
            say(format!(
                "{}: {} records without an Id, a time or an operation cannot be compared",
                one.source,
                number(one.incomparable)
            ));
        }
    }
    say(verdict(found));
    if found.different > 0 {
        tell_groups(found);
        tell_events(found)?;
    }
    Ok(())
}

fn verdict(found: &Reconciliation) -> String {
    let events = number(found.events);
    let sources = if found.sources.len() < 2 {
        format!("{events} events")
    } else if found.sources.iter().any(|one| !one.complete) {
        format!("{events} different events; not all sources could be asked to the end")
    } else if found
        .sources
        .iter()
        .all(|one| one.figures.events == found.events)
    {
        format!("{events} events, the same at all sources")
    } else {
        let fewer = |one: &&audit_exporter_core::engine::reconcile::Asked| {
            one.figures.events < found.events
        };
        let lacking = found.sources.iter().filter(fewer);
        let names: Vec<&str> = lacking.map(|one| &*one.source).collect();
        format!(
            "{events} different events; not all are at {}",
            names.join(", ")
        )
    };
    let journal = match found.unrecorded {
        None => "whether this exporter has had them is not known: there is no journal, or the day is older than the 35 \
                 days that it knows ids for"
            .to_owned(),
        Some(0) => "this exporter's journal has had all of them".to_owned(),
        Some(count) => format!("this exporter's journal NEVER HAD {} of them", number(count)),
    };
    format!("{sources}; {journal}")
}

fn tell_groups(found: &Reconciliation) {
    let mut rows = vec![
        [
            "CONTENT TYPE",
            "WORKLOAD",
            "OPERATION",
            "MISSING IN",
            "EVENTS",
            "NEVER HAD",
        ]
        .map(str::to_owned),
    ];
    rows.extend(found.groups.iter().take(MOST_LINES).map(|group| {
        [
            line(&group.content_type),
            line(&group.workload),
            line(&group.operation),
            group.missing_in.join(" "),
            number(group.events),
            group.unrecorded.map_or_else(|| "?".to_owned(), number),
        ]
    }));
    say("");
    terminal::table(&rows, 4..6);
    more(found.groups.len() as u64);
}

fn tell_events(found: &Reconciliation) -> Result<()> {
    let mut rows = vec![
        [
            "TIME",
            "OPERATION",
            "RECORD TYPE",
            "USER",
            "ID",
            "HELD BY",
            "JOURNAL",
        ]
        .map(str::to_owned),
    ];
    let listed = BufReader::new(File::open(&found.listed_in)?);
    for text in listed.lines().take(MOST_LINES) {
        let difference: Difference = serde_json::from_str(&text?)
            .map_err(|error| Error::bug("a difference was noted wrongly").with_cause(error))?;
        let event = difference.event;
        let record_type = event.record_type.map(|number| number.to_string());
        rows.push([
            event.time.to_rfc3339_opts(SecondsFormat::Secs, true),
            line(&event.operation),
            record_type.unwrap_or_default(),
            line(&event.user),
            line(&event.id),
            difference.held_by.join(" "),
            match difference.recorded {
                None => "?",
                Some(true) => "had it",
                Some(false) => "never had it",
            }
            .to_owned(),
        ]);
    }
    say("");
    terminal::table(&rows, 2..3);
    more(found.different);
    Ok(())
}

/// Says that a table has more lines than are shown.
fn more(lines: u64) {
    let hidden = lines.saturating_sub(MOST_LINES as u64);
    if hidden > 0 {
        say(format!("… and {} more: --json has all", number(hidden)));
    }
}

/// The text of others in a table: on one line, and without command of the terminal.
fn line(text: &str) -> String {
    printable(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// One JSON object, whose list of differences is written as it is read: it may be long. Without its end if it is
/// stopped.
fn tell_json(found: &Reconciliation, stopped: &CancellationToken) -> Result<()> {
    let head = terminal::json(found)?;
    let head = head.strip_suffix("\n}").unwrap_or(&head);
    say(format!("{head},\n  \"differences\": ["));
    let mut listed = BufReader::new(File::open(&found.listed_in)?).lines();
    let mut next = listed.next().transpose()?;
    while let Some(difference) = next {
        if stopped.is_cancelled() {
            return Ok(());
        }
        next = listed.next().transpose()?;
        let comma = if next.is_some() { "," } else { "" };
        say(format!("    {difference}{comma}"));
    }
    say("  ]\n}");
    Ok(())
}
