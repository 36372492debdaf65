//! The webhook listener: others tell a source of news, so that it lists before its next poll.
//!
//! What comes here is a hint and no more. It brings forward a listing that would have come anyway, at most one in a few
//! seconds for each source and tenant, and goes through the same limits as all others. A request that is forged,
//! repeated or lost cannot make a unit, lose one, or move a checkpoint.
//!
//! A proxy in front of it ends TLS, so strangers may ask: a request gets one connection and little time, and its body is
//! read only if the source knows the sender by the headers. Who does not belong here is told the same as who asks for
//! what is not there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::http::{Method, Request, Response, StatusCode};
use futures::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::StreamName;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::plugin::{Heard, Source};
use crate::printable;

/// Connections at once. The others wait to be accepted.
const MOST_CONNECTIONS: usize = 64;
/// How long a connection may last: one request and its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The largest head of a request.
const HEAD_CAP: usize = 16 << 10;
/// The largest body. With all connections it is what the listener may hold.
const BODY_CAP: usize = 256 << 10;
/// What comes in a burst is one listing, and what was announced has time to appear in it. Times are listed in whole
/// seconds, by a clock that may be off by some.
const SETTLING: Duration = Duration::from_secs(5);
/// Requests that are turned away are told of again after this.
const QUIET: Duration = Duration::from_hours(1);
/// After a connection that could not be accepted, which is for want of something.
const BREATHER: Duration = Duration::from_millis(50);
/// How much of a path is shown.
const SHOWN_CHARS: usize = 100;

/// Takes the listener's address.
pub(super) async fn bind(listen: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|error| {
        Error::config(format!(
            "webhooks.listen: {listen} cannot be used; choose another port, and tell the proxy in front of it"
        ))
        .with_cause(error)
    })
}

/// The sources that run, each where its address leads.
#[derive(Clone, Default)]
pub(super) struct Webhooks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    hooks: Mutex<BTreeMap<StreamName, Target>>,
    /// When it was last told that requests were turned away: those to a source's address, and those to none.
    told: Mutex<BTreeMap<Option<StreamName>, Instant>>,
}

#[derive(Clone)]
struct Target {
    source: Arc<dyn Source>,
    news: Arc<Notify>,
}

/// A source's place at the listener, until it is dropped.
pub(super) struct Hook {
    webhooks: Webhooks,
    name: StreamName,
    news: Arc<Notify>,
}

impl Hook {
    /// Returns when the source was told of news, and they had time to settle.
    pub(super) async fn news(&self) {
        self.news.notified().await;
        sleep(SETTLING).await;
    }

