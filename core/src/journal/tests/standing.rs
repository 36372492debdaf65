//! Up to when a sink's tenants are complete.

use chrono::TimeDelta;

use super::*;
use crate::plugin::{Listing, Pass, Reach};

/// Listed up to so many minutes after the start.
fn reach(content_type: &str, minutes: i64) -> Reach {
    Reach {
        content_type: content_type.into(),
        since: start() - 7 * DAY,
        passes: vec![Pass {
            lag: Duration::ZERO,
            to: start() + TimeDelta::minutes(minutes),
        }],
        kept: 7 * DAY,
    }
}

async fn list(bench: &Bench, units: Vec<Unit>, reach: Vec<Reach>) {
    let listing = Listing {
        units,
        reach,
        ..Listing::default()
    };
    let stream = bench.stream().await;
    let listed = bench.journal().register_listing(&stream, listing, None);
    listed.await.unwrap();
}

/// In minutes after the start.
async fn complete(bench: &Bench) -> Option<i64> {
    let standing = bench.journal().standing("a", &["activity".into()]).await;
    let to = standing.unwrap().complete_to(TENANT)?;
    Some((to - start()).num_minutes())
}

#[tokio::test]
async fn a_tenant_is_complete_to_where_all_is_listed_fetched_and_delivered() {
    let bench = Bench::attached(&[sink("a"), sink("b")]).await;
    assert_eq!(complete(&bench).await, None, "nothing is listed");
    let made = Unit {
        created: start() + TimeDelta::minutes(3),
        ..unit("u")
    };
    let both = vec![reach("Audit.General", 10), reach("DLP.All", 8)];
    list(&bench, Vec::new(), both).await;
    assert_eq!(complete(&bench).await, Some(8));
    list(&bench, vec![made], vec![reach("Audit.General", 20)]).await;
    assert_eq!(complete(&bench).await, Some(3), "one is to be fetched");
    bench.commit("u", &records(0..5)).await;
    assert_eq!(complete(&bench).await, None, "it is to be delivered");
    let lane = bench.lane();
    bench.pass("b", lane, 1).await;
    assert_eq!(complete(&bench).await, None, "to this sink");
    bench.pass("a", lane, 1).await;
    assert_eq!(complete(&bench).await, Some(8));
}

#[tokio::test]
async fn rows_change_with_the_cursor_or_not_at_all() {
    let bench = Bench::attached(&[sink("a")]).await;
    bench.commit("u", &records(0..5)).await;
    let lane = bench.lane();
    let mut step = bench.step("a", lane, 1).await;
    step.changes.put("row/2", "two");
    step.changes.put("row/1", "one");
    step.changes.put("other", "x");
    bench.journal().advance(step).await.unwrap();
    let store = bench.journal().store("sink/a");
    let row = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let (one, two) = (row("row/1", "one"), row("row/2", "two"));
    let all = store.scan("row/", None, 9).await.unwrap();
    assert_eq!(all, [one.clone(), two.clone()]);
    assert_eq!(store.scan("row/", None, 1).await.unwrap(), [one]);
    let rest = store.scan("row/", Some("row/1"), 9).await.unwrap();
    assert_eq!(rest, [two]);
    let mut changes = Changes::default();
    changes.remove("row/1");
    changes.put("row/3", "three");
    store.apply(changes).await.unwrap();
    assert_eq!(store.scan("row/", None, 9).await.unwrap().len(), 2);
    assert_eq!(store.scan("row/3", None, 9).await.unwrap().len(), 1);
    assert!(
        store
            .scan("row/", Some("row/3"), 9)
            .await
            .unwrap()
            .is_empty()
    );
}
