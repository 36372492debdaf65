//! Counts what was journaled by workload: how much there usually is, and what came late.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::commit::{Commit, Hour, Late};
use super::counts::Events;
use super::marks::{Marks, OTHER};
use super::reach::Lag;
use super::sql;
use super::writer::Tx;
use crate::coverage::silence::LEARNED_HOURS;
use crate::error::Result;

/// The workloads that were seen in records of real tenants. What comes late is counted by these, for ever and in metrics.
const KNOWN: [&str; 24] = [
    "Aip",
    "AppGovernance",
    "AzureActiveDirectory",
    "ComplianceManager",
    "Copilot",
    "CRM",
    "Endpoint",
    "Exchange",
    "MCAS",
    "MicrosoftFlow",
    "MicrosoftForms",
    "MicrosoftStream",
    "MicrosoftTeams",
    "OneDrive",
    "PowerApps",
    "PowerBI",
    "PowerPlatform",
    "PowerPlatformAdmin",
    "Project",
    "SecurityComplianceCenter",
    "SharePoint",
    "TeamsEvalDataHub",
    "ThreatIntelligence",
    "Yammer",
];

/// Counts the new events of a batch by workload. Returns those that came late.
pub(super) fn count(
    tx: &mut Tx<'_>,
    commit: &Commit,
    marks: &Marks,
    fresh: &[usize],
) -> Result<Option<Late>> {
    let oldest = tx.now_ms / 3_600_000 - LEARNED_HOURS;
    let mut counts: BTreeMap<(u32, Hour), u32> = BTreeMap::new();
    for mark in fresh.iter().map(|index| &marks.events[*index]) {
        *counts.entry((mark.workload, mark.hour)).or_default() += 1;
    }
    for ((workload, hour), events) in counts.iter().filter(|((_, hour), _)| *hour > oldest) {
        let workload = marks.workload(*workload);
        tx.counts
            .activity(commit.stream.id, workload, *hour, *events);
    }
    match found_late(tx, commit)? {
        Some(pass) => count_late(tx, commit, pass, marks, &counts).map(Some),
        None => Ok(None),
    }
}

/// The pass that found the batch's unit, if that is a straggler.
fn found_late(tx: &Tx<'_>, commit: &Commit) -> Result<Option<Lag>> {
    let pass: Option<Option<Lag>> = sql(tx
        .conn
        .prepare_cached("SELECT pass FROM units WHERE stream = ?1 AND unit = ?2")
        .and_then(|mut find| {
            find.query_row(params![commit.stream.id, commit.origin.unit], |row| {
                row.get(0)
            })
            .optional()
        }))?;
    Ok(pass.flatten())
}

fn count_late(
    tx: &mut Tx<'_>,
    commit: &Commit,
    pass: Lag,
    marks: &Marks,
    counts: &BTreeMap<(u32, Hour), u32>,
) -> Result<Late> {
    let mut events: BTreeMap<&'static str, usize> = BTreeMap::new();
    for ((workload, hour), count) in counts {
        let late = Events {
            late: *count,
            ..Events::default()
        };
        tx.counts.events(&commit.origin.tenant, *hour, late);
        let workload = known(marks.workload(*workload));
        *events.entry(workload).or_default() += *count as usize;
    }
    let mut upsert = sql(tx.conn.prepare_cached(
        "INSERT INTO straggler_events (stream, content_type, pass, workload, events) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (stream, content_type, pass, workload) DO UPDATE SET events = events + excluded.events",
    ))?;
    for (workload, count) in &events {
        let content_type = &commit.origin.content_type;
        sql(upsert.execute(params![
            commit.stream.id,
            content_type,
            pass,
            workload,
            count
        ]))?;
    }
    Ok(Late { pass, events })
}

fn known(workload: &str) -> &'static str {
    let known = KNOWN.into_iter().find(|known| *known == workload);
    known.unwrap_or(OTHER)
}
