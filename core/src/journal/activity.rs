//! Counts what was journaled by workload: how much there usually is, and what came late.

use std::collections::BTreeMap;

use rusqlite::params;

use super::commit::{Commit, Late};
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

/// Counts the new events of a batch by workload: `kinds` are those of [`Marks::kinds`]. Returns those that came late:
/// all, if a `pass` found their unit.
pub(super) fn count(
    tx: &mut Tx<'_>,
    commit: &Commit,
    marks: &Marks,
    kinds: &[Events],
    pass: Option<Lag>,
) -> Result<Option<Late>> {
    let oldest = tx.now_ms / 3_600_000 - LEARNED_HOURS;
    for (kind, events) in marks.kinds.iter().zip(kinds) {
        if kind.hour > oldest && events.journaled > 0 {
            let workload = marks.workload(kind.workload);
            tx.counts
                .activity(commit.stream.id, workload, kind.hour, events.journaled);
        }
    }
    pass.map(|pass| count_late(tx, commit, pass, marks, kinds))
        .transpose()
}

fn count_late(
    tx: &mut Tx<'_>,
    commit: &Commit,
    pass: Lag,
    marks: &Marks,
    kinds: &[Events],
) -> Result<Late> {
    let mut events: BTreeMap<&'static str, usize> = BTreeMap::new();
    for (kind, counted) in marks.kinds.iter().zip(kinds) {
        if counted.journaled == 0 {
            continue;
        }
        let late = Events {
            late: counted.journaled,
            ..Events::default()
        };
        tx.counts.events(&commit.origin.tenant, kind.hour, late);
        let workload = known(marks.workload(kind.workload));
        *events.entry(workload).or_default() += counted.journaled as usize;
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
