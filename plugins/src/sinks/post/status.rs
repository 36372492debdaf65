//! What an HTTP status says about a request with events.

use std::time::Duration;

use audit_exporter_core::{Error, Kind, Result};
use reqwest::StatusCode;

use super::Outcome;
use crate::http::text::first_sentence;

/// What is read of an answer.
pub(in crate::sinks) const ANSWER_CAP: usize = 64 << 10;

/// What becomes of the events. An error is what the engine does before they are sent again.
///
/// `said` is the answer's body; it is shown for what is refused alone, and from there goes to the dead letters.
pub(in crate::sinks) fn judge(
    status: StatusCode,
    said: &[u8],
    retry_after: Option<Duration>,
) -> Result<Outcome> {
    let http = format!("HTTP {}", status.as_u16());
    let refused = || match first_sentence(&String::from_utf8_lossy(said)) {
        words if words.is_empty() => http.clone(),
        words => format!("{http}: {words}"),
    };
    let error = |kind, what: &str| {
        Err(Error::new(kind, format!("it answers {what} ({http})")).with_retry_after(retry_after))
    };
    match status.as_u16() {
        200..=299 => Ok(Outcome::Stored),
        413 => Ok(Outcome::TooLarge(refused())),
        400 | 422 => Ok(Outcome::Unclear(refused())),
        401 | 403 | 407 => error(
            Kind::Auth,
            "that the credentials are not accepted; check them and their permissions",
        ),
        429 => error(Kind::Throttled, "to slow down"),
        503 if retry_after.is_some() => error(Kind::Throttled, "to come back later"),
        408 | 425 | 500..=599 => error(Kind::Unavailable, "that it cannot take events now"),
        300..=399 => error(
            Kind::Config,
            "with a redirect, which is not followed; set the address that it leads to",
        ),
        _ => error(
            Kind::Config,
            "that it does not take such requests; check the address and the options",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_consequence() {
        let wait = Some(Duration::from_secs(7));
        for (status, kind) in [
            (301, Kind::Config),
            (401, Kind::Auth),
            (403, Kind::Auth),
            (404, Kind::Config),
            (405, Kind::Config),
            (407, Kind::Auth),
            (408, Kind::Unavailable),
            (415, Kind::Config),
            (425, Kind::Unavailable),
            (429, Kind::Throttled),
            (500, Kind::Unavailable),
            (502, Kind::Unavailable),
            (503, Kind::Throttled),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = judge(status, b"<html>", wait).unwrap_err();
            assert_eq!(
                (error.kind(), error.retry_after()),
                (kind, wait),
                "{status}"
            );
            assert!(!error.to_string().contains("html"), "{error}");
        }
        let error = judge(StatusCode::SERVICE_UNAVAILABLE, b"", None).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
    }

    #[test]
    fn what_is_refused_keeps_the_far_sides_words() {
        let words = "bad \u{1b}[2Jdate. At line 1".as_bytes();
        for (status, outcome) in [
            (200, Outcome::Stored),
            (204, Outcome::Stored),
            (400, Outcome::Unclear("HTTP 400: bad [2Jdate".to_owned())),
            (413, Outcome::TooLarge("HTTP 413: bad [2Jdate".to_owned())),
            (422, Outcome::Unclear("HTTP 422: bad [2Jdate".to_owned())),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, words, None).unwrap(), outcome);
        }
        let silent = judge(StatusCode::BAD_REQUEST, b"", None).unwrap();
        assert_eq!(silent, Outcome::Unclear("HTTP 400".to_owned()));
    }
}
