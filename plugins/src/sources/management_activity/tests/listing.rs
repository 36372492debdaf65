use super::*;

pub(super) const ONE: &str = "content_types = [\"Audit.General\"]\n";

pub(super) fn listings(peer: &Peer) -> Vec<String> {
    let calls = peer.calls().into_iter();
    calls
        .filter(|call| call.contains("/subscriptions/content"))
        .collect()
}

#[tokio::test]
async fn a_first_listing_takes_the_newest_hour_first_and_the_week_behind_it() {
    let peer = tenant(|_| None).await;
    let bench = Bench::new(&peer, ONE).await;
    assert!(matches!(bench.list().await.unwrap(), Next::After(_)));
    let ago: Vec<_> = listings(&peer)
        .iter()
        .map(|call| begins_ago(call))
        .collect();
    assert_eq!(ago[0], 60);
    assert_eq!(ago[1], 7 * 24 * 60 - 10);
    assert!(ago[1..].windows(2).all(|pair| pair[0] > pair[1]), "{ago:?}");
    assert_eq!(ago.len(), 1 + 28);
    assert!(
        peer.calls()
            .iter()
            .all(|call| parameter(call, "PublisherIdentifier").is_some())
    );
}

#[tokio::test]
async fn the_checkpoint_moves_with_the_last_page_alone() {
    let broken = AtomicUsize::new(1);
    let peer = tenant(move |seen| {
        if !seen.target.contains("/subscriptions/content") && !seen.target.contains("/next") {
            return None;
        }
        let page = |id| Reply::ok(format!("[{}]", blob(host(seen), id)));
        let next = |n| format!("http://{}/api/v1/{TENANT}/next?nextPage={n}", host(seen));
        Some(match parameter(&seen.target, "nextPage").as_deref() {
            None => page("a").with("NextPageUri", next(2)),
            // A page may be empty and still not be the last.
            Some("2") => Reply::ok("[]").with("NextPageUri", next(3)),
            Some(_) if broken.swap(0, Ordering::SeqCst) == 1 => Reply::new(502, "<html>"),
            Some(_) => page("b"),
        })
    })
    .await;
    let mut bench = Bench::new(&peer, &format!("{ONE}start = \"50m\"")).await;
    assert_eq!(bench.list().await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(bench.pending().await, ["a"]);
    bench.restart();
    bench.list().await.unwrap();
    assert_eq!(bench.pending().await, ["a", "b"]);
    bench.restart();
    bench.list().await.unwrap();
    let ago: Vec<_> = listings(&peer)
        .iter()
        .map(|call| begins_ago(call))
        .collect();
    assert_eq!(ago, [50, 50, 30]);
}

#[tokio::test]
async fn faults_here_and_there_do_not_slow_down_a_backlog() {
    let asked = AtomicUsize::new(0);
    let peer = tenant(move |seen| {
        let is_listing = seen.target.contains("/subscriptions/content");
        let fails = is_listing && asked.fetch_add(1, Ordering::SeqCst) % 5 == 4;
        fails.then(|| Reply::new(502, "<html>"))
    })
    .await;
    let bench = Bench::new(&peer, ONE).await;
    // Each call lists the newest hour and three windows before its fifth request fails; none is a failure.
    let mut calls = 1;
    while matches!(bench.list().await.unwrap(), Next::Now) {
        calls += 1;
    }
    assert_eq!(calls, 10);
}

#[tokio::test]
async fn a_backlog_that_does_not_move_is_a_failure() {
    let asked = AtomicUsize::new(0);
    let peer = tenant(move |seen| {
        let is_listing = seen.target.contains("/subscriptions/content");
        let fails = is_listing && asked.fetch_add(1, Ordering::SeqCst) > 0;
        fails.then(|| Reply::new(502, "<html>"))
    })
    .await;
    let bench = Bench::new(&peer, ONE).await;
    assert_eq!(bench.list().await.unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn a_content_type_that_fails_holds_up_no_other() {
    let peer = tenant(|seen| {
        let content_type = parameter(&seen.target, "contentType")?;
        (content_type == "DLP.All").then(|| Reply::error(400, "AF20020"))
    })
    .await;
    let bench = Bench::new(&peer, "start = \"10m\"").await;
    let error = bench.list().await.unwrap_err();
    // Alone it would be `Config`, which would stop the others.
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Unavailable, Some("AF20020"))
    );
    assert!(error.to_string().starts_with("DLP.All: AF20020"), "{error}");
    // It rests now, and is not collected all the same.
    let error = bench.list().await.unwrap_err();
    assert_eq!(error.code(), Some("AF20020"));
    let of_dlp = |call: &&String| call.contains("DLP.All");
    assert_eq!(listings(&peer).iter().filter(of_dlp).count(), 1);
    assert_eq!(listings(&peer).len(), 9);
}

#[tokio::test]
async fn what_was_listed_before_the_tenant_was_throttled_is_not_listed_again_at_once() {
    // So many pages that the other is through long before this one is refused; the second time it has but one.
    let pages = AtomicUsize::new(100);
    let peer = tenant(move |seen| {
        let is_dlp = parameter(&seen.target, "contentType").as_deref() == Some("DLP.All");
        let is_page = seen.target.contains("nextPage");
        let is_listing = is_dlp && seen.target.contains("/subscriptions/content");
        if !(is_page || is_listing) {
            return None;
        }
        let left = pages.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        let next = |n| format!("http://{}/api/v1/{TENANT}/next?nextPage={n}", host(seen));
        Some(match left {
            Ok(1) => Reply::error(403, "AF429"),
            Ok(n) => Reply::ok("[]").with("NextPageUri", next(n)),
            Err(_) => Reply::ok("[]"),
        })
    })
    .await;
    let options = "content_types = [\"Audit.General\", \"DLP.All\"]\nstart = \"10m\"";
    let bench = Bench::new(&peer, options).await;
    let error = bench.list().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Throttled);
    assert!(matches!(bench.list().await.unwrap(), Next::After(_)));
    let of_general = |call: &&String| call.contains("Audit.General");
    let calls = listings(&peer);
    assert_eq!(calls.iter().filter(of_general).count(), 1, "{calls:?}");
    assert_eq!(calls.len(), 3, "{calls:?}");
}

