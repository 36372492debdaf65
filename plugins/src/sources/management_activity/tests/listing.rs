use super::*;

const ONE: &str = "content_types = [\"Audit.General\"]\n";

fn listings(peer: &Peer) -> Vec<String> {
    let calls = peer.calls().into_iter();
    calls
        .filter(|call| call.contains("/subscriptions/content"))
        .collect()
}

fn starts(peer: &Peer) -> usize {
    let calls = peer.calls();
    calls
        .iter()
        .filter(|call| call.contains("/subscriptions/start"))
        .count()
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
async fn a_subscription_is_started_and_not_again_for_fifteen_minutes() {
    let minutes = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&minutes);
    let peer = tenant(move |seen| {
        let now = Utc::now() + TimeDelta::minutes(clock.load(Ordering::SeqCst));
        let date = now.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let reply = if seen.is_token_request() {
            return None;
        } else if seen.target.contains("/subscriptions/list") {
            Reply::ok("[]")
        } else if seen.target.contains("/subscriptions/start") {
            Reply::ok(r#"{"contentType":"Audit.General","status":"enabled","webhook":null}"#)
        } else {
            Reply::error(400, "AF20022")
        };
        Some(reply.with("date", date))
    })
    .await;
    let mut bench = Bench::new(&peer, ONE).await;
    for (minute, expected) in [(0, 1), (1, 1), (14, 1), (16, 2), (30, 2), (32, 3)] {
        minutes.store(minute, Ordering::SeqCst);
        bench.restart();
        let error = bench.list().await.unwrap_err();
        assert_eq!(error.code(), Some("AF20022"));
        assert_eq!(starts(&peer), expected, "after {minute} minutes");
    }
}

#[tokio::test]
async fn the_time_without_a_subscription_is_on_record_once() {
    let minutes = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&minutes);
    let peer = tenant(move |seen| {
        let minute = clock.load(Ordering::SeqCst);
        let date = (Utc::now() + TimeDelta::minutes(minute))
            .format("%a, %d %b %Y %H:%M:%S GMT")
            .to_string();
        // Somebody disables it after the first listing; the first start shows no effect.
        let is_off = (60..120).contains(&minute);
        let status = if is_off { "disabled" } else { "enabled" };
        let reply = if seen.is_token_request() {
            return None;
        } else if seen.target.contains("/subscriptions/list") {
            Reply::ok(format!(
                r#"[{{"contentType":"Audit.General","status":"{status}"}}]"#
            ))
        } else if seen.target.contains("/subscriptions/start") {
            Reply::ok("{}")
        } else if is_off {
            Reply::error(400, "AF20023")
        } else {
            Reply::ok("[]")
        };
        Some(reply.with("date", date))
    })
    .await;
    let mut bench = Bench::new(&peer, &format!("{ONE}start = \"10m\"")).await;
    for minute in [0, 60, 90, 120] {
        minutes.store(minute, Ordering::SeqCst);
        bench.restart();
        let listed = bench.list().await;
        assert_eq!(
            listed.is_ok(),
            matches!(minute, 0 | 120),
            "{minute}: {listed:?}"
        );
    }
    assert_eq!(starts(&peer), 2);
    let mut gaps = bench.journal.status().await.unwrap().gaps;
    gaps.sort_by_key(|gap| gap.from_ms);
    let ends: Vec<_> = gaps.iter().map(|gap| (gap.from_ms, gap.to_ms)).collect();
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert_eq!(ends[0].1, ends[1].0, "they do not overlap");
    assert!((89 * 60..=91 * 60).contains(&((ends[1].1 - ends[0].0) / 1000)));
    assert!(
        gaps[0].reason.contains("no subscription"),
        "{}",
        gaps[0].reason
    );
}

#[tokio::test]
async fn a_subscription_that_is_enabled_already_is_a_success() {
    let peer = tenant(|seen| match &seen.target {
        target if target.contains("/subscriptions/list") => Some(Reply::ok("[]")),
        target if target.contains("/start") => Some(Reply::error(400, "AF20024")),
        _ => None,
    })
    .await;
    let bench = Bench::new(&peer, ONE).await;
    bench.list().await.unwrap();
    bench.list().await.unwrap();
    assert_eq!(starts(&peer), 1);
    assert!(peer.calls()[1].ends_with(&format!(
        "?contentType=Audit.General&PublisherIdentifier={TENANT}"
    )));
}

#[tokio::test]
async fn a_start_that_fails_is_asked_for_again_if_it_did_not_start() {
    let failures = AtomicUsize::new(1);
    let peer = tenant(move |seen| match &seen.target {
        target if target.contains("/subscriptions/list") => Some(Reply::ok("[]")),
        target if target.contains("/start") && failures.swap(0, Ordering::SeqCst) == 1 => {
            Some(Reply::new(502, ""))
        }
        _ => None,
    })
    .await;
    let bench = Bench::new(&peer, ONE).await;
    let error = bench.list().await.unwrap_err();
    assert!(
        error.to_string().contains("start of the subscription"),
        "{error}"
    );
    bench.list().await.unwrap();
    assert_eq!(starts(&peer), 2);
}

#[tokio::test]
async fn a_subscription_that_ends_is_started_again_and_holds_up_no_other() {
    let ended = Arc::new(AtomicUsize::new(0));
    let flag = Arc::clone(&ended);
    let peer = tenant(move |seen| {
        let is_exchange =
            parameter(&seen.target, "contentType").as_deref() == Some("Audit.Exchange");
        if !is_exchange || flag.load(Ordering::SeqCst) == 0 {
            return None;
        }
        if seen.target.contains("/start") {
            flag.store(0, Ordering::SeqCst);
            return Some(Reply::ok("{}"));
        }
        Some(Reply::error(400, "AF20023"))
    })
    .await;
    let bench = Bench::new(&peer, "start = \"10m\"").await;
    bench.list().await.unwrap();
    ended.store(1, Ordering::SeqCst);
    bench.list().await.unwrap();
    assert_eq!((starts(&peer), listings(&peer).len()), (1, 11));
    bench.list().await.unwrap();
    assert_eq!((starts(&peer), listings(&peer).len()), (1, 16));
}

