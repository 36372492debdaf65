//! The exporter against a model of Microsoft, in virtual time.
//!
//! The real engine with the real journal, dedupe and `management_activity` source goes through random histories of
//! weeks, of which each takes milliseconds: content that shows up late by days, repeated and varied events, pages and
//! blobs that fail, throttling, restarts and crashes, clocks that are wrong, sinks that fail or whose answers are lost.
//! At the end each sink has every event at least once, exactly once where every delivery was answered, and the
//! journal's coverage is the model's own account, to the event.
//!
//! - `MODEL_HISTORIES=10000 cargo test --profile swift --test model` runs so many; without it, a few with new seeds.
//! - `MODEL_SEED=42 cargo test --test model` runs one history again, as a failure says.

// A test may fail by a panic, and says what it does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod account;
mod history;
mod microsoft;
mod passes;
mod random;
mod run;
mod shrink;
mod sinks;
mod tables;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use history::{End, HOUR, History, Life};

/// Histories of an ordinary run of the tests.
const HISTORIES: u64 = 200;
/// How many smaller histories are tried in the place of one that fails.
const SMALLER: u64 = 400;
/// How often one history is run again: where threads meet, not every run is the same.
const AGAIN: usize = 20;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect(name))
}

/// What is wrong, if anything; a panic is.
fn wrong(history: &History) -> Option<String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run::run(history)));
    outcome
        .unwrap_or_else(|_| Err("it panics".to_owned()))
        .err()
}

/// Runs the histories of `seeds` on all processors; the first that fails, and why.
fn first_failure(seeds: std::ops::Range<u64>) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let failure: Mutex<Option<(u64, String)>> = Mutex::default();
    let work = || {
        while failure.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Some(wrong) = wrong(&random::history(seed)) {
                failure.lock().unwrap().get_or_insert((seed, wrong));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        // Each spends much of its time waiting for its journal.
        for _ in 0..2 * threads {
            scope.spawn(work);
        }
    });
    failure.into_inner().unwrap()
}

#[test]
fn every_event_arrives_and_every_figure_is_the_models_own() {
    let began = Instant::now();
    let failure = if let Some(seed) = number("MODEL_SEED") {
        let history = random::history(seed);
        (0..AGAIN).find_map(|_| Some((seed, wrong(&history)?)))
    } else {
        let count = number("MODEL_HISTORIES").unwrap_or(HISTORIES);
        let first = u64::from(rand::random::<u32>());
        let failure = first_failure(first..first + count);
        let tried = failure.as_ref().map_or(count, |(seed, _)| seed - first + 1);
        println!(
            "{tried} histories from seed {first} in {:.1?}",
            began.elapsed()
        );
        failure
    };
    let Some((seed, why)) = failure else {
        return;
    };
    println!(
        "history {seed} fails: {why}\nrun it again with MODEL_SEED={seed}; looking for a smaller one"
    );
    let smaller = number("MODEL_SMALLER").unwrap_or(SMALLER);
    let (smallest, why) = shrink::shrink(random::history(seed), why, smaller, wrong);
    panic!("MODEL_SEED={seed}, made smaller:\n{smallest:#?}\n{why}");
}

/// All that ran is one life in an outage: what Microsoft has is never found, and nobody is to blame.
#[test]
fn nothing_is_expected_where_nothing_could_be_listed() {
    let mut history = random::history(1);
    let span = history.span;
    history.outages = vec![(0, span)];
    history.lives = vec![Life {
        up: HOUR,
        end: End::Crash,
        down: span,
    }];
    assert_eq!(wrong(&history), None);
}
