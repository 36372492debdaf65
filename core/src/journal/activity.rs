//! Counts what was journaled by workload: how much there usually is, and what came late.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::commit::{Commit, Hour, Late, hour_of};
use super::counts::Events;
use super::reach::Lag;
use super::sql;
use super::writer::Tx;
use crate::coverage::silence::LEARNED_HOURS;
use crate::error::Result;
use crate::event::AuditEvent;

/// The workload of events that name none, or whose name is none: records are foreign text, and each name is a row.
const OTHER: &str = "other";
/// Microsoft's names are shorter, and of letters and digits.
const LONGEST_NAME: usize = 48;
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
pub(super) fn count<'a>(
    tx: &mut Tx<'_>,
    commit: &Commit,
    fresh: impl Iterator<Item = &'a AuditEvent>,
) -> Result<Option<Late>> {
    let oldest = tx.now_ms / 3_600_000 - LEARNED_HOURS;
    let mut by_bytes: BTreeMap<(&[u8], Hour), u32> = BTreeMap::new();
    for event in fresh {
        let key = (event.raw_workload(), hour_of(event));
        *by_bytes.entry(key).or_default() += 1;
    }
    let mut counts: BTreeMap<(&str, Hour), u32> = BTreeMap::new();
    for ((bytes, hour), events) in by_bytes {
        *counts.entry((name_of(bytes), hour)).or_default() += events;
    }
    for ((workload, hour), events) in counts.iter().filter(|((_, hour), _)| *hour > oldest) {
        tx.counts
            .activity(commit.stream.id, workload, *hour, *events);
    }
    match found_late(tx, commit)? {
        Some(pass) => count_late(tx, commit, pass, &counts).map(Some),
        None => Ok(None),
    }
}

fn name_of(workload: &[u8]) -> &str {
    let is_name = (1..=LONGEST_NAME).contains(&workload.len())
        && workload.iter().all(u8::is_ascii_alphanumeric);
    let name = is_name
        .then(|| std::str::from_utf8(workload).ok())
        .flatten();
    name.unwrap_or(OTHER)
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
    counts: &BTreeMap<(&str, Hour), u32>,
) -> Result<Late> {
    let mut events: BTreeMap<&'static str, usize> = BTreeMap::new();
    for ((workload, hour), count) in counts {
        let late = Events {
            late: *count,
            ..Events::default()
        };
        tx.counts.events(&commit.origin.tenant, *hour, late);
        *events.entry(known(workload)).or_default() += *count as usize;
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
