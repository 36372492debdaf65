use std::collections::HashSet;

use super::*;
use crate::plugin::{Gap, Listing, Reach};

async fn due(bench: &Bench, busy: &[&str], wanted: usize) -> (Vec<String>, Option<DateTime<Utc>>) {
    let busy: HashSet<Arc<str>> = busy.iter().map(|id| (*id).into()).collect();
    let stream = bench.stream().await;
    let due = bench.journal().due(&stream, LaneKind::Live, busy, wanted);
    let (found, next) = due.await.unwrap();
    (
        found.iter().map(|due| due.unit.id.to_string()).collect(),
        next,
    )
}

fn at(id: &str, minutes_ago: i32) -> Unit {
    Unit {
        created: start() - Duration::from_mins(1) * minutes_ago as u32,
        ..unit(id)
    }
}

#[tokio::test]
async fn a_unit_is_registered_once_however_often_it_is_listed() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let listed = vec![unit("u"), unit("v"), unit("u")];
    let new = bench
        .journal()
        .register(&stream, listed.clone(), Some("c1".into()));
    assert_eq!(new.await.unwrap().new["Audit.General"], 2);
    bench.commit("u", &records(0..3)).await;
    bench.reopen();
    bench.attach(&[sink("a")]).await;
    let again = bench
        .journal()
        .register(&stream, listed, None)
        .await
        .unwrap();
    assert_eq!(again.new["Audit.General"], 0);
    assert_eq!(
        due(&bench, &[], 10).await.0,
        ["v"],
        "a fetched unit is not fetched again"
    );
    let checkpoint = bench.journal().checkpoint(&stream).await.unwrap();
    assert_eq!(checkpoint.as_deref(), Some("c1"));
    let status = bench.journal().status().await.unwrap();
    let tenant = &status.tenants[0];
    assert_eq!((tenant.listed, tenant.fetched, tenant.pending), (2, 1, 1));
}

