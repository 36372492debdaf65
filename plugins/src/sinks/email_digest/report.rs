//! What a digest is about: rows as they are read for a mail, or usage by app.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::csv::Csv;
use super::row::Row;
use super::tables::{Cut, Section, app_groups, row_columns, row_groups, some};

/// Rows or apps that are held for one mail; more are counted alone.
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
        most: usize,
        /// Who launched any, and the apps that are not held: as hashes.
        users: HashSet<u64>,
        others: HashSet<u64>,
        /// Makes them. Its keys are random, so nobody can choose names whose hashes are equal.
        hashes: RandomState,
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
    /// Hashes of their names, for a large tenant has a hundred thousand users. The count is exact but for two that
    /// share one: with a million users that is one chance in 37 million.
    pub(super) users: HashSet<u64>,
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
                most,
                users: HashSet::new(),
                others: HashSet::new(),
                hashes: RandomState::new(),
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
            Self::Apps {
                apps,
                most,
                users,
                others,
                hashes,
                count,
            } => {
                *count += 1;
                let user = hashes.hash_one(&row.user);
                users.insert(user);
                let app = (row.environment, row.item);
                if apps.len() >= *most && !apps.contains_key(&app) {
                    others.insert(hashes.hash_one(&app));
                    return;
                }
                let usage = apps.entry(app).or_default();
                usage.launches += 1;
                usage.last = usage.last.max(row.at);
                usage.users.insert(user);
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

    /// Rows or apps that are counted alone.
    pub(super) fn not_held(&self) -> u64 {
        match self {
            Self::Rows { held, count, .. } => count - held.len() as u64,
            Self::Apps { others, .. } => others.len() as u64,
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
            Self::Apps {
                apps,
                users,
                others,
                ..
            } => {
                let groups = app_groups(apps, cut);
                let all = apps.len() + others.len();
                let summary = format!("{} in {}", some(users.len(), "user"), some(all, "app"));
                let columns = vec!["App", "Launches", "Users", "Last launch"];
                let shown = apps.len().min(cut.most) as u64;
                (columns, groups, shown, all as u64, Some(summary))
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