    /// Forgets what the source was told so far.
    pub(super) fn clear(&self) {
        // Takes what is stored, and waits for nothing.
        let _forgotten = self.news.notified().now_or_never();
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let mut hooks = self.webhooks.hooks();
        let own = |target: &Target| Arc::ptr_eq(&target.news, &self.news);
        if hooks.get(&self.name).is_some_and(own) {
            hooks.remove(&self.name);
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// A source was told of news.
    Notified,
    /// It asks for no more than the answer.
    Answered,
    /// The source does not understand it.
    Unreadable,
    /// Its body is too large, or broke off.
    CutOff,
    /// It does not come from whom the source expects.
    Refused,
    /// There is nobody at its path.
    Unknown,
    /// It is no POST.
    WrongMethod,
}

impl Outcome {
    /// The label's value, and the answer. It does not tell a stranger whether there is somebody.
    fn shown(self) -> (&'static str, StatusCode) {
        match self {
            Self::Notified => ("notified", StatusCode::OK),
            Self::Answered => ("answered", StatusCode::OK),
            Self::Unreadable => ("unreadable", StatusCode::BAD_REQUEST),
            Self::CutOff => ("cut_off", StatusCode::PAYLOAD_TOO_LARGE),
            Self::Refused => ("refused", StatusCode::NOT_FOUND),
            Self::Unknown => ("unknown", StatusCode::NOT_FOUND),
            Self::WrongMethod => ("wrong_method", StatusCode::METHOD_NOT_ALLOWED),
        }
    }
}

impl Webhooks {
    /// Gives a source its place.
    pub(super) fn hang(&self, name: StreamName, source: &Arc<dyn Source>) -> Hook {
        let news = Arc::new(Notify::new());
        let target = Target {
            source: Arc::clone(source),
            news: Arc::clone(&news),
        };
        self.hooks().insert(name.clone(), target);
        let webhooks = self.clone();
        Hook {
            webhooks,
            name,
            news,
        }
    }

    fn hooks(&self) -> MutexGuard<'_, BTreeMap<StreamName, Target>> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves until stopped, and then answers what was asked.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        metrics: Metrics,
        stop: CancellationToken,
    ) {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "notifications are taken");
        }
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    tell_bug(ended);
                    continue;
                }
                accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = self
                        .clone()
                        .connection(stream, metrics.clone(), stop.clone());
                    connections.spawn(connection);
                }
                Err(error) => {
                    tracing::debug!("a connection to the webhook listener fails: {error}");
                    sleep(BREATHER).await;
                }
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            tell_bug(ended);
        }
    }

    /// One request. The peer may be slow or leave; only the time that it takes is of interest.
    async fn connection(self, stream: TcpStream, metrics: Metrics, stop: CancellationToken) {
        let (webhooks, counts) = (&self, &metrics);
        let answer = service_fn(move |request: Request<Incoming>| async move {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = webhooks.answer(request.map(Body::new), counts).await;
            Ok::<_, Infallible>(answer)
        });
        let served = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(HEAD_CAP)
            .serve_connection(TokioIo::new(stream), answer);
        let mut served = pin!(served);
        let ended = async {
            tokio::select! {
                ended = &mut served => return ended,
                () = stop.cancelled() => served.as_mut().graceful_shutdown(),
            }
            served.await
        };
        match timeout(PATIENCE, ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("a request to the webhook listener fails: {error}"),
            Err(_) => count(&metrics, None, "timed_out"),
        }
    }

    /// Lets the source at the request's path hear it.
    pub(super) async fn answer(&self, request: Request<Body>, metrics: &Metrics) -> StatusCode {
        let path = request.uri().path().to_owned();
        let found = named(&path).and_then(|name| {
            let target = self.hooks().get(&name).cloned()?;
            Some((name, target))
        });
        let name = found.as_ref().map(|(name, _)| name.clone());
        let outcome = match (&found, request.method() == Method::POST) {
            (_, false) => Outcome::WrongMethod,
            (None, true) => Outcome::Unknown,
            (Some((_, target)), true) => target.hear(request).await,
        };
        let (label, status) = outcome.shown();
        // Nobody is told by the method that there is somebody, so neither is the metric.
        let counted = name.as_ref().filter(|_| outcome != Outcome::WrongMethod);
        count(metrics, counted, label);
        if matches!(
            outcome,
            Outcome::Refused | Outcome::Unknown | Outcome::Unreadable
        ) {
            self.tell(name, &path, label);
        }
        status
    }

    /// Logs that a request was turned away, once in a while: anybody can send them.
    fn tell(&self, name: Option<StreamName>, path: &str, outcome: &'static str) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.get(&name).copied();
        if before.is_some_and(|before| before.elapsed() < QUIET) {
            return;
        }
        told.insert(name.clone(), Instant::now());
        drop(told);
        let shown: String = path.chars().take(SHOWN_CHARS).collect();
        let path = printable(&shown);
        let (source, tenant) = name.unwrap_or_default();
        tracing::warn!(
            %source, %tenant, %path, outcome,
            "a webhook request was turned away: nobody has its path, or its sender is not the one that is expected, or \
             it cannot be read; others of the next hour are only counted"
        );
    }
}

impl Target {
    async fn hear(&self, request: Request<Body>) -> Outcome {
        let (head, body) = request.into_parts();
        if !self.source.expects(&head.headers) {
            return Outcome::Refused;
        }
        if body.size_hint().lower() > BODY_CAP as u64 {
            return Outcome::CutOff;
        }
        let Ok(body) = to_bytes(body, BODY_CAP).await else {
            return Outcome::CutOff;
        };
        match self.source.notified(&head.headers, &body) {
            Heard::News => {
                self.news.notify_one();
                Outcome::Notified
            }
            Heard::Nothing => Outcome::Answered,
            Heard::Unreadable => Outcome::Unreadable,
        }
    }
}

/// The source and the tenant that a path names by its last two parts. What comes before is the proxy's.
fn named(path: &str) -> Option<StreamName> {
    let (rest, tenant) = path.trim_end_matches('/').rsplit_once('/')?;
    let (_, source) = rest.rsplit_once('/')?;
    Some((source.into(), tenant.into()))
}

fn count(metrics: &Metrics, name: Option<&StreamName>, outcome: &str) {
    let (source, tenant) = name.map_or(("", ""), |(source, tenant)| (source, tenant));
    let labels = [tenant, source, outcome];
    metrics.webhook_requests.with_label_values(&labels).inc();
}

/// A source may panic over a request. It is the request's end alone.
fn tell_bug(ended: std::result::Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a webhook request ended in a bug; please report it: {error}");
    }
}
