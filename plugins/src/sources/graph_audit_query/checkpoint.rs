//! What is remembered of the queries across restarts, and the way to change it.

use std::collections::BTreeMap;

use audit_exporter_core::plugin::{Gap, Intake, Listing, Unit};
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::CONTENT_TYPE;
use super::config::Settings;
use crate::sources::slices::{Plan, Slice};

/// Microsoft counts the queries of a tenant in any time as long as this (reference: graph-audit-queries.md §6).
const QUOTA_TIME: TimeDelta = TimeDelta::hours(24);

/// What is known of the search of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Search {
    /// What its query is called. Without an id, the query was asked for, and the answer is not known.
    #[serde(default)]
    pub(super) name: Option<String>,
    /// The query's id.
    #[serde(default)]
    pub(super) query: Option<String>,
    /// When it was asked for.
    #[serde(default)]
    pub(super) asked: Option<DateTime<Utc>>,
    /// How many of its queries have come to nothing.
    #[serde(default)]
    pub(super) failures: u32,
    /// How the last of them did.
    #[serde(default)]
    pub(super) end: Option<String>,
    /// After a failure: when to try again.
    #[serde(default)]
    pub(super) not_before: Option<DateTime<Utc>>,
}

impl Search {
    /// Whether there is a query, or may be one.
    pub(super) fn is_under_way(&self) -> bool {
        self.name.is_some()
    }

    /// Why no query of it is under way until `at`.
    pub(super) fn trouble(&self, slice: Slice, at: DateTime<Utc>) -> Error {
        let (failures, end) = (self.failures, self.end.as_deref().unwrap_or("failed"));
        Error::unavailable(format!(
            "Microsoft has not searched {slice}: query {failures} for it {end}; the next is created at {}",
            at.format("%Y-%m-%d %H:%M:%S UTC")
        ))
    }

    /// There is no query of it any more.
    pub(super) fn forget_query(&mut self) {
        (self.name, self.query, self.asked) = (None, None, None);
    }
}

/// How far the source is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The tenant is served by `/beta` alone.
    #[serde(default)]
    pub(super) beta: bool,
    /// What is searched.
    #[serde(default)]
    pub(super) plan: Plan<Search>,
    /// When queries were asked for, in the time that counts.
    #[serde(default)]
    pub(super) asked: Vec<DateTime<Utc>>,
    /// Units whose time is searched anew, because they could not be read, until when they are remembered: nothing is
    /// left to fetch of them.
    #[serde(default)]
    pub(super) replaced: BTreeMap<String, DateTime<Utc>>,
}

impl Checkpoint {
    /// Forgets what no longer counts.
    pub(super) fn prune(&mut self, now: DateTime<Utc>) {
        self.asked.retain(|at| *at > now - QUOTA_TIME);
        self.replaced.retain(|_, until| *until > now);
    }

    /// When the next query may be asked for, if not now.
    pub(super) fn quota_free_at(&self, most: usize) -> Option<DateTime<Utc>> {
        let last = self.asked.len().checked_sub(most)?;
        self.asked.get(last).map(|at| *at + QUOTA_TIME)
    }
}

/// The checkpoint with the way to the journal.
pub(super) struct Ledger<'a> {
    intake: &'a Intake,
    settings: &'a Settings,
    /// What is to be, and is on record after [`Ledger::record`].
    pub(super) checkpoint: Checkpoint,
}

impl<'a> Ledger<'a> {
    /// Begins from the checkpoint that the journal holds.
    pub(super) async fn open(intake: &'a Intake, settings: &'a Settings) -> Result<Self> {
        Ok(Self {
            intake,
            settings,
            checkpoint: intake.checkpoint().await?.unwrap_or_default(),
        })
    }

    /// Opens the slices that are due at `now`; in a single run, those that were due when it began. Returns what can no
    /// longer be searched.
    pub(super) fn advance(&mut self, now: DateTime<Utc>) -> Vec<Gap> {
        let until = self.intake.lists_until(now);
        let plan = &mut self.checkpoint.plan;
        plan.advance(now, until, &self.settings.schedule, CONTENT_TYPE)
    }

    /// Says what is collected, before anything was searched.
    pub(super) async fn declare(&mut self, now: DateTime<Utc>) -> Result<()> {
        let schedule = &self.settings.schedule;
        if self.checkpoint.plan.begin(now, schedule) {
            self.record(Vec::new(), Vec::new(), now).await?;
        }
        let reach = self.checkpoint.plan.reach(CONTENT_TYPE, now, schedule);
        self.intake.collects(vec![reach]).await
    }

    /// Puts the checkpoint on record, together with what was found.
    pub(super) async fn record(
        &self,
        units: Vec<Unit>,
        gaps: Vec<Gap>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        for gap in &gaps {
            tracing::error!(from = %gap.from, to = %gap.to, "not searched: {}", gap.reason);
        }
        let schedule = &self.settings.schedule;
        let listing = Listing {
            units,
            gaps,
            reach: vec![self.checkpoint.plan.reach(CONTENT_TYPE, now, schedule)],
        };
        let recorded = self
            .intake
            .register_listing(listing, Some(&self.checkpoint));
        recorded.await.map(drop)
    }
}