#[tokio::test]
async fn trouble_of_the_whole_tenant_keeps_its_kind() {
    for (status, body, kind, code) in [
        (
            403,
            r#"{"error":{"code":"AF10001","message":"no"}}"#,
            Kind::Auth,
            "AF10001",
        ),
        (
            400,
            r#"{"error":{"code":"","message":"DataServiceException: Tenant x does not exist."}}"#,
            Kind::Auth,
            errors::AUDITING_OFF,
        ),
        (403, "{'error':{'code':'AF429'}}", Kind::Throttled, "AF429"),
    ] {
        let peer = tenant(move |seen| {
            seen.target
                .contains("/subscriptions/content")
                .then(|| Reply::new(status, body))
        })
        .await;
        let bench = Bench::new(&peer, "").await;
        let error = bench.list().await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, Some(code)));
        assert!(bench.pending().await.is_empty());
    }
}

#[tokio::test]
async fn a_stale_page_begins_the_window_anew() {
    let stale = AtomicUsize::new(2);
    let peer = tenant(move |seen| {
        if seen.target.contains("nextPage") {
            let left = stale.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            return Some(match left {
                Ok(_) => Reply::error(400, "AF20031"),
                Err(_) => Reply::ok(format!("[{}]", blob(host(seen), "b"))),
            });
        }
        let next = format!("http://{}/api/v1/{TENANT}/next?nextPage=x", host(seen));
        let page = || Reply::ok(format!("[{}]", blob(host(seen), "a"))).with("NextPageUri", next);
        seen.target.contains("/subscriptions/content").then(page)
    })
    .await;
    let bench = Bench::new(&peer, &format!("{ONE}start = \"10m\"")).await;
    bench.list().await.unwrap();
    assert_eq!(listings(&peer).len(), 3);
    assert_eq!(bench.pending().await, ["a", "b"]);
}

