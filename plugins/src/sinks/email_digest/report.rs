//! What a digest shows: rows grouped and cut to size, or usage by app, always as tables that one template can write.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::csv::Csv;
use super::row::Row;

/// Rows that are held for one mail; more are counted alone.
const MOST_HELD: usize = 20_000;
/// What stands where a record says nothing.
const UNKNOWN: &str = "(unknown)";

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

/// A part of a mail: the rows of its period, or those that came late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Section {
    /// The tenant, in a mail of several.
    pub(super) tenant: Option<String>,
    /// They came after the mail of their own period.
    pub(super) late: bool,
    pub(super) count: u64,
    /// A sentence more about the count.
    pub(super) summary: Option<String>,
    pub(super) columns: Vec<&'static str>,
    pub(super) groups: Vec<Group>,
    /// Rows that are not in the tables.
    pub(super) more: u64,
}

/// Rows of one environment or operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Group {
    /// What it is grouped by.
    pub(super) label: &'static str,
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) parts: Vec<Part>,
}

/// Rows of one user in a group; of none, where the table is not by user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Part {
    pub(super) user: Option<String>,
    pub(super) count: u64,
    /// A cell for each of the section's columns.
    pub(super) rows: Vec<Vec<Cell>>,
}

/// What stands in one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Cell {
    pub(super) text: String,
    /// An `https` address that it leads to.
    pub(super) link: Option<String>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, link: None }
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
type AppKey = (String, String);

/// How an app was used.
#[derive(Default)]
pub(super) struct Usage {
    name: String,
    launches: u64,
    users: BTreeSet<String>,
    last: DateTime<Utc>,
}

/// How a section's tables are cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub(super) zone: Tz,
    /// Whether times need their day.
    pub(super) days: bool,
    /// Rows in the tables.
    pub(super) most: usize,
}

impl Cut {
    fn time(&self, at: DateTime<Utc>) -> Cell {
        let format = if self.days { "%-d %b, %H:%M" } else { "%H:%M" };
        at.with_timezone(&self.zone)
            .format(format)
            .to_string()
            .into()
    }
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

/// `1 user`, `1,234 users`.
pub(super) fn some(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(count as u64))
}

/// A number with its thousands apart.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

fn row_columns(report: Report, rows: &[Row], several: bool) -> Vec<&'static str> {
    match report {
        Report::Flows => {
            let time = match rows.first() {
                _ if several => "Time",
                Some(row) if row.operation.eq_ignore_ascii_case("CreateFlow") => "Created",
                Some(row) if row.operation.eq_ignore_ascii_case("EditFlow") => "Edited",
                _ => "Time",
            };
            let mut columns = vec![time, "Flow", "Connectors", "Sharing", "Status"];
            if several {
                columns.insert(1, "Operation");
            }
            columns
        }
        Report::Events | Report::AppLaunches => vec!["Time", "Item", "With", "Status"],
    }
}

fn row_groups(report: Report, rows: &[Row], several: bool, cut: Cut) -> Vec<Group> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<&Row>>> = BTreeMap::new();
    for row in rows {
        let group = if report == Report::Flows {
            &row.environment
        } else {
            &row.operation
        };
        let users = groups.entry(group).or_default();
        users.entry(&row.user).or_default().push(row);
    }
    let known = |name: &str| {
        if name.is_empty() {
            UNKNOWN.to_owned()
        } else {
            name.to_owned()
        }
    };
    let label = if report == Report::Flows {
        "Environment"
    } else {
        "Operation"
    };
    let group = |(name, users): (&str, BTreeMap<&str, Vec<&Row>>)| Group {
        label,
        name: known(name),
        count: users.values().map(|rows| rows.len() as u64).sum(),
        parts: users
            .into_iter()
            .map(|(user, mut rows)| {
                rows.sort_by_key(|row| row.at);
                Part {
                    user: Some(known(user)),
                    count: rows.len() as u64,
                    rows: rows
                        .into_iter()
                        .map(|row| cells(report, row, several, cut))
                        .collect(),
                }
            })
            .collect(),
    };
    groups.into_iter().map(group).collect()
}

fn cells(report: Report, row: &Row, several: bool, cut: Cut) -> Vec<Cell> {
    let item = Cell {
        text: if row.called().is_empty() {
            UNKNOWN.to_owned()
        } else {
            row.called().to_owned()
        },
        link: (!row.link.is_empty()).then(|| row.link.clone()),
    };
    let time = cut.time(row.at);
    if report != Report::Flows {
        return vec![
            time,
            item,
            row.recipient.clone().into(),
            row.status.clone().into(),
        ];
    }
    let mut cells = vec![
        time,
        item,
        row.connectors.clone().into(),
        row.sharing.clone().into(),
        row.status.clone().into(),
    ];
    if several {
        cells.insert(1, row.operation.clone().into());
    }
    cells
}

fn app_groups(apps: &BTreeMap<AppKey, Usage>, cut: Cut) -> Vec<Group> {
    let mut most_used: Vec<(&AppKey, &Usage)> = apps.iter().collect();
    // The names decide between equals: the sort is stable.
    most_used.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.launches));
    most_used.truncate(cut.most);
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for ((environment, app), usage) in most_used {
        let group = groups.entry(environment).or_insert_with(|| Group {
            label: "Environment",
            name: if environment.is_empty() {
                UNKNOWN.to_owned()
            } else {
                environment.clone()
            },
            count: 0,
            parts: vec![Part {
                user: None,
                count: 0,
                rows: Vec::new(),
            }],
        });
        group.count += usage.launches;
        let called = [&usage.name, app].into_iter().find(|name| !name.is_empty());
        let cells = vec![
            called
                .map_or_else(|| UNKNOWN.to_owned(), Clone::clone)
                .into(),
            thousands(usage.launches).into(),
            thousands(usage.users.len() as u64).into(),
            cut.time(usage.last),
        ];
        for part in &mut group.parts {
            part.count += usage.launches;
            part.rows.push(cells.clone());
        }
    }
    groups.into_values().collect()
}

/// Whether a mail's times need their day.
pub(super) fn needs_days(start: DateTime<Utc>, end: DateTime<Utc>) -> bool {
    end - start > TimeDelta::hours(25)
}
