//! Packs events into requests.

use std::collections::VecDeque;

use audit_exporter_core::event::AuditEvent;

use super::progress::Progress;
use super::{Destination, Limits, Outcome};

/// The events of one request.
#[derive(Debug)]
pub(super) struct Parcel {
    places: Vec<usize>,
    bytes: usize,
}

/// What is still to be sent: runs of events that are not packed together with those of another run.
#[derive(Debug)]
pub(super) struct Queue(VecDeque<Vec<usize>>);

impl Queue {
    /// All of these, in one run.
    pub(super) fn of(places: Vec<usize>) -> Self {
        Self(VecDeque::from([places]))
    }

    /// The next request: as many events as fit, one at least. Those that can never be sent are refused on the way.
    pub(super) fn pack(
        &mut self,
        events: &[AuditEvent],
        destination: &dyn Destination,
        progress: &mut Progress,
    ) -> Option<(Parcel, Vec<u8>)> {
        let frame = destination.frame();
        let most = destination
            .limits()
            .bytes()
            .saturating_sub(frame.close.len());
        while let Some(mut run) = self.0.pop_front() {
            let mut body = frame.open.as_bytes().to_vec();
            let (mut places, mut taken) = (Vec::new(), 0);
            for place in &run {
                if places.len() == destination.limits().events {
                    break;
                }
                let before = body.len();
                if !places.is_empty() {
                    body.extend_from_slice(frame.between.as_bytes());
                }
                match destination.write(&events[*place], &mut body) {
                    Ok(()) if body.len() > most && !places.is_empty() => {
                        body.truncate(before);
                        break;
                    }
                    Ok(()) => places.push(*place),
                    Err(reason) => {
                        body.truncate(before);
                        progress.refuse(*place, reason);
                    }
                }
                taken += 1;
            }
            self.again(run.split_off(taken));
            if !places.is_empty() {
                body.extend_from_slice(frame.close.as_bytes());
                let bytes = body.len();
                return Some((Parcel { places, bytes }, body));
            }
        }
        None
    }

    /// Notes what became of a request. What is not settled by it is sent again.
    pub(super) fn settle(
        &mut self,
        parcel: Parcel,
        outcome: Outcome,
        limits: &Limits,
        progress: &mut Progress,
    ) {
        let Parcel { mut places, bytes } = parcel;
        let outcome = match outcome {
            // Of an event that the request does not have.
            Outcome::Refused { index, reason, .. } if index >= places.len() => {
                Outcome::Unclear(reason)
            }
            outcome => outcome,
        };
        match outcome {
            Outcome::Stored => progress.store(&places),
            Outcome::TooLarge(reason) | Outcome::Unclear(reason) if places.len() == 1 => {
                progress.refuse(places[0], reason);
            }
            Outcome::TooLarge(_) => {
                limits.learn(bytes);
                self.halve(places);
            }
            Outcome::Unclear(_) => self.halve(places),
            Outcome::Refused {
                index,
                stored_before,
                reason,
            } => {
                let behind = places.split_off(index + 1);
                if let Some(refused) = places.pop() {
                    progress.refuse(refused, reason);
                }
                self.again(behind);
                if stored_before {
                    progress.store(&places);
                } else {
                    self.again(places);
                }
            }
        }
    }

    fn halve(&mut self, mut places: Vec<usize>) {
        let behind = places.split_off(places.len() / 2);
        self.again(behind);
        self.again(places);
    }

    /// To be sent next.
    fn again(&mut self, run: Vec<usize>) {
        if !run.is_empty() {
            self.0.push_front(run);
        }
    }
}
