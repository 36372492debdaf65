use proptest::prelude::*;

use super::*;
use crate::coverage::{Question, Row, State};

#[derive(Clone, Debug)]
enum Step {
    Commit {
        tenant: bool,
        first: u64,
        count: u64,
    },
    Advance {
        sink: usize,
        lane: usize,
        batches: usize,
        fates: u64,
    },
    Stale {
        sink: usize,
    },
    Detach {
        sink: usize,
        share: u8,
    },
    Attach {
        sinks: u8,
        now: bool,
    },
    Reopen,
    Forget {
        sink: usize,
    },
}

const SINKS: [&str; 3] = ["a", "b", "c"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<bool>(), 0_u64..60, 1_u64..6)
            .prop_map(|(tenant, first, count)| Step::Commit { tenant, first, count }),
        4 => (0_usize..3, 0_usize..4, 1_usize..4, any::<u64>())
            .prop_map(|(sink, lane, batches, fates)| Step::Advance { sink, lane, batches, fates }),
        1 => (0_usize..3).prop_map(|sink| Step::Stale { sink }),
        1 => (0_usize..3, any::<u8>()).prop_map(|(sink, share)| Step::Detach { sink, share }),
        1 => (1_u8..8, any::<bool>()).prop_map(|(sinks, now)| Step::Attach { sinks, now }),
        1 => Just(Step::Reopen),
        1 => (0_usize..3).prop_map(|sink| Step::Forget { sink }),
    ];
    prop::collection::vec(step, 1..40)
}

fn specs(sinks: u8, now: bool) -> Vec<SinkSpec> {
    let chosen = (0..3).filter(|bit| sinks & (1 << bit) != 0);
    chosen
        .map(|bit| SinkSpec {
            start: if now { Start::Now } else { Start::Oldest },
            ..sink(SINKS[bit])
        })
        .collect()
}

/// A step that deals with the next `batches` of a lane, the events' fates taken from bits.
async fn next(
    bench: &Bench,
    sink: &str,
    lane: usize,
    batches: usize,
    fates: u64,
) -> Option<Advance> {
    let behind = bench.journal().behind(sink);
    let (lane, _, cursor) = *behind.get(lane % behind.len().max(1))?;
    let found = bench
        .journal()
        .read(lane, cursor, usize::MAX, usize::MAX)
        .await
        .unwrap();
    assert!(
        !found.is_empty(),
        "{sink} is behind in lane {lane} after {cursor} but there is nothing"
    );
    let mut tally = Tally::default();
    let mut last = cursor;
    for stored in found.iter().take(batches) {
        last = stored.seq;
        for (index, event) in stored.events.iter().enumerate() {
            match (fates >> (index * 2 % 64)) & 3 {
                0 => tally.filtered(stored.seq, hour_of(event)),
                1 => tally.dead(
                    stored.seq,
                    hour_of(event),
                    DeadLetter {
                        sink: sink.into(),
                        event: event.clone(),
                        reason: "no".into(),
                    },
                ),
                _ => tally.delivered(stored.seq, hour_of(event)),
            }
        }
    }
    Some(Advance {
        sink: sink.into(),
        lane,
        last,
        receipt: None,
        tally,
        changes: Changes::default(),
    })
}

async fn check(bench: &Bench) {
    let status = bench.journal().status().await.unwrap();
    for sink in &status.sinks {
        assert!(sink.balances(), "{sink:?}");
    }
    let question = Question {
        hours: true,
        ..Question::usual(start())
    };
    let coverage = bench.journal().coverage(question).await.unwrap();
    for tenant in &coverage.tenants {
        assert_eq!(tenant.unbalanced, Vec::<String>::new(), "by hour as in sum");
        let is_wrong = |row: &&Row| row.state == Some(State::Unbalanced);
        let wrong = tenant.rows.iter().filter(is_wrong).count();
        assert_eq!(wrong, 0, "hour by hour");
    }
    // What is kept is what somebody still needs.
    let stray = bench.figure(
        "SELECT count(*) FROM batches b WHERE NOT EXISTS \
         (SELECT 1 FROM cursors c WHERE c.lane = b.lane AND c.seq < b.seq)",
    );
    assert_eq!(stray, 0);
    let bytes = bench.figure("SELECT coalesce(sum(stored_bytes), 0) FROM batches");
    let known: u64 = bench
        .journal()
        .shared
        .look(|state| state.lanes.values().map(|lane| lane.bytes).sum());
    assert_eq!(bytes as u64, known);
    // By hour as in sum.
    for column in ["filtered", "delivered", "dead", "skipped"] {
        let by_hour = bench.figure(&format!(
            "SELECT coalesce(sum({column}), 0) FROM coverage_sinks"
        ));
        let sum = bench.figure(&format!("SELECT coalesce(sum({column}), 0) FROM cursors"));
        assert_eq!(by_hour, sum, "{column}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_sinks_account_balances_after_any_history(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::attached(&specs(7, false)).await;
            let (mut sinks, mut stale) = (7, Vec::new());
            for step in steps {
                match step {
                    Step::Commit { tenant, first, count } => {
                        let tenant = if tenant { TENANT } else { OTHER };
                        let batch = bench.batch(tenant, "u", &records(first..first + count)).await;
                        bench.journal().commit(batch).await.unwrap();
                    }
                    Step::Advance { sink, lane, batches, fates } => {
                        if let Some(step) = next(&bench, SINKS[sink], lane, batches, fates).await {
                            stale.push(step.clone());
                            bench.journal().advance(step).await.unwrap();
                        }
                    }
                    // An answer that comes twice, or long after the sink was moved.
                    Step::Stale { sink } => {
                        if let Some(step) = next(&bench, SINKS[sink], 0, 2, 7).await {
                            stale.push(step);
                        }
                        for step in stale.drain(..) {
                            bench.journal().advance(step).await.unwrap();
                        }
                    }
                    Step::Detach { sink, share } => {
                        let behind = bench.journal().behind(SINKS[sink]);
                        let head = |lane| bench.journal().shared.look(|state| state.lanes[&lane].head);
                        let held = behind.iter().map(|(lane, _, cursor)| {
                            let until = cursor + (head(*lane) - cursor) * u64::from(share) / 255;
                            (SINKS[sink].into(), *lane, until)
                        });
                        bench.journal().detach(held.collect()).await.unwrap();
                    }
                    Step::Attach { sinks: chosen, now } => {
                        sinks = chosen;
                        bench.attach(&specs(sinks, now)).await;
                    }
                    Step::Reopen => {
                        bench.reopen();
                        bench.attach(&specs(sinks, false)).await;
                    }
                    Step::Forget { sink } => {
                        bench.journal().forget_sink(SINKS[sink]).await.unwrap();
                        // A step of a sink that was forgotten and came back under the same name is another sink's.
                        stale.retain(|step| *step.sink != *SINKS[sink]);
                    }
                }
                check(&bench).await;
            }
        });
    }
}
