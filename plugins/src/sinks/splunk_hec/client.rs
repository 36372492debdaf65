//! The protocol: one of several endpoints gets a request, and is asked whether it is indexed.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::http;
use audit_exporter_core::plugin::Finding;
use audit_exporter_core::{Error, Kind, Result};
use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::ExposeSecret;
use tokio::time::{Instant, sleep};
use url::Url;

use super::ack::{Acks, Channel, Channels};
use super::answer::{self, Said};
use super::config::Settings;
use crate::http::body::read_start;
use crate::http::headers::retry_after;
use crate::sinks::post::status::ANSWER_CAP;
use crate::sinks::post::{
    Compression, Destination, Frame, Limits, Outcome, Packed, warn_of_clear_text,
};

/// The first wait for an acknowledgement; they grow to the longest, which is how often Splunk wants to be asked.
const FIRST_POLL: Duration = Duration::from_millis(200);
const LONGEST_POLL: Duration = Duration::from_secs(10);
/// The longest wait before a request while Splunk's queues fill up.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One tenant's Splunk.
pub(super) struct Collector {
    http: http::Client,
    clock: Clock,
    settings: Settings,
    endpoints: Vec<Endpoint>,
    /// The place of the endpoint that gets requests, until it fails.
    active: AtomicUsize,
    /// How often in a row Splunk has asked to slow down.
    slow: AtomicU32,
}

/// One address.
struct Endpoint {
    event: Url,
    ack: Url,
    host: String,
    channels: Channels,
    /// The token is known to have acknowledgements.
    acknowledges: AtomicBool,
}

/// An answer, whatever it says.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: bytes::Bytes,
}

impl Collector {
    pub(super) fn new(settings: Settings, http: http::Client, clock: Clock) -> Self {
        Self {
            endpoints: settings.urls.iter().map(Endpoint::at).collect(),
            http,
            clock,
            settings,
            active: AtomicUsize::new(0),
            slow: AtomicU32::new(0),
        }
    }

    /// The request with the token. It is read each time: its file may have been replaced.
    fn request(&self, url: &Url) -> Result<RequestBuilder> {
        let token = self.settings.token.read()?;
        let mut value = HeaderValue::from_str(&format!("Splunk {}", token.expose_secret()))
            .map_err(|_| {
                let place = self.settings.token.describe();
                Error::auth(format!(
                    "the token in {place} is no text for an HTTP header"
                ))
            })?;
        value.set_sensitive(true);
        let request = self.http.request(Method::POST, url.clone());
        Ok(request
            .header(AUTHORIZATION, value)
            .header(CONTENT_TYPE, "application/json"))
    }

    /// Sends a request, on a channel if there is one, and reads the answer.
    async fn ask(&self, request: RequestBuilder, channel: Option<&mut Channel>) -> Result<Answer> {
        let request = match &channel {
            Some(channel) => channel.mark(request),
            None => request,
        };
        let response = self.http.send(request).await;
        let response = response.map_err(|error| self.settings.trust.explain(error))?;
        if let Some(channel) = channel {
            channel.learn(response.headers());
        }
        Ok(Answer {
            status: response.status(),
            retry_after: retry_after(response.headers(), self.clock.now()),
            // The status alone is worth knowing if the rest breaks off.
            body: read_start(response, ANSWER_CAP).await,
        })
    }

    /// Posts a body to one endpoint; with acknowledgement, returns once it was indexed.
    async fn post(&self, endpoint: &Endpoint, body: &Packed) -> Result<Outcome> {
        let Some(patience) = self.settings.acknowledgement else {
            return match self.hand_over(endpoint, body, None).await? {
                Said::Accepted { .. } => Ok(Outcome::Stored),
                Said::Not(outcome) => Ok(outcome),
            };
        };
        let posted = self.post_acknowledged(endpoint, body, patience).await;
        if posted
            .as_ref()
            .is_err_and(|error| error.kind() == Kind::Config)
        {
            // Its acknowledgement may have been switched off. The next try asks before it sends: otherwise each one
            // would index the events again.
            endpoint.acknowledges.store(false, Ordering::Relaxed);
        }
        posted
    }

    async fn post_acknowledged(
        &self,
        endpoint: &Endpoint,
        body: &Packed,
        patience: Duration,
    ) -> Result<Outcome> {
        self.make_sure_of_acknowledgement(endpoint).await?;
        let mut channel = endpoint.channels.take();
        match self.hand_over(endpoint, body, Some(&mut channel)).await? {
            Said::Not(outcome) => {
                endpoint.channels.give_back(channel);
                Ok(outcome)
            }
            Said::Accepted { ack_id: None, .. } => Err(Error::config(
                "Splunk took events without giving a number for their acknowledgement; \
                 enable indexer acknowledgement for the token, or set acknowledgement = false",
            )),
            Said::Accepted {
                ack_id: Some(id), ..
            } => {
                self.await_acknowledgement(endpoint, &mut channel, id, patience)
                    .await?;
                endpoint.channels.give_back(channel);
                Ok(Outcome::Stored)
            }
        }
    }

    async fn hand_over(
        &self,
        endpoint: &Endpoint,
        body: &Packed,
        channel: Option<&mut Channel>,
    ) -> Result<Said> {
        let mut request = self.request(&endpoint.event)?.body(body.bytes.clone());
        if let Some(encoding) = body.encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        let acknowledged = channel.is_some();
        let answer = self.ask(request, channel).await?;
        let said = answer::judge(
            answer.status,
            &answer.body,
            answer.retry_after,
            acknowledged,
        )?;
        match said {
            Said::Accepted {
                slow_down: true, ..
            } => {
                self.slow.fetch_add(1, Ordering::Relaxed);
            }
            Said::Accepted { .. } => self.slow.store(0, Ordering::Relaxed),
            Said::Not(_) => {}
        }
        Ok(said)
    }

