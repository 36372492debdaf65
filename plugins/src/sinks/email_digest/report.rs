//! What a digest is about: rows as they are read for a mail, or usage by app.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::csv::Csv;
use super::row::Row;
use super::tables::{Cut, Section, app_groups, row_columns, row_groups, some};

/// Rows that are held for one mail; more are counted alone.
const MOST_HELD: usize = 20_000;
/// The ready-made digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// New or changed flows: their connectors and how they are shared, by environment and maker.
    Flows,
    /// Launches and users of each app, and its last launch.
    AppLaunches,
    /// Any events, by operation and user.
    Events,
}

impl Report {
    /// The heading, unless the configuration has its own.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Flows => "Flows",
            Self::AppLaunches => "App launches",
            Self::Events => "Events",
        }
    }
}

/// The rows of one section, as they are read.
pub(super) enum Gathered {
    Rows {
        report: Report,
        held: Vec<Row>,
        most: usize,
        count: u64,
    },
    Apps {
        apps: BTreeMap<AppKey, Usage>,
        count: u64,
    },
}

/// An environment and an app's id.
pub(super) type AppKey = (String, String);

/// How an app was used.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) name: String,
    pub(super) launches: u64,
    pub(super) users: BTreeSet<String>,
    pub(super) last: DateTime<Utc>,
}

impl Gathered {
    /// What holds as many rows as one mail may.
    pub(super) fn new(report: Report) -> Self {
        Self::holding(report, MOST_HELD)
    }

    /// What holds so many rows.
    pub(super) fn holding(report: Report, most: usize) -> Self {
        match report {
            Report::AppLaunches => Self::Apps {
                apps: BTreeMap::new(),
                count: 0,
            },
            Report::Flows | Report::Events => Self::Rows {
                report,
                held: Vec::new(),
                most,
                count: 0,
            },
        }
    }

    pub(super) fn add(&mut self, row: Row) {
        match self {
            Self::Rows {
                held, most, count, ..
            } => {
                *count += 1;
                if held.len() < *most {
                    held.push(row);
                }
            }
            Self::Apps { apps, count } => {
                *count += 1;
                let usage = apps.entry((row.environment, row.item)).or_default();
                usage.launches += 1;
                usage.last = usage.last.max(row.at);
                usage.users.insert(row.user);
                if !row.name.is_empty() {
                    usage.name = row.name;
                }
            }
        }
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Rows { count, .. } | Self::Apps { count, .. } => *count,
        }
    }

    /// Rows that are counted alone.
    pub(super) fn not_held(&self) -> u64 {
        match self {
            Self::Rows { held, count, .. } => count - held.len() as u64,
            Self::Apps { .. } => 0,
        }
    }

    /// The section's tables.
    pub(super) fn section(&self, tenant: Option<&str>, late: bool, cut: Cut) -> Section {
        let (columns, groups, shown, all, summary) = match self {
            Self::Rows {
                report,
                held,
                count,
                ..
            } => {
                let several = held
                    .windows(2)
                    .any(|pair| pair[0].operation != pair[1].operation);
                let columns = row_columns(*report, held, several);
                let shown = held.len().min(cut.most);
                let groups = row_groups(*report, &held[..shown], several, cut);
                (columns, groups, shown as u64, *count, None)
            }
            Self::Apps { apps, .. } => {
                let groups = app_groups(apps, cut);
                let users: BTreeSet<&String> = apps.values().flat_map(|app| &app.users).collect();
                let summary = format!(
                    "{} in {}",
                    some(users.len(), "user"),
                    some(apps.len(), "app")
                );
                let columns = vec!["App", "Launches", "Users", "Last launch"];
                let shown = apps.len().min(cut.most) as u64;
                (columns, groups, shown, apps.len() as u64, Some(summary))
            }
        };
        Section {
            tenant: tenant.map(str::to_owned),
            late,
            count: self.count(),
            summary: summary.filter(|_| self.count() > 0),
            columns,
            groups,
            more: all - shown,
        }
    }

    /// Writes all that is held as lines of CSV, as far as there is room.
    pub(super) fn csv(&self, tenant: &str, late: bool, csv: &mut Csv) {
        let late = if late { "late" } else { "" };
        match self {
            Self::Rows { held, .. } => {
                for row in held {
                    csv.line(&[
                        &row.at.to_rfc3339(),
                        tenant,
                        &row.operation,
                        &row.user,
                        &row.status,
                        &row.environment,
                        &row.item,
                        &row.name,
                        &row.connectors,
                        &row.sharing,
                        &row.recipient,
                        &row.link,
                        late,
                    ]);
                }
            }
            Self::Apps { apps, .. } => {
                for ((environment, app), usage) in apps {
                    csv.line(&[
                        tenant,
                        environment,
                        app,
                        &usage.name,
                        &usage.launches.to_string(),
                        &usage.users.len().to_string(),
                        &usage.last.to_rfc3339(),
                        late,
                    ]);
                }
            }
        }
    }
}

/// The first line of a report's CSV.
pub(super) fn csv_heads(report: Report) -> &'static [&'static str] {
    match report {
        Report::AppLaunches => &[
            "tenant",
            "environment",
            "app",
            "name",
            "launches",
            "users",
            "last_launch",
            "late",
        ],
        Report::Flows | Report::Events => &[
            "time",
            "tenant",
            "operation",
            "user",
            "status",
            "environment",
            "item",
            "name",
            "connectors",
            "sharing",
            "recipient",
            "link",
            "late",
        ],
    }
}
