//! What the lister remembers between two calls.

use std::collections::BTreeSet;
use std::time::Duration;

use audit_exporter_core::{Error, Kind};
use tokio::time::Instant;

use super::subscriptions::Errand;

/// What a call lists.
#[derive(Debug, Default)]
pub(super) struct Polls {
    /// When all that was listed is due again, if the last call went well.
    pub(super) due: Option<Instant>,
    /// The content types of which there was news since the last call.
    pub(super) news: BTreeSet<&'static str>,
}

impl Polls {
    /// The content types that alone are listed before the next poll, and when that is; or nothing, for the poll itself.
    pub(super) fn take(&mut self, now: Instant) -> Option<(BTreeSet<&'static str>, Instant)> {
        let news = std::mem::take(&mut self.news);
        let due = self.due.take().filter(|due| *due > now)?;
        (!news.is_empty()).then_some((news, due))
    }
}

/// What is known of a content type besides its progress.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) enabled: bool,
    /// What its webhook needs.
    pub(super) errand: Option<Errand>,
    /// Why it has not the webhook that it should have.
    pub(super) webhook_trouble: Option<String>,
    pub(super) failures: u32,
    pub(super) rests_until: Option<Instant>,
    /// It was listed, when others were refused, and is not due before this.
    pub(super) fresh_until: Option<Instant>,
    /// Why it was not listed when that was last tried.
    pub(super) trouble: Option<Trouble>,
}

/// What is told at each poll while a content type is not listed.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) severity: u8,
    message: String,
    code: Option<String>,
}

impl Trouble {
    pub(super) fn of(content_type: &str, error: &Error) -> Self {
        Self {
            severity: severity(error.kind()),
            message: format!("{content_type}: {error}"),
            code: error.code().map(str::to_owned),
        }
    }

    /// It is one content type's alone: the engine does not slow down the others.
    pub(super) fn into_error(self, next: Duration) -> Error {
        let error = Error::unavailable(self.message).with_retry_after(Some(next));
        match self.code {
            Some(code) => error.with_code(code),
            None => error,
        }
    }
}

/// Which of several errors is told: the one that a person must mend first.
pub(super) fn severity(kind: Kind) -> u8 {
    match kind {
        Kind::Config => 6,
        Kind::Bug => 5,
        Kind::Auth => 4,
        Kind::Throttled => 3,
        Kind::Unavailable => 2,
        Kind::Lost => 1,
        Kind::Rejected => 0,
    }
}
