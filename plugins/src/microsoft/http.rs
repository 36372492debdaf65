//! One API of Microsoft's as one tenant sees it: paced, authorised, and only ever at its own host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::http;
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::plugin::Context;
use audit_exporter_core::{Error, Kind, Result};
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION,
};
use reqwest::{Method, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::cloud::Access;
use super::errors;
use super::limit::RateLimit;
use super::token::{Token, Tokens};
use crate::http::body::{read_start, silent};
use crate::http::headers;

/// How long the service may take to begin an answer. Large listings are slow.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);
/// What is read of a refusal.
const REFUSAL_CAP: usize = 64 * 1024;
/// Redirects within the host that one call follows.
const MOST_REDIRECTS: usize = 3;
/// A clock that is off by more than this is reported, and is not believed at the first word: what can still be listed
/// hangs on it.
pub(crate) const NOTABLE_SKEW: TimeDelta = TimeDelta::minutes(5);

/// A call to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call<'c> {
    /// A GET whose body comes as it is.
    Get,
    /// A GET whose body may come compressed by gzip.
    GetCompressed,
    /// A POST without a body.
    Post,
    /// A POST of JSON, with further headers.
    PostJson(&'c str, &'c HeaderMap),
}

/// What a refusal means: by its status, the beginning of its body, and the wait that it asks for.
pub(crate) type Judge = fn(u16, &[u8], Option<Duration>) -> Error;

/// A client for one API of one tenant.
pub(crate) struct Api {
    http: http::Client,
    origin: Url,
    tokens: Tokens,
    limit: RateLimit,
    meter: Meter,
    clock: Clock,
    judge: Judge,
    skew: Mutex<Skew>,
}

impl Api {
    /// A client for the API of a tenant at `origin` (scheme, host, port), with tokens for `audience` that go there and
    /// nowhere else.
    pub(crate) fn of(
        context: &Context,
        access: &Arc<Access>,
        (origin, audience): (&Url, &str),
        requests_per_minute: u32,
    ) -> Self {
        let (http, clock) = (context.http.clone(), context.clock.clone());
        let meter = context.meter.clone();
        let (access, audience) = (Arc::clone(access), audience.to_owned());
        Self {
            tokens: Tokens::new(http.clone(), access, audience, meter.clone(), clock.clone()),
            http,
            origin: origin.clone(),
            limit: RateLimit::per_minute(requests_per_minute),
            meter,
            clock,
            judge: errors::refusal,
            skew: Mutex::default(),
        }
    }

    /// The same client for an API with refusals of its own: those of the Management Activity API are the default.
    pub(crate) fn judged_by(self, judge: Judge) -> Self {
        Self { judge, ..self }
    }

    /// The tenant's tokens.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The API's host, for messages.
    pub(crate) fn host(&self) -> &str {
        self.origin.authority()
    }

