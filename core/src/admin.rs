//! The admin listener: metrics and health for machines, control for the operator's own commands.
//!
//! Listens on loopback unless told otherwise. Whatever changes something needs the control token, a file that only
//! this user can read. A request that came by a foreign host name is refused, so that no web page can reach it.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as UrlPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::metrics::Metrics;

/// The file in the journal's folder that holds the control token.
const TOKEN_FILE: &str = "control.token";
/// The file that tells commands where the running process listens.
const ADDRESS_FILE: &str = "control.address";

#[derive(Clone)]
struct Admin {
    /// One scrape at a time: gauges are taken from the journal afresh for each.
    scrape: Arc<Mutex<()>>,
    journal: Journal,
    metrics: Metrics,
    clock: Clock,
    token: Arc<str>,
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

/// The control token, made at the first start.
pub(crate) fn token(journal_dir: &Path) -> Result<Arc<str>> {
    let path = journal_dir.join(TOKEN_FILE);
    if let Ok(token) = std::fs::read_to_string(&path)
        && !token.trim().is_empty()
    {
        return Ok(token.trim().into());
    }
    let token = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    private_file(&path, &token)?;
    Ok(token.into())
}

fn private_file(path: &PathBuf, text: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Tells commands where to find this process.
pub(crate) fn announce(listener: &TcpListener, journal_dir: &Path) -> Result<()> {
    let address = listener.local_addr()?;
    private_file(&journal_dir.join(ADDRESS_FILE), &address.to_string())
}

/// Serves until stopped: answers what was asked, closes connections that are kept open.
pub(crate) async fn serve(
    listener: TcpListener,
    journal: Journal,
    metrics: Metrics,
    clock: Clock,
    token: Arc<str>,
    journal_dir: PathBuf,
    stop: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/-/sinks/{name}/forget", post(forget))
        .layer(middleware::from_fn(check_host))
        .with_state(Admin {
            scrape: Arc::default(),
            journal,
            metrics,
            clock,
            token,
        });
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!("the admin listener has stopped: {error}");
    }
    // Whoever listens there next is not to be sent the token.
    if let Err(error) = std::fs::remove_file(journal_dir.join(ADDRESS_FILE)) {
        tracing::warn!("{ADDRESS_FILE} cannot be removed: {error}");
    }
}

/// Refuses requests by a host name that is not ours: a page in a browser can make a name point at loopback, but not
/// an address literal.
async fn check_host(request: Request, next: Next) -> Response {
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
    if literal || name.eq_ignore_ascii_case("localhost") {
        return next.run(request).await;
    }
    (
        StatusCode::MISDIRECTED_REQUEST,
        "use the listener's address, or localhost\n",
    )
        .into_response()
}

async fn show_metrics(State(admin): State<Admin>) -> Response {
    let _scrape = admin.scrape.lock().await;
    if let Err(error) = refresh(&admin).await {
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
            .sink_balanced
            .with_label_values(&labels)
            .set(i64::from(sink.balances()));
    }
    metrics.refresh_listing_lag(seconds(now_ms));
    Ok(())
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

async fn forget(
    State(admin): State<Admin>,
    UrlPath(sink): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    if !authorized(&headers, &admin.token) {
        return (
            StatusCode::UNAUTHORIZED,
            "the control token is missing or wrong\n",
        )
            .into_response();
    }
    if admin.journal.is_attached(&sink) {
        let refusal =
            format!("sink {sink} is in the running configuration; remove it there first\n");
        return (StatusCode::CONFLICT, refusal).into_response();
    }
    match admin.journal.forget_sink(&sink).await {
        Ok(true) => format!("sink {sink} is forgotten\n").into_response(),
        Ok(false) => (
            StatusCode::NOT_FOUND,
            format!("the journal knows no sink {sink}\n"),
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Compares without telling by its time how much was right.
fn authorized(headers: &HeaderMap, token: &str) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let Some(given) = given.and_then(|value| value.strip_prefix("Bearer ")) else {
        return false;
    };
    given.len() == token.len()
        && given
            .bytes()
            .zip(token.bytes())
            .fold(0, |diff, (a, b)| diff | (a ^ b))
            == 0
}

/// Where a command reaches the process that holds the journal in `dir`, and with which token. `None` if there is no
/// such process to be found.
#[must_use]
pub fn find(journal_dir: &Path) -> Option<(SocketAddr, String)> {
    let address = std::fs::read_to_string(journal_dir.join(ADDRESS_FILE)).ok()?;
    let token = std::fs::read_to_string(journal_dir.join(TOKEN_FILE)).ok()?;
    Some((address.trim().parse().ok()?, token.trim().to_owned()))
}
