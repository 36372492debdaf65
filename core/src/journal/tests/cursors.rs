use super::*;
use crate::plugin::Receipt;

#[tokio::test]
async fn a_new_sink_begins_with_what_is_kept_or_with_what_comes() {
    let bench = Bench::attached(&[sink("first")]).await;
    bench.commit("u", &records(0..3)).await;
    bench.commit("v", &records(3..5)).await;
    let now = SinkSpec {
        start: Start::Now,
        ..sink("now")
    };
    bench.attach(&[sink("first"), sink("oldest"), now]).await;
    let lane = bench.lane();
    assert_eq!(
        bench.journal().behind("oldest"),
        [(lane, LaneKind::Live, 0)]
    );
    assert!(bench.journal().behind("now").is_empty());
    bench.commit("w", &records(5..9)).await;
    for (name, pending) in [("first", 9), ("oldest", 9), ("now", 4)] {
        let status = bench.sink(name).await;
        assert_eq!(
            (status.pending, status.journaled),
            (pending, pending),
            "{name}"
        );
        assert!(status.balances());
    }
}

#[tokio::test]
async fn a_sink_that_is_new_when_everything_is_freed_has_nothing_to_read() {
    let bench = Bench::attached(&[sink("a")]).await;
    bench.commit("u", &records(0..3)).await;
    bench.pass("a", bench.lane(), 1).await;
    bench.journal().forget_sink("a").await.unwrap();
    bench.attach(&[sink("b")]).await;
    assert!(bench.journal().behind("b").is_empty());
    assert!(bench.sink("b").await.balances());
}

#[tokio::test]
async fn a_renamed_sink_goes_on_where_the_old_name_was() {
    let mut bench = Bench::attached(&[sink("old")]).await;
    let lane = bench.lane();
    bench.commit("u", &records(0..3)).await;
    bench.commit("v", &records(3..5)).await;
    let mut step = bench.step("old", lane, 1).await;
    step.receipt = Some(Receipt::from_stored("42".into()));
    bench.journal().advance(step).await.unwrap();
    bench
        .journal()
        .store("sink/old")
        .put("k", Some("v".into()))
        .await
        .unwrap();
    bench.reopen();
    let renamed = SinkSpec {
        renamed_from: Some("old".into()),
        ..sink("new")
    };
    for _ in 0..2 {
        let orphans = bench.attach(std::slice::from_ref(&renamed)).await;
        assert_eq!(orphans, []);
        assert_eq!(bench.journal().behind("new"), [(lane, LaneKind::Live, 1)]);
        let receipt = bench.journal().receipt("new").await.unwrap().unwrap();
        assert_eq!(receipt.as_str(), "42");
        let kept = bench.journal().store("sink/new").get("k").await.unwrap();
        assert_eq!(kept.as_deref(), Some("v"));
        let status = bench.sink("new").await;
        assert_eq!((status.delivered, status.pending), (3, 2));
    }
    // Nothing of the old name is left that could hold data or be detached.
    let known = bench.journal().shared.look(|state| state.sinks.len());
    assert_eq!(known, 1);
    bench.pass("new", lane, 2).await;
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
}

#[tokio::test]
async fn a_name_that_was_forgotten_can_be_taken_by_a_renamed_sink() {
    let bench = Bench::attached(&[sink("a"), sink("b")]).await;
    bench.commit("u", &records(0..3)).await;
    bench.pass("a", bench.lane(), 1).await;
    bench.pass("b", bench.lane(), 1).await;
    bench.attach(&[sink("a")]).await;
    assert!(bench.journal().forget_sink("b").await.unwrap());
    let renamed = SinkSpec {
        renamed_from: Some("a".into()),
        ..sink("b")
    };
    bench.attach(&[renamed]).await;
    assert_eq!(bench.sink("b").await.delivered, 3);
    assert_eq!(bench.figure("SELECT sum(delivered) FROM coverage_sinks"), 3);
}

