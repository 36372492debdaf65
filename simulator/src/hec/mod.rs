//! A Splunk HTTP Event Collector, to the letter of the reference (sinks-protocols.md §1): tokens, indexes, streaming,
//! acknowledgements, and all codes.

mod acks;
mod config;
mod stream;

use std::{
    collections::VecDeque,
    io::Read as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use self::{
    acks::Acks,
    stream::{Rules, Stop},
};
pub use self::{
    config::{HecConfig, HecFailure, HecFaults, HecToken},
    stream::HecEvent,
};
use crate::{
    answer::{Answer, spoil},
    chance::{Chance, part},
    connection::Line,
    faults::{Failure, Faults},
    state::lock,
};

/// A body may inflate to this much.
const INFLATED_CAP: u64 = 1 << 30;

/// The collector while it runs.
#[derive(Default)]
pub(crate) struct Hec {
    acks: Mutex<Acks>,
    indexed: Mutex<Vec<HecEvent>>,
    count: AtomicU64,
    requests: AtomicU64,
    failed_in_a_row: Mutex<u32>,
    script: Mutex<VecDeque<HecFailure>>,
}

/// A request to the collector.
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// Behind `/services/collector`, without a slash.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) line: Line,
}

impl Hec {
    /// What was indexed so far.
    pub(crate) fn events(&self) -> Vec<HecEvent> {
        lock(&self.indexed).clone()
    }

    /// How many events were indexed so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Lets the next requests with events fail so, whatever the probabilities say.
    pub(crate) fn script(&self, failures: impl IntoIterator<Item = HecFailure>) {
        lock(&self.script).extend(failures);
    }

    /// Forgets every channel, as a restart does.
    pub(crate) fn restart(&self) {
        *lock(&self.acks) = Acks::default();
    }

    /// Answers a request.
    pub(crate) fn answer(
        &self,
        config: &HecConfig,
        (faults, seed): (&Faults, u64),
        asked: &Asked,
    ) -> Answer {
        let path = asked.path.trim_end_matches("/1.0");
        match (path, &asked.method) {
            ("health", &Method::GET) => code(200, 17, &[]),
            ("" | "event" | "ack", &Method::OPTIONS) => {
                Answer::empty().with(header::ALLOW, "POST,OPTIONS")
            }
            ("health", &Method::OPTIONS) => Answer::empty().with(header::ALLOW, "GET,HEAD,OPTIONS"),
            ("ack", &Method::POST) => self.tell(config, asked).unwrap_or_else(Refusal::answer),
            ("" | "event", &Method::POST) => {
                let failure = self.draw(faults, seed);
                self.take(config, asked, failure)
                    .unwrap_or_else(Refusal::answer)
            }
            ("" | "event" | "ack" | "health", _) => missing(StatusCode::METHOD_NOT_ALLOWED),
            _ => missing(StatusCode::NOT_FOUND),
        }
    }

    fn draw(&self, faults: &Faults, seed: u64) -> Option<HecFailure> {
        if let Some(scripted) = lock(&self.script).pop_front() {
            return Some(scripted);
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let seed = faults.seed.unwrap_or(seed);
        let failure = faults
            .hec
            .draw(&mut Chance::of(&[seed, part("hec"), number]));
        let mut in_a_row = lock(&self.failed_in_a_row);
        let failure =
            failure.filter(|_| faults.most_in_a_row == 0 || *in_a_row < faults.most_in_a_row);
        *in_a_row = if failure.is_some() { *in_a_row + 1 } else { 0 };
        failure
    }

    /// Takes events.
    fn take(
        &self,
        config: &HecConfig,
        asked: &Asked,
        failure: Option<HecFailure>,
    ) -> Result<Answer, Refusal> {
        if asked.body.len() > config.max_content_length {
            return Err(Refusal::Page(413));
        }
        let token = token(config, asked)?;
        let channel = match channel(asked)? {
            None if token.acknowledgement => return Err(Refusal::Code(400, 10, None)),
            found => found.filter(|_| token.acknowledgement),
        };
        let body = inflated(asked)?;
        if let Some(refused) = failure.and_then(instead) {
            return Err(refused);
        }
        let mut events = Vec::new();
        let rules = Rules {
            indexes: &token.indexes,
            refuses: config.refuses.as_deref(),
        };
        let ended = stream::read(&body, &rules, |event| events.push(event));
        self.count.fetch_add(events.len() as u64, Ordering::Relaxed);
        if config.keep {
            lock(&self.indexed).append(&mut events);
        }
        if let Err(Stop::Refused(number, place)) = ended {
            return Err(Refusal::Code(400, number, place));
        }
        let after = Duration::from_millis(config.acknowledged_after_millis);
        let after = (failure != Some(HecFailure::LostAcknowledgement)).then_some(after);
        let ack = channel.map(|channel| lock(&self.acks).open(&token.token, &channel, after));
        let ack = ack.map(|id| ("ackId", json!(id)));
        let nearly_full = failure == Some(HecFailure::NearlyFull);
        let answer = code(200, if nearly_full { 24 } else { 0 }, ack.as_slice());
        Ok(match failure {
            Some(HecFailure::LostAnswer) => spoil(Failure::Reset, answer, &asked.line),
            _ => answer,
        })
    }

    /// Tells acknowledgements.
    fn tell(&self, config: &HecConfig, asked: &Asked) -> Result<Answer, Refusal> {
        #[derive(Deserialize)]
        struct Question {
            acks: Vec<u64>,
        }
        let token = token(config, asked)?;
        if !token.acknowledgement {
            return Err(Refusal::Code(400, 14, None));
        }
        let channel = channel(asked)?.ok_or(Refusal::Code(400, 10, None))?;
        let question: Question =
            serde_json::from_slice(&asked.body).map_err(|_| Refusal::Code(400, 6, None))?;
        let told = lock(&self.acks).tell(&token.token, &channel, &question.acks);
        Ok(Answer::json(
            StatusCode::OK,
            json!({"acks": told}).to_string(),
        ))
    }
}

/// The token of a request, if it may be used.
fn token<'c>(config: &'c HecConfig, asked: &Asked) -> Result<&'c HecToken, Refusal> {
    let header = asked.headers.get(header::AUTHORIZATION);
    let Some(header) = header.and_then(|value| value.to_str().ok()) else {
        let in_query =
            url::form_urlencoded::parse(asked.query.as_bytes()).any(|(key, _)| key == "token");
        return Err(if in_query {
            Refusal::Code(400, 16, None)
        } else {
            Refusal::Code(401, 2, None)
        });
    };
    let given = match header.split_once(' ') {
        Some(("Splunk", token)) => Some(token.trim().to_owned()),
        Some(("Basic", encoded)) => STANDARD
            .decode(encoded.trim())
            .ok()
            .and_then(|pair| String::from_utf8(pair).ok())
            .and_then(|pair| Some(pair.split_once(':')?.1.to_owned())),
        _ => None,
    };
    let given = given.ok_or(Refusal::Code(401, 3, None))?;
    let known = config.tokens.iter().find(|token| token.token == given);
    match known {
        None => Err(Refusal::Code(403, 4, None)),
        Some(token) if token.disabled => Err(Refusal::Code(403, 1, None)),
        Some(token) => Ok(token),
    }
}

