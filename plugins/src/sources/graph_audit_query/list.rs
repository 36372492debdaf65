//! From slices that are due to queries, and from queries that have succeeded to units.
//!
//! Each step is on record before the next is taken: the name of a query before it is created, its id before it is looked
//! at, its unit in the transaction that finishes its slice.

mod look;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use audit_exporter_core::plugin::{Intake, Next, Spans};
use audit_exporter_core::sizes::size;
use audit_exporter_core::{Error, Kind, Result};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::checkpoint::{Ledger, Search};
use super::client::{Client, Query};
use super::config::Settings;
use super::errors::NOT_FOUND;
use super::fetch::{Cure, Fetcher};
use crate::sources::slices::{Plan, Slice};

/// A slice whose records cannot be read is not cut below this: halves of halves would use up the day's queries.
const SHORTEST: TimeDelta = TimeDelta::minutes(1);
/// Slices are looked at for being due this often at least.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Queries are created one by one: many in a row are refused even within the quota (reference:
/// graph-audit-queries.md §6). Faster only if `poll_interval` is shorter.
const PACE_MILLIS: u64 = 2_000;
/// A query whose creation was not answered is looked for by its name after this, and given up after that.
const LOOK_AFTER: TimeDelta = TimeDelta::seconds(10);
const LOST_AFTER: TimeDelta = TimeDelta::minutes(2);
/// The first wait after a query that failed, or a creation that was refused; it doubles up to the second.
const FIRST_RETRY: Duration = Duration::from_mins(1);
const LONGEST_RETRY: Duration = Duration::from_hours(1);
/// Results are known to be kept for some 30 days; that is not documented.
const RESULTS_KEPT: TimeDelta = TimeDelta::days(28);

/// Brings a tenant's searches on.
pub(super) struct Lister {
    client: Arc<Client>,
    fetcher: Arc<Fetcher>,
    settings: Settings,
    memory: Mutex<Memory>,
}

/// What need not outlive the process.
#[derive(Default)]
struct Memory {
    /// The journal knows what is collected, and the service's time is known.
    has_begun: bool,
    /// The queries that are looked at.
    polls: HashMap<String, Poll>,
    /// No query is created before this, because Graph refused one; and how many it refused in a row.
    refused_until: Option<Instant>,
    refusals: u32,
}

/// The looks at a query.
struct Poll {
    /// When the next one is due, and the wait after that.
    at: Instant,
    wait: Duration,
    /// At the last one Microsoft was at work on it.
    runs: bool,
}

/// What one call finds out.
struct Round {
    now: DateTime<Utc>,
    next: Duration,
    trouble: Option<Error>,
}

impl Round {
    /// Comes again after `wait` at the latest.
    fn again_after(&mut self, wait: Duration) {
        self.next = self.next.min(wait);
    }

    /// The same, for a moment.
    fn again_at(&mut self, at: DateTime<Utc>) {
        self.again_after((at - self.now).to_std().unwrap_or_default());
    }

    /// Something does not work, and the rest goes on.
    fn trouble(&mut self, error: Error) {
        self.trouble.get_or_insert(error);
    }

    /// What does not work is told as long as it does not; the engine does not slow down what does. `has_more`: there are
    /// slices that are not finished.
    fn end(self, has_more: bool) -> Result<Next> {
        let Some(trouble) = self.trouble else {
            return Ok(if has_more {
                Next::Soon(self.next)
            } else {
                Next::After(self.next)
            });
        };
        let error = Error::unavailable(trouble.to_string()).with_retry_after(Some(self.next));
        Err(match trouble.code() {
            Some(code) => error.with_code(code),
            None => error,
        })
    }
}