    /// The time by the service's clock, as its last answers told it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now() + self.skew()
    }

    /// How far the service's clock is ahead of this machine's.
    pub(crate) fn skew(&self) -> TimeDelta {
        self.skew
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .believed
    }

    /// Whether the last answer told another time than is believed, so that one more is needed.
    pub(crate) fn doubts_the_time(&self) -> bool {
        let skew = self.skew.lock().unwrap_or_else(PoisonError::into_inner);
        skew.doubted.is_some()
    }

    /// Makes a call and returns the answer if it is a success; its body is still to be read.
    ///
    /// A token that is refused, or that lacks a permission it may have been granted since, is replaced once, and the
    /// call made once more.
    pub(crate) async fn send(
        &self,
        operation: &'static str,
        call: Call<'_>,
        url: Url,
    ) -> Result<Response> {
        let answer = self.send_uncounted(call, url).await;
        let outcome = answer
            .as_ref()
            .map_or_else(|error| error.kind().as_str(), |_| "ok");
        self.meter.request(operation, outcome);
        answer
    }

    async fn send_uncounted(&self, call: Call<'_>, mut url: Url) -> Result<Response> {
        self.pin(&url)?;
        let mut token = self.tokens.get().await?;
        let mut replaced = false;
        let mut redirects = 0;
        loop {
            let response = self.once(call, url.clone(), &token).await?;
            let status = response.status();
            if status.is_success() {
                self.learn_the_time(response.headers());
                return Ok(response);
            }
            if status.is_redirection() {
                redirects += 1;
                url = self.redirected(call, &url, &response, redirects)?;
                continue;
            }
            let error = self.refusal(response).await;
            let renewable = status == StatusCode::UNAUTHORIZED
                || error.code() == Some(errors::MISSING_PERMISSION);
            if !renewable || replaced {
                return Err(error);
            }
            // Without a replacement the token is new: the refusal may be a whim, so the call is made once more.
            if let Some(fresh) = self.tokens.replace(&token).await? {
                token = fresh;
            }
            replaced = true;
        }
    }

    async fn once(&self, call: Call<'_>, url: Url, token: &Token) -> Result<Response> {
        let waited = self.limit.wait().await;
        if !waited.is_zero() {
            self.meter.throttled(waited);
        }
        let method = match call {
            Call::Post | Call::PostJson(..) => Method::POST,
            Call::Get | Call::GetCompressed => Method::GET,
        };
        let request = self
            .http
            .request(method, url)
            .header(AUTHORIZATION, token.bearer());
        let request = match call {
            Call::Get => request,
            Call::GetCompressed => request.header(ACCEPT_ENCODING, "gzip"),
            // Front ends refuse a POST without a length (reference: management-activity-api.md §3).
            Call::Post => request.header(CONTENT_LENGTH, 0),
            Call::PostJson(body, headers) => request
                .headers(headers.clone())
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_owned()),
        };
        let answer = timeout(ANSWER_TIMEOUT, self.http.send(request)).await;
        answer
            .unwrap_or_else(|_| Err(silent("did not answer", ANSWER_TIMEOUT)))
            .map_err(|error| error.context(self.host()))
    }

    /// Refuses an address that is not the API's own: its host would get the token.
    pub(crate) fn pin(&self, url: &Url) -> Result<()> {
        let own = &self.origin;
        if url.scheme() == own.scheme()
            && url.host() == own.host()
            && url.port_or_known_default() == own.port_or_known_default()
            && url.username().is_empty()
            && url.password().is_none()
        {
            return Ok(());
        }
        let there = url.host_str().unwrap_or("no host");
        Err(Error::unavailable(format!(
            "an address at {}://{there} was handed out, but tokens go to {} alone; check cloud and management_api",
            url.scheme(),
            own.origin().ascii_serialization(),
        )))
    }

    fn redirected(
        &self,
        call: Call<'_>,
        from: &Url,
        response: &Response,
        redirects: usize,
    ) -> Result<Url> {
        let target = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .and_then(|location| from.join(location).ok());
        let refused = |why: &str| {
            let status = response.status().as_u16();
            Error::unavailable(format!(
                "{} answered with a redirect (HTTP {status}) {why}",
                self.host()
            ))
        };
        let Some(target) = target else {
            return Err(refused("to nowhere"));
        };
        if matches!(call, Call::Post | Call::PostJson(..)) {
            return Err(refused(
                "to a call that changes something; it is not followed",
            ));
        }
        if redirects > MOST_REDIRECTS {
            return Err(refused("once too often"));
        }
        self.pin(&target)
            .map_err(|error| error.context("a redirect is not followed"))?;
        Ok(target)
    }

    async fn refusal(&self, response: Response) -> Error {
        let status = response.status().as_u16();
        let now = self.clock.now();
        let retry_after = headers::retry_after(response.headers(), now)
            .or_else(|| headers::rate_limit_wait(response.headers(), now));
        // The status alone is worth telling if the rest breaks off.
        let body = read_start(response, REFUSAL_CAP).await;
        let error = (self.judge)(status, &body, retry_after);
        if error.kind() == Kind::Throttled
            && let Some(wait) = error.retry_after()
        {
            self.meter.throttled(wait);
        }
        error
    }

    /// From successes alone: a refusal may be the page of a gateway, which has a clock of its own.
    fn learn_the_time(&self, headers: &HeaderMap) {
        let Some(theirs) = headers::date(headers) else {
            return;
        };
        let skew = theirs - self.clock.now();
        // `Date` has no fractions of a second.
        let skew = if skew.abs() <= TimeDelta::seconds(2) {
            TimeDelta::zero()
        } else {
            skew
        };
        let (before, after) = {
            let mut known = self.skew.lock().unwrap_or_else(PoisonError::into_inner);
            let before = known.believed;
            known.learn(skew);
            (before, known.believed)
        };
        let notable = |skew: TimeDelta| skew.abs() > NOTABLE_SKEW;
        if notable(after) && !notable(before) {
            let seconds = after.num_seconds();
            tracing::warn!(
                host = self.host(),
                seconds,
                "this machine's clock is off; the service's is used"
            );
        }
    }
}

/// How far the service's clock is ahead of this machine's.
#[derive(Debug, Default)]
struct Skew {
    believed: TimeDelta,
    /// What the last answer said, if that was a leap.
    doubted: Option<TimeDelta>,
}

impl Skew {
    /// Takes what an answer says, but a leap only if two answers in a row agree on it.
    fn learn(&mut self, told: TimeDelta) {
        let near = |known: TimeDelta| (told - known).abs() <= NOTABLE_SKEW;
        if near(self.believed) || self.doubted.is_some_and(near) {
            self.believed = told;
            self.doubted = None;
        } else {
            self.doubted = Some(told);
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