#[tokio::test]
async fn a_window_that_is_refused_begins_later() {
    let peer = tenant(|seen| {
        let is_listing = seen.target.contains("/subscriptions/content");
        (is_listing && begins_ago(&seen.target) > 7 * 24 * 60 - 40)
            .then(|| Reply::error(400, "AF20055"))
    })
    .await;
    let bench = Bench::new(&peer, ONE).await;
    bench.list().await.unwrap();
    let ago: Vec<_> = listings(&peer)
        .iter()
        .map(|call| begins_ago(call))
        .collect();
    let week = 7 * 24 * 60;
    assert_eq!(ago[1..4], [week - 10, week - 35, week - 65]);
    // What it skipped is on record.
    let gaps = bench.filled.journal.status().await.unwrap().gaps;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].to_ms - gaps[0].from_ms) / 60_000, 55);
}

#[tokio::test]
async fn a_downtime_of_more_than_a_week_is_on_record_and_counted() {
    let minutes = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&minutes);
    let peer = tenant(move |seen| {
        let now = Utc::now() + TimeDelta::minutes(clock.load(Ordering::SeqCst));
        let date = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let body = if seen.target.contains("/subscriptions/list") {
            r#"[{"contentType":"Audit.General","status":"enabled"}]"#
        } else {
            "[]"
        };
        (!seen.is_token_request()).then(|| Reply::ok(body).with("date", date))
    })
    .await;
    let mut bench = Bench::new(&peer, &format!("{ONE}start = \"10m\"")).await;
    bench.list().await.unwrap();
    assert!(bench.filled.journal.status().await.unwrap().gaps.is_empty());
    minutes.store(8 * 24 * 60, Ordering::SeqCst);
    for _ in 0..2 {
        bench.restart();
        bench.list().await.unwrap();
    }
    let mut gaps = bench.filled.journal.status().await.unwrap().gaps;
    gaps.sort_by_key(|gap| gap.from_ms);
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    // The ten minutes that had been listed, once.
    let once = gaps.remove(0);
    assert_eq!(once.to_ms - once.from_ms, 600_000);
    assert!(once.reason.contains("showed up late"), "{}", once.reason);
    assert_eq!(
        (&*gaps[0].source, &*gaps[0].content_type),
        ("audit", "Audit.General")
    );
    let length = gaps[0].to_ms - gaps[0].from_ms;
    // `Date` has no fractions of a second.
    assert_eq!((length + 2_000) / 60_000, 24 * 60 + 10);
    assert!(gaps[0].reason.contains("backfill"));
    let counted =
        bench
            .filled
            .metrics
            .listing_gap
            .with_label_values(&["contoso", "audit", "Audit.General"]);
    assert_eq!(counted.get(), length as u64 / 1000 + 600);
}

#[tokio::test]
async fn a_blob_at_another_host_is_fetched_from_the_tenants_own() {
    let thief = Peer::start(|_, _| Reply::ok("[]")).await;
    let page = format!("[{}]", blob(thief.url.trim_start_matches("http://"), "a$b"));
    let peer = tenant(move |seen| {
        let is_listing = seen.target.contains("/subscriptions/content");
        is_listing.then(|| Reply::ok(page.clone()))
    })
    .await;
    let bench = Bench::new(&peer, &format!("{ONE}start = \"10m\"")).await;
    bench.list().await.unwrap();
    let unit = bench.filled.due().await.remove(0);
    assert!(unit.locator.starts_with(&thief.url));
    bench.fetch(&unit).await.unwrap();
    let own = format!("/api/v1.0/{TENANT}/activity/feed/audit/a$b?PublisherIdentifier={TENANT}");
    assert_eq!(peer.calls().last(), Some(&own));
    assert!(thief.seen().is_empty());
    assert!(bench.pending().await.is_empty());
}
