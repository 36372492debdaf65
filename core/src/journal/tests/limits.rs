use std::fmt::Write as _;

use super::*;

/// Records that do not compress.
fn noise(number: u64, bytes: usize) -> Vec<String> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::new();
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        write!(text, "{state:016x}").unwrap();
    }
    vec![format!(r#"{{"n":{number},"x":"{text}"}}"#)]
}

/// Collects `number` as the engine does: room first.
async fn collect(bench: &Bench, tenant: &str, number: u64) {
    let records = noise(number, 20_000);
    let commit = bench.batch(tenant, &format!("u{number}"), &records).await;
    let room = bench
        .journal()
        .room(tenant, records[0].len())
        .await
        .unwrap();
    bench.journal().commit(commit).await.unwrap();
    drop(room);
}

fn kept(bench: &Bench, tenant: &str) -> u64 {
    bench.journal().shared.look(|state| {
        let lanes = state.lanes.values();
        lanes
            .filter(|lane| &*lane.tenant == tenant)
            .map(|lane| lane.bytes)
            .sum()
    })
}

async fn small(sinks: &[SinkSpec]) -> Bench {
    let bench = Bench::with_limits(Limits {
        max_bytes: 1 << 20,
        ..Limits::default()
    });
    bench.attach(sinks).await;
    bench
}

/// Collects until the tenant waits; gives the number of batches.
async fn fill(bench: &Bench, tenant: &str, first: u64) -> u64 {
    for number in first.. {
        let mut one = Box::pin(collect(bench, tenant, number));
        while futures::poll!(&mut one).is_pending() {
            if bench
                .journal()
                .shared
                .look(|state| state.paused.contains_key(tenant))
            {
                return number;
            }
            tokio::task::yield_now().await;
        }
    }
    unreachable!()
}

#[tokio::test]
async fn one_tenant_that_fills_its_share_waits_alone_and_goes_on_when_there_is_room() {
    let bench = small(&[sink("a")]).await;
    let count = fill(&bench, TENANT, 0).await;
    let total = kept(&bench, TENANT);
    assert!(total < 1 << 20, "{total}");
    assert!(total > 500_000, "the pool was borrowed: {total}");
    let metrics = bench.journal().shared.metrics.render().unwrap();
    assert!(
        metrics.contains(r#"audit_exporter_tenant_paused{tenant="contoso"} 1"#),
        "{metrics}"
    );
    // The other tenant has its share.
    for number in 1000..1005 {
        collect(&bench, OTHER, number).await;
    }
    let mut waiting = Box::pin(collect(&bench, TENANT, count));
    assert!(futures::poll!(&mut waiting).is_pending());
    let (_, _, cursor) = bench.journal().behind("a")[0];
    bench.pass("a", bench.lane(), cursor + 10).await;
    waiting.await;
    let (lane, journal) = (bench.lane(), bench.journal());
    let head = journal.shared.look(|state| state.lanes[&lane].head);
    bench.pass("a", lane, head).await;
    let metrics = bench.journal().shared.metrics.render().unwrap();
    assert!(
        metrics.contains(r#"audit_exporter_tenant_paused{tenant="contoso"} 0"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn commits_at_the_same_time_do_not_pass_the_limit_together() {
    let bench = small(&[sink("a")]).await;
    let all: Vec<_> = (0..200)
        .map(|number| collect(&bench, TENANT, number))
        .collect();
    let all = futures::future::join_all(all);
    let full = async {
        // All room is taken, and what it was taken for is committed.
        let waits = |state: &State| state.paused.contains_key(TENANT) && state.reserved.is_empty();
        bench.until(waits).await;
    };
    tokio::select! {
        _ = all => unreachable!("there is no room for all"),
        () = full => {}
    }
    let used = bench.journal().shared.look(|state| state.used_bytes);
    assert!(used <= 1 << 20, "{used}");
}

#[tokio::test]
async fn an_optional_sink_is_detached_and_what_it_skipped_is_on_record() {
    let bench = small(&[sink("needed"), optional("extra")]).await;
    for number in 0..100 {
        collect(&bench, TENANT, number).await;
        bench.pass("needed", bench.lane(), number + 1).await;
    }
    let status = bench.sink("extra").await;
    assert!(status.skipped > 0 && status.balances(), "{status:?}");
    let recorded = bench.figure("SELECT sum(events) FROM detached WHERE sink = 'extra'");
    assert_eq!(recorded, status.skipped);
    assert_eq!(bench.figure("SELECT min(first) FROM detached"), 1);
    let shown = bench.journal().status().await.unwrap().skips;
    assert_eq!(shown.iter().map(|skip| skip.events).sum::<i64>(), recorded);
    assert!(
        shown
            .iter()
            .all(|skip| skip.sink == "extra" && skip.tenant == TENANT)
    );
    let by_hour = bench.figure("SELECT sum(skipped) FROM coverage_sinks WHERE sink = 'extra'");
    assert_eq!(by_hour, status.skipped);
    let needed = bench.sink("needed").await;
    assert_eq!((needed.skipped, needed.delivered), (0, 100));
}

#[tokio::test]
async fn what_was_skipped_is_accounted_for_by_hour() {
    let bench = small(&[optional("extra")]).await;
    let mut mixed = records([1, 2, 15, 25, 26, 27]);
    mixed.extend(noise(0, 400_000));
    bench.commit("u", &mixed).await;
    for number in 1..50 {
        collect(&bench, TENANT, number).await;
    }
    let hour = start().timestamp() / 3600;
    for (hour, skipped) in [(hour, 2), (hour + 1, 1), (hour + 2, 3)] {
        let query = format!("SELECT skipped FROM coverage_sinks WHERE hour = {hour}");
        assert_eq!(bench.figure(&query), skipped);
    }
}

#[tokio::test]
async fn an_orphan_does_not_block_collecting() {
    let bench = small(&[sink("a"), sink("gone")]).await;
    bench.attach(&[sink("a")]).await;
    for number in 0..100 {
        collect(&bench, TENANT, number).await;
        bench.pass("a", bench.lane(), number + 1).await;
    }
    assert!(bench.sink("gone").await.skipped > 0);
}

#[tokio::test]
async fn a_renamed_or_expired_sink_does_not_block_collecting() {
    let mut bench = small(&[sink("old")]).await;
    fill(&bench, TENANT, 0).await;
    bench.reopen();
    let renamed = SinkSpec {
        renamed_from: Some("old".into()),
        required: false,
        ..sink("new")
    };
    bench.attach(&[renamed]).await;
    for number in 1000..1050 {
        collect(&bench, TENANT, number).await;
    }
    assert!(bench.sink("new").await.balances());
}

#[tokio::test]
async fn a_sink_behind_a_gap_without_events_is_detached_past_it() {
    let bench = small(&[optional("early")]).await;
    // Its cursor stands at 0. The lane's first batch is 2, for the first went to the other tenant.
    collect(&bench, OTHER, 0).await;
    collect(&bench, TENANT, 1).await;
    bench.attach(&[optional("early"), sink("late")]).await;
    let lane = bench.lane();
    assert_eq!(bench.journal().behind("late")[0], (lane, LaneKind::Live, 1));
    // Full, and between the two cursors there is nothing to skip: it has to wait for the late one, not try for ever.
    let first = fill(&bench, TENANT, 100).await;
    let mut waiting = Box::pin(collect(&bench, TENANT, first));
    assert!(futures::poll!(&mut waiting).is_pending());
    assert_eq!(bench.sink("early").await.skipped, 0);
    let (_, _, cursor) = bench.journal().behind("late")[0];
    bench.pass("late", lane, cursor + 20).await;
    waiting.await;
}

#[tokio::test]
async fn a_delivery_that_a_detachment_overtakes_is_not_counted_twice() {
    let bench = small(&[sink("needed"), optional("extra")]).await;
    let lane = bench.lane();
    for number in 0..10 {
        collect(&bench, TENANT, number).await;
    }
    // The optional sink delivers 1 to 10; meanwhile it is detached up to 6.
    let mut step = bench.step("extra", lane, 10).await;
    step.receipt = Some(crate::plugin::Receipt::from_stored("10".into()));
    bench.pass("needed", lane, 6).await;
    let until = vec![("extra".into(), lane, 6)];
    bench.journal().detach(until.clone()).await.unwrap();
    bench.journal().detach(until).await.unwrap();
    bench.journal().advance(step).await.unwrap();
    let status = bench.sink("extra").await;
    assert_eq!(
        (status.skipped, status.delivered, status.pending),
        (6, 4, 0)
    );
    assert!(status.balances());
    let receipt = bench.journal().receipt("extra").await.unwrap().unwrap();
    assert_eq!(receipt.as_str(), "10", "the far side is where it is");
    let by_hour = bench.figure("SELECT sum(delivered) FROM coverage_sinks WHERE sink = 'extra'");
    assert_eq!(by_hour, 4);
}

#[tokio::test]
async fn a_sink_that_is_forgotten_while_it_is_to_be_detached_stops_nobody() {
    let bench = small(&[sink("needed"), optional("extra")]).await;
    collect(&bench, TENANT, 0).await;
    bench.journal().forget_sink("extra").await.unwrap();
    let gone = vec![("extra".into(), bench.lane(), 1)];
    bench.journal().detach(gone).await.unwrap();
}

#[tokio::test]
async fn an_overfull_disk_lets_each_tenant_go_on_batch_by_batch() {
    let bench = Bench::with_limits(Limits {
        max_bytes: 1,
        ..Limits::default()
    });
    bench.attach(&[sink("a")]).await;
    for number in 0..5 {
        collect(&bench, TENANT, number).await;
        let mut second = Box::pin(collect(&bench, TENANT, 100));
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        bench.pass("a", bench.lane(), number + 1).await;
    }
}
