//! A single run: collects what is available now, delivers it, and says what became of it.
//!
//! Sources list what there was when they began ([`Intake::lists_until`](crate::plugin::Intake::lists_until)) until nothing
//! of it is left to list, and then no more, unless a fetch finds out that they must. What fails is
//! tried again, until everything else is done and nothing has got any further for a while: then it is left to the next
//! run, and said. Trying again is not getting further; only a peer that is at work on what it was asked for is waited for.

pub(super) mod listings;

use std::time::Duration;

use chrono::DateTime;
use serde::Serialize;
use tokio::time::Instant;

use self::listings::Sum;
use super::Engine;
use crate::config::Config;
use crate::error::Result;
use crate::journal::Status;

/// Reasons that a report names of each kind.
const REASONS: u32 = 20;
/// Time does not wake whoever waits for changes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a single run did, and what it could not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Everything that was available was collected and delivered.
    pub complete: bool,
    /// Each tenant and source.
    pub tenants: Vec<Collected>,
    /// Each sink and tenant.
    pub sinks: Vec<Passed>,
    /// Why it is not complete, a line each.
    pub reasons: Vec<String>,
}

/// What a single run collected of one tenant by one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// The tenant's name.
    pub tenant: String,
    /// The source's name.
    pub source: String,
    /// Blobs that it listed for the first time.
    pub listed: u64,
    /// Blobs that it fetched.
    pub fetched: u64,
    /// Blobs that it lost.
    pub lost: u64,
    /// Blobs that wait now, whichever run has listed them.
    pub pending: i64,
    /// Records that it received, without the oversized.
    pub received: u64,
    /// Of these: known before.
    pub repeats: u64,
    /// Records that were too large.
    pub oversized: u64,
    /// Seconds of time that could not be listed and never will be.
    pub gap_seconds: u64,
    /// Tries after a failure.
    pub retries: u64,
}

/// What a single run delivered to one sink of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Passed {
    /// The sink's name.
    pub sink: String,
    /// The tenant's name.
    pub tenant: String,
    /// Events that it has now.
    pub delivered: u64,
    /// Events that its filters dropped.
    pub filtered: u64,
    /// Events that it refused.
    pub dead: u64,
    /// Events that wait now, whichever run has journaled them.
    pub pending: i64,
    /// Tries after a failure, of all tenants.
    pub retries: u64,
}

/// What grows as long as something gets further.
#[derive(PartialEq, Eq)]
struct Progress {
    listed: i64,
    settled: i64,
    journaled: i64,
    passed: i64,
    /// What was listed at once of much, and read of what is long, be it known before.
    parts: u64,
}

impl Progress {
    fn of(status: &Status, listings: Sum) -> Self {
        let (units, sinks) = (&status.tenants, &status.sinks);
        Self {
            listed: units.iter().map(|unit| unit.listed).sum(),
            settled: units.iter().map(|unit| unit.fetched + unit.lost).sum(),
            journaled: sinks.iter().map(|sink| sink.journaled).sum(),
            passed: sinks.iter().map(|sink| sink.journaled - sink.pending).sum(),
            parts: listings.parts + listings.further,
        }
    }
}

impl Engine {
    /// Waits until everything that is available is collected and delivered, or until nothing has got further for as
    /// long as `patience` while no source awaited its peer. Says which.
    pub async fn catch_up(&self, patience: Duration) -> Result<bool> {
        let mut changes = self.changes();
        let (mut progress, mut since) = (None, Instant::now());
        loop {
            changes.mark_unchanged();
            let before = self.own.listings.sum();
            let status = self.status().await?;
            let listings = self.own.listings.sum();
            // What is listed later is not waited for; what a source lists anew is not settled by an older account.
            let all_ended = listings.ended >= self.streams.len();
            if all_ended && listings == before && self.is_settled(&status) {
                return Ok(true);
            }
            let now = Some(Progress::of(&status, listings));
            if now != progress || listings.awaiting > 0 {
                (progress, since) = (now, Instant::now());
            } else if since.elapsed() >= patience {
                return Ok(false);
            }
            // A run whose writer has ended changes no more; the next question fails.
            drop(tokio::time::timeout(LOOK_AGAIN, changes.changed()).await);
        }
    }

    /// What this run did so far, and why it is not complete if it is not.
    pub async fn report(&self, config: &Config) -> Result<Report> {
        let status = self.status().await?;
        let tenants = self.collected(config, &status);
        let sinks = self.passed(config, &status);
        let mut reasons = Vec::new();
        if !self.has_listed_all() {
            reasons.push("not everything could be listed".to_owned());
        }
        reasons.extend(self.metrics.troubles());
        reasons.extend(self.unfetched(config).await?);
        for one in &tenants {
            let tenant = &one.tenant;
            for (count, what) in [
                (one.lost, "content blobs are lost"),
                (
                    one.oversized,
                    "records are larger than limits.record_size; see `dead-letters list`",
                ),
                (
                    one.gap_seconds,
                    "seconds could not be listed and never will be",
                ),
            ] {
                if count > 0 {
                    reasons.push(format!("tenant {tenant}: {count} {what}"));
                }
            }
        }
        for one in &sinks {
            let (sink, tenant) = (&one.sink, &one.tenant);
            if one.pending > 0 {
                reasons.push(format!(
                    "sink {sink}, tenant {tenant}: {} events wait",
                    one.pending
                ));
            }
            if one.dead > 0 {
                reasons.push(format!(
                    "sink {sink}, tenant {tenant}: {} events were refused; see `dead-letters list`",
                    one.dead
                ));
            }
        }
        Ok(Report {
            complete: reasons.is_empty(),
            tenants,
            sinks,
            reasons,
        })
    }

