//! The HTTP server: one port for the token endpoint, the Management Activity API and the controls,
//! and a second that plays the foreign host to which no token may ever go.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State as Shared},
    http::{HeaderMap, Method, Response, StatusCode, Uri, header},
    routing::{any, get, post},
};
use chrono::TimeDelta;
use futures::StreamExt;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    answer::{Answer, Payload},
    api::{self, Incoming},
    connection::Line,
    control::{self, Control},
    graph_audit, graph_mail, hec, identity,
    ledger::Ledger,
    search::{invoke, psws},
    state::{State, lock},
    stats,
    token::{self, Version},
    vault,
};

/// Requests to the controls may carry whole blobs.
const BODY_LIMIT: usize = 256 << 20;
/// The ledger goes out in pieces of about this size.
const PIECE_BYTES: usize = 128 << 10;

/// All routes of the simulated services and the controls.
pub(crate) fn routes(state: Arc<State>) -> Router {
    Router::new()
        .route("/{tenant}/oauth2/token", post(token_v1))
        .route("/{tenant}/oauth2/v2.0/token", post(token_v2))
        .route("/api/v1.0/{tenant}/activity/feed/{*path}", any(management))
        .route("/api/v1/{tenant}/activity/feed/{*path}", any(management))
        .route("/metadata/identity/oauth2/token", get(identity::metadata))
        .route("/msi/token", get(identity::app_service))
        .route("/secrets/{name}", get(vault::newest))
        .route("/secrets/{name}/{version}", get(vault::version))
        .route("/v1.0/users/{sender}/sendMail", post(send_mail))
        .route("/v1.0/security/auditLog/{*path}", any(audit_queries))
        .route("/beta/security/auditLog/{*path}", any(audit_queries))
        .route("/psws/service.svc/UnifiedAuditLog", get(legacy_search))
        .route(
            "/adminapi/beta/{tenant}/InvokeCommand",
            post(invoke_command),
        )
        .route("/services/collector", any(collector))
        .route("/services/collector/{*path}", any(collector))
        .route("/hec/events", get(hec_events))
        .route("/ledger", get(ledger))
        .route("/mails", get(mails))
        .route("/stats", get(statistics))
        .route("/control/faults", get(faults).post(set_faults))
        .route("/control/{action}", post(change))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(state)
}

/// The foreign host: whatever comes is counted, tokens apart.
pub(crate) fn foreign_routes(state: Arc<State>) -> Router {
    Router::new().fallback(foreign).with_state(state)
}

