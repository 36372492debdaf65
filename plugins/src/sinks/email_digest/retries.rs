//! When mails that were refused are tried again, each at a time of its own. In memory: a new process tries at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use audit_exporter_core::Error;
use audit_exporter_core::plugin::wait_after;
use chrono::{DateTime, TimeDelta, Utc};

/// The mailings whose mail was refused, by their index.
#[derive(Default)]
pub(super) struct Retries(Mutex<BTreeMap<usize, Retry>>);

struct Retry {
    /// In a row.
    failures: u32,
    at: DateTime<Utc>,
}

impl Retries {
    /// When the mail that was refused is tried again; none if it was not refused.
    pub(super) fn at(&self, mailing: usize) -> Option<DateTime<Utc>> {
        self.all().get(&mailing).map(|retry| retry.at)
    }

    /// Whether a mail waits.
    pub(super) fn any(&self) -> bool {
        !self.all().is_empty()
    }

    /// Notes that it was refused, and says when it is tried again.
    pub(super) fn refused(
        &self,
        mailing: usize,
        error: &Error,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let mut all = self.all();
        let is_first = all.is_empty();
        let retry = all.entry(mailing).or_insert(Retry {
            failures: 0,
            at: now,
        });
        retry.failures += 1;
        let wait = TimeDelta::from_std(wait_after(error, retry.failures));
        retry.at = now + wait.unwrap_or(TimeDelta::hours(1));
        // The engine logs the first trouble of all, and then no more until there is none.
        if retry.failures == 1 && !is_first {
            tracing::warn!(
                kind = error.kind().as_str(),
                "a mail is not sent, will be retried: {error}"
            );
        }
        retry.at
    }

    /// It was sent.
    pub(super) fn sent(&self, mailing: usize) {
        self.all().remove(&mailing);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<usize, Retry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
