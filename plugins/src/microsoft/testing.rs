//! A peer on loopback that answers as a test tells it, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::journal::Store;
use audit_exporter_core::metrics::Metrics;
use audit_exporter_core::plugin::Context;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use reqwest::header::HeaderMap;
use tokio::task::JoinHandle;

pub(crate) const TENANT: &str = "0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10";
pub(crate) const SECRET: &str = "hunter2-Q~secret";

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn bearer(&self) -> Option<&str> {
        self.headers.get("authorization")?.to_str().ok()
    }

    pub(crate) fn is_token_request(&self) -> bool {
        self.target.contains("/oauth2/")
    }
}

/// One answer.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }

    pub(crate) fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"a message"}}}}"#);
        Self::new(status, body)
    }

    pub(crate) fn token(token: &str, expires_in: &str) -> Self {
        let body = format!(
            r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"{token}"}}"#
        );
        Self::ok(body)
    }

    pub(crate) fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }
}

/// The peer. Stops when dropped.
pub(crate) struct Peer {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: JoinHandle<()>,
}

impl Peer {
    /// Starts one that gives each request, and how many came before it, to `answer`.
    pub(crate) async fn start(
        answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        let handler = move |request: Request| {
            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
            async move { respond(request, &*answer, &log).await }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(handler);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen, server }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The targets of all calls that were not for a token.
    pub(crate) fn calls(&self) -> Vec<String> {
        let is_call = |seen: &Seen| !seen.is_token_request();
        let seen = self.seen().into_iter().filter(is_call);
        seen.map(|seen| seen.target).collect()
    }

    pub(crate) fn token_requests(&self) -> usize {
        let seen = self.seen();
        seen.iter().filter(|seen| seen.is_token_request()).count()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn respond(
    request: Request,
    answer: &(dyn Fn(&Seen, usize) -> Reply + Send + Sync),
    log: &Mutex<Vec<Seen>>,
) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.len() - 1
    };
    let reply = answer(&seen, before);
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body)).unwrap()
}

/// A client as the engine gives it to plugins.
pub(crate) fn http() -> audit_exporter_core::http::Client {
    audit_exporter_core::http::Client::new().unwrap()
}

/// A tenant whose authority and API are at `url`.
pub(crate) fn tenant(url: &str, more: &str) -> Tenant {
    let text = format!(
        "client_id = \"9a1b0000-0000-0000-0000-000000000001\"\nclient_secret = \"{SECRET}\"\n\
         authority = \"{url}\"\nmanagement_api = \"{url}\"\n{more}"
    );
    Tenant {
        name: "contoso".into(),
        id: TENANT.into(),
        tags: Vec::new(),
        options: Options::from_toml("tenants.contoso", &text),
    }
}

/// What the engine gives to a source of that tenant.
pub(crate) fn context(tenant: Tenant, options: &str, clock: Clock) -> Context {
    Context {
        name: "audit".into(),
        options: Options::from_toml("sources.audit", options),
        tenants: [tenant].into(),
        http: http(),
        meter: Metrics::new().unwrap().meter("contoso", "audit"),
        clock,
        store: Store::in_memory(),
        replay: None,
        webhook: None,
    }
}
