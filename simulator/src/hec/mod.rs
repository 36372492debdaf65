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

use axum::http::{HeaderMap, Method, StatusCode, header};
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
            ("ack", &Method::POST) => self.tell(config, asked).unwrap_or_else(|refused| refused),
            ("" | "event", &Method::POST) => {
                let failure = self.draw(faults, seed);
                self.take(config, asked, failure)
                    .unwrap_or_else(|refused| refused)
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
    ) -> Result<Answer, Answer> {
        if asked.body.len() > config.max_content_length {
            return Err(page(413));
        }
        let token = token(config, asked)?;
        let channel = match channel(asked)? {
            None if token.acknowledgement => return Err(code(400, 10, &[])),
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
            let place = place.map(|place| ("invalid-event-number", json!(place)));
            return Err(code(400, number, place.as_slice()));
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
    fn tell(&self, config: &HecConfig, asked: &Asked) -> Result<Answer, Answer> {
        #[derive(Deserialize)]
        struct Question {
            acks: Vec<u64>,
        }
        let token = token(config, asked)?;
        if !token.acknowledgement {
            return Err(code(400, 14, &[]));
        }
        let channel = channel(asked)?.ok_or_else(|| code(400, 10, &[]))?;
        let question: Question =
            serde_json::from_slice(&asked.body).map_err(|_| code(400, 6, &[]))?;
        let told = lock(&self.acks).tell(&token.token, &channel, &question.acks);
        Ok(Answer::json(
            StatusCode::OK,
            json!({"acks": told}).to_string(),
        ))
    }
}

/// The token of a request, if it may be used.
fn token<'c>(config: &'c HecConfig, asked: &Asked) -> Result<&'c HecToken, Answer> {
    let header = asked.headers.get(header::AUTHORIZATION);
    let Some(header) = header.and_then(|value| value.to_str().ok()) else {
        let in_query =
            url::form_urlencoded::parse(asked.query.as_bytes()).any(|(key, _)| key == "token");
        return Err(if in_query {
            code(400, 16, &[])
        } else {
            code(401, 2, &[])
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
    let given = given.ok_or_else(|| code(401, 3, &[]))?;
    let known = config.tokens.iter().find(|token| token.token == given);
    match known {
        None => Err(code(403, 4, &[])),
        Some(token) if token.disabled => Err(code(403, 1, &[])),
        Some(token) => Ok(token),
    }
}

/// The channel of a request, in its header or its address.
fn channel(asked: &Asked) -> Result<Option<String>, Answer> {
    let header = asked.headers.get("x-splunk-request-channel");
    let header = header
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let query = || {
        let mut pairs = url::form_urlencoded::parse(asked.query.as_bytes());
        pairs.find_map(|(key, value)| (key == "channel").then(|| value.into_owned()))
    };
    match header.or_else(query) {
        Some(channel) if uuid::Uuid::parse_str(&channel).is_err() => Err(code(400, 11, &[])),
        channel => Ok(channel),
    }
}

fn inflated(asked: &Asked) -> Result<Bytes, Answer> {
    match asked
        .headers
        .get(header::CONTENT_ENCODING)
        .map(|value| value.as_bytes())
    {
        None | Some(b"identity") => Ok(asked.body.clone()),
        Some(b"gzip") => {
            let mut plain = Vec::new();
            let mut decoder = flate2::read::MultiGzDecoder::new(&asked.body[..]).take(INFLATED_CAP);
            let read = decoder.read_to_end(&mut plain);
            read.map_err(|_| code(400, 6, &[])).map(|_| plain.into())
        }
        Some(_) => Err(page(415)),
    }
}

/// The answer of a failure that takes nothing.
fn instead(failure: HecFailure) -> Option<Answer> {
    Some(match failure {
        HecFailure::InternalError => code(500, 8, &[]),
        HecFailure::Busy => code(503, 9, &[]),
        HecFailure::ShuttingDown => code(503, 23, &[]),
        HecFailure::Full => code(429, 26, &[]),
        HecFailure::AckChannelFull => code(429, 27, &[]),
        HecFailure::BadGateway => page(502),
        HecFailure::Welcome => page(200),
        HecFailure::TooLarge => page(413),
        HecFailure::NearlyFull | HecFailure::LostAnswer | HecFailure::LostAcknowledgement => {
            return None;
        }
    })
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
