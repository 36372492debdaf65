//! What a sink does by the clock.
//!
//! It comes between two deliveries and fails on its own: a mail that cannot be sent holds up no row of the next one.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::retry;
use super::sink::Worker;
use crate::error::{Error, Kind, Result};
use crate::plugin::{Tick, Trouble};

/// The clock is looked at so often: somebody may set it.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// When a sink is to be asked again.
pub(super) struct Due {
    at: Option<DateTime<Utc>>,
    /// Failures in a row.
    failures: u32,
    /// The sink has told of trouble that is not over.
    troubled: bool,
}

impl Due {
    /// At once.
    pub(super) fn now() -> Self {
        Self {
            at: Some(DateTime::UNIX_EPOCH),
            failures: 0,
            troubled: false,
        }
    }

    /// The sink wants to be asked at some time: as the process stops, it is asked what can be done already.
    pub(super) fn last_call(&mut self) {
        self.at = self.at.map(|_| DateTime::UNIX_EPOCH);
    }
}

impl Worker {
    /// Asks the sink if it is time. Only a bug is an error.
    pub(super) async fn tick(&self, due: &mut Due) -> Result<()> {
        let is_due = |at: DateTime<Utc>| at <= self.clock.now();
        while due.at.is_some_and(is_due) && !self.journal.is_paused(&self.name) {
            match self.try_tick().await {
                Ok(tick) => {
                    due.at = tick.next;
                    self.show(due, tick.trouble)?;
                }
                Err(error) if ends(&error) => {
                    return Err(error.context("what is due by the clock"));
                }
                Err(error) => self.put_off(due, &error),
            }
            if !self.journal.behind(&self.name).is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn try_tick(&self) -> Result<Tick> {
        let standing = self.journal.standing(&self.name, &self.sources).await?;
        let tick = self.in_time(self.sink.tick(&standing)).await?;
        fail::fail_point!("sink::ticked");
        self.keep(&tick.changes).await?;
        Ok(tick)
    }

    /// Shows what the sink has told of its trouble.
    fn show(&self, due: &mut Due, trouble: Trouble) -> Result<()> {
        let had_failed = std::mem::take(&mut due.failures) > 0;
        match trouble {
            Trouble::None => {
                if std::mem::take(&mut due.troubled) || had_failed {
                    self.set_up(true);
                    tracing::info!(sink = %self.name, "what is due by the clock works again");
                }
            }
            // A delivery may have shown it as up meanwhile.
            Trouble::Waits => self.set_up(false),
            Trouble::Failed(error) if ends(&error) => {
                return Err(error.context("what is due by the clock"));
            }
            Trouble::Failed(error) => {
                let is_new = !std::mem::replace(&mut due.troubled, true);
                self.complain(&error, is_new);
            }
        }
        Ok(())
    }

    fn complain(&self, error: &Error, is_new: bool) {
        self.metrics.error("sink", &self.name, "", error);
        self.set_up(false);
        if is_new {
            tracing::warn!(sink = %self.name, kind = error.kind().as_str(), "what is due by the clock failed, will be retried: {error}");
        }
    }

    fn put_off(&self, due: &mut Due, error: &Error) {
        due.failures += 1;
        self.complain(error, due.failures == 1);
        let wait = TimeDelta::from_std(retry::wait(error, due.failures));
        due.at = Some(self.clock.now() + wait.unwrap_or(TimeDelta::hours(1)));
    }

    /// Returns when it may be time. Somebody who resumes a paused sink wakes its worker.
    pub(super) async fn next_tick(&self, due: &Due) {
        match due.at.filter(|_| !self.journal.is_paused(&self.name)) {
            Some(at) => {
                let wait = (at - self.clock.now()).to_std().unwrap_or_default();
                tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Whether no other try mends it.
fn ends(error: &Error) -> bool {
    error.kind() == Kind::Bug || error.is_fatal()
}
