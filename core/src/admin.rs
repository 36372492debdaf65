//! The admin listener: metrics and health for machines, control for the operator's own commands.
//!
//! Listens on loopback unless told otherwise. Whatever changes something needs the control token, a file that only
//! this user can read. A request that came by a foreign host name is refused, so that no web page can reach it.

mod coverage;

use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
use crate::http;
use crate::journal::Journal;
use crate::metrics::Metrics;

mod backfill;
mod letters;
mod reload;
mod sinks;

pub use backfill::ask_to_backfill;
pub use letters::{ask_to_drop, ask_to_replay};
pub use reload::ask_to_reload;
pub use sinks::{ask_sink, ask_to_forget, ask_to_pause};

/// The file in the journal's folder that holds the control token.
const TOKEN_FILE: &str = "control.token";
/// The file that tells commands where the running process listens.
const ADDRESS_FILE: &str = "control.address";

/// How long a command waits for the running process.
const PATIENCE: Duration = Duration::from_mins(1);

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

/// The control token, made at the first start. One that others could read, or that another user may change, is none.
pub(crate) fn token(journal_dir: &Path) -> Result<Arc<str>> {
    let path = journal_dir.join(TOKEN_FILE);
    match std::fs::symlink_metadata(&path) {
        Ok(known) if known.uid() != rustix::process::geteuid().as_raw() => {
            return Err(Error::config(format!(
                "{} belongs to another user; run as that user, or delete the file",
                path.display()
            )));
        }
        Ok(known) if known.is_file() && known.mode() % 0o100 == 0 => {
            let token = std::fs::read_to_string(&path)?;
            if !token.trim().is_empty() {
                return Ok(token.trim().into());
            }
        }
        Ok(_) => tracing::warn!("{TOKEN_FILE} was not this user's alone; it is made anew"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let token = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    private_file(&path, &token)?;
    Ok(token.into())
}

/// Puts a fresh file of ours in the place of whatever is there.
fn private_file(path: &Path, text: &str) -> Result<()> {
    remove(path)?;
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Tells commands where to find this process.
pub(crate) fn announce(listener: &TcpListener, journal_dir: &Path) -> Result<()> {
    let mut address = listener.local_addr()?;
    // Commands run on this machine: what they send has no reason to leave it.
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    private_file(&journal_dir.join(ADDRESS_FILE), &address.to_string())
}

/// Forgets where a process listened that held the journal before: whoever listens there now is not to be sent the
/// token. Whoever takes the journal's lock does this first.
pub fn withdraw(journal_dir: &Path) -> Result<()> {
    remove(&journal_dir.join(ADDRESS_FILE))
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

fn unexpected(status: u16) -> Error {
    Error::unavailable(format!(
        "the running process answers HTTP {status}; its log says why"
    ))
}

/// Sends a request to the process that holds the journal in `journal_dir`, with the token. It is known to be taken.
async fn ask(
    journal_dir: &Path,
    path: &[&str],
    body: Vec<u8>,
    patience: Duration,
) -> Result<reqwest::Response> {
    let Some((address, token)) = find(journal_dir) else {
        return Err(Error::config(
            "another audit-exporter uses the journal, and its admin listener is not to be found; stop it first",
        ));
    };
    let url = reqwest::Url::parse(&format!("http://{address}/-"))
        .ok()
        .and_then(|mut url| {
            url.path_segments_mut().ok()?.extend(path);
            Some(url)
        })
        .ok_or_else(|| Error::bug("the admin listener's address makes no URL"))?;
    // No proxy may see the token.
    let answer = http::direct_client()?
        .post(url)
        .timeout(patience)
        .bearer_auth(token)
        .body(body)
        .send()
        .await
        .map_err(|error| {
            Error::unavailable("the process that uses the journal does not answer")
                .with_cause(error.without_url())
        })?;
    if answer.status() == StatusCode::UNAUTHORIZED {
        return Err(Error::config(
            "the running process does not know the token in the journal's folder",
        ));
    }
    Ok(answer)
}

/// Where the process listens that holds the journal, and its token. `None` if there is none to be found.
pub(crate) fn find(journal_dir: &Path) -> Option<(SocketAddr, String)> {
    let address = std::fs::read_to_string(journal_dir.join(ADDRESS_FILE)).ok()?;
    let token = std::fs::read_to_string(journal_dir.join(TOKEN_FILE)).ok()?;
    Some((address.trim().parse().ok()?, token.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_that_others_could_read_is_not_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(TOKEN_FILE);
        let first = token(folder.path()).unwrap();
        assert_eq!(token(folder.path()).unwrap(), first, "it stays");
        for mode in [0o604, 0o640, 0o666] {
            let before = std::fs::read_to_string(&file).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            let fresh = token(folder.path()).unwrap();
            assert_ne!(*fresh, *before, "{mode:o}");
            assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_token_that_is_a_link_is_replaced_and_what_it_points_to_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "chosen by somebody else").unwrap();
        std::os::unix::fs::symlink(&other, folder.path().join(TOKEN_FILE)).unwrap();
        let token = token(folder.path()).unwrap();
        assert_eq!(token.len(), 64);
        let text = std::fs::read_to_string(other).unwrap();
        assert_eq!(text, "chosen by somebody else");
    }

    #[tokio::test]
    async fn commands_on_this_machine_never_leave_it() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        token(folder.path()).unwrap();
        announce(&listener, folder.path()).unwrap();
        let (address, _) = find(folder.path()).unwrap();
        assert!(address.ip().is_loopback(), "{address}");
        withdraw(folder.path()).unwrap();
        assert!(find(folder.path()).is_none());
        withdraw(folder.path()).unwrap();
    }
}
