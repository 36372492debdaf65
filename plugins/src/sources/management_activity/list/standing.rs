//! What the lister remembers between two calls.

use std::collections::BTreeSet;
use std::time::Duration;

use audit_exporter_core::{Error, Kind};
use tokio::time::Instant;

use super::super::webhook::State;
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
    pub(super) hook: Hook,
    pub(super) failures: u32,
    pub(super) rests_until: Option<Instant>,
    /// It was listed, when others were refused, and is not due before this.
    pub(super) fresh_until: Option<Instant>,
    /// Why it was not listed when that was last tried.
    pub(super) trouble: Option<Trouble>,
}

/// What is known of its webhook.
#[derive(Clone, Debug, Default)]
pub(super) struct Hook {
    /// What it needs.
    pub(super) errand: Option<Errand>,
    /// How it was found when that was last told.
    found: Option<State>,
    /// Why it could not be set or taken away when that was last tried: the text may be another each time.
    trouble: Option<(Kind, Option<String>)>,
    /// After a failure it is left alone for a while.
    rests_until: Option<Instant>,
}

impl Hook {
    /// Notes how it was found. Returns whether that is new.
    pub(super) fn finds(&mut self, state: &State) -> bool {
        let is_new = self.found.as_ref() != Some(state);
        self.found = Some(state.clone());
        is_new
    }

    /// Notes why it could not be set or taken away, and that it rests. Returns whether the reason is new.
    pub(super) fn fails(&mut self, error: &Error, rest: Duration) -> bool {
        let trouble = (error.kind(), error.code().map(str::to_owned));
        let is_new = self.trouble.as_ref() != Some(&trouble);
        self.trouble = Some(trouble);
        self.rests_until = Some(Instant::now() + rest);
        is_new
    }

    /// It is as it should be: whatever is wrong with it next is new.
    pub(super) fn works(&mut self) {
        *self = Self::default();
    }

    /// Whether Microsoft did not take it when that was last tried.
    pub(super) fn was_refused(&self) -> bool {
        self.trouble.is_some()
    }

    /// Whether it is left alone after a failure.
    pub(super) fn rests(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until)
    }
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
