//! Answers: the headers that the service sends, its error envelope, and the ways to spoil a body.

use std::{collections::BTreeMap, io, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::sync::mpsc;

use crate::{
    catalogue::Compressor,
    connection::Line,
    faults::{Failure, Faults},
};

/// How long the bytes before a reset get to arrive: a reset overtakes what is on its way.
const SETTLE: Duration = Duration::from_millis(20);
/// How long a stalled answer keeps its client waiting.
const STALL: Duration = Duration::from_mins(1);

/// An error of the Management Activity API (reference, "Errors").
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl ApiError {
    /// An error with its message.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// `AF20001`.
    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new("AF20001", format!("Missing parameter: {parameter}."))
    }

    /// `AF20002`.
    pub(crate) fn wrong_type(parameter: &str, expected: &str) -> Self {
        Self::new(
            "AF20002",
            format!("Invalid parameter type: {parameter}. Expected type: {expected}"),
        )
    }

    fn status(&self, statuses: &BTreeMap<String, u16>) -> StatusCode {
        let usual = match self.code {
            "AF10001" | "AF429" => StatusCode::FORBIDDEN,
            "AF50000" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        statuses
            .get(self.code)
            .and_then(|status| StatusCode::from_u16(*status).ok())
            .unwrap_or(usual)
    }

    /// The answer, with another status if the configuration says so.
    pub(crate) fn answer(self, statuses: &BTreeMap<String, u16>) -> Answer {
        let body = serde_json::json!({"error": {"code": self.code, "message": self.message}});
        let mut answer = Answer::json(self.status(statuses), body.to_string());
        self.code.clone_into(&mut answer.outcome);
        answer
    }
}

/// An answer before it goes out.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
    /// For the counts.
    pub(crate) outcome: String,
    /// How long after the end of the body the connection breaks, if it does.
    breaks: Option<Duration>,
}

/// A body, whole or in the making.
pub(crate) enum Payload {
    /// As it is.
    Whole(Bytes),
    /// Compressed.
    Gzip(Bytes),
    /// Piece by piece, up to a number of pieces.
    Stream(mpsc::Receiver<Bytes>, usize),
}

impl Answer {
    /// An answer of this type and body.
    pub(crate) fn new(
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self {
            status,
            headers,
            body: Payload::Whole(body.into()),
            outcome: status.as_str().to_owned(),
            breaks: None,
        }
    }

    /// A JSON answer, with the type that the service sends.
    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, "application/json; charset=utf-8", body)
    }

    /// 200 with nothing in it.
    pub(crate) fn empty() -> Self {
        let mut answer = Self::new(StatusCode::OK, "", Bytes::new());
        answer.headers.clear();
        answer
    }

    /// 401 (ASP.NET's words; the reference documents only the status).
    pub(crate) fn unauthorized() -> Self {
        let body = r#"{"Message":"Authorization has been denied for this request."}"#;
        let mut answer = Self::json(StatusCode::UNAUTHORIZED, body);
        answer
            .headers
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        answer
    }

    /// Adds a header whose value is plain text.
    pub(crate) fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    fn retry_after(self, seconds: Option<u64>) -> Self {
        match seconds {
            Some(seconds) => self.with(header::RETRY_AFTER, &seconds.to_string()),
            None => self,
        }
    }

    /// The same, counted under another name.
    pub(crate) fn spoilt(mut self, how: &str) -> Self {
        how.clone_into(&mut self.outcome);
        self
    }

    /// Sends it, with the headers that every answer of the service has (reference, "Response
    /// headers seen").
    pub(crate) fn send(self, date: &str) -> Response<Body> {
        let mut response = self.plain();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-cache"),
            (header::PRAGMA, "no-cache"),
            (header::EXPIRES, "-1"),
            (header::SERVER, "Microsoft-IIS/8.5"),
            (HeaderName::from_static("x-aspnet-version"), "4.0.30319"),
        ] {
            headers
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        }
        if let Ok(date) = HeaderValue::from_str(date) {
            headers.entry(header::DATE).or_insert(date);
        }
        response
    }

    /// Sends it as it is.
    pub(crate) fn plain(self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.extend(self.headers);
        if matches!(self.body, Payload::Gzip(_)) {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        *response.body_mut() = match (self.body, self.breaks) {
            (Payload::Whole(bytes) | Payload::Gzip(bytes), Some(after)) => {
                broken(stream::iter([bytes]), after)
            }
            (Payload::Whole(bytes) | Payload::Gzip(bytes), None) => Body::from(bytes),
            (Payload::Stream(receiver, limit), Some(after)) => {
                broken(pieces(receiver).take(limit), after)
            }
            (Payload::Stream(receiver, limit), None) => {
                Body::from_stream(pieces(receiver).take(limit).map(Ok::<_, io::Error>))
            }
        };
        response
    }
}

fn pieces(receiver: mpsc::Receiver<Bytes>) -> impl Stream<Item = Bytes> + Send + 'static {
    stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    })
}

