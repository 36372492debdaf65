//! What coverage says: the answer, as programs read it.

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDate;
use serde::{Serialize, Serializer};

use super::{
    Content, Events, Fates, Hour, LateEvents, MS_PER_HOUR, State, Stragglers, Trouble, silence,
    time,
};
use crate::journal::SinkStatus;

/// What is known of the tenants' events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// When this was asked, in milliseconds since 1970.
    pub at_ms: i64,
    /// The gravest state.
    pub state: State,
    /// Whether the account of every sink adds up.
    pub balanced: bool,
    /// Each tenant.
    pub tenants: Vec<TenantCoverage>,
}

/// What is known of one tenant's events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TenantCoverage {
    /// The tenant's id.
    pub tenant: String,
    /// Its name in the configuration, or its id.
    pub name: String,
    /// The gravest state of the rows.
    pub state: State,
    /// The first day that was looked at.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// Days or hours; those without anything before collecting began are left out.
    pub rows: Vec<Row>,
    /// How far each content type is listed.
    pub passes: Vec<Passes>,
    /// The whole account of each sink.
    pub sinks: Vec<SinkStatus>,
    /// What does not add up. This should not happen.
    pub unbalanced: Vec<String>,
    /// What came late in the last 400 days, whatever days were asked for.
    pub stragglers: Vec<Stragglers>,
    /// The events in all that ever came late.
    pub late_events: Vec<LateEvents>,
    /// Why sources cannot list.
    pub troubles: Vec<Trouble>,
    /// How lively each workload is.
    pub workloads: Vec<silence::Workload>,
    /// Why rows are not settled, the gravest first.
    pub reasons: Vec<Reason>,
}

/// A day or an hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Which.
    #[serde(serialize_with = "as_text")]
    pub span: Span,
    /// What is known of it; nothing of events that belong to no hour.
    pub state: Option<State>,
    /// Its content, by source and content type.
    pub content: Vec<ContentRow>,
    /// Its events.
    #[serde(flatten)]
    pub events: Events,
    /// What became of them at each sink.
    pub sinks: BTreeMap<String, Fates>,
}

impl Row {
    /// The content of all types.
    #[must_use]
    pub fn all_content(&self) -> Content {
        let mut sum = Content::default();
        for row in &self.content {
            sum.add(&row.figures);
        }
        sum
    }

    /// What became of the events at all sinks together.
    #[must_use]
    pub fn all_fates(&self) -> Fates {
        let mut sum = Fates::default();
        for fates in self.sinks.values() {
            sum.add(fates);
        }
        sum
    }
}

/// The content of one type in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContentRow {
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// What is known of it.
    pub state: State,
    /// The figures.
    #[serde(flatten)]
    pub figures: Content,
}

/// How far one content type is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Passes {
    /// The source's name.
    pub source: String,
    /// The content type.
    pub content_type: String,
    /// From when on it is collected, in milliseconds since 1970; nothing if the source does not say.
    pub since_ms: Option<i64>,
    /// When it was last collected, if it is no longer.
    pub ended_ms: Option<i64>,
    /// How far each pass is, in milliseconds since 1970, by its name; the first listing is `poll`.
    pub listed_to_ms: BTreeMap<String, i64>,
    /// When what is not listed yet cannot be listed any more, in milliseconds since 1970.
    pub listing_expiry_ms: Option<i64>,
}

/// Which time a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// A day.
    Day(NaiveDate),
    /// An hour.
    Hour(Hour),
    /// Events without a time that can be read.
    Undated,
    /// All that is too old to be told apart.
    Older,
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => write!(f, "{day}"),
            Self::Hour(hour) => f.write_str(&time(hour * MS_PER_HOUR)),
            Self::Undated => f.write_str("undated"),
            Self::Older => f.write_str("older"),
        }
    }
}

fn as_text<S: Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(span)
}

/// Why something is not settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// How grave it is.
    pub state: State,
    /// What it is, and what it concerns.
    pub text: String,
}