/// The channel of a request, in its header or its address.
fn channel(asked: &Asked) -> Result<Option<String>, Refusal> {
    let header = asked.headers.get("x-splunk-request-channel");
    let header = header
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let query = || {
        let mut pairs = url::form_urlencoded::parse(asked.query.as_bytes());
        pairs.find_map(|(key, value)| (key == "channel").then(|| value.into_owned()))
    };
    match header.or_else(query) {
        Some(channel) if uuid::Uuid::parse_str(&channel).is_err() => {
            Err(Refusal::Code(400, 11, None))
        }
        channel => Ok(channel),
    }
}

fn inflated(asked: &Asked) -> Result<Bytes, Refusal> {
    match asked
        .headers
        .get(header::CONTENT_ENCODING)
        .map(HeaderValue::as_bytes)
    {
        None | Some(b"identity") => Ok(asked.body.clone()),
        Some(b"gzip") => {
            let mut plain = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(&asked.body[..]).take(INFLATED_CAP);
            let read = decoder.read_to_end(&mut plain);
            read.map_err(|_| Refusal::Code(400, 6, None))
                .map(|_| plain.into())
        }
        Some(_) => Err(Refusal::Page(415)),
    }
}

/// The answer of a failure that takes nothing.
fn instead(failure: HecFailure) -> Option<Refusal> {
    Some(match failure {
        HecFailure::InternalError => Refusal::Code(500, 8, None),
        HecFailure::Busy => Refusal::Code(503, 9, None),
        HecFailure::ShuttingDown => Refusal::Code(503, 23, None),
        HecFailure::Full => Refusal::Code(429, 26, None),
        HecFailure::AckChannelFull => Refusal::Code(429, 27, None),
        HecFailure::BadGateway => Refusal::Page(502),
        HecFailure::Welcome => Refusal::Page(200),
        HecFailure::TooLarge => Refusal::Page(413),
        HecFailure::NearlyFull | HecFailure::LostAnswer | HecFailure::LostAcknowledgement => {
            return None;
        }
    })
}

/// Why a request is refused.
enum Refusal {
    /// A status, a code, and perhaps the number of the event.
    Code(u16, u16, Option<usize>),
    /// A status, with a page in nobody's words.
    Page(u16),
}

impl Refusal {
    fn answer(self) -> Answer {
        match self {
            Self::Code(status, number, place) => {
                let place = place.map(|place| ("invalid-event-number", json!(place)));
                code(status, number, place.as_slice())
            }
            Self::Page(status) => page(status),
        }
    }
}

/// An answer in the collector's words.
fn code(status: u16, code: u16, more: &[(&str, Value)]) -> Answer {
    let text = match code {
        0 => "Success",
        1 => "Token disabled",
        2 => "Token is required",
        3 => "Invalid authorization",
        4 => "Invalid token",
        5 => "No data",
        6 => "Invalid data format",
        7 => "Incorrect index",
        8 => "Internal server error",
        9 => "Server is busy",
        10 => "Data channel is missing",
        11 => "Invalid data channel",
        12 => "Event field is required",
        13 => "Event field cannot be blank",
        14 => "ACK is disabled",
        15 => "Error in handling indexed fields",
        16 => "Query string authorization is not enabled",
        17 => "HEC is healthy",
        23 => "Server is shutting down",
        24 => "Queue approaching capacity",
        26 => "Queue at capacity",
        27 => "ACK channel at capacity",
        _ => "The requested URL was not found on this server.",
    };
    let mut body = json!({"text": text, "code": code});
    for (key, value) in more {
        body[*key] = value.clone();
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = Answer::json(status, body.to_string());
    answer.outcome = format!("code_{code}");
    answer
}

fn missing(status: StatusCode) -> Answer {
    let mut answer = code(404, 404, &[]);
    answer.status = status;
    answer
}

/// A page in nobody's words.
fn page(status: u16) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = format!("<html><head><title>{status}</title></head><body></body></html>");
    Answer::new(status, "text/html", body)
}
