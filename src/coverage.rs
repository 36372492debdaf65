//! `coverage`: what is known of each day or hour of each tenant.

use audit_exporter_core::Error;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::coverage::silence::Mood;
use audit_exporter_core::coverage::{
    Coverage, LateEvents, Question, Row, State, Stragglers, TenantCoverage,
};
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
            .map(|name| crate::tenant(&config, name).map(|tenant| tenant.id.to_string()))
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
            lines(tenant).iter().for_each(say);
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

/// The columns of the table after the time and the state.
const FIGURES: [&str; 12] = [
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

fn figures(row: &Row) -> [i64; FIGURES.len()] {
    let (content, fates) = (row.all_content(), row.all_fates());
    [
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
    ]
}

/// A tenant's coverage for people.
fn lines(tenant: &TenantCoverage) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", tenant.name, tenant.state)];
    let cells = |span: String, state: &str, figures: [String; FIGURES.len()]| {
        let mut cells: [String; FIGURES.len() + 2] = Default::default();
        (cells[0], cells[1]) = (span, state.to_owned());
        cells[2..].clone_from_slice(&figures);
        cells
    };
    let mut rows = vec![cells("UTC".to_owned(), "STATE", FIGURES.map(str::to_owned))];
    rows.extend(tenant.rows.iter().map(|row| {
        let state = row.state.map_or("-", State::as_str);
        let figures = figures(row).map(|figure| figure.to_string());
        cells(row.span.to_string(), state, figures)
    }));
    lines.extend(terminal::columns(&rows, 2..rows[0].len()));
    lines.extend(tenant.stragglers.iter().map(|late| told_late(late, tenant)));
    let silent = tenant.workloads.iter();
    lines.extend(silent.filter(|one| one.mood == Mood::Silent).map(|one| {
        let since = one.active_ms.map_or_else(|| "long ago".to_owned(), time);
        format!(
            "silent: {} since {since}, which is longer than usual",
            one.workload
        )
    }));
    if tenant.workloads.iter().any(|one| one.mood == Mood::Broken) {
        lines.push(
            "broken: it cannot be collected, so that nothing comes is no sign of quiet".into(),
        );
    }
    let reasons = tenant.reasons.iter();
    lines.extend(reasons.map(|reason| format!("{}: {}", reason.state, reason.text)));
    let unbalanced = tenant.unbalanced.iter();
    lines.extend(unbalanced.map(|breach| format!("does not add up: {breach}; please report it")));
    lines
}

/// What a pass found late of a content type, and the events in it by workload.
fn told_late(late: &Stragglers, tenant: &TenantCoverage) -> String {
    let is_its = |events: &&LateEvents| {
        (&events.source, &events.content_type, &events.pass)
            == (&late.source, &late.content_type, &late.pass)
    };
    let its = tenant.late_events.iter().filter(is_its);
    let its: Vec<String> = its
        .map(|events| format!("{} {}", events.events, events.workload))
        .collect();
    let events = if its.is_empty() {
        String::new()
    } else {
        format!("; events: {}", its.join(", "))
    };
    let (first, last) = (time(late.first_ms), time(late.last_ms));
    format!(
        "late: {} of {} ({}), found by pass {} between {first} and {last}{events}",
        late.units, late.content_type, late.source, late.pass
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use audit_exporter_core::coverage::{Account, Content, Events, Fates, Line, Missed, assess};

    use super::*;

    /// 2026-03-01T04:00Z in hours since 1970.
    const HOUR: i64 = 492_316;
    const MS: i64 = 3_600_000;

    fn account() -> Account {
        let content = Content {
            listed: 7,
            fetched: 5,
            lost: 2,
            stragglers: 1,
            ..Content::default()
        };
        let events = Events {
            journaled: 120,
            repeats: 3,
            variants: 1,
            late: 20,
        };
        let fates = Fates {
            delivered: 118,
            dead: 2,
            ..Fates::default()
        };
        let line = Line {
            source: "activity".to_owned(),
            content_type: "Audit.General".to_owned(),
            since_ms: Some((HOUR - 30) * MS),
            kept_ms: 7 * 24 * MS,
            passes: vec![(0, (HOUR + 20) * MS), (561_600, (HOUR - 4) * MS)],
            hours: BTreeMap::from([(HOUR, content)]),
            gaps: vec![Missed {
                from_ms: (HOUR - 29) * MS,
                to_ms: (HOUR - 28) * MS,
                reason: "it was down".to_owned(),
            }],
            loss: Some("blob-1: HTTP 404".to_owned()),
            ..Line::default()
        };
        let late = |workload: &str, events| LateEvents {
            source: "activity".to_owned(),
            content_type: "Audit.General".to_owned(),
            pass: "+6h".to_owned(),
            workload: workload.to_owned(),
            events,
        };
        let stragglers = Stragglers {
            source: "activity".to_owned(),
            content_type: "Audit.General".to_owned(),
            pass: "+6h".to_owned(),
            units: 1,
            first_ms: (HOUR + 6) * MS,
            last_ms: (HOUR + 6) * MS,
        };
        Account {
            tenant: "id".to_owned(),
            lines: vec![line],
            stragglers: vec![stragglers],
            late: vec![late("PowerApps", 18), late("other", 2)],
            events: BTreeMap::from([(HOUR, events)]),
            journaled: 120,
            sinks: BTreeMap::from([("archive".to_owned(), BTreeMap::from([(HOUR, fates)]))]),
            ..Account::default()
        }
    }

    #[test]
    fn the_table_ends_with_the_reasons_of_what_is_not_settled() {
        let now = chrono::DateTime::from_timestamp_millis((HOUR + 20) * MS).unwrap();
        let coverage = assess(account(), &Question::usual(now), "contoso".to_owned());
        let text = lines(&coverage).join("\n");
        let expected = "\
contoso: lost
UTC         STATE  BLOBS  FETCHED  WAITING  LOST  STRAGGLERS  EVENTS  REPEATS  VARIANTS  LATE  DEAD  SKIPPED  PENDING
2026-02-27  gap        0        0        0     0           0       0        0         0     0     0        0        0
2026-02-28  lost       0        0        0     0           0       0        0         0     0     0        0        0
2026-03-01  lost       7        5        0     2           1     120        3         1    20     2        0        0
2026-03-02  open       0        0        0     0           0       0        0         0     0     0        0        0
late: 1 of Audit.General (activity), found by pass +6h between 2026-03-01T10:00:00Z and 2026-03-01T10:00:00Z; events: 18 PowerApps, 2 other
lost: Audit.General (activity): 2 content blobs lost of 2026-03-01T04:00Z to 2026-03-01T05:00Z: blob-1: HTTP 404
gap: Audit.General (activity): 2026-02-27T23:00Z to 2026-02-28T00:00Z: it was down
open: Audit.General (activity): may still get more: the last pass (+6d12h) has come to 2026-03-01T00:00Z
partial: Audit.General (activity): collected from 2026-02-27T22:00Z on";
        assert_eq!(text, expected);
    }
}
