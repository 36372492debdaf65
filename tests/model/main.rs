//! The exporter against a model of Microsoft, in virtual time.
//!
//! The real engine with the real journal, dedupe and `management_activity` source goes through random histories of
//! weeks, of which each takes milliseconds: content that shows up late by days, repeated and varied events, pages and
//! blobs that fail, throttling, restarts and crashes, clocks that are wrong, sinks that fail or whose answers are lost.
//! At the end each sink has every event at least once, exactly once where every delivery was answered, and the
//! journal's coverage is the model's own account, to the event.
//!
//! - `MODEL_HISTORIES=10000 cargo test --release --test model` runs so many; without it, a few with new seeds.
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
mod sinks;
mod tables;
mod world;

use std::time::Instant;

#[test]
fn every_event_arrives_and_every_figure_is_the_models_own() {
    let count: u64 = std::env::var("MODEL_HISTORIES").map_or(100, |count| count.parse().unwrap());
    let seed: u64 = std::env::var("MODEL_SEED").map_or(0, |count| count.parse().unwrap());
    let mut bad = 0;
    for seed in seed..seed + count {
        let began = Instant::now();
        let history = random::history(seed);
        let outcome = std::panic::catch_unwind(|| run::run(&history));
        println!("{seed}: {:?} blobs {} lives {} span {}h poll {}", began.elapsed(), history.blobs.len(), history.lives.len(), history.span / history::HOUR, history.poll / 60000);
        if let Err(wrong) = outcome.unwrap_or_else(|_| Err("panic".to_owned())) {
            println!("{seed}: {wrong}");
            bad += 1;
        }
    }
    assert_eq!(bad, 0);
}