#[tokio::test]
async fn the_oldest_unit_is_due_first_and_busy_ones_are_left_out() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let listed = vec![at("b", 2), at("a", 3), at("d", 0), at("c", 1)];
    bench
        .journal()
        .register(&stream, listed, None)
        .await
        .unwrap();
    assert_eq!(
        due(&bench, &[], 10).await,
        (["a", "b", "c", "d"].map(String::from).into(), None)
    );
    assert_eq!(due(&bench, &["a", "c"], 1).await.0, ["b"]);
    let (found, next) = due(&bench, &[], 2).await;
    assert_eq!(
        (found.len(), next),
        (2, Some(start() - Duration::from_mins(1)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_unit_from_a_clock_ahead_of_ours_does_not_wait() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let future = Unit {
        created: start() + DAY,
        ..unit("u")
    };
    bench
        .journal()
        .register(&stream, vec![future], None)
        .await
        .unwrap();
    assert_eq!(due(&bench, &[], 10).await.0, ["u"]);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_is_put_off_comes_back_with_its_history() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let listed = vec![unit("u"), unit("v")];
    bench
        .journal()
        .register(&stream, listed, None)
        .await
        .unwrap();
    let wait = Duration::from_mins(5);
    bench
        .journal()
        .put_off(&stream, &unit("u"), wait, "down".into())
        .await
        .unwrap();
    let (found, next) = due(&bench, &[], 10).await;
    assert_eq!(found, ["v"], "the others do not wait for it");
    let next = next.unwrap();
    tokio::time::advance((next - bench.clock.now()).to_std().unwrap()).await;
    let due = bench
        .journal()
        .due(&stream, LaneKind::Live, HashSet::new(), 10);
    let (found, _) = due.await.unwrap();
    let attempts: Vec<_> = found
        .iter()
        .map(|due| (&*due.unit.id, due.attempts))
        .collect();
    assert_eq!(attempts, [("v", 0), ("u", 1)]);
}

#[tokio::test]
async fn what_expires_first_of_what_waits_is_known_by_content_type() {
    let bench = Bench::attached(&[sink("a")]).await;
    let (stream, journal) = (bench.stream().await, bench.journal());
    let expiring = |id: &str, content_type: &str, days: u32| Unit {
        content_type: content_type.into(),
        expires: start() + DAY * days,
        ..unit(id)
    };
    let general = [
        expiring("last", "Audit.General", 6),
        expiring("first", "Audit.General", 2),
        expiring("second", "Audit.General", 4),
    ];
    let others = [expiring("other", "DLP.All", 1)];
    let listed = [&general[..], &others].concat();
    journal.register(&stream, listed, None).await.unwrap();
    let first = async |content_type: &str| {
        let status = journal.status().await.unwrap();
        let mut tenants = status.tenants.into_iter();
        let found = tenants.find(|told| told.content_type == content_type);
        found.unwrap().next_expiry_ms
    };
    let days = |days: u32| Some((start() + DAY * days).timestamp_millis());
    assert_eq!(first("Audit.General").await, days(2));
    assert_eq!(first("DLP.All").await, days(1));
    // What is fetched or lost waits no longer.
    bench.commit("first", &records(0..1)).await;
    assert_eq!(first("Audit.General").await, days(4));
    let gone = journal.lose(&stream, &general[2], "gone".into());
    gone.await.unwrap();
    assert_eq!(first("Audit.General").await, days(6));
    bench.commit("last", &records(1..2)).await;
    assert_eq!(first("Audit.General").await, None);
    assert_eq!(first("DLP.All").await, days(1), "nothing became of it");
}

#[tokio::test(start_paused = true)]
async fn a_lost_unit_is_counted_once_and_its_name_stays() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    bench
        .journal()
        .register(&stream, vec![unit("u")], None)
        .await
        .unwrap();
    for _ in 0..2 {
        bench
            .journal()
            .lose(&stream, &unit("u"), "expired".into())
            .await
            .unwrap();
    }
    bench.commit("u", &records(0..1)).await;
    let status = bench.journal().status().await.unwrap();
    let tenant = &status.tenants[0];
    assert_eq!((tenant.lost, tenant.fetched, tenant.pending), (1, 0, 0));
    assert!(due(&bench, &[], 10).await.0.is_empty());
    tokio::time::advance(30 * DAY).await;
    bench
        .journal()
        .register(&stream, Vec::new(), None)
        .await
        .unwrap();
    assert_eq!(
        bench.figure("SELECT count(*) FROM units WHERE unit = 'u' AND error = 'expired'"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetched_unit_is_forgotten_only_after_the_source_cannot_list_it_any_more() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    // A page of old records, of a source that keeps it for long.
    let old = Unit {
        created: start() - 300 * DAY,
        expires: start() + 30 * DAY,
        ..unit("page")
    };
    let listed = vec![unit("u"), old.clone()];
    bench
        .journal()
        .register(&stream, listed, None)
        .await
        .unwrap();
    bench.commit("u", &records(0..1)).await;
    bench.commit("page", &records(1..2)).await;
    let known = |name| bench.figure(&format!("SELECT count(*) FROM units WHERE unit = '{name}'"));
    for (days, u, page) in [(8, 1, 1), (2, 0, 1), (23, 0, 0)] {
        tokio::time::advance(days * DAY).await;
        bench
            .journal()
            .register(&stream, Vec::new(), None)
            .await
            .unwrap();
        assert_eq!(
            (known("u"), known("page")),
            (u, page),
            "after {days} more days"
        );
    }
}

#[tokio::test]
async fn what_was_fetched_counts_for_the_content_type_it_was_listed_under() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let listed = Unit {
        content_type: "Audit.Exchange".into(),
        ..unit("u")
    };
    bench
        .journal()
        .register(&stream, vec![listed], None)
        .await
        .unwrap();
    bench.commit("u", &records(0..1)).await;
    let status = bench.journal().status().await.unwrap();
    assert_eq!(status.tenants.len(), 1);
    assert_eq!(
        (status.tenants[0].listed, status.tenants[0].fetched),
        (1, 1)
    );
}

#[tokio::test]
async fn a_time_that_was_never_listed_is_on_record_with_the_checkpoint() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let gap = |days: u64, reason: &str| Gap {
        content_type: "Audit.General".into(),
        from: start() - Duration::from_hours(24 * days),
        to: start() - Duration::from_hours(24 * 7),
        reason: reason.into(),
    };
    for (days, reason, checkpoint) in [(8, "first", "c1"), (9, "second", "c2")] {
        let checkpoint = Some(checkpoint.into());
        let listing = Listing {
            units: vec![unit(reason)],
            gaps: vec![gap(days, reason)],
            ..Listing::default()
        };
        bench
            .journal()
            .register_listing(&stream, listing, checkpoint)
            .await
            .unwrap();
    }
    bench.reopen();
    let checkpoint = bench.journal().checkpoint(&stream).await.unwrap();
    assert_eq!(checkpoint.as_deref(), Some("c2"));
    let gaps = bench.journal().status().await.unwrap().gaps;
    let told: Vec<_> = gaps.iter().map(|gap| gap.reason.as_str()).collect();
    assert_eq!(told, ["second", "first"]);
    assert_eq!(gaps[1].to_ms - gaps[1].from_ms, 86_400_000);
    assert_eq!(
        (gaps[1].tenant.as_str(), gaps[1].content_type.as_str()),
        (TENANT, "Audit.General")
    );
}

#[tokio::test(start_paused = true)]
async fn content_of_a_source_that_is_gone_is_lost_when_it_has_expired() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let reach = || Reach {
        content_type: "Audit.General".into(),
        since: start(),
        passes: Vec::new(),
        kept: 7 * DAY,
    };
    let listed = Unit {
        expires: start() + 7 * DAY,
        ..unit("u")
    };
    let listing = Listing {
        units: vec![listed],
        reach: vec![reach()],
        ..Listing::default()
    };
    let journal = bench.journal();
    journal
        .register_listing(&stream, listing, None)
        .await
        .unwrap();
    let look = async || {
        let left = journal.look_after_units(DAY, 2 * DAY).await.unwrap();
        left.into_iter().map(|left| left.unit).collect::<Vec<_>>()
    };
    tokio::time::advance(10 * DAY).await;
    assert_eq!(look().await, [""; 0], "its source runs");
    journal.collect_only(Vec::new()).await.unwrap();
    assert_eq!(look().await, ["u"]);
    assert_eq!(look().await, [""; 0]);
    let status = journal.status().await.unwrap();
    assert_eq!((status.tenants[0].lost, status.tenants[0].pending), (1, 0));
}

#[tokio::test]
async fn a_unit_that_a_clock_ahead_put_off_is_due_when_the_clock_is_right() {
    let hour = Duration::from_hours(1);
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let journal = bench.journal();
    let listed = vec![unit("near"), unit("far")];
    journal.register(&stream, listed, None).await.unwrap();
    for (id, wait) in [("near", hour), ("far", 100 * hour)] {
        let unit = unit(id);
        let failed = journal.put_off(&stream, &unit, wait, "HTTP 503".into());
        failed.await.unwrap();
    }
    assert_eq!(due(&bench, &[], 10).await.0, [""; 0]);
    journal.look_after_units(6 * hour, hour).await.unwrap();
    assert_eq!(due(&bench, &[], 10).await.0, ["far"]);
}
