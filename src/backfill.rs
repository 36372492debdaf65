//! `backfill`: brings in what a tenant's journal lacks of an earlier time, by a source that searches by event time.
//!
//! What is known of the last 35 days is told by the ids, event by event. Of what is older, the ids are forgotten: only the
//! days that coverage does not show as collected are searched, unless all are wanted.

use std::collections::BTreeSet;

use audit_exporter_core::config::{Config, Source, Tenant};
use audit_exporter_core::coverage::{Coverage, Question, Span, State};
use audit_exporter_core::engine::backfill::{self, Backfill};
use audit_exporter_core::journal::Journal;
use audit_exporter_core::plugin::{Registry, Spans};
use audit_exporter_core::{Error, Result, admin};
use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};

use crate::terminal::say;
use crate::{ConfigArgs, Outcome, exit, moment};

/// How long the journal knows the ids of what it had (docs/guarantees.md).
const IDS_KEPT: TimeDelta = TimeDelta::days(35);
/// The types of sources that can search by event time, with the short names for them. The first is preferred.
const SEARCHING: [(&str, &str); 2] = [
    ("graph", "graph_audit_query"),
    ("search", "search_unified_audit_log"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tenant: its name in the configuration, or its id
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// Events since this day or time (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    from: DateTime<Utc>,
    /// Events before this day or time (UTC)
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    to: DateTime<Utc>,
    /// By which source: graph, search, or its name in the configuration
    #[arg(long, value_name = "SOURCE")]
    via: Option<String>,
    /// Of what is older than 35 days, search also the days that coverage shows as collected. Their events come again
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) async fn run(args: Args, registry: &Registry) -> Outcome {
    let config = args.config.load()?;
    let now = Utc::now();
    if args.from >= args.to || args.from >= now {
        return Err(Error::config("--from must be before --to, and in the past"));
    }
    let tenant = crate::tenant(&config, &args.tenant)?;
    let source = source(&config, tenant, args.via.as_deref())?;
    let path = &config.journal.path;
    let is_running = Journal::is_held(path)?;
    let limit = now - IDS_KEPT;
    let mut spans = Spans::new();
    if args.from < limit {
        let older = (args.from, args.to.min(limit));
        spans.extend(if args.again {
            vec![older]
        } else {
            uncollected(&config, tenant, older, now)?
        });
    }
    if args.to > limit {
        spans.push((args.from.max(limit), args.to.min(now)));
    }
    let spans = joined(spans);
    if spans.is_empty() {
        say("nothing is missing: coverage shows every day of it as collected");
        return Ok(exit::OK);
    }
    let asked = Backfill {
        source: source.name.to_string(),
        tenant: tenant.name.to_string(),
        spans,
    };
    if is_running {
        admin::ask_to_backfill(path, &asked).await?;
    } else {
        backfill::note(&config, registry, &asked).await?;
    }
    tell(&asked, limit, is_running);
    Ok(exit::OK)
}

fn tell(asked: &Backfill, limit: DateTime<Utc>, is_running: bool) {
    let Backfill { source, tenant, .. } = asked;
    say(format!("to be searched for {tenant} by source {source}:"));
    for (from, to) in &asked.spans {
        let text = |time: &DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        say(format!("  {} to {}", text(from), text(to)));
    }
    say("what the journal has had in the last 35 days is known and not delivered again");
    if asked.spans.iter().any(|(from, _)| *from < limit) {
        say(
            "what is older can come again, if the sinks had it before: its ids are forgotten after 35 days",
        );
    }
    say(if is_running {
        "the running process does it, behind its other work"
    } else {
        "the next run does it, behind its other work"
    });
}

/// The source that is asked for, or the one that suits.
fn source<'a>(config: &'a Config, tenant: &Tenant, via: Option<&str>) -> Result<&'a Source> {
    let of_tenant = || {
        let sources = config.sources.iter();
        sources.filter(|source| source.tenants.contains(&tenant.name))
    };
    let of_kind = |kind: &str| of_tenant().find(|source| source.kind == kind);
    let found = match via {
        Some(via) => {
            let kind = SEARCHING.iter().find(|(short, _)| *short == via);
            let named = of_tenant().find(|source| *source.name == *via);
            named.or_else(|| kind.and_then(|(_, kind)| of_kind(kind)))
        }
        None => SEARCHING.iter().find_map(|(_, kind)| of_kind(kind)),
    };
    found.ok_or_else(|| {
        let what = via.map_or_else(
            || "no source that searches by event time".to_owned(),
            |via| format!("no source {via}"),
        );
        Error::config(format!(
            "{what} collects tenant {}; add one of type graph_audit_query or search_unified_audit_log to the configuration \
             (`start = \"1h\"` if it is for backfills alone)",
            tenant.name
        ))
    })
}

/// The days of a time that coverage does not show as collected.
fn uncollected(
    config: &Config,
    tenant: &Tenant,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    now: DateTime<Utc>,
) -> Result<Spans> {
    let question = Question {
        tenant: Some(tenant.id.to_string()),
        from: Some(from.date_naive()),
        to: Some(to.date_naive()),
        ..Question::usual(now)
    };
    let collected = match Coverage::read(&config.journal.path, &question, str::to_owned) {
        Ok(coverage) => collected(&coverage),
        // There is no journal yet, so nothing is collected.
        Err(error) if !config.journal.path.exists() => {
            tracing::debug!("{error}");
            BTreeSet::new()
        }
        Err(error) => return Err(error),
    };
    let days = from.date_naive().iter_days();
    let days = days.take_while(|day| start_of(*day) < to);
    let missing = days.filter(|day| !collected.contains(day));
    let span = |day: NaiveDate| {
        let next = start_of(day) + TimeDelta::days(1);
        (start_of(day).max(from), next.min(to))
    };
    Ok(missing.map(span).collect())
}

fn collected(coverage: &Coverage) -> BTreeSet<NaiveDate> {
    let rows = coverage.tenants.iter().flat_map(|tenant| &tenant.rows);
    let days = rows.filter_map(|row| match (row.span, row.state) {
        (Span::Day(day), Some(State::Settled | State::Open)) => Some(day),
        _ => None,
    });
    days.collect()
}

fn start_of(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// Stretches that touch, as one.
fn joined(spans: Spans) -> Spans {
    let mut joined = Spans::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => joined.push((from, to)),
        }
    }
    joined
}
