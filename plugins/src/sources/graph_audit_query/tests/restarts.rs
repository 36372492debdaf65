//! A restart in every phase: nothing is lost, and no second query is paid for.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use super::*;

/// Drives `work` for at most so many steps, and drops it in the middle.
async fn broken_off<T>(work: impl Future<Output = T>, steps: usize) -> Option<T> {
    let mut work = pin!(work);
    for _ in 0..steps {
        let step = std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(done) = step.await {
            return Some(done);
        }
        tokio::time::sleep(std::time::Duration::from_micros(200)).await;
    }
    None
}

#[tokio::test]
async fn broken_off_anywhere_nothing_is_lost_and_nothing_is_paid_for_twice() {
    let mut bench = Bench::new(events(300), ALL).await;
    for steps in 0..400 {
        bench.restart();
        drop(broken_off(bench.list(), steps % 60).await);
        if let Some(unit) = bench.due().await.first() {
            drop(broken_off(bench.fetch(unit), steps % 37).await);
        }
        bench.simulator.control().advance(TimeDelta::seconds(5));
    }
    bench.collect().await;
    bench.assert_whole().await;
    // A query that is asked for again after its creation was lost counts once more, if it was never created.
    let asked = bench.checkpoint().await.asked.len() as u64;
    let created = bench.simulator.stats().audit_queries;
    assert!(created <= asked, "{created} of {asked}");
    assert_eq!(created, finished(&bench).await);
}

/// How many queries were finished: each has become a unit.
async fn finished(bench: &Bench) -> u64 {
    let tenant = bench.coverage().await;
    let content = tenant.rows.iter().flat_map(|row| &row.content);
    content.map(|content| content.figures.listed as u64).sum()
}

#[tokio::test]
async fn a_query_under_way_is_gone_on_with_after_a_restart() {
    let config = Config {
        graph_audit: GraphAuditConfig {
            run_seconds: 600,
            ..GraphAuditConfig::default()
        },
        ..events(100)
    };
    let mut bench = Bench::new(config, "start = \"1d\"").await;
    for _ in 0..20 {
        bench.list().await.unwrap();
    }
    let created = bench.simulator.stats().audit_queries;
    bench.simulator.control().advance(TimeDelta::minutes(11));
    bench.restart();
    bench.list().await.unwrap();
    assert_eq!(bench.due().await.len() as u64, created);
    assert_eq!(bench.simulator.stats().audit_queries, created);
}
