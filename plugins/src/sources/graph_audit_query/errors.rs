//! What Graph's refusals mean (reference: graph-audit-queries.md §7).

use std::time::Duration;

use audit_exporter_core::Error;
use serde::Deserialize;

use crate::http::text::first_sentence;
use crate::microsoft::explain::{self, Service};

/// The application permission for the audit records of all services.
pub(super) const PERMISSION: &str = "AuditLogsQuery.Read.All";
/// The code of every 404: Microsoft's own says nothing, and the status is what counts.
pub(super) const NOT_FOUND: &str = "HTTP 404";
/// The code of every 400, for the same reason.
pub(super) const BAD_REQUEST: &str = "HTTP 400";

#[derive(Deserialize)]
struct Envelope {
    error: Detail,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Detail {
    code: String,
    message: String,
}

/// Classifies a refused call by what its answer says.
pub(super) fn refusal(status: u16, body: &[u8], retry_after: Option<Duration>) -> Error {
    let envelope = serde_json::from_slice::<Envelope>(body);
    let is_graphs = envelope.is_ok();
    let detail = envelope.map(|envelope| envelope.error).unwrap_or_default();
    let (code, message) = (
        first_sentence(&detail.code),
        first_sentence(&detail.message),
    );
    let said = match (code.is_empty(), message.is_empty()) {
        (true, _) => format!("HTTP {status}"),
        (false, true) => format!("HTTP {status} {code}"),
        (false, false) => format!("HTTP {status} {code}: {message}"),
    };
    // Microsoft's words for a status differ; what it means here does not.
    let known = match status {
        400 => Some("BadRequest"),
        401 => Some("InvalidAuthenticationToken"),
        // The page of a gateway in between comes and goes.
        403 if is_graphs => Some("Forbidden"),
        429 => Some("TooManyRequests"),
        _ => None,
    };
    let error = match known.and_then(|code| explain::find(Service::Graph, code)) {
        Some(row) => Error::new(row.kind, format!("{} ({said})", row.text())),
        None if status == 404 => Error::unavailable(format!("Graph does not know it ({said})")),
        None => Error::unavailable(format!("Graph failed ({said})")),
    };
    let code = match status {
        404 => NOT_FOUND.to_owned(),
        400 => BAD_REQUEST.to_owned(),
        _ if code.is_empty() => format!("HTTP {status}"),
        _ => code,
    };
    error.with_code(code).with_retry_after(retry_after)
}

#[cfg(test)]
mod tests {
    use audit_exporter_core::Kind;

    use super::*;

    #[test]
    fn each_refusal_says_what_to_do_next() {
        let body = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"Why."}}}}"#);
        for (status, body, kind, code) in [
            (400, body("BadRequest"), Kind::Config, "HTTP 400"),
            (
                401,
                body("InvalidAuthenticationToken"),
                Kind::Auth,
                "InvalidAuthenticationToken",
            ),
            (403, body("Forbidden"), Kind::Auth, "Forbidden"),
            (403, "<html>".to_owned(), Kind::Unavailable, "HTTP 403"),
            (404, body("UnknownError"), Kind::Unavailable, "HTTP 404"),
            (
                429,
                body("TooManyRequests"),
                Kind::Throttled,
                "TooManyRequests",
            ),
            (
                500,
                body("InternalServerError"),
                Kind::Unavailable,
                "InternalServerError",
            ),
            (502, "<html>".to_owned(), Kind::Unavailable, "HTTP 502"),
        ] {
            let error = refusal(status, body.as_bytes(), Some(Duration::from_secs(7)));
            assert_eq!((error.kind(), error.code()), (kind, Some(code)), "{error}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        }
    }

    #[test]
    fn microsofts_own_code_is_told() {
        let error = refusal(
            403,
            br#"{"error":{"code":"Authorization_RequestDenied"}}"#,
            None,
        );
        assert!(
            error.to_string().contains("Authorization_RequestDenied"),
            "{error}"
        );
        assert!(error.to_string().contains(PERMISSION), "{error}");
    }
}
