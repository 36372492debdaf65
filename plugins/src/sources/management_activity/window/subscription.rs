//! What the progress of a content type knows of its subscription: what Microsoft does not keep without one is missed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Progress, Window, seconds};

/// A subscription that was found not to be enabled. It is in the checkpoint from before a start is asked for until the
/// time without a subscription is on record: no lost answer and no crash in between hides that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Absence {
    /// What became available since this may be missed; nothing if nothing was ever listed.
    from: Option<DateTime<Utc>>,
    /// Whether a start was asked for that may have been done: its answer never came, or was not dealt with.
    may_have_started: bool,
}

impl Progress {
    /// Whether it is to be noted now that the subscription is found not to be enabled: not if that is noted already, nor
    /// while a start that was accepted has yet to show.
    pub(in super::super) fn is_absence_new(&self) -> bool {
        let started = self.subscribed;
        let has_to_show = started.is_some_and(|at| self.listed_to.is_none_or(|to| to < at));
        self.absence.is_none() && !has_to_show
    }

    /// Whether it is noted that the subscription was found not to be enabled.
    pub(in super::super) fn is_absent(&self) -> bool {
        self.absence.is_some()
    }

    /// Whether a start may have been done of which no answer tells.
    pub(in super::super) fn may_have_started(&self) -> bool {
        self.absence.is_some_and(|absence| absence.may_have_started)
    }

    /// Notes that the subscription is not enabled. What is noted already stays.
    pub(in super::super) fn found_absent(&mut self) {
        self.absence_mut();
    }

    /// Notes that a start of the subscription, which is not enabled, is about to be asked for.
    pub(in super::super) fn start_is_asked(&mut self) {
        self.absence_mut().may_have_started = true;
    }

    /// Notes that the start which was just asked for was refused; whether an earlier one `may_have_started` is as it was.
    pub(in super::super) fn start_is_refused(&mut self, may_have_started: bool) {
        self.absence_mut().may_have_started = may_have_started;
    }

    /// Notes that the subscription was enabled all along.
    pub(in super::super) fn was_enabled(&mut self) {
        self.absence = None;
    }

    fn absence_mut(&mut self) -> &mut Absence {
        let from = self.listed_to.max(self.subscribed);
        self.absence.get_or_insert(Absence {
            from: self.listed_to.and(from),
            may_have_started: false,
        })
    }

    /// A subscription started: before this there is nothing, or it is noted as a gap.
    pub(in super::super) fn subscribed(&mut self, at: DateTime<Utc>) {
        self.since.get_or_insert(seconds(at));
        self.subscribed = Some(seconds(at));
        self.absence = None;
    }

    /// What became available without a subscription before one started `at` this time.
    pub(in super::super) fn unsubscribed(&self, at: DateTime<Utc>) -> Option<Window> {
        Window::new(self.absence?.from?, seconds(at))
    }
}
