//! The tables of a digest: rows by environment or operation and user, or apps by environment, in the shape that one
//! template can write.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use super::report::{AppKey, Report, Usage};
use super::row::Row;

/// What stands where a record says nothing.
const UNKNOWN: &str = "(unknown)";

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

/// The heads of a table of rows. `several`: they have more than one operation.
pub(super) fn row_columns(report: Report, rows: &[Row], several: bool) -> Vec<&'static str> {
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

/// Rows by environment or operation, and in these by user.
pub(super) fn row_groups(report: Report, rows: &[Row], several: bool, cut: Cut) -> Vec<Group> {
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
        text: known(row.called()),
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

/// Apps by environment, the most used first.
pub(super) fn app_groups(apps: &BTreeMap<AppKey, Usage>, cut: Cut) -> Vec<Group> {
    let mut most_used: Vec<(&AppKey, &Usage)> = apps.iter().collect();
    // The names decide between equals: the sort is stable.
    most_used.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.launches));
    most_used.truncate(cut.most);
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for ((environment, app), usage) in most_used {
        let group = groups.entry(environment).or_insert_with(|| Group {
            label: "Environment",
            name: known(environment),
            count: 0,
            parts: vec![Part {
                user: None,
                count: 0,
                rows: Vec::new(),
            }],
        });
        group.count += usage.launches;
        let called = if usage.name.is_empty() {
            app
        } else {
            &usage.name
        };
        let cells = vec![
            known(called).into(),
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

/// A name, or what stands in its place.
fn known(name: &str) -> String {
    if name.is_empty() { UNKNOWN } else { name }.to_owned()
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