impl Lister {
    pub(super) fn new(client: Arc<Client>, fetcher: Arc<Fetcher>, settings: Settings) -> Self {
        Self {
            client,
            fetcher,
            settings,
            memory: Mutex::default(),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the steps that are due.
    pub(super) async fn list(&self, intake: &Intake) -> Result<Next> {
        if let Some(error) = self.client.unserved() {
            return Err(error);
        }
        let mut ledger = Ledger::open(intake, &self.settings).await?;
        if ledger.checkpoint.beta {
            self.client.set_beta(true);
        }
        let known = self.begin(&mut ledger).await?;
        let mut round = Round {
            now: self.client.now(),
            next: LONGEST_WAIT,
            trouble: None,
        };
        self.plan(&mut ledger, &round).await?;
        self.look(&mut ledger, &mut round).await?;
        self.find_lost(&mut ledger, &mut round, known).await?;
        self.start(&mut ledger, &mut round).await?;
        let plan = &mut ledger.checkpoint.plan;
        if plan.open().any(|open| self.is_awaited(&open.state)) {
            intake.peer_is_at_work();
        }
        round.end(plan.open().next().is_some())
    }

    /// Puts on record that these times are to be searched beside.
    pub(super) async fn backfill(&self, intake: &Intake, spans: &Spans) -> Result<()> {
        if let Some(error) = self.client.unserved() {
            return Err(error);
        }
        let mut ledger = Ledger::open(intake, &self.settings).await?;
        let now = self.client.now();
        let plan = &mut ledger.checkpoint.plan;
        plan.backfill(spans, now, &self.settings.schedule)?;
        ledger.record(Vec::new(), Vec::new(), now).await
    }

    /// Puts on record that these times alone are to be searched.
    pub(super) async fn survey(&self, intake: &Intake, spans: &Spans) -> Result<()> {
        let mut ledger = Ledger::open(intake, &self.settings).await?;
        let now = self.client.now();
        ledger.checkpoint.plan = Plan::alone(spans, now, &self.settings.schedule)?;
        ledger.record(Vec::new(), Vec::new(), now).await
    }

    /// The first time: says what is collected, and asks for all queries. That settles the service's time, whether
    /// `/v1.0` serves the tenant, and what a process before this one has left.
    async fn begin(&self, ledger: &mut Ledger<'_>) -> Result<Option<Vec<Query>>> {
        if self.memory().has_begun {
            return Ok(None);
        }
        ledger.declare(self.client.now()).await?;
        let mut known = self.client.queries().await?;
        if self.client.api().doubts_the_time() {
            known = self.client.queries().await?;
        }
        self.memory().has_begun = true;
        Ok(Some(known))
    }

    /// Opens the slices that are due, and those whose results could not be read.
    async fn plan(&self, ledger: &mut Ledger<'_>, round: &Round) -> Result<()> {
        let before = ledger.checkpoint.clone();
        let checkpoint = &mut ledger.checkpoint;
        checkpoint.prune(round.now);
        checkpoint.beta = self.client.is_beta();
        for (unit, slice, cure) in self.fetcher.unreadable() {
            let until = round.now + RESULTS_KEPT;
            if checkpoint
                .replaced
                .insert(unit.to_string(), until)
                .is_some()
            {
                continue;
            }
            tracing::warn!(query = %unit, %slice, ?cure, "the query's records cannot be read; its time is searched anew");
            checkpoint.plan.reopen(slice);
            if cure == Cure::Split && slice.to - slice.from > SHORTEST {
                checkpoint.plan.split(slice);
            }
        }
        let gaps = ledger.advance(round.now);
        if ledger.checkpoint != before {
            ledger.record(Vec::new(), gaps, round.now).await?;
        }
        self.fetcher.replace(ledger.checkpoint.replaced.keys());
        Ok(())
    }

    /// Finds the queries whose creation was not answered by their names.
    async fn find_lost(
        &self,
        ledger: &mut Ledger<'_>,
        round: &mut Round,
        known: Option<Vec<Query>>,
    ) -> Result<()> {
        let is_first = known.is_some();
        let open = ledger.checkpoint.plan.open();
        let lost: Vec<(Slice, Search)> = open
            .filter(|open| open.state.is_under_way() && open.state.query.is_none())
            .map(|open| (open.slice, open.state.clone()))
            .collect();
        let now = round.now;
        let age = |search: &Search| search.asked.map_or(TimeDelta::MAX, |at| now - at);
        let is_due = |(_, search): &(Slice, Search)| age(search) >= LOOK_AFTER;
        if lost.is_empty() || !(is_first || lost.iter().any(is_due)) {
            if !lost.is_empty() {
                round.again_at(round.now + LOOK_AFTER);
            }
            return Ok(());
        }
        let known = match known {
            Some(known) => known,
            None => self.client.queries().await?,
        };
        for (slice, search) in lost {
            let is_it = |query: &&Query| query.display_name == search.name;
            let found = known.iter().find(is_it);
            let found = found.inspect(|_| fail::fail_point!("source::found"));
            let found = found.map(|query| query.id.clone());
            if found.is_none() && age(&search) < LOST_AFTER {
                round.again_at(round.now + LOOK_AFTER);
                continue;
            }
            with_search(ledger, slice, |search| match found {
                Some(id) => search.query = Some(id),
                None => search.forget_query(),
            });
        }
        ledger.record(Vec::new(), Vec::new(), round.now).await?;
        round.again_after(self.pace());
        Ok(())
    }

    /// Creates the next query, if there is one to create and Microsoft's limits allow it.
    async fn start(&self, ledger: &mut Ledger<'_>, round: &mut Round) -> Result<()> {
        let (mut under_way, mut next) = (0, None);
        for open in ledger.checkpoint.plan.open() {
            if open.state.is_under_way() {
                under_way += 1;
                continue;
            }
            match open.state.not_before.filter(|at| *at > round.now) {
                Some(at) => {
                    round.again_at(at);
                    round.trouble(open.state.trouble(open.slice, at));
                }
                None => next = next.or(Some(open.slice)),
            }
        }
        let Some(slice) = next else {
            return Ok(());
        };
        if under_way >= self.settings.concurrent_queries {
            return Ok(());
        }
        let most = self.settings.daily_queries;
        if let Some(free) = ledger.checkpoint.quota_free_at(most) {
            round.trouble(Error::unavailable(format!(
                "the {most} queries of daily_queries are used up; the next is created at {}",
                free.format("%Y-%m-%d %H:%M UTC")
            )));
            return Ok(());
        }
        let refused = self.memory().refused_until;
        if let Some(until) = refused.filter(|until| *until > Instant::now()) {
            round.again_after(until - Instant::now());
            round.trouble(Error::unavailable(
                "Graph refused to create a query, because there were too many in a day or at a time; it is tried again",
            ));
            return Ok(());
        }
        self.create(ledger, slice, round).await
    }

    async fn create(&self, ledger: &mut Ledger<'_>, slice: Slice, round: &mut Round) -> Result<()> {
        let (which, random) = (slice.which(), rand::random::<u32>());
        let name = format!("audit-exporter {slice} {which} {random:08x}");
        with_search(ledger, slice, |search| {
            (search.name, search.asked) = (Some(name.clone()), Some(round.now));
        });
        ledger.checkpoint.asked.push(round.now);
        fail::fail_point!("source::name");
        ledger.record(Vec::new(), Vec::new(), round.now).await?;
        fail::fail_point!("source::create");
        let created = self
            .client
            .create(&name, slice, &self.settings.filters)
            .await;
        fail::fail_point!("source::created");
        let error = match created {
            Ok(query) => {
                with_search(ledger, slice, |search| {
                    search.query = Some(query.id.clone());
                });
                ledger.record(Vec::new(), Vec::new(), round.now).await?;
                fail::fail_point!("source::recorded");
                round.again_after(self.look_later(query.id, true));
                round.again_after(self.pace());
                self.accepted();
                return Ok(());
            }
            Err(error) => error,
        };
        let is_unserved = error.code() == Some(NOT_FOUND);
        if error.kind() == Kind::Unavailable && !is_unserved {
            // It may have been created all the same.
            round.again_at(round.now + LOOK_AFTER);
            round.trouble(error);
            return Ok(());
        }
        with_search(ledger, slice, Search::forget_query);
        ledger.checkpoint.asked.pop();
        let turns_to_beta = is_unserved && !self.client.is_beta();
        if turns_to_beta {
            tracing::info!(
                "Graph's v1.0 does not serve the tenant's audit queries; beta is asked from now on"
            );
            self.client.set_beta(true);
            ledger.checkpoint.beta = true;
        }
        ledger.record(Vec::new(), Vec::new(), round.now).await?;
        match error.kind() {
            _ if turns_to_beta => round.again_after(Duration::ZERO),
            Kind::Throttled => {
                round.again_after(self.refused(error.retry_after()));
                round.trouble(error);
            }
            _ => return Err(error),
        }
        Ok(())
    }

    fn pace(&self) -> Duration {
        let usual = Duration::from_millis(size("QUERY_PACE_MILLIS", PACE_MILLIS));
        usual.min(self.settings.poll_interval)
    }

    fn accepted(&self) {
        let mut memory = self.memory();
        memory.refusals = 0;
        memory.refused_until = None;
    }

    /// Notes that Graph takes no further query for now. Returns for how long.
    fn refused(&self, asked_for: Option<Duration>) -> Duration {
        let mut memory = self.memory();
        memory.refusals = memory.refusals.saturating_add(1);
        let wait = asked_for.unwrap_or_else(|| retry_wait(memory.refusals));
        memory.refused_until = Some(Instant::now() + wait);
        wait
    }
}

/// The wait after the `failures`th failure in a row.
fn retry_wait(failures: u32) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_RETRY)
}

fn with_search(ledger: &mut Ledger<'_>, slice: Slice, change: impl FnOnce(&mut Search)) {
    let mut open = ledger.checkpoint.plan.open();
    if let Some(open) = open.find(|open| open.slice == slice) {
        change(&mut open.state);
    }
}