pub(crate) fn send(state: &State, answer: Answer) -> Response<Body> {
    let skew = TimeDelta::seconds(state.faults().date_skew_seconds);
    let date = state.clock.now() + skew;
    answer.send(&date.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

fn issue(
    state: &State,
    tenant: &str,
    version: Version,
    headers: &HeaderMap,
    body: &[u8],
) -> Response<Body> {
    let answer = token::token(state, tenant, version, headers, body);
    state.counts.request("token", &answer.outcome);
    send(state, answer)
}

async fn token_v1(
    Shared(state): Shared<Arc<State>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    issue(&state, &tenant, Version::V1, &headers, &body)
}

async fn token_v2(
    Shared(state): Shared<Arc<State>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    issue(&state, &tenant, Version::V2, &headers, &body)
}

async fn management(
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path((tenant, path)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let query = uri.query().unwrap_or_default().to_owned();
    let incoming = Incoming {
        method,
        tenant,
        path,
        query,
        headers,
        body,
        line,
    };
    let answer = api::answer(&state, incoming).await;
    send(&state, answer)
}

async fn send_mail(
    Shared(state): Shared<Arc<State>>,
    Path(sender): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let answer = graph_mail::send(&state, sender, &headers, &body);
    send(&state, answer)
}

async fn audit_queries(
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(line): ConnectInfo<Line>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let (version, path) = if let Some(path) = uri.path().strip_prefix("/v1.0/") {
        ("v1.0", path)
    } else {
        ("beta", uri.path().trim_start_matches("/beta/"))
    };
    let path = path.trim_start_matches("security/auditLog/queries");
    let incoming = graph_audit::Incoming {
        version,
        method,
        path: path.trim_start_matches('/').to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers,
        body,
        line,
    };
    let answer = graph_audit::answer(&state, incoming).await;
    send(&state, answer)
}

async fn legacy_search(
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(line): ConnectInfo<Line>,
    uri: Uri,
    headers: HeaderMap,
) -> Response<Body> {
    let query = uri.query().unwrap_or_default();
    let answer = psws::answer(&state, query, &headers, &line);
    send(&state, answer)
}

async fn invoke_command(
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Path(tenant): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let incoming = invoke::Incoming {
        tenant: &tenant,
        query: uri.query().unwrap_or_default(),
        headers: &headers,
        body: &body,
        line: &line,
    };
    let answer = invoke::answer(&state, &incoming);
    send(&state, answer)
}

async fn mails(Shared(state): Shared<Arc<State>>) -> Response<Body> {
    let body = json!(*lock(&state.mails)).to_string();
    send(&state, Answer::json(StatusCode::OK, body))
}

async fn collector(
    Shared(state): Shared<Arc<State>>,
    ConnectInfo(line): ConnectInfo<Line>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let path = uri.path().trim_start_matches("/services/collector");
    let asked = hec::Asked {
        method,
        path: path.trim_start_matches('/').to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers,
        body,
        line,
    };
    let answer = tokio::task::spawn_blocking(move || {
        let (config, faults) = (&state.config, state.faults());
        let answer = state
            .hec
            .answer(&config.hec, (&faults, config.seed), &asked);
        state.counts.request("hec", &answer.outcome);
        answer
    });
    match answer.await {
        Ok(answer) => answer.plain(),
        Err(error) => {
            tracing::error!(%error, "the collector broke off");
            Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "").plain()
        }
    }
}

async fn hec_events(Shared(state): Shared<Arc<State>>) -> Response<Body> {
    let mut lines = Vec::new();
    for event in state.hec.events() {
        if let Err(error) = serde_json::to_writer(&mut lines, &event) {
            tracing::error!(%error, "could not write an indexed event");
        }
        lines.push(b'\n');
    }
    Answer::new(StatusCode::OK, "application/x-ndjson", lines).plain()
}

async fn ledger(Shared(state): Shared<Arc<State>>) -> Response<Body> {
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    let entries = Ledger::new(&state);
    // The thread ends with the ledger, or when the receiver is dropped with the connection.
    tokio::task::spawn_blocking(move || {
        let mut piece = Vec::with_capacity(PIECE_BYTES + 1024);
        for entry in entries {
            if let Err(error) = serde_json::to_writer(&mut piece, &entry) {
                tracing::error!(%error, "could not write a ledger entry");
            }
            piece.push(b'\n');
            if piece.len() >= PIECE_BYTES {
                let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES + 1024));
                if sender.blocking_send(full.into()).is_err() {
                    return;
                }
            }
        }
        if sender.blocking_send(piece.into()).is_err() {
            tracing::debug!("the reader of the ledger left before its end");
        }
    });
    let mut answer = Answer::new(StatusCode::OK, "application/x-ndjson", Bytes::new());
    answer.body = Payload::Stream(receiver, usize::MAX);
    send(&state, answer)
}

async fn statistics(Shared(state): Shared<Arc<State>>) -> Response<Body> {
    let body = json!(stats::take(&state)).to_string();
    send(&state, Answer::json(StatusCode::OK, body))
}

async fn faults(Shared(state): Shared<Arc<State>>) -> Response<Body> {
    let body = json!(*state.faults()).to_string();
    send(&state, Answer::json(StatusCode::OK, body))
}

async fn set_faults(Shared(state): Shared<Arc<State>>, body: Bytes) -> Response<Body> {
    control(&state, "faults", &body)
}

async fn change(
    Shared(state): Shared<Arc<State>>,
    Path(action): Path<String>,
    body: Bytes,
) -> Response<Body> {
    control(&state, &action, &body)
}

fn control(state: &Arc<State>, action: &str, body: &[u8]) -> Response<Body> {
    let answer = match control::post(&Control::new(Arc::clone(state)), action, body) {
        Ok(value) => Answer::json(StatusCode::OK, value.to_string()),
        Err(error) => Answer::json(StatusCode::BAD_REQUEST, json!({"error": error}).to_string()),
    };
    send(state, answer)
}

async fn foreign(Shared(state): Shared<Arc<State>>, request: Request) -> Response<Body> {
    state
        .counts
        .foreign_requests
        .fetch_add(1, Ordering::Relaxed);
    if request.headers().contains_key(header::AUTHORIZATION) {
        state.counts.foreign_tokens.fetch_add(1, Ordering::Relaxed);
        tracing::error!(uri = %request.uri(), "a token went to the foreign host");
    }
    let mut body = request.into_body().into_data_stream();
    while body.next().await.is_some_and(|piece| piece.is_ok()) {}
    send(&state, Answer::json(StatusCode::OK, "[]"))
}
