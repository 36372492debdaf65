//! Decides about each answer, and remembers how often each resource was asked and failed.

use std::{collections::HashMap, sync::Mutex};

use crate::{
    chance::Chance,
    faults::{AnswerFaults, Failure, Faults},
    state::lock,
};

/// What was decided for one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Verdict {
    /// How it fails, if it does.
    pub(crate) failure: Option<Failure>,
    /// How long it waits first.
    pub(crate) wait_millis: u64,
}

/// Remembers how often each resource was asked and how often in a row it failed.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<HashMap<u64, Attempt>>);

#[derive(Debug, Default, Clone, Copy)]
struct Attempt {
    asked: u32,
    failed_in_a_row: u32,
}

impl Attempts {
    /// Decides about the next answer of the resource that `key` names.
    pub(crate) fn decide(
        &self,
        faults: &Faults,
        answers: &AnswerFaults,
        seed: u64,
        key: u64,
    ) -> Verdict {
        if *answers == AnswerFaults::default() {
            return Verdict::default();
        }
        self.next(faults, seed, key, |chance| Verdict {
            wait_millis: if chance.hit(answers.slow) {
                answers.slow_millis
            } else {
                0
            },
            failure: answers.draw(chance),
        })
    }

    /// Counts one more draw for what `key` names, and says the how-manieth it is.
    pub(crate) fn count(&self, key: u64) -> u32 {
        let mut attempts = lock(&self.0);
        let attempt = attempts.entry(key).or_default();
        attempt.asked += 1;
        attempt.asked
    }

    /// Decides with the caller's own draw, and holds to the limit of failures in a row.
    pub(crate) fn next(
        &self,
        faults: &Faults,
        seed: u64,
        key: u64,
        draw: impl FnOnce(&mut Chance) -> Verdict,
    ) -> Verdict {
        let mut attempts = lock(&self.0);
        let attempt = attempts.entry(key).or_default();
        attempt.asked += 1;
        let seed = faults.seed.unwrap_or(seed);
        let mut verdict = draw(&mut Chance::of(&[seed, key, u64::from(attempt.asked)]));
        if faults.most_in_a_row > 0 && attempt.failed_in_a_row >= faults.most_in_a_row {
            verdict.failure = None;
        }
        attempt.failed_in_a_row = match verdict.failure {
            Some(_) => attempt.failed_in_a_row + 1,
            None => 0,
        };
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_that_always_fails_answers_well_after_the_limit() {
        let answers = AnswerFaults {
            internal_error: 1.0,
            ..AnswerFaults::default()
        };
        let faults = Faults {
            most_in_a_row: 2,
            ..Faults::default()
        };
        let attempts = Attempts::default();
        let failures: Vec<bool> = (0..6)
            .map(|_| attempts.decide(&faults, &answers, 1, 42).failure.is_some())
            .collect();
        assert_eq!(failures, [true, true, false, true, true, false]);
    }

    #[test]
    fn draws_do_not_depend_on_what_else_is_asked() {
        let faults = Faults::all(5);
        let alone = Attempts::default();
        let busy = Attempts::default();
        for _ in 0..200 {
            let expected = alone.decide(&faults, &faults.blobs, 1, 7);
            busy.decide(&faults, &faults.blobs, 1, 8);
            assert_eq!(busy.decide(&faults, &faults.blobs, 1, 7), expected);
        }
    }

    #[test]
    fn every_failure_comes_up_under_all_faults() {
        let faults = Faults {
            most_in_a_row: 0,
            ..Faults::all(5)
        };
        let attempts = Attempts::default();
        let seen: std::collections::HashSet<Failure> = (0..5_000)
            .filter_map(|_| attempts.decide(&faults, &faults.blobs, 1, 7).failure)
            .collect();
        assert_eq!(seen.len(), 13);
    }
}