#[tokio::test(start_paused = true)]
async fn an_orphan_holds_its_data_until_its_grace_is_over() {
    let mut bench = Bench::attached(&[sink("a"), sink("gone")]).await;
    bench.commit("u", &records(0..3)).await;
    bench.pass("a", bench.lane(), 1).await;
    bench.reopen();
    let orphans = bench.attach(&[sink("a")]).await;
    assert_eq!(orphans[0].sink, "gone".into());
    tokio::time::advance(Duration::from_mins(7 * 24 * 60 - 1)).await;
    bench.journal().end_grace().await.unwrap();
    bench.reopen();
    let orphans = bench.attach(&[sink("a")]).await;
    assert_eq!(orphans.len(), 1, "a restart does not begin the grace anew");
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 1);
    tokio::time::advance(Duration::from_mins(2)).await;
    // Without a restart.
    bench.journal().end_grace().await.unwrap();
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
    assert_eq!(bench.journal().shared.look(|state| state.sinks.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn an_orphan_past_its_grace_is_forgotten_at_the_start() {
    let mut bench = Bench::attached(&[sink("a"), sink("gone")]).await;
    bench.commit("u", &records(0..3)).await;
    bench.pass("a", bench.lane(), 1).await;
    bench.attach(&[sink("a")]).await;
    tokio::time::advance(8 * DAY).await;
    bench.reopen();
    assert_eq!(bench.attach(&[sink("a")]).await, []);
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
    assert_eq!(bench.journal().shared.look(|state| state.sinks.len()), 1);
}

#[tokio::test]
async fn an_orphan_that_comes_back_misses_nothing() {
    let bench = Bench::attached(&[sink("a"), sink("back")]).await;
    bench.commit("u", &records(0..3)).await;
    bench.pass("a", bench.lane(), 1).await;
    bench.attach(&[sink("a")]).await;
    bench.commit("v", &records(3..6)).await;
    bench.pass("a", bench.lane(), 2).await;
    assert_eq!(bench.attach(&[sink("a"), sink("back")]).await, []);
    assert_eq!(bench.rest(bench.lane(), 0).await, records(0..6));
    assert_eq!(bench.sink("back").await.pending, 6);
}

#[tokio::test]
async fn forgetting_a_sink_frees_what_it_alone_held() {
    let bench = Bench::attached(&[sink("a"), sink("b")]).await;
    bench.commit("u", &records(0..3)).await;
    bench.pass("a", bench.lane(), 1).await;
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 1);
    assert!(bench.journal().forget_sink("b").await.unwrap());
    assert!(!bench.journal().forget_sink("b").await.unwrap());
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
    assert_eq!(bench.journal().shared.look(|state| state.recent.len()), 0);
}

#[tokio::test]
async fn a_sink_holds_nothing_of_a_tenant_that_it_no_longer_takes() {
    let bench = Bench::attached(&[sink("a"), sink("b")]).await;
    bench.commit("u", &records(0..3)).await;
    bench.pass("a", bench.lane(), 1).await;
    let narrowed = SinkSpec {
        tenants: vec![OTHER.into()],
        ..sink("b")
    };
    bench.attach(&[sink("a"), narrowed]).await;
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
    assert!(bench.journal().behind("b").is_empty());
}

#[tokio::test]
async fn a_batch_is_freed_when_the_last_sink_has_passed_it() {
    let bench = Bench::attached(&[sink("a"), sink("b")]).await;
    let lane = bench.lane();
    for unit in 0..3 {
        bench
            .commit(&format!("u{unit}"), &records(unit * 10..unit * 10 + 2))
            .await;
    }
    let kept = || bench.figure("SELECT count(*) FROM batches");
    bench.pass("a", lane, 3).await;
    assert_eq!(kept(), 3);
    bench.pass("b", lane, 2).await;
    assert_eq!(kept(), 1);
    bench.pass("b", lane, 3).await;
    assert_eq!(kept(), 0);
    let bytes = bench
        .journal()
        .shared
        .look(|state| state.lanes[&lane].bytes);
    assert_eq!(bytes, 0);
}

#[tokio::test]
async fn a_large_backlog_is_freed_in_slices_and_completely() {
    let bench = Bench::attached(&[sink("a"), sink("b")]).await;
    let lane = bench.lane();
    for unit in 0..200 {
        bench
            .commit(&format!("u{unit}"), &records(unit..=unit))
            .await;
    }
    bench.pass("a", lane, 200).await;
    bench.journal().forget_sink("b").await.unwrap();
    bench.until(|state| state.lanes[&lane].bytes == 0).await;
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
}

#[tokio::test]
async fn a_far_side_that_is_ahead_is_believed_and_a_foreign_or_impossible_one_refused() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    let lane = bench.lane();
    bench.commit("u", &records(0..3)).await;
    bench.commit("v", &records(3..6)).await;
    let position = |journal: &Arc<str>, lane, last| Position {
        journal: Arc::clone(journal),
        lane,
        first: 1,
        last,
    };
    let id = Arc::clone(bench.journal().id());
    let ahead = |bench: &Bench, lane, last| bench.journal().ahead("a", &position(&id, lane, last));
    assert_eq!(ahead(&bench, lane, 2).unwrap(), Some(0));
    let error = ahead(&bench, lane, 3).unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Config);
    assert_eq!(
        error.to_string(),
        "the destination of sink a is at sequence number 3, beyond this journal's end (2): \
         was an older copy of the journal restored? refusing to skip events"
    );
    assert!(ahead(&bench, 99, 1).is_err());
    let foreign = bench
        .journal()
        .ahead("a", &position(&"other".into(), lane, 1));
    let error = foreign.unwrap_err().to_string();
    assert!(
        error.contains("holds a position of another journal (other, this one is"),
        "{error}"
    );
    // One behind: what followed was filtered, or freed. To go back would count it twice, or find nothing to read.
    bench.pass("a", lane, 2).await;
    assert_eq!(ahead(&bench, lane, 1).unwrap(), None);
    // The end is remembered although everything is freed.
    bench.reopen();
    assert_eq!(ahead(&bench, lane, 2).unwrap(), None);
}