#[tokio::test]
async fn a_content_type_whose_subscription_stays_disabled_does_not_look_healthy() {
    let disabled = Arc::new(AtomicUsize::new(1));
    let flag = Arc::clone(&disabled);
    let peer = tenant(move |seen| {
        let is_dlp = parameter(&seen.target, "contentType").as_deref() == Some("DLP.All");
        let is_disabled = flag.load(Ordering::SeqCst) == 1;
        (is_dlp && is_disabled && !seen.target.contains("/start"))
            .then(|| Reply::error(400, "AF20023"))
    })
    .await;
    let mut bench = Bench::new(&peer, "start = \"10m\"").await;
    // When it is asked to start, when it is too early to ask again, and while it rests.
    for _ in 0..3 {
        let error = bench.list().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (Kind::Unavailable, Some("AF20023"))
        );
        assert!(error.to_string().starts_with("DLP.All: "), "{error}");
        // The others are listed as often as ever.
        let next = error.retry_after().unwrap();
        assert!(next > Duration::from_secs(50) && next <= Duration::from_mins(1));
    }
    assert_eq!((starts(&peer), listings(&peer).len()), (1, 3 * 4 + 2));
    bench.restart();
    assert_eq!(bench.list().await.unwrap_err().code(), Some("AF20023"));
    assert_eq!(starts(&peer), 1);
    disabled.store(0, Ordering::SeqCst);
    bench.restart();
    bench.list().await.unwrap();
}

#[tokio::test]
async fn without_start_subscriptions_nothing_is_started_and_the_reason_told() {
    let peer = tenant(|seen| {
        seen.target
            .contains("/subscriptions/list")
            .then(|| Reply::ok("[]"))
    })
    .await;
    let bench = Bench::new(&peer, &format!("{ONE}start_subscriptions = false")).await;
    let error = bench.list().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Auth, Some("AF20022")));
    assert_eq!(starts(&peer), 0);
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
async fn a_throttled_content_type_does_not_cancel_the_start_of_another() {
    let peer = tenant(|seen| {
        if seen.target.contains("/subscriptions/list") {
            return Some(Reply::ok(
                r#"[{"contentType":"Audit.General","status":"enabled"}]"#,
            ));
        }
        let is_general = parameter(&seen.target, "contentType").as_deref() == Some("Audit.General");
        is_general.then(|| Reply::error(403, "AF429"))
    })
    .await;
    // So slow that the start is noted, and waits for its turn, while the other content type is refused.
    let tenant = testing::tenant(&peer.url, "requests_per_minute = 39");
    let options = "content_types = [\"Audit.General\", \"DLP.All\"]\nstart = \"10m\"";
    let bench = Bench::of(tenant, options).await;
    let error = bench.list().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Throttled);
    let calls = peer.calls();
    let place = |wanted: &str| calls.iter().position(|call| call.contains(wanted));
    let (refused, start) = (place("Audit.General").unwrap(), place("/start").unwrap());
    assert!(refused < start, "{calls:?}");
    // Nothing else is asked of a tenant that is throttled.
    assert_eq!(calls.len(), 3, "{calls:?}");
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
    let gaps = bench.journal.status().await.unwrap().gaps;
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
    assert!(bench.journal.status().await.unwrap().gaps.is_empty());
    minutes.store(8 * 24 * 60, Ordering::SeqCst);
    for _ in 0..2 {
        bench.restart();
        bench.list().await.unwrap();
    }
    let mut gaps = bench.journal.status().await.unwrap().gaps;
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
    assert!(gaps[0].reason.contains("Purview"));
    let counted =
        bench
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
    let unit = bench.due().await.remove(0);
    assert!(unit.locator.starts_with(&thief.url));
    bench.fetch(&unit).await.unwrap();
    let own = format!("/api/v1.0/{TENANT}/activity/feed/audit/a$b?PublisherIdentifier={TENANT}");
    assert_eq!(peer.calls().last(), Some(&own));
    assert!(thief.seen().is_empty());
    assert!(bench.pending().await.is_empty());
}

#[tokio::test]
async fn a_survey_lists_from_its_day_on_and_starts_no_subscription() {
    let peer = tenant(|_| None).await;
    let bench = Bench::new(&peer, ONE).await;
    let (now, day) = (Utc::now(), TimeDelta::days(1));
    let spans = |days| vec![(now - day * days, now - day * (days - 1))];
    let refused = bench.source.survey(&bench.intake, &spans(8)).await;
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("lists seven days"), "{error}");
    let survey = bench.source.survey(&bench.intake, &spans(3)).await;
    survey.unwrap();
    while matches!(bench.list().await.unwrap(), Next::Now) {}
    let ago = listings(&peer).iter().map(|call| begins_ago(call)).max();
    assert_eq!(ago, Some(3 * 24 * 60 + 30), "and the overlap");

    let peer = tenant(|seen| {
        let is_listed = seen.target.contains("/subscriptions/list");
        is_listed.then(|| Reply::ok("[]"))
    })
    .await;
    let bench = Bench::new(&peer, ONE).await;
    let survey = bench.source.survey(&bench.intake, &spans(3)).await;
    survey.unwrap();
    let error = bench.list().await.unwrap_err();
    assert!(
        error.to_string().contains("no enabled subscription"),
        "{error}"
    );
    assert_eq!(starts(&peer), 0);
}
