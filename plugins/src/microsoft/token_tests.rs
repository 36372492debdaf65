use std::time::Duration;

use audit_exporter_core::metrics::Metrics;

use super::*;
use crate::microsoft::testing::{self, Peer, Reply, SECRET, TENANT};

fn tokens(peer: &Peer, more: &str) -> Tokens {
    let access = Access::of(&testing::tenant(&peer.url, more)).unwrap();
    let audience = access.audience.clone();
    let meter = Metrics::new().unwrap().meter("contoso", "audit");
    Tokens::new(
        testing::http(),
        Arc::new(access),
        audience,
        meter,
        Clock::system(),
    )
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

const WRONG_SECRET: &str = r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Ensure …","error_codes":[7000215]}"#;

#[tokio::test]
async fn version_two_asks_for_a_scope_and_reads_integers() {
    let peer = Peer::start(|_, _| Reply::token("t", "3599")).await;
    let token = tokens(&peer, "").get().await.unwrap();
    assert_eq!(token.bearer(), "Bearer t");
    let seen = &peer.seen()[0];
    assert_eq!(seen.target, format!("/{TENANT}/oauth2/v2.0/token"));
    assert!(
        seen.body
            .contains("scope=https%3A%2F%2Fmanage.office.com%2F.default")
    );
    assert!(seen.body.contains("grant_type=client_credentials"));
    assert!(
        seen.body.contains("client_secret=hunter2-Q%7Esecret"),
        "{}",
        seen.body
    );
}

#[tokio::test]
async fn version_one_asks_for_a_resource_and_reads_text() {
    let peer = Peer::start(|_, _| Reply::token("t", "\"3599\"")).await;
    let tokens = tokens(
        &peer,
        "token_version = \"v1\"\naudience = \"https://manage.office.com/\"",
    );
    tokens.get().await.unwrap();
    pass(Duration::from_secs(3200)).await;
    tokens.get().await.unwrap();
    let seen = peer.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target, format!("/{TENANT}/oauth2/token"));
    assert!(
        seen[0]
            .body
            .contains("resource=https%3A%2F%2Fmanage.office.com&")
            || seen[0]
                .body
                .ends_with("resource=https%3A%2F%2Fmanage.office.com")
    );
}