    /// Asks for nothing in particular, once, before events are sent that could never be acknowledged.
    async fn make_sure_of_acknowledgement(&self, endpoint: &Endpoint) -> Result<()> {
        if !endpoint.acknowledges.load(Ordering::Relaxed) {
            let mut channel = endpoint.channels.take();
            self.acknowledged(endpoint, &mut channel, 0).await?;
            endpoint.channels.give_back(channel);
            endpoint.acknowledges.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Asks until the request was indexed, or patience ends: then it is sent again, which may repeat events.
    async fn await_acknowledgement(
        &self,
        endpoint: &Endpoint,
        channel: &mut Channel,
        id: u64,
        patience: Duration,
    ) -> Result<()> {
        let begun = Instant::now();
        let mut pause = FIRST_POLL;
        loop {
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Error::unavailable(format!(
                    "the indexers have not acknowledged a request within {} s (ack_timeout); it is sent again",
                    patience.as_secs()
                )));
            }
            sleep(pause.min(left)).await;
            pause = (pause * 3 / 2).min(LONGEST_POLL);
            match self.acknowledged(endpoint, channel, id).await {
                Ok(true) => return Ok(()),
                Err(error) if matches!(error.kind(), Kind::Auth | Kind::Config) => {
                    return Err(error);
                }
                // An endpoint that is away for a moment may still know it.
                Ok(false) | Err(_) => {}
            }
        }
    }

    async fn acknowledged(
        &self,
        endpoint: &Endpoint,
        channel: &mut Channel,
        id: u64,
    ) -> Result<bool> {
        let question = format!("{{\"acks\":[{id}]}}");
        let request = self.request(&endpoint.ack)?.body(question);
        let answer = self.ask(request, Some(channel)).await?;
        if answer.status.is_success()
            && let Ok(acks) = serde_json::from_slice::<Acks>(&answer.body)
        {
            return Ok(acks.has(id));
        }
        match answer::judge(answer.status, &answer.body, answer.retry_after, true) {
            Err(error) => Err(error.context("asking for acknowledgements")),
            Ok(_) => Err(Error::unavailable(
                "asking for acknowledgements: the answer is none of an HTTP Event Collector's",
            )),
        }
    }

    /// Lets the next endpoint get requests, unless somebody else has seen to it.
    fn turn_from(&self, failed: usize) {
        let next = (failed + 1) % self.endpoints.len();
        let turned =
            self.active
                .compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed);
        if turned.is_ok() && next != failed {
            let (from, to) = (&self.endpoints[failed].host, &self.endpoints[next].host);
            tracing::warn!(%from, %to, "the endpoint failed; another gets the events");
        }
    }

    /// Waits longer each time that Splunk asks to slow down.
    async fn pace(&self) {
        let slow = self.slow.load(Ordering::Relaxed);
        if slow > 0 {
            let pause = Duration::from_secs(1 << slow.min(5).saturating_sub(1));
            sleep(pause.min(LONGEST_PAUSE)).await;
        }
    }

    /// Sends a request without events, to which Splunk says so if it accepts the token.
    async fn try_token(&self, endpoint: &Endpoint) -> Result<()> {
        let asks = self.settings.acknowledgement.is_some();
        if asks {
            self.make_sure_of_acknowledgement(endpoint).await?;
        }
        let body = Compression::None.pack(Vec::new()).await?;
        let mut channel = asks.then(|| endpoint.channels.take());
        match self.hand_over(endpoint, &body, channel.as_mut()).await? {
            Said::Accepted { .. } | Said::Not(Outcome::Unclear(_) | Outcome::Refused { .. }) => {
                Ok(())
            }
            Said::Not(_) => Err(Error::unavailable(
                "refuses a request without events as too large",
            )),
        }
    }
}

impl Endpoint {
    fn at(base: &Url) -> Self {
        let below = |path: &str| {
            let mut url = base.clone();
            let prefix = url.path().trim_end_matches('/').to_owned();
            url.set_path(&format!("{prefix}/services/collector/{path}"));
            url
        };
        Self {
            event: below("event"),
            ack: below("ack"),
            host: base.authority().to_owned(),
            channels: Channels::default(),
            acknowledges: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl Destination for Collector {
    fn frame(&self) -> Frame {
        Frame {
            open: "",
            between: "\n",
            close: "",
        }
    }

    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn write(&self, event: &AuditEvent, body: &mut Vec<u8>) -> Result<(), String> {
        self.settings.envelope.write(event, body)
    }

    async fn send(&self, body: Vec<u8>) -> Result<Outcome> {
        let body = self.settings.compression.pack(body).await?;
        self.pace().await;
        let mut tried = 1;
        loop {
            let place = self.active.load(Ordering::Relaxed);
            let endpoint = &self.endpoints[place];
            let answer = self.post(endpoint, &body).await;
            let error = match answer {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error.context(&endpoint.host),
            };
            if matches!(error.kind(), Kind::Unavailable | Kind::Throttled) {
                self.turn_from(place);
                if tried < self.endpoints.len() {
                    tried += 1;
                    continue;
                }
            }
            return Err(error);
        }
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for endpoint in &self.endpoints {
            findings.push(match self.try_token(endpoint).await {
                Ok(()) => Finding::ok(format!("Splunk at {} takes the token", endpoint.host)),
                Err(error) => Finding::problem(error.context(&endpoint.host).to_string()),
            });
            findings.extend(warn_of_clear_text(&endpoint.event));
        }
        findings
    }
}
