//! `coverage`: what is known of each day or hour of each tenant.

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Config;
use audit_exporter_core::coverage::silence::Mood;
use audit_exporter_core::coverage::{Coverage, Question, TenantCoverage};
use audit_exporter_core::{Error, Result};
use chrono::NaiveDate;

use crate::terminal::{self, say, time};
use crate::{ConfigArgs, Outcome, exit};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The first day (UTC); a month before the last without it
    #[arg(long, value_name = "DATE")]
    from: Option<NaiveDate>,
    /// The last day; today without it
    #[arg(long, value_name = "DATE")]
    to: Option<NaiveDate>,
    /// A row an hour, of the last five weeks; what is older is kept by the day
    #[arg(long)]
    hours: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let config = args.config.load()?;
    let question = Question {
        tenant: args
            .tenant
            .as_deref()
            .map(|name| tenant(&config, name))
            .transpose()?,
        from: args.from,
        to: args.to,
        hours: args.hours,
        now: Clock::system().now(),
    };
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from > to
    {
        return Err(Error::config(format!(
            "--from {from} is after --to {to}; give the earlier day first"
        )));
    }
    let name_of = |tenant: &str| config.tenant_of(tenant).to_owned();
    let coverage = Coverage::read(&config.journal.path, &question, name_of)?;
    if args.json {
        say(terminal::json(&coverage)?);
    } else {
        for tenant in &coverage.tenants {
            show(tenant);
        }
        if coverage.tenants.is_empty() {
            say("nothing has been collected yet");
        }
    }
    if coverage.state.is_bad() || !coverage.balanced {
        return Ok(exit::FAILED);
    }
    Ok(exit::OK)
}

/// The id of the tenant that is meant, by its name or its id.
fn tenant(config: &Config, name: &str) -> Result<String> {
    let mut tenants = config.tenants.iter();
    let found = tenants.find(|tenant| *tenant.name == *name || *tenant.id == *name);
    found.map(|tenant| tenant.id.to_string()).ok_or_else(|| {
        let names: Vec<&str> = config.tenants.iter().map(|tenant| &*tenant.name).collect();
        Error::config(format!(
            "the configuration has no tenant {name}; it has {}",
            names.join(", ")
        ))
    })
}

fn show(tenant: &TenantCoverage) {
    say(format!("{}: {}", tenant.name, tenant.state));
    let heads = [
        "UTC",
        "STATE",
        "BLOBS",
        "FETCHED",
        "WAITING",
        "LOST",
        "STRAGGLERS",
        "EVENTS",
        "REPEATS",
        "VARIANTS",
        "LATE",
        "DEAD",
        "SKIPPED",
        "PENDING",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for row in &tenant.rows {
        let (content, fates) = (row.all_content(), row.all_fates());
        let figures = [
            content.listed,
            content.fetched,
            content.pending,
            content.lost,
            content.stragglers,
            row.events.journaled,
            row.events.repeats,
            row.events.variants,
            row.events.late,
            fates.dead,
            fates.skipped,
            fates.pending,
        ];
        let mut cells: [String; 14] = Default::default();
        cells[0] = row.span.to_string();
        cells[1] = row.state.map_or("-", |state| state.as_str()).to_owned();
        for (cell, figure) in cells[2..].iter_mut().zip(figures) {
            *cell = figure.to_string();
        }
        rows.push(cells);
    }
    terminal::table(&rows, 2..14);
    for late in &tenant.stragglers {
        say(format!(
            "{} of {} ({}) came late, found by {} from {} to {}",
            late.units,
            late.content_type,
            late.source,
            late.pass,
            time(late.first_ms),
            time(late.last_ms)
        ));
    }
    for workload in &tenant.workloads {
        if workload.mood == Mood::Silent {
            let since = workload
                .active_ms
                .map_or_else(|| "long ago".to_owned(), time);
            say(format!(
                "silent: {} since {since}, longer than ever in the last weeks",
                workload.workload
            ));
        }
    }
    for reason in &tenant.reasons {
        say(format!("{}: {}", reason.state, reason.text));
    }
    for breach in &tenant.unbalanced {
        say(format!("DOES NOT ADD UP: {breach}; please report it"));
    }
}
