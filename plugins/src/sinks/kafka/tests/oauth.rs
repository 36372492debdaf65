//! Tokens, from a provider in this process.

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Secret;
use audit_exporter_core::{Kind, Result, http};
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use rdkafka::client::OAuthToken;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::super::oauth::{Provider, Tokens};

const WANTED: &str =
    "grant_type=client_credentials&client_id=exporter&client_secret=hunter2&scope=kafka";

/// A provider that has one client. Gives what is asked with the secret.
async fn ask(secret: &str, answer: &'static str) -> Result<OAuthToken> {
    let provider = post(move |body: Bytes| async move {
        if body == WANTED.as_bytes() {
            (StatusCode::OK, answer)
        } else {
            let refusal =
                r#"{"error":"invalid_client","error_description":"no such\u001b[2J client"}"#;
            (StatusCode::UNAUTHORIZED, refusal)
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/token", provider);
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let tokens = Tokens {
        provider: Provider {
            url: format!("http://{address}/token").parse().unwrap(),
            client_id: "exporter".to_owned(),
            client_secret: Secret::literal(secret),
            scope: Some("kafka".to_owned()),
        },
        http: http::Client::new().unwrap(),
        clock: Clock::system(),
        runtime: Handle::current(),
    };
    let token = spawn_blocking(move || tokens.get()).await.unwrap();
    server.abort();
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_as_long_as_its_provider_says() {
    let before = Clock::system().now().timestamp_millis();
    let token = ask("hunter2", r#"{"access_token":"abc","expires_in":3600}"#).await;
    let token = token.unwrap();
    assert_eq!((&*token.token, &*token.principal_name), ("abc", "exporter"));
    let life = token.lifetime_ms - before;
    assert!((3_600_000..3_660_000).contains(&life), "{life}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_without_the_secret() {
    let error = ask("hunter3", "").await.err().unwrap();
    assert_eq!(error.kind(), Kind::Auth);
    let said = error.to_string();
    assert!(
        said.contains("401: invalid_client: no such\\u001b[2J client"),
        "{said}"
    );
    assert!(!said.contains("hunter"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_token_is_not_shown_to_brokers() {
    let error = ask("hunter2", "<html>").await.err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(
        error.to_string().contains("something else than a token"),
        "{error}"
    );
}
