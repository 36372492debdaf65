//! The older REST service with Basic authentication, which Microsoft has retired (reference:
//! search-unified-audit-log.md, A; scenarios.md §5).
//!
//! Its next links lead to the same rows again, and what is asked for beyond 400 rows is passed over without a word. So
//! a page is never larger than that, links are not followed, and the same address is asked again until no rows come.

use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Secret;
use audit_exporter_core::http;
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::plugin::Context;
use audit_exporter_core::{Error, Result};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Method, Response};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;
use url::Url;

use super::client::Query;
use super::refusal;
use crate::http::body::{read_capped, read_start, silent};
use crate::http::headers;
use crate::microsoft::limit::RateLimit;

/// The largest page that is read: 400 rows.
const PAGE_CAP: usize = 32 * 1024 * 1024;
/// What is read of a refusal.
const REFUSAL_CAP: usize = 64 * 1024;
/// How long the service may take to begin an answer: a page usually takes ten seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(3);

/// One tenant's older REST service.
pub(super) struct Legacy {
    http: http::Client,
    origin: Url,
    username: String,
    password: Secret,
    limit: RateLimit,
    meter: Meter,
    clock: Clock,
}

impl Legacy {
    /// A client whose password goes to `origin` (scheme, host, port) and nowhere else.
    pub(super) fn new(
        context: &Context,
        origin: Url,
        (username, password): (String, Secret),
        requests_per_minute: u32,
    ) -> Self {
        Self {
            http: context.http.clone(),
            origin,
            username,
            password,
            limit: RateLimit::per_minute(requests_per_minute),
            meter: context.meter.clone(),
            clock: context.clock.clone(),
        }
    }

    /// The service's host, for messages.
    pub(super) fn host(&self) -> &str {
        self.origin.authority()
    }

    /// The time by this machine's clock.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// One page of a session.
    pub(super) async fn search(&self, query: Query<'_>) -> Result<Bytes> {
        let size = query.size.to_string();
        let (operations, users) = (query.operations.join(","), query.users.join(","));
        let paging = [
            ("Operations", operations.as_str()),
            ("UserIds", &users),
            ("ResultSize", &size),
            ("SessionId", query.session),
            ("SessionCommand", "ReturnNextPreviewPage"),
        ];
        let url = self.url(query.window.from, query.window.to, &paging);
        self.get("search", url).await
    }

    /// Fails if the account is refused.
    pub(super) async fn probe(&self) -> Result<()> {
        let now = self.now();
        let url = self.url(now - TimeDelta::hours(1), now, &[("ResultSize", "1")]);
        self.get("probe", url).await.map(drop)
    }

    fn url(&self, from: DateTime<Utc>, to: DateTime<Utc>, more: &[(&str, &str)]) -> Url {
        let time = |time: DateTime<Utc>| time.format("%m/%d/%Y %H:%M:%S").to_string();
        let mut url = self.origin.clone();
        url.set_path("psws/service.svc/UnifiedAuditLog");
        url.query_pairs_mut()
            .append_pair("StartDate", &time(from))
            .append_pair("EndDate", &time(to))
            .extend_pairs(more.iter().filter(|(_, value)| !value.is_empty()));
        url
    }

    async fn get(&self, operation: &'static str, url: Url) -> Result<Bytes> {
        let answer = self.ask(url).await;
        let outcome = answer
            .as_ref()
            .map_or_else(|error| error.kind().as_str(), |_| "ok");
        self.meter.request(operation, outcome);
        read_capped(answer?, PAGE_CAP).await
    }

    async fn ask(&self, url: Url) -> Result<Response> {
        let waited = self.limit.wait().await;
        if !waited.is_zero() {
            self.meter.throttled(waited);
        }
        let password = self
            .password
            .read()
            .map_err(|error| error.context("password"))?;
        let request = self
            .http
            .request(Method::GET, url)
            .basic_auth(&self.username, Some(password.expose_secret()))
            .header(ACCEPT, HeaderValue::from_static("application/json"));
        let answer = timeout(ANSWER_TIMEOUT, self.http.send(request)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(silent("did not answer", ANSWER_TIMEOUT)))
            .map_err(|error| error.context(self.host()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if status.is_redirection() {
            return Err(Error::unavailable(format!(
                "{} answered with a redirect (HTTP {}), which is not followed: a password goes to exchange_api alone",
                self.host(),
                status.as_u16()
            )));
        }
        let retry_after = headers::retry_after(answer.headers(), self.clock.now());
        let body = read_start(answer, REFUSAL_CAP).await;
        Err(refusal::of_legacy(status.as_u16(), &body, retry_after))
    }
}
