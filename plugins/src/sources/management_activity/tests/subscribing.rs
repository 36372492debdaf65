//! Subscriptions: who starts them, and what is missed without.

use super::listing::{ONE, listings};
use super::*;

fn starts(peer: &Peer) -> usize {
    let calls = peer.calls();
    calls
        .iter()
        .filter(|call| call.contains("/subscriptions/start"))
        .count()
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
    let mut gaps = bench.filled.journal.status().await.unwrap().gaps;
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
async fn a_survey_lists_from_its_day_on_and_starts_no_subscription() {
    let peer = tenant(|_| None).await;
    let bench = Bench::new(&peer, ONE).await;
    let (now, day) = (Utc::now(), TimeDelta::days(1));
    let spans = |days| vec![(now - day * days, now - day * (days - 1))];
    let refused = bench.source.survey(&bench.filled.intake, &spans(8)).await;
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("lists seven days"), "{error}");
    let survey = bench.source.survey(&bench.filled.intake, &spans(3)).await;
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
    let survey = bench.source.survey(&bench.filled.intake, &spans(3)).await;
    survey.unwrap();
    let error = bench.list().await.unwrap_err();
    assert!(
        error.to_string().contains("no enabled subscription"),
        "{error}"
    );
    assert_eq!(starts(&peer), 0);
}