    /// Why content waits: what failed by its name, what was not tried yet in sums.
    async fn unfetched(&self, config: &Config) -> Result<Vec<String>> {
        let failed = self
            .journal
            .unfetched(REASONS)
            .await?
            .into_iter()
            .map(|unit| {
                format!(
                    "tenant {}: content {} waits after {} tries: {}",
                    config.tenant_of(&unit.tenant),
                    unit.unit,
                    unit.attempts,
                    unit.error
                )
            });
        let untried = self.journal.untried().await?.into_iter().map(|sum| {
            let minute = |ms| {
                let time = DateTime::from_timestamp_millis(ms).unwrap_or_default();
                time.format("%Y-%m-%d %H:%M")
            };
            let waits = if self.runs(&sum.source, &sum.tenant) {
                "wait for their turn"
            } else {
                "were listed and not fetched, and this source is not in the configuration any more"
            };
            format!(
                "tenant {}, source {}: {} of {} {waits}, of {} to {} UTC",
                config.tenant_of(&sum.tenant),
                sum.source,
                sum.units,
                sum.content_type,
                minute(sum.first_ms),
                minute(sum.last_ms)
            )
        });
        Ok(failed.chain(untried).collect())
    }

    /// Whether nothing waits, but of sources and for sinks that are gone.
    fn is_settled(&self, status: &Status) -> bool {
        let mut units = status.tenants.iter().filter(|unit| unit.pending > 0);
        let mut sinks = status.sinks.iter().filter(|sink| sink.pending > 0);
        !units.any(|unit| self.runs(&unit.source, &unit.tenant))
            && sinks.all(|sink| sink.orphan_since.is_some())
    }

    /// Whether a source collects a tenant, of which the id is given.
    fn runs(&self, source: &str, tenant: &str) -> bool {
        let tenant = self.journal.tenant_name(tenant);
        self.streams.contains_key(&(source.into(), tenant))
    }

    fn has_listed_all(&self) -> bool {
        self.own.listings.sum().ended >= self.streams.len()
    }

    fn collected(&self, config: &Config, status: &Status) -> Vec<Collected> {
        let metrics = &self.metrics;
        let mut all = Vec::new();
        for source in &config.sources {
            for tenant in source.tenants.iter().filter_map(|name| config.tenant(name)) {
                let mine = status.tenants.iter();
                let mine =
                    mine.filter(|unit| *unit.source == *source.name && *unit.tenant == *tenant.id);
                let sum = |family: &prometheus::IntCounterVec| -> u64 {
                    let of = |content_type: &str| {
                        let labels = [&*tenant.name, &*source.name, content_type];
                        family.with_label_values(&labels).get()
                    };
                    mine.clone().map(|unit| of(&unit.content_type)).sum()
                };
                let component = ["source", &*source.name, &*tenant.name];
                all.push(Collected {
                    tenant: tenant.name.to_string(),
                    source: source.name.to_string(),
                    listed: sum(&metrics.units_listed),
                    fetched: sum(&metrics.units_fetched),
                    lost: sum(&metrics.units_lost),
                    pending: mine.clone().map(|unit| unit.pending).sum(),
                    received: sum(&metrics.events_received),
                    repeats: sum(&metrics.events_repeated),
                    oversized: sum(&metrics.records_oversized),
                    gap_seconds: sum(&metrics.listing_gap),
                    retries: metrics.retries.with_label_values(&component).get(),
                });
            }
        }
        all
    }

    fn passed(&self, config: &Config, status: &Status) -> Vec<Passed> {
        let metrics = &self.metrics;
        let configured = status
            .sinks
            .iter()
            .filter(|sink| sink.orphan_since.is_none());
        configured
            .map(|sink| {
                let tenant = config.tenant_of(&sink.tenant);
                let of = |family: &prometheus::IntCounterVec| {
                    family.with_label_values(&[&*sink.sink, tenant]).get()
                };
                Passed {
                    sink: sink.sink.clone(),
                    tenant: tenant.to_owned(),
                    delivered: of(&metrics.events_delivered),
                    filtered: of(&metrics.events_filtered),
                    dead: of(&metrics.events_dead_lettered),
                    pending: sink.pending,
                    retries: metrics
                        .retries
                        .with_label_values(&["sink", &*sink.sink, ""])
                        .get(),
                }
            })
            .collect()
    }
}
