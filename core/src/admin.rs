//! The admin listener: metrics and health for machines, control for the operator's own commands.
//!
//! Listens on loopback unless told otherwise. Whatever changes something needs the control token, a file that only
//! this user can read. A request that came by a foreign host name is refused, so that no web page can reach it.

mod backfill;
mod control;
mod coverage;
mod letters;
mod reload;
mod sinks;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::same_secret;
use crate::engine::Reload;
use crate::engine::backfill::Backfiller;
use crate::engine::letters::Replayer;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::metrics::Metrics;

pub use backfill::ask_to_backfill;
#[cfg(test)]
pub(crate) use control::find;
pub use control::withdraw;
use control::{ADDRESS_FILE, Answer, PATIENCE, ask, refusal};
pub(crate) use control::{announce, token};
pub use letters::{ask_to_drop, ask_to_replay};
pub use reload::ask_to_reload;
pub use sinks::{ask_sink, ask_to_forget, ask_to_pause};

#[derive(Clone)]
struct Admin {
    /// One scrape at a time: gauges are taken from the journal afresh for each.
    scrape: Arc<Mutex<coverage::Age>>,
    journal: Journal,
    metrics: Metrics,
    clock: Clock,
    control: Control,
}

/// What changes something, and the token that it needs.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) token: Arc<str>,
    pub(crate) replayer: Replayer,
    pub(crate) backfiller: Backfiller,
    /// Takes those who ask for the configuration to be read anew.
    pub(crate) reload: mpsc::Sender<Reload>,
    /// Names of this listener, besides its addresses and `localhost`.
    pub(crate) hosts: Arc<[String]>,
}

/// Takes the listener's address.
pub(crate) async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        Error::config(format!(
            "admin.listen: {listen} cannot be used; is another audit-exporter running? choose another port"
        ))
        .with_cause(error)
    })
}

/// Serves until stopped: answers what was asked, closes connections that are kept open.
pub(crate) async fn serve(
    listener: TcpListener,
    journal: Journal,
    metrics: Metrics,
    clock: Clock,
    control: Control,
    journal_dir: PathBuf,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/api/coverage", get(coverage::show))
        .route("/-/backfill", post(backfill::backfill))
        .route("/-/reload", post(reload::reload))
        .route("/-/sinks/{name}/forget", post(sinks::forget))
        .route("/-/sinks/{name}/pause", post(sinks::pause))
        .route("/-/sinks/{name}/resume", post(sinks::resume))
        .route("/-/sinks/{name}/ask", post(sinks::pass_on))
        .route("/-/dead-letters/replay", post(letters::replay))
        .route("/-/dead-letters/drop", post(letters::drop_letters))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&control.hosts),
            check_host,
        ))
        .with_state(Admin {
            scrape: Arc::default(),
            journal,
            metrics,
            clock,
            control,
        });
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!("the admin listener has stopped: {error}");
    }
    if let Err(error) = withdraw(&journal_dir) {
        tracing::warn!("{ADDRESS_FILE} cannot be removed: {error}");
    }
}

/// Refuses requests by a host name that is not ours: a page in a browser can make a name point at loopback, but not
/// an address literal.
async fn check_host(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|digit| digit.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let literal = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .is_ok();
    let known = |host: &str| name.eq_ignore_ascii_case(host);
    if literal || known("localhost") || hosts.iter().any(|host| known(host)) {
        return next.run(request).await;
    }
    (
        StatusCode::MISDIRECTED_REQUEST,
        "use the listener's address, localhost, or a name in admin.hosts\n",
    )
        .into_response()
}

async fn show_metrics(State(admin): State<Admin>) -> Response {
    let mut age = admin.scrape.lock().await;
    let refreshed = async {
        refresh(&admin).await?;
        coverage::refresh(&admin, &mut age).await
    };
    if let Err(error) = refreshed.await {
        tracing::warn!("the metrics of the journal are not fresh: {error}");
    }
    match admin.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Takes what is known by looking, rather than by counting, from the journal.
async fn refresh(admin: &Admin) -> Result<()> {
    let status = admin.journal.status().await?;
    let metrics = &admin.metrics;
    let now_ms = admin.clock.now().timestamp_millis();
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let name = |tenant: &str| admin.journal.tenant_name(tenant);
    metrics.journal_bytes.set(status.used_bytes as i64);
    // What is gone (a sink that was forgotten) does not keep its last value.
    metrics.units_expiry.reset();
    metrics.units_pending.reset();
    metrics.sink_pending.reset();
    metrics.sink_lag.reset();
    metrics.sink_skipped.reset();
    metrics.sink_balanced.reset();
    for unit in &status.tenants {
        let tenant = name(&unit.tenant);
        let labels = [&*tenant, &*unit.source, &*unit.content_type];
        metrics
            .units_pending
            .with_label_values(&labels)
            .set(unit.pending);
        if let Some(expiry) = unit.next_expiry_ms {
            metrics
                .units_expiry
                .with_label_values(&labels)
                .set(seconds(expiry - now_ms));
        }
    }
    for sink in &status.sinks {
        let tenant = name(&sink.tenant);
        let labels = [&*sink.sink, &*tenant];
        metrics
            .sink_pending
            .with_label_values(&labels)
            .set(sink.pending);
        let lag = sink.oldest_pending_ms.map_or(0, |oldest| now_ms - oldest);
        metrics
            .sink_lag
            .with_label_values(&labels)
            .set(seconds(lag));
        metrics
            .sink_skipped
            .with_label_values(&labels)
            .set(sink.skipped);
        metrics
            .sink_balanced
            .with_label_values(&labels)
            .set(i64::from(sink.balances()));
    }
    metrics.refresh_listing_lag(seconds(now_ms));
    Ok(())
}

/// Healthy while the journal can be written; otherwise only a restart helps.
async fn healthy(State(admin): State<Admin>) -> Response {
    if admin.journal.is_gone() {
        let text = "the journal's writer has ended; restart\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    }
    "ok\n".into_response()
}

/// Ready while every source and sink works. The answer names those that do not.
async fn ready(State(admin): State<Admin>) -> Response {
    let down = admin.metrics.down();
    if down.is_empty() {
        return "ready\n".into_response();
    }
    let mut text = down.join(" does not work; see the log\n");
    text.push_str(" does not work; see the log\n");
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

impl Admin {
    /// The answer to a request that would change something and does not show the token.
    fn refuses(&self, headers: &HeaderMap) -> Option<Response> {
        let refusal = (
            StatusCode::UNAUTHORIZED,
            "the control token is missing or wrong\n",
        );
        (!authorized(headers, &self.control.token)).then(|| refusal.into_response())
    }
}

fn authorized(headers: &HeaderMap, token: &str) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    given
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|given| same_secret(given.as_bytes(), token.as_bytes()))
}
