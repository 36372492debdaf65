use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn a_lane_is_read_in_order_and_no_other_lanes_events_are_in_it() {
    let bench = Bench::attached(&[sink("a")]).await;
    for number in 0..6 {
        let tenant = if number % 2 == 0 { TENANT } else { OTHER };
        let commit = bench
            .batch(tenant, &format!("u{number}"), &records([number]))
            .await;
        bench.journal().commit(commit).await.unwrap();
    }
    let other = bench.journal().lane(OTHER, LaneKind::Live).unwrap();
    assert_eq!(bench.rest(bench.lane(), 0).await, records([0, 2, 4]));
    assert_eq!(bench.rest(other, 0).await, records([1, 3, 5]));
    assert_eq!(bench.rest(bench.lane(), 1).await, records([2, 4]));
    let quiet = bench.journal().lane(TENANT, LaneKind::CatchUp).unwrap();
    assert!(bench.rest(quiet, 0).await.is_empty());
    assert!(bench.rest(99, 0).await.is_empty());
}

#[tokio::test]
async fn at_least_one_batch_is_read_and_then_as_many_as_fit() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    for number in 0..4 {
        let first = number * 10;
        bench
            .commit(&format!("u{number}"), &records(first..first + 3))
            .await;
    }
    let bytes = record(0).len();
    for restart in [false, true] {
        if restart {
            bench.reopen();
            bench.attach(&[sink("a")]).await;
        }
        let count = async |events, bytes| {
            let found = bench.journal().read(bench.lane(), 0, events, bytes);
            found.await.unwrap().len()
        };
        assert_eq!(count(1, 1).await, 1);
        assert_eq!(count(6, usize::MAX).await, 2);
        assert_eq!(count(8, usize::MAX).await, 2);
        assert_eq!(count(usize::MAX, bytes * 9).await, 3);
        assert_eq!(count(usize::MAX, bytes * 9 - 1).await, 2);
    }
}

#[tokio::test]
async fn what_waits_in_memory_stays_within_its_bound() {
    let bench = Bench::with_limits(Limits {
        handover_bytes: 10_000,
        ..Limits::default()
    });
    bench.attach(&[sink("a")]).await;
    for number in 0..100 {
        bench
            .commit(&format!("u{number}"), &records([number]))
            .await;
        bench.journal().shared.look(|state| {
            let taken: usize = state
                .recent
                .iter()
                .map(|stored| stored.memory_bytes())
                .sum();
            assert_eq!(taken, state.recent_bytes);
            assert!(taken <= 10_000, "{taken}");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn memory_and_disk_give_the_same(
        handover_bytes in prop_oneof![Just(0_usize), Just(3_000), Just(100_000)],
        steps in prop::collection::vec((0_u8..8, 0_u64..4), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::with_limits(Limits { handover_bytes, ..Limits::default() });
            let sinks = [sink("a"), sink("b")];
            bench.attach(&sinks).await;
            let (mut number, mut journaled) = (0, Vec::new());
            for (step, size) in steps {
                match step {
                    0 => {
                        bench.reopen();
                        bench.attach(&sinks).await;
                    }
                    1 => {
                        let behind = bench.journal().behind("a");
                        if let Some((lane, _, cursor)) = behind.first() {
                            bench.pass("a", *lane, (cursor + size).min(journaled.len() as u64)).await;
                        }
                    }
                    _ => {
                        let batch = records(number..=number + size);
                        bench.commit(&format!("u{number}"), &batch).await;
                        number += size + 1;
                        journaled.push(batch);
                    }
                }
                let lane = bench.lane();
                for after in 0..=journaled.len() {
                    let expected: Vec<String> = journaled[after..].concat();
                    // Sink b keeps everything.
                    assert_eq!(bench.rest(lane, after as u64).await, expected);
                }
            }
        });
    }
}

#[tokio::test]
async fn long_questions_wait_for_one_another_and_hold_up_no_short_ones() {
    let bench = Bench::attached(&[sink("a")]).await;
    let (begin, mut asked) = tokio::sync::mpsc::channel(2);
    let ask = |name: &'static str| {
        let (journal, begin) = (bench.journal().clone(), begin.clone());
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let question = async move {
            let question = journal.ask_at_length(move |_| {
                begin.try_send(name).unwrap();
                ended.recv().map_err(|_| Error::bug("the test is gone"))
            });
            question.await
        };
        (end, tokio::spawn(question))
    };
    let (end_first, first) = ask("first");
    assert_eq!(asked.recv().await, Some("first"));
    let (end_second, second) = ask("second");
    for _ in 0..2 * READERS {
        bench.journal().ask(|_| Ok(())).await.unwrap();
    }
    assert!(asked.try_recv().is_err(), "two at once");
    end_first.send(()).unwrap();
    first.await.unwrap().unwrap();
    assert_eq!(asked.recv().await, Some("second"));
    end_second.send(()).unwrap();
    second.await.unwrap().unwrap();
}