#[tokio::test]
async fn the_last_receipt_is_given_back() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    let lane = bench.lane();
    assert!(bench.journal().receipt("a").await.unwrap().is_none());
    for (unit, receipt) in [("u", Some("1")), ("v", Some("2")), ("w", None)] {
        bench
            .commit(unit, &[format!(r#"{{"unit":"{unit}"}}"#)])
            .await;
        let last = bench.journal().behind("a")[0].2 + 1;
        let mut step = bench.step("a", lane, last).await;
        step.receipt = receipt.map(|text| Receipt::from_stored(text.to_owned()));
        bench.journal().advance(step).await.unwrap();
    }
    bench.reopen();
    let receipt = bench.journal().receipt("a").await.unwrap().unwrap();
    assert_eq!(
        receipt.as_str(),
        "2",
        "a batch without a receipt leaves the last one"
    );
}

/// Takes a step in a transaction of its own, which frees the first slice; what is asked for meanwhile is in that of the
/// second.
async fn free_first_slice(bench: &Bench, step: Advance, ask: impl AsyncFnOnce()) {
    let mut advance = Box::pin(bench.journal().advance(step));
    let mut before = bench.hold();
    assert!(futures::poll!(&mut before.job).is_pending());
    before.begins.await.unwrap();
    assert!(futures::poll!(&mut advance).is_pending());
    let mut with = bench.hold();
    assert!(futures::poll!(&mut with.job).is_pending());
    before.proceed.send(()).unwrap();
    with.begins.await.unwrap();
    ask().await;
    with.proceed.send(()).unwrap();
    advance.await.unwrap();
}

#[tokio::test]
async fn a_sink_that_comes_while_what_was_passed_is_freed_gets_all_that_is_left() {
    let bench = Bench::attached(&[sink("a")]).await;
    let lane = bench.lane();
    for unit in 0..600 {
        bench
            .commit(&format!("u{unit}"), &records(unit..=unit))
            .await;
    }
    let step = bench.step("a", lane, 600).await;
    let both = [sink("a"), sink("b")];
    let mut attach = Box::pin(bench.attach(&both));
    free_first_slice(&bench, step, async || {
        assert!(futures::poll!(&mut attach).is_pending());
    })
    .await;
    attach.await;
    let (.., cursor) = bench.journal().behind("b")[0];
    assert!((1..600).contains(&cursor), "{cursor}");
    bench.commit("new", &records(600..601)).await;
    assert_eq!(bench.rest(lane, cursor).await, records(cursor..601));
}

#[tokio::test]
async fn what_could_not_be_freed_is_freed_later() {
    let bench = Bench::attached(&[sink("a")]).await;
    let lane = bench.lane();
    for unit in 0..600 {
        bench
            .commit(&format!("u{unit}"), &records(unit..=unit))
            .await;
    }
    let step = bench.step("a", lane, 600).await;
    let writer = &bench.journal().writer;
    let roll_back = |tx: &mut writer::Tx<'_>| {
        sql(tx.conn.execute_batch("ROLLBACK"))?;
        Err::<(), _>(Error::unavailable("the disk is full"))
    };
    let mut lost = Box::pin(writer.run(roll_back));
    free_first_slice(&bench, step, async || {
        assert!(futures::poll!(&mut lost).is_pending());
    })
    .await;
    assert!(lost.await.is_err());
    for _ in 0..3 {
        writer.run(|_| Ok(())).await.unwrap();
    }
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
}

#[tokio::test]
async fn a_sink_that_is_attached_is_not_forgotten() {
    let bench = Bench::attached(&[sink("a"), sink("b")]).await;
    assert_eq!(bench.journal().forget_orphan("b").await.unwrap(), None);
    bench.attach(&[sink("a")]).await;
    assert_eq!(
        bench.journal().forget_orphan("b").await.unwrap(),
        Some(true)
    );
    assert_eq!(
        bench.journal().forget_orphan("b").await.unwrap(),
        Some(false)
    );
}