#[tokio::test]
async fn many_callers_share_one_request() {
    let peer = Peer::start(|_, _| Reply::token("t", "3599")).await;
    let tokens = tokens(&peer, "");
    let all = futures::future::join_all((0..50).map(|_| tokens.get())).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(peer.token_requests(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_five_minutes_early_or_at_four_fifths() {
    for (life, early, late) in [("3600", 3290, 20), ("100", 79, 2)] {
        let peer = Peer::start(move |_, nth| Reply::token(&format!("t{nth}"), life)).await;
        let tokens = tokens(&peer, "");
        tokens.get().await.unwrap();
        pass(Duration::from_secs(early)).await;
        assert_eq!(tokens.get().await.unwrap().bearer(), "Bearer t0");
        pass(Duration::from_secs(late)).await;
        assert_eq!(tokens.get().await.unwrap().bearer(), "Bearer t1");
    }
}

#[tokio::test]
async fn a_token_serves_while_its_renewal_fails() {
    let peer = Peer::start(|_, nth| match nth {
        0 => Reply::token("t0", "3600"),
        _ => Reply::new(503, ""),
    })
    .await;
    let tokens = tokens(&peer, "");
    tokens.get().await.unwrap();
    pass(Duration::from_secs(3400)).await;
    for _ in 0..10 {
        assert_eq!(tokens.get().await.unwrap().bearer(), "Bearer t0");
    }
    assert_eq!(peer.token_requests(), 2);
    pass(Duration::from_mins(5)).await;
    assert_eq!(tokens.get().await.err().unwrap().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_callers() {
    let peer = Peer::start(|_, nth| Reply::token(&format!("t{nth}"), "3600")).await;
    let tokens = tokens(&peer, "");
    let refused = tokens.get().await.unwrap();
    let replaced = futures::future::join_all((0..9).map(|_| tokens.replace(&refused))).await;
    for token in replaced {
        assert_eq!(token.unwrap().unwrap().bearer(), "Bearer t1");
    }
    let replacement = tokens.get().await.unwrap();
    assert!(tokens.replace(&replacement).await.unwrap().is_none());
    assert_eq!(peer.token_requests(), 2);
    pass(Duration::from_secs(301)).await;
    assert!(tokens.replace(&replacement).await.unwrap().is_some());
}

#[tokio::test]
async fn waiting_callers_share_one_refusal_and_it_holds_no_secret() {
    let peer = Peer::start(|_, _| Reply::new(401, WRONG_SECRET)).await;
    let tokens = tokens(&peer, "");
    for outcome in futures::future::join_all((0..20).map(|_| tokens.get())).await {
        let error = outcome.err().unwrap();
        assert_eq!(error.kind(), Kind::Auth);
        assert_eq!(error.code(), Some("AADSTS7000215"));
        assert!(!format!("{error} {error:?}").contains(SECRET));
    }
    assert_eq!(peer.token_requests(), 1);
}

#[tokio::test]
async fn the_wait_that_the_authority_asks_for_is_kept() {
    let peer = Peer::start(|_, nth| match nth {
        0 => Reply::new(429, "").with("retry-after", "120"),
        _ => Reply::token("t", "3600"),
    })
    .await;
    let tokens = tokens(&peer, "");
    let error = tokens.get().await.err().unwrap();
    assert_eq!(error.kind(), Kind::Throttled);
    assert_eq!(error.retry_after(), Some(Duration::from_mins(2)));
    pass(Duration::from_secs(119)).await;
    assert!(tokens.get().await.is_err());
    pass(Duration::from_secs(2)).await;
    assert!(tokens.get().await.is_ok());
    assert_eq!(peer.token_requests(), 2);
}

#[tokio::test]
async fn a_configuration_that_has_worked_is_not_given_up() {
    let not_found = r#"{"error":"invalid_request","error_codes":[90002]}"#;
    let fresh = Peer::start(move |_, _| Reply::new(400, not_found)).await;
    let error = tokens(&fresh, "").get().await.err().unwrap();
    assert_eq!(error.kind(), Kind::Config);
    let proven = Peer::start(move |_, nth| match nth {
        0 => Reply::token("t", "1"),
        _ => Reply::new(400, not_found),
    })
    .await;
    let tokens = tokens(&proven, "");
    tokens.get().await.unwrap();
    pass(Duration::from_secs(2)).await;
    assert_eq!(tokens.get().await.err().unwrap().kind(), Kind::Auth);
}

#[tokio::test]
async fn answers_that_are_no_token_are_told() {
    for reply in [
        "",
        "<html>",
        r#"{"access_token":5}"#,
        r#"{"access_token":"a\nb"}"#,
    ] {
        let peer = Peer::start(move |_, _| Reply::ok(reply)).await;
        let error = tokens(&peer, "").get().await.err().unwrap();
        assert_eq!(error.kind(), Kind::Unavailable, "{reply}");
    }
    let nobody = { Peer::start(|_, _| Reply::ok("")).await.url.clone() };
    let peer =
        Peer::start(|_, _| Reply::new(302, "").with("location", "http://127.0.0.1:1/")).await;
    let error = tokens(&peer, "").get().await.err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable);
    drop(nobody);
}

#[tokio::test]
async fn a_token_that_says_it_lives_for_ever_does_not_stop_the_source() {
    for life in ["18446744073709551615", "\"18446744073709551615\"", "86401"] {
        let peer = Peer::start(move |_, nth| Reply::token(&format!("t{nth}"), life)).await;
        let tokens = tokens(&peer, "");
        assert_eq!(tokens.get().await.unwrap().bearer(), "Bearer t0");
        pass(Duration::from_hours(24)).await;
        assert_eq!(tokens.get().await.unwrap().bearer(), "Bearer t1");
    }
}
