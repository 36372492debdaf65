//! Splunk's answers: what each code means for the events of a request (reference: sinks-protocols.md §1.3).

use std::time::Duration;

use audit_exporter_core::{Error, Kind, Result};
use reqwest::StatusCode;
use serde::Deserialize;

use crate::http::text::first_sentence;
use crate::sinks::post::{Outcome, status};

/// An answer of the collector's own, as against that of a proxy before it.
#[derive(Debug, Deserialize)]
struct Reply {
    #[serde(default)]
    text: String,
    code: u16,
    #[serde(rename = "invalid-event-number")]
    invalid: Option<usize>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

/// What Splunk says to a request with events.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It has them all.
    Accepted {
        /// By which the indexers' acknowledgement is asked for.
        ack_id: Option<u64>,
        /// Its queues are filling up.
        slow_down: bool,
    },
    /// It has not.
    Not(Outcome),
}

/// Understands an answer to a request with events.
pub(super) fn judge(
    status: StatusCode,
    body: &[u8],
    retry_after: Option<Duration>,
    acknowledged: bool,
) -> Result<Said> {
    let Ok(reply) = serde_json::from_slice::<Reply>(body) else {
        return foreign(status, body, retry_after).map(Said::Not);
    };
    let words = first_sentence(&reply.text);
    let said = format!("{words} (HTTP {}, code {})", status.as_u16(), reply.code);
    let error = |kind, advice: &str| {
        let message = format!("Splunk answers: {said}{advice}");
        let code = reply.code.to_string();
        Err(Error::new(kind, message)
            .with_code(code)
            .with_retry_after(retry_after))
    };
    match reply.code {
        0 | 24 | 25 if status.is_success() => Ok(Said::Accepted {
            ack_id: reply.ack_id,
            slow_down: reply.code != 0,
        }),
        1 | 22 => error(Kind::Auth, "; enable the token there"),
        2 | 3 | 4 | 21 => error(Kind::Auth, "; check token"),
        // They make dead letters, so they count only as Splunk gives them: a gateway may have codes of its own.
        5 | 6 | 12 | 13 | 15 if status == StatusCode::BAD_REQUEST => {
            Ok(Said::Not(match reply.invalid {
                // Those before it are indexed, but will never be acknowledged.
                Some(index) => Outcome::Refused {
                    index,
                    stored_before: !acknowledged,
                    reason: said,
                },
                None => Outcome::Unclear(said),
            }))
        }
        7 => error(
            Kind::Config,
            "; check index, and which indexes the token may write",
        ),
        10 | 11 => error(
            Kind::Config,
            "; the token asks for indexer acknowledgement: set acknowledgement = true",
        ),
        14 => error(
            Kind::Config,
            "; enable indexer acknowledgement for the token, or set acknowledgement = false",
        ),
        8 | 9 | 18 | 19 | 20 | 23 => error(Kind::Unavailable, ""),
        26 | 27 => error(Kind::Throttled, ""),
        404 => error(Kind::Config, "; check urls"),
        _ => foreign(status, body, retry_after).map(Said::Not),
    }
}

