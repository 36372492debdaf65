//! Whatever is delivered, and wherever it breaks off: every event exactly once.

use std::fs;
use std::io::Write;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Delivered and committed.
    Deliver(Vec<(u8, u16)>),
    /// Delivered, but the program died before the cursor moved.
    Uncommitted(Vec<(u8, u16)>),
    /// Dropped by a time-out after some microseconds, then delivered again together with more.
    Dropped(Vec<(u8, u16)>, u16, Vec<(u8, u16)>),
    /// Dropped, and then the program died.
    DroppedAndDied(Vec<(u8, u16)>, u16),
    /// Died in the middle of a write to an open file.
    Torn(Vec<u8>),
}

/// Days and sizes of a batch's events.
fn shapes() -> impl Strategy<Value = Vec<(u8, u16)>> {
    prop::collection::vec((1..5_u8, 0..400_u16), 1..12)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => shapes().prop_map(Step::Deliver),
        2 => shapes().prop_map(Step::Uncommitted),
        1 => (shapes(), 0..1500_u16, shapes()).prop_map(|(a, wait, b)| Step::Dropped(a, wait, b)),
        1 => (shapes(), 0..1500_u16).prop_map(|(a, wait)| Step::DroppedAndDied(a, wait)),
        1 => prop::collection::vec(any::<u8>(), 1..200).prop_map(Step::Torn),
    ]
}

fn options() -> impl Strategy<Value = String> {
    let compression = prop::sample::select(vec!["none", "gzip", "zstd"]);
    (compression, 200..3000_u32, 1..5_u8).prop_map(|(compression, size, files)| {
        format!(
            "compression = \"{compression}\"\nrotate_size = \"{size}B\"\nmax_open_files = {files}"
        )
    })
}

fn make(shapes: &[(u8, u16)], next: usize) -> Vec<AuditEvent> {
    let event = |(index, (day, padding)): (usize, &(u8, u16))| {
        event_of(
            next + index,
            &format!("2026-01-0{day}"),
            usize::from(*padding),
        )
    };
    shapes.iter().enumerate().map(event).collect()
}

/// Takes one step; gives how many events have been committed by it.
async fn take(bench: &mut Bench, step: &Step, next: usize) -> usize {
    let cut_short = async |bench: &Bench, shapes: &[(u8, u16)], wait: u16| {
        let wait = Duration::from_micros(u64::from(wait));
        let batch = make(shapes, next);
        tokio::time::timeout(wait, bench.try_deliver(&batch))
            .await
            .is_ok()
    };
    match step {
        Step::Deliver(shapes) => {
            bench.deliver(&make(shapes, next)).await;
            shapes.len()
        }
        Step::Uncommitted(shapes) => {
            bench.try_deliver(&make(shapes, next)).await.unwrap();
            bench.crash().await;
            0
        }
        Step::Dropped(shapes, wait, more) => {
            if cut_short(bench, shapes, *wait).await {
                // It was in time, so the receipt is lost only by a crash.
                bench.crash().await;
            }
            let all = [shapes.as_slice(), more].concat();
            bench.deliver(&make(&all, next)).await;
            all.len()
        }
        Step::DroppedAndDied(shapes, wait) => {
            cut_short(bench, shapes, *wait).await;
            // The old sink's work ends with its process.
            drop(bench.sink.check().await);
            bench.crash().await;
            0
        }
        Step::Torn(garbage) => {
            if bench.receipt.is_some() {
                for path in bench.open_files() {
                    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
                    file.write_all(garbage).unwrap();
                }
            }
            bench.crash().await;
            0
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn each_event_is_in_the_files_exactly_once(
        options in options(),
        steps in prop::collection::vec(step(), 1..14),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new("{date}.ndjson", &options).await;
            let mut committed = 0;
            for step in &steps {
                committed += take(&mut bench, step, committed).await;
                let found = bench.ids();
                assert_eq!(found, numbers(0..committed), "after {step:?}");
            }
            bench.crash().await;
            assert_eq!(bench.ids(), numbers(0..committed));
        });
    }
}