/// A body that fails some time after its last bytes.
fn broken(body: impl Stream<Item = Bytes> + Send + 'static, after: Duration) -> Body {
    let failure = stream::once(async move {
        tokio::time::sleep(after).await;
        Err(io::Error::new(
            io::ErrorKind::ConnectionReset,
            "broken on purpose",
        ))
    });
    Body::from_stream(body.map(Ok).chain(failure))
}

/// The answer of a failure that comes before the request is looked at; `None` for those that spoil
/// the right answer.
pub(crate) fn instead(
    failure: Failure,
    faults: &Faults,
    method: &str,
    publisher: &str,
    elsewhere: &str,
) -> Option<Answer> {
    let throttled = format!("Too many requests. Method={method}, PublisherId={publisher}");
    let internal = |message: &str| ApiError::new("AF50000", message).answer(&BTreeMap::new());
    Some(match failure {
        Failure::Throttled403 => {
            let body = format!("{{'error':{{'code':'AF429','message':'{throttled}'}}}}");
            Answer::json(StatusCode::FORBIDDEN, body)
                .retry_after(faults.retry_after_seconds)
                .spoilt("throttled_403")
        }
        Failure::Throttled429 => {
            let body =
                serde_json::json!({"error": {"code": "AF429", "message": throttled}}).to_string();
            Answer::json(StatusCode::TOO_MANY_REQUESTS, body)
                .retry_after(faults.retry_after_seconds)
                .spoilt("throttled_429")
        }
        Failure::InternalError => internal("An internal error occurred. Retry the request."),
        Failure::InternalErrorInAnHour => {
            internal("An internal error has occurred. Please retry your request in an hour.")
        }
        Failure::BadGateway => gateway(StatusCode::BAD_GATEWAY, "502 Bad Gateway"),
        Failure::Unavailable => gateway(StatusCode::SERVICE_UNAVAILABLE, "503 Service Unavailable")
            .retry_after(faults.retry_after_seconds),
        Failure::Empty500 => {
            let mut answer = Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "", Bytes::new());
            answer.headers.clear();
            answer
        }
        Failure::Unauthorized => Answer::unauthorized(),
        Failure::Redirect => {
            let page = "<html><head><title>Object moved</title></head></html>";
            Answer::new(StatusCode::FOUND, "text/html; charset=utf-8", page)
                .with(header::LOCATION, elsewhere)
        }
        Failure::Missing => Answer::new(
            StatusCode::NOT_FOUND,
            "text/html; charset=utf-8",
            "Not Found",
        ),
        Failure::Reset | Failure::Stall | Failure::CutBody | Failure::CutGzip | Failure::Lost => {
            return None;
        }
    })
}

fn gateway(status: StatusCode, title: &str) -> Answer {
    let page = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n<hr><center>Microsoft-Azure-Application-Gateway/v2</center>\r\n</body>\r\n</html>\r\n"
    );
    Answer::new(status, "text/html", page)
}

/// Spoils a good answer.
pub(crate) fn spoil(failure: Failure, answer: Answer, line: &Line) -> Answer {
    if answer.status != StatusCode::OK {
        return answer;
    }
    match failure {
        Failure::Reset => {
            line.reset_when_closed();
            broken_off(answer, SETTLE).spoilt("reset")
        }
        Failure::Stall => broken_off(answer, STALL).spoilt("stall"),
        Failure::CutBody => cut(answer, false).spoilt("cut_body"),
        Failure::CutGzip => cut(answer, true).spoilt("cut_gzip"),
        Failure::Lost => {
            gateway(StatusCode::GATEWAY_TIMEOUT, "504 Gateway Time-out").spoilt("lost")
        }
        _ => answer,
    }
}

/// Two thirds of a body, at least one byte less than all of it.
fn most(body: &Bytes) -> Bytes {
    body.slice(..body.len() * 2 / 3)
}

fn cut(mut answer: Answer, raw: bool) -> Answer {
    answer.body = match answer.body {
        Payload::Whole(body) => Payload::Whole(most(&body)),
        Payload::Gzip(body) if raw => Payload::Gzip(most(&body)),
        Payload::Gzip(body) => {
            // Valid compression around broken JSON.
            let mut plain = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&body[..]);
            if let Err(error) = io::Read::read_to_end(&mut decoder, &mut plain) {
                tracing::error!(%error, "a body of our own does not decompress");
            }
            let mut compressed = Compressor::new();
            compressed.add(&most(&plain.into()));
            Payload::Gzip(compressed.finish().into())
        }
        Payload::Stream(receiver, _) => Payload::Stream(receiver, 3),
    };
    answer
}

/// Sends most of the body, waits, then breaks the connection.
fn broken_off(answer: Answer, after: Duration) -> Answer {
    let mut answer = cut(answer, true);
    answer.breaks = Some(after);
    answer
}
