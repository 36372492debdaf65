use std::sync::atomic::Ordering;

use super::*;
use crate::http::body::read_capped;
use crate::microsoft::testing::{self, Peer, Reply, Seen};

fn api(peer: &Peer) -> Api {
    let tenant = testing::tenant(&peer.url, "");
    let access = Arc::new(Access::of(&tenant).unwrap());
    let context = testing::context(tenant, "", Clock::system());
    let there = (&access.management_api, &*access.audience);
    Api::of(&context, &access, there, 2000)
}

fn url(peer: &Peer, path: &str) -> Url {
    Url::parse(&format!("{}{path}", peer.url)).unwrap()
}

async fn with_tokens(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Peer {
    Peer::start(move |seen, nth| {
        if seen.is_token_request() {
            Reply::token(&format!("token{nth}"), "3600")
        } else {
            answer(seen)
        }
    })
    .await
}

#[tokio::test]
async fn tokens_go_to_the_one_origin_alone() {
    let peer = with_tokens(|_| Reply::ok("[]")).await;
    let api = api(&peer);
    let port = url(&peer, "/").port().unwrap();
    for foreign in [
        "https://manage.office.com/x".to_owned(),
        format!("https://127.0.0.1:{port}/x"),
        format!("http://localhost:{port}/x"),
        format!("http://127.0.0.1:{}/x", port.wrapping_add(1)),
        format!("http://user@127.0.0.1:{port}/x"),
        format!("http://127.0.0.1:{port}@evil.example/x"),
        format!("http://127.0.0.1.evil.example:{port}/x"),
        "data:x".to_owned(),
    ] {
        let error = api
            .send("list", Call::Get, Url::parse(&foreign).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{foreign}");
        assert!(error.to_string().contains("tokens go to"), "{error}");
    }
    assert!(peer.seen().is_empty());
    assert!(api.send("list", Call::Get, url(&peer, "/x")).await.is_ok());
}

#[tokio::test]
async fn a_redirect_is_followed_within_the_host_only() {
    let thief = Peer::start(|_, _| Reply::ok("[]")).await;
    let there = format!("{}/stolen", thief.url);
    let peer = with_tokens(move |seen| match seen.target.as_str() {
        "/here" => Reply::new(302, "").with("location", "/there"),
        "/away" => Reply::new(307, "").with("location", there.as_str()),
        "/round" => Reply::new(301, "").with("location", "/round"),
        "/nowhere" => Reply::new(302, ""),
        _ => Reply::ok("found"),
    })
    .await;
    let api = api(&peer);
    let found = api
        .send("list", Call::Get, url(&peer, "/here"))
        .await
        .unwrap();
    assert_eq!(read_capped(found, 10).await.unwrap(), "found");
    for path in ["/away", "/round", "/nowhere"] {
        let error = api
            .send("list", Call::Get, url(&peer, path))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(error.to_string().contains("redirect"), "{error}");
    }
    let error = api
        .send("start", Call::Post, url(&peer, "/here"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not followed"), "{error}");
    assert!(thief.seen().is_empty());
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_call_made_again() {
    let peer = with_tokens(|seen| match seen.bearer() {
        Some("Bearer token0") => Reply::new(401, ""),
        _ => Reply::ok("[]"),
    })
    .await;
    let api = api(&peer);
    api.send("list", Call::Get, url(&peer, "/x")).await.unwrap();
    api.send("list", Call::Get, url(&peer, "/x")).await.unwrap();
    assert_eq!((peer.token_requests(), peer.calls().len()), (2, 3));
}

#[tokio::test]
async fn a_service_that_refuses_every_token_gets_two() {
    for (status, code) in [(401, "other"), (403, "AF10001")] {
        let peer = with_tokens(move |_| Reply::error(status, code)).await;
        let api = api(&peer);
        for _ in 0..3 {
            let error = api
                .send("list", Call::Get, url(&peer, "/x"))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), Kind::Auth);
        }
        assert_eq!((peer.token_requests(), peer.calls().len()), (2, 6));
    }
}

#[tokio::test]
async fn a_whim_of_the_service_does_not_cost_a_token_each() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let peer = with_tokens(move |_| match calls.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Reply::new(401, ""),
        _ => Reply::ok("[]"),
    })
    .await;
    let api = api(&peer);
    for _ in 0..3 {
        api.send("list", Call::Get, url(&peer, "/x")).await.unwrap();
    }
    assert_eq!(peer.token_requests(), 2);
}

#[tokio::test]
async fn throttling_is_told_from_refusal_and_its_wait_is_kept() {
    let peer = with_tokens(|_| {
        Reply::new(
            403,
            "{'error':{'code':'AF429','message':'Too many requests. Method=GetBlob'}}",
        )
        .with("retry-after", "7")
    })
    .await;
    let error = api(&peer)
        .send("fetch", Call::Get, url(&peer, "/x"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Throttled);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(peer.token_requests(), 1);
}

#[tokio::test]
async fn a_post_has_a_length_and_a_fetch_asks_for_gzip() {
    let peer = with_tokens(|_| Reply::ok("")).await;
    let api = api(&peer);
    api.send("start", Call::Post, url(&peer, "/x"))
        .await
        .unwrap();
    api.send("fetch", Call::GetCompressed, url(&peer, "/x"))
        .await
        .unwrap();
    api.send("list", Call::Get, url(&peer, "/x")).await.unwrap();
    let calls: Vec<_> = peer
        .seen()
        .into_iter()
        .filter(|seen| !seen.is_token_request())
        .collect();
    assert_eq!(
        (calls[0].method.as_str(), calls[1].method.as_str()),
        ("POST", "GET")
    );
    assert_eq!(calls[0].headers["content-length"], "0");
    assert_eq!(calls[1].headers["accept-encoding"], "gzip");
    assert!(!calls[2].headers.contains_key("accept-encoding"));
}

#[tokio::test]
async fn bodies_and_refusals_are_read_up_to_their_caps() {
    let peer = with_tokens(|seen| match seen.target.as_str() {
        "/large" => Reply::ok(vec![b' '; 1001]),
        _ => Reply::new(500, vec![b' '; 10 << 20]),
    })
    .await;
    let api = api(&peer);
    let answer = api
        .send("list", Call::Get, url(&peer, "/large"))
        .await
        .unwrap();
    let error = read_capped(answer, 1000).await.unwrap_err();
    assert_eq!(error.to_string(), "the answer is larger than 1000 bytes");
    let error = api
        .send("list", Call::Get, url(&peer, "/bad"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
}

#[tokio::test]
async fn the_time_is_the_services() {
    let ahead = Utc::now() + TimeDelta::hours(2);
    let date = ahead.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let peer = with_tokens(move |_| Reply::ok("[]").with("date", date.as_str())).await;
    let api = api(&peer);
    assert_eq!(api.skew(), TimeDelta::zero());
    for _ in 0..2 {
        api.send("list", Call::Get, url(&peer, "/x")).await.unwrap();
    }
    assert!(
        (api.now() - ahead).abs() < TimeDelta::seconds(3),
        "{}",
        api.now()
    );
}

#[tokio::test]
async fn one_wrong_date_header_does_not_move_the_time() {
    let peer = with_tokens(|seen| {
        let hours = seen.target.trim_start_matches("/ok/");
        let hours = hours.trim_start_matches("/bad/").parse().unwrap();
        let date = Utc::now() + TimeDelta::hours(hours);
        let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let status = if seen.target.starts_with("/ok") {
            200
        } else {
            502
        };
        Reply::new(status, "<html>").with("date", date)
    })
    .await;
    let api = api(&peer);
    for (path, hours, doubted) in [
        // A gateway's page tells no time, however often.
        ("/bad/48", 0, false),
        ("/bad/48", 0, false),
        // One answer is doubted, and forgotten if the next does not agree.
        ("/ok/48", 0, true),
        ("/ok/0", 0, false),
        ("/ok/48", 0, true),
        ("/ok/-48", 0, true),
        ("/ok/0", 0, false),
        // Two in a row are believed, even if refusals come between.
        ("/ok/2", 0, true),
        ("/bad/0", 0, true),
        ("/ok/2", 2, false),
        ("/ok/0", 2, true),
        ("/ok/0", 0, false),
    ] {
        let answer = api.send("list", Call::Get, url(&peer, path)).await;
        assert_eq!(answer.is_ok(), path.starts_with("/ok"));
        let off = api.skew() - TimeDelta::hours(hours);
        assert!(off.abs() < TimeDelta::seconds(3), "{path}: {}", api.skew());
        assert_eq!(api.doubts_the_time(), doubted, "{path}");
    }
}

#[tokio::test]
async fn an_unreachable_host_is_named_without_the_path() {
    let gone = Peer::start(|_, _| Reply::ok("")).await;
    let peer = with_tokens(|_| Reply::ok("")).await;
    let mut api = api(&peer);
    api.origin = Url::parse(&gone.url).unwrap();
    let target = url(&gone, "/secret-path");
    drop(gone);
    tokio::task::yield_now().await;
    let error = api.send("list", Call::Get, target).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().starts_with(api.host()), "{error}");
    assert!(!error.to_string().contains("secret-path"), "{error}");
}