/// An answer that is none of the collector's: a proxy's or load balancer's, which may come right by itself.
fn foreign(status: StatusCode, body: &[u8], retry_after: Option<Duration>) -> Result<Outcome> {
    let outcome = match status.as_u16() {
        // Success counts only in the collector's own words.
        200..=299 | 400 | 404 | 405 | 415 | 422 => None,
        _ => Some(status::judge(status, body, retry_after)),
    };
    outcome.unwrap_or_else(|| {
        Err(Error::unavailable(format!(
            "HTTP {} in other words than an HTTP Event Collector's; check urls, and what stands between",
            status.as_u16()
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str, acknowledged: bool) -> Result<Said> {
        let status = StatusCode::from_u16(status).unwrap();
        judge(
            status,
            body.as_bytes(),
            Some(Duration::from_secs(3)),
            acknowledged,
        )
    }

    #[test]
    fn what_splunk_cannot_take_now_or_ever_is_told_apart() {
        for (status, code, kind) in [
            (403, 1, Kind::Auth),
            (401, 2, Kind::Auth),
            (401, 3, Kind::Auth),
            (403, 4, Kind::Auth),
            (400, 7, Kind::Config),
            (500, 8, Kind::Unavailable),
            (503, 9, Kind::Unavailable),
            (400, 10, Kind::Config),
            (400, 11, Kind::Config),
            (400, 14, Kind::Config),
            (503, 18, Kind::Unavailable),
            (503, 19, Kind::Unavailable),
            (503, 20, Kind::Unavailable),
            (400, 21, Kind::Auth),
            (400, 22, Kind::Auth),
            (503, 23, Kind::Unavailable),
            (429, 26, Kind::Throttled),
            (429, 27, Kind::Throttled),
            (404, 404, Kind::Config),
        ] {
            let body = format!("{{\"text\":\"Words\",\"code\":{code}}}");
            let error = said(status, &body, false).unwrap_err();
            let (kind_found, code_found) = (error.kind(), error.code());
            assert_eq!(
                (kind_found, code_found),
                (kind, Some(&*code.to_string())),
                "{code}"
            );
            let words = format!("Splunk answers: Words (HTTP {status}, code {code})");
            assert!(error.to_string().starts_with(&words), "{error}");
        }
    }

    #[test]
    fn success_is_the_collectors_word_alone() {
        let accepted = |ack_id, slow_down| Said::Accepted { ack_id, slow_down };
        for (body, expected) in [
            (r#"{"text":"Success","code":0}"#, accepted(None, false)),
            (
                r#"{"text":"Success","code":0,"ackId":7}"#,
                accepted(Some(7), false),
            ),
            (
                r#"{"text":"Queue approaching capacity","code":24}"#,
                accepted(None, true),
            ),
            (
                r#"{"text":"ACK queue approaching capacity","code":25,"ackId":0}"#,
                accepted(Some(0), true),
            ),
        ] {
            assert_eq!(said(200, body, false).unwrap(), expected);
        }
        for body in ["", "<html>Welcome</html>", "{}", r#"{"code":99}"#] {
            assert_eq!(
                said(200, body, false).unwrap_err().kind(),
                Kind::Unavailable,
                "{body}"
            );
        }
        let error = said(500, r#"{"text":"Success","code":0}"#, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
    }

    #[test]
    fn a_poisoned_event_is_found_by_its_number() {
        for code in [6, 12, 13, 15] {
            for acknowledged in [false, true] {
                let body =
                    format!("{{\"text\":\"Bad\",\"code\":{code},\"invalid-event-number\":3}}");
                let expected = Outcome::Refused {
                    index: 3,
                    stored_before: !acknowledged,
                    reason: format!("Bad (HTTP 400, code {code})"),
                };
                assert_eq!(said(400, &body, acknowledged).unwrap(), Said::Not(expected));
            }
        }
        let unclear = Outcome::Unclear("No data (HTTP 400, code 5)".to_owned());
        let body = r#"{"text":"No data","code":5}"#;
        assert_eq!(said(400, body, false).unwrap(), Said::Not(unclear));
    }

    #[test]
    fn a_gateways_code_refuses_no_event() {
        for code in [5, 6, 12, 13, 15] {
            for (status, kind) in [
                (500, Kind::Unavailable),
                (503, Kind::Throttled),
                (200, Kind::Unavailable),
                (429, Kind::Throttled),
                (403, Kind::Auth),
            ] {
                let body = format!("{{\"code\":{code},\"invalid-event-number\":0}}");
                let error = said(status, &body, false).unwrap_err();
                assert_eq!(error.kind(), kind, "{status} {code}");
            }
        }
    }

    #[test]
    fn a_proxys_page_is_not_taken_for_splunks_answer() {
        let page = "<html><h1>Oops</h1></html>";
        for (status, kind) in [
            (400, Kind::Unavailable),
            (404, Kind::Unavailable),
            (415, Kind::Unavailable),
            (502, Kind::Unavailable),
            (403, Kind::Auth),
            (429, Kind::Throttled),
            (302, Kind::Config),
        ] {
            assert_eq!(
                said(status, page, false).unwrap_err().kind(),
                kind,
                "{status}"
            );
        }
        assert!(matches!(
            said(413, page, false).unwrap(),
            Said::Not(Outcome::TooLarge(_))
        ));
    }
}
