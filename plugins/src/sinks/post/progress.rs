//! What of a delivery is settled, so that only the rest is sent when it comes again.

use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::plugin::Rejected;
use audit_exporter_core::{Error, Result};

/// The delivery under way, or the one that failed last.
#[derive(Default)]
pub(super) struct Progress {
    /// Held, so that the place of their bytes tells whether they come again.
    events: Vec<AuditEvent>,
    fates: Vec<Fate>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Open,
    Stored,
    Refused(String),
}

impl Progress {
    /// Begins a delivery, or goes on with it if `events` begin with those of the last.
    pub(super) fn begin(&mut self, events: &[AuditEvent]) {
        let again = self.events.len() <= events.len()
            && self.events.iter().zip(events).all(|(a, b)| is_same(a, b));
        if !again {
            self.fates.clear();
        }
        self.fates.resize(events.len(), Fate::Open);
        self.events = events.to_vec();
    }

    /// The places of the events that are not settled.
    pub(super) fn open(&self) -> Vec<usize> {
        let open = |place: &usize| self.fates[*place] == Fate::Open;
        (0..self.fates.len()).filter(open).collect()
    }

    /// These are safe.
    pub(super) fn store(&mut self, places: &[usize]) {
        for place in places {
            self.fates[*place] = Fate::Stored;
        }
    }

    /// This one is refused for good.
    pub(super) fn refuse(&mut self, place: usize, reason: String) {
        self.fates[place] = Fate::Refused(reason);
    }

    /// Ends the delivery: what was refused. An event that nobody said anything of is not delivered.
    pub(super) fn end(&mut self) -> Result<Vec<Rejected>> {
        self.events = Vec::new();
        let fates = std::mem::take(&mut self.fates).into_iter().enumerate();
        let mut rejected = Vec::new();
        for (index, fate) in fates {
            match fate {
                Fate::Stored => {}
                Fate::Refused(reason) => rejected.push(Rejected { index, reason }),
                Fate::Open => return Err(Error::bug("an event of a delivery was left out")),
            }
        }
        Ok(rejected)
    }
}

/// Whether both are one event: the same bytes at the same place, which we hold.
fn is_same(a: &AuditEvent, b: &AuditEvent) -> bool {
    a.raw().as_ptr() == b.raw().as_ptr() && a.raw().len() == b.raw().len()
}
