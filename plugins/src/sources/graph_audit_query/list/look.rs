//! How far the queries are, and what becomes of each that has ended.

use std::time::Duration;

use audit_exporter_core::plugin::{Gap, Unit};
use audit_exporter_core::{Error, Kind, Result};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::{LOST_AFTER, Lister, Poll, RESULTS_KEPT, Round, retry_wait, with_search};
use crate::sources::graph_audit_query::CONTENT_TYPE;
use crate::sources::graph_audit_query::checkpoint::{Ledger, Search};
use crate::sources::graph_audit_query::client::{Query, Status};
use crate::sources::graph_audit_query::errors::NOT_FOUND;
use crate::sources::graph_audit_query::fetch::Locator;
use crate::sources::slices::Slice;

/// The waits between two looks at a query double up to this.
const LONGEST_POLL: Duration = Duration::from_mins(2);
/// Queries take minutes, those of long times hours (reference: §5). One that takes longer has come to nothing.
const LONGEST_RUN: TimeDelta = TimeDelta::hours(24);
/// A slice whose queries fail so often is searched in halves, as long as it is longer than this. No single run waits for
/// another query of a shorter one.
const MOST_FAILURES: u32 = 3;
const SPLIT_ABOVE: TimeDelta = TimeDelta::hours(1);
/// Why there may be a gap in a second of time.
const CUT_OFF: &str = "Microsoft returned the most records that a query may have, and the time is too short to be \
    divided; narrow the source's filters, or collect this time by management_activity";

impl Lister {
    /// Looks at the queries that it is time for.
    pub(super) async fn look(&self, ledger: &mut Ledger<'_>, round: &mut Round) -> Result<()> {
        let open = ledger.checkpoint.plan.open();
        let running: Vec<(Slice, String, Option<DateTime<Utc>>)> = open
            .filter_map(|open| Some((open.slice, open.state.query.clone()?, open.state.asked)))
            .collect();
        self.memory()
            .polls
            .retain(|id, _| running.iter().any(|(_, query, _)| query == id));
        for (slice, id, asked) in running {
            let wait = self.wait_for(&id);
            if !wait.is_zero() {
                round.again_after(wait);
                continue;
            }
            fail::fail_point!("source::look");
            let is_overdue = asked.is_none_or(|asked| round.now - asked > LONGEST_RUN);
            match self.client.query(&id).await {
                Ok(query) if query.status() == Status::Succeeded => {
                    self.succeeded(ledger, slice, &query, round).await?;
                }
                Ok(query) if query.status() == Status::UnderWay && !is_overdue => {
                    round.again_after(self.look_later(id, true));
                }
                Ok(query) => {
                    let end = query.end();
                    self.failed(ledger, slice, &id, end, round).await?;
                }
                // One that is new may only not have reached the server that was asked.
                Err(error) if error.code() == Some(NOT_FOUND) => {
                    if asked.is_some_and(|asked| round.now - asked < LOST_AFTER) {
                        round.again_after(self.look_later(id, true));
                    } else {
                        self.failed(ledger, slice, &id, "is gone (HTTP 404)", round)
                            .await?;
                    }
                }
                Err(error) if error.kind() != Kind::Unavailable => return Err(error),
                Err(error) => {
                    round.again_after(self.look_later(id, false));
                    round.trouble(error);
                }
            }
        }
        Ok(())
    }

    /// How long until a query is to be looked at.
    fn wait_for(&self, id: &str) -> Duration {
        let mut memory = self.memory();
        // One that an earlier process created may have ended long ago.
        let poll = memory.polls.entry(id.to_owned()).or_insert_with(|| Poll {
            at: Instant::now(),
            wait: self.settings.poll_interval,
            runs: false,
        });
        poll.at.saturating_duration_since(Instant::now())
    }

    /// Sets the next look at a query; `runs`: Microsoft is at work on it. Returns how long until then.
    pub(super) fn look_later(&self, id: String, runs: bool) -> Duration {
        let interval = self.settings.poll_interval;
        let mut memory = self.memory();
        let before = memory.polls.get(&id).map(|poll| poll.wait);
        let wait = before.unwrap_or(interval);
        let poll = Poll {
            at: Instant::now() + wait,
            wait: (wait * 2).min(LONGEST_POLL.max(interval)),
            runs,
        };
        memory.polls.insert(id, poll);
        wait
    }

    /// Whether Microsoft was last seen at work on a search, and there is hope for it.
    pub(in crate::sources::graph_audit_query) fn is_awaited(&self, search: &Search) -> bool {
        let query = search.query.as_ref();
        search.failures < MOST_FAILURES
            && query.is_some_and(|id| self.memory().polls.get(id).is_some_and(|poll| poll.runs))
    }

    /// A query has records: they are a unit now, unless there were more than it may have.
    async fn succeeded(
        &self,
        ledger: &mut Ledger<'_>,
        slice: Slice,
        query: &Query,
        round: &Round,
    ) -> Result<()> {
        fail::fail_point!("source::succeeded");
        let plan = &mut ledger.checkpoint.plan;
        let mut gaps = Vec::new();
        if query.is_cut_off() {
            if plan.split(slice) {
                tracing::info!(query = query.id, %slice, "the query was cut off; its time is searched in halves");
                return ledger.record(Vec::new(), gaps, round.now).await;
            }
            gaps.push(Gap {
                content_type: CONTENT_TYPE.into(),
                from: slice.from,
                to: slice.to,
                reason: CUT_OFF.to_owned(),
            });
        }
        plan.finish(slice);
        let beta = self.client.is_beta();
        let locator = serde_json::to_string(&Locator { slice, beta })
            .map_err(|error| Error::bug("a locator cannot be written as JSON").with_cause(error))?;
        let unit = Unit {
            id: query.id.as_str().into(),
            content_type: CONTENT_TYPE.into(),
            locator,
            created: slice.moment(),
            expires: round.now + RESULTS_KEPT,
            lane: slice.lane(round.now),
        };
        ledger.record(vec![unit], gaps, round.now).await
    }

    /// A query has come to nothing: another is created later.
    async fn failed(
        &self,
        ledger: &mut Ledger<'_>,
        slice: Slice,
        id: &str,
        end: &str,
        round: &Round,
    ) -> Result<()> {
        let mut failures = 0;
        with_search(ledger, slice, |search| {
            search.failures += 1;
            search.end = Some(end.to_owned());
            failures = search.failures;
            search.forget_query();
            let wait = retry_wait(failures);
            search.not_before = Some(round.now + TimeDelta::from_std(wait).unwrap_or_default());
        });
        tracing::warn!(query = id, %slice, failures, end, "the query has come to nothing; another is created later");
        if failures >= MOST_FAILURES && slice.to - slice.from > SPLIT_ABOVE {
            ledger.checkpoint.plan.split(slice);
        }
        ledger.record(Vec::new(), Vec::new(), round.now).await
    }
}
