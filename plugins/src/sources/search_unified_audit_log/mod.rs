//! Search-UnifiedAuditLog: the audit log as Exchange Online's administrators search it, by the time of its events.
//!
//! Listing only plans: time is cut into slices, and each that is due becomes a unit. Fetching searches a slice, in one
//! session or, where that would hold too many rows, in several of shorter times. What it promises:
//!
//! - A unit is fetched only when each of its sessions has shown all of its rows, by their places. A session that left
//!   out or repeated rows, failed or ended early is read anew under a new id.
//! - Records show up late, so each time is searched again in later passes; what came before is known as a repeat.
//! - The record is the text of `AuditData`, byte for byte what the Management Activity API gives.
//! - A restart needs no session: it begins new ones.

mod check;
mod client;
mod config;
mod exchange;
mod legacy;
mod pace;
mod page;
mod refusal;
mod search;
mod session;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use audit_exporter_core::plugin::{
    Context, Finding, Intake, Listing, Next, Source, Spans, Unit, UnitWriter,
};
use audit_exporter_core::{Error, Kind, Result};
use chrono::{DateTime, SecondsFormat, Utc};
use tokio::time::Instant;

use self::client::Client;
use self::config::{Settings, Transport};
use self::search::Searcher;
use crate::microsoft::cloud::Access;
use crate::sources::slices::{Plan, Slice};

/// What the source has in place of content types: the whole log is one.
const CONTENT_TYPE: &str = "UnifiedAuditLog";
/// The search is tried this often for the source's own sake: it would find nothing, and say nothing, if auditing were
/// switched off.
const PROBE_EVERY: Duration = Duration::from_hours(1);
/// What there is to say of the older service.
const RETIRED: &str = "transport = \"rest\" signs in with a name and a password (Basic authentication), which Microsoft \
    has retired for Exchange Online: a real tenant refuses it, and an account with multifactor authentication always \
    did; use transport = \"exchange_online\" with the tenant's app";

/// One tenant's audit log by Search-UnifiedAuditLog.
struct SearchUnifiedAuditLog {
    searcher: Searcher,
    settings: Settings,
    /// When the search was last seen to work; none when it has failed since.
    probed: Mutex<Option<Instant>>,
    is_declared: std::sync::atomic::AtomicBool,
}

/// Builds the source for the one tenant of `context`.
#[allow(clippy::needless_pass_by_value)] // The registry's signature.
pub(crate) fn build(context: Context) -> Result<Box<dyn Source>> {
    Ok(Box::new(SearchUnifiedAuditLog::new(&context)?))
}

impl SearchUnifiedAuditLog {
    fn new(context: &Context) -> Result<Self> {
        let tenant = context.tenant()?;
        let settings = Settings::of(&context.options, &tenant.name)?;
        let client = Client::new(context, Access::of(tenant)?, &settings);
        Ok(Self {
            searcher: Searcher::new(client, settings.clone()),
            settings,
            probed: Mutex::default(),
            is_declared: false.into(),
        })
    }

    /// Fails while the tenant cannot be searched.
    async fn probe(&self) -> Result<()> {
        let probed = *self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        if probed.is_some_and(|at| at.elapsed() < PROBE_EVERY) {
            return Ok(());
        }
        let client = self.searcher.client();
        client
            .probe()
            .await
            .map_err(|error| error.context(client.host()))?;
        self.note_probe(Some(Instant::now()));
        Ok(())
    }

    fn note_probe(&self, at: Option<Instant>) {
        *self.probed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Says once which log is collected, and what is to be said of the way.
    async fn declare(
        &self,
        plan: &mut Plan<()>,
        now: DateTime<Utc>,
        intake: &Intake,
    ) -> Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.is_declared.load(Relaxed) {
            return Ok(());
        }
        if matches!(self.settings.transport, Transport::Rest { .. }) {
            tracing::warn!(tenant = %intake.tenant().name, "{RETIRED}");
        }
        if plan.begin(now, &self.settings.schedule) {
            intake.register(Vec::new(), Some(&*plan)).await?;
        }
        let reach = plan.reach(CONTENT_TYPE, now, &self.settings.schedule);
        intake.collects(vec![reach]).await?;
        self.is_declared.store(true, Relaxed);
        Ok(())
    }

    /// A slice as a unit. Its name has the time at which it was planned: a slice that a wrong clock planned comes again.
    fn unit(&self, slice: Slice, now: DateTime<Utc>) -> Result<Unit> {
        let planned = now.to_rfc3339_opts(SecondsFormat::Millis, true);
        let locator = serde_json::to_string(&slice)
            .map_err(|error| Error::bug("a slice cannot be written as JSON").with_cause(error))?;
        Ok(Unit {
            id: format!("{slice} {} at {planned}", slice.which()).into(),
            content_type: CONTENT_TYPE.into(),
            locator,
            created: slice.moment(),
            expires: slice.to + self.settings.schedule.kept,
            lane: slice.lane(now),
        })
    }
}

#[async_trait]
impl Source for SearchUnifiedAuditLog {
    async fn list(&self, intake: &Intake) -> Result<Next> {
        let mut plan: Plan<()> = intake.checkpoint().await?.unwrap_or_default();
        self.declare(&mut plan, self.searcher.client().now(), intake)
            .await?;
        self.probe().await?;
        let now = self.searcher.client().now();
        let until = intake.lists_until(now);
        let gaps = plan.advance(now, until, &self.settings.schedule, CONTENT_TYPE);
        let slices: Vec<Slice> = plan.open().map(|open| open.slice).collect();
        if slices.is_empty() && gaps.is_empty() {
            return Ok(Next::After(self.settings.poll_interval));
        }
        let unit = |slice: &Slice| self.unit(*slice, now);
        let units = slices.iter().map(unit).collect::<Result<Vec<_>>>()?;
        for slice in slices {
            plan.finish(slice);
        }
        for gap in &gaps {
            tracing::error!(from = %gap.from, to = %gap.to, "not searched: {}", gap.reason);
        }
        let listing = Listing {
            units,
            gaps,
            reach: vec![plan.reach(CONTENT_TYPE, now, &self.settings.schedule)],
        };
        intake.register_listing(listing, Some(&plan)).await?;
        Ok(Next::After(self.settings.poll_interval))
    }

    async fn fetch(&self, unit: &Unit, out: &mut UnitWriter) -> Result<()> {
        let slice: Slice = serde_json::from_str(&unit.locator).map_err(|error| {
            Error::lost("the unit was written by another version").with_cause(error)
        })?;
        let searched = self.searcher.collect((slice.from, slice.to), out).await;
        if let Err(error) = &searched
            && error.kind() == Kind::Auth
        {
            // The next listing shows whether it is the tenant's trouble, and fails until it is mended.
            self.note_probe(None);
            out.list_again();
        }
        searched
    }

    async fn survey(&self, intake: &Intake, spans: &Spans) -> Result<()> {
        let now = self.searcher.client().now();
        let plan = Plan::<()>::alone(spans, now, &self.settings.schedule)?;
        intake.register(Vec::new(), Some(&plan)).await.map(drop)
    }

    async fn backfill(&self, intake: &Intake, spans: &Spans) -> Result<()> {
        let mut plan: Plan<()> = intake.checkpoint().await?.unwrap_or_default();
        plan.backfill(spans, self.searcher.client().now(), &self.settings.schedule)?;
        intake.register(Vec::new(), Some(&plan)).await.map(drop)
    }

    async fn check(&self) -> Vec<Finding> {
        check::check(self.searcher.client()).await
    }
}

#[cfg(test)]
mod tests;
