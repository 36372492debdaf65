//! What Graph's refusals mean (reference: graph-audit-queries.md §7).

use std::time::Duration;

use audit_exporter_core::Error;
use serde::Deserialize;

use crate::http::text::first_sentence;

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
    let error = match status {
        400 => Error::config(format!("Graph does not take the query ({said})")),
        401 => Error::auth(format!(
            "Graph does not accept the token ({said}); check the tenant's cloud and graph_audience"
        )),
        // The page of a gateway in between comes and goes.
        403 if is_graphs => Error::auth(format!(
            "the app may not query the audit log ({said}); grant it the application permission {PERMISSION} of \
             Microsoft Graph, with admin consent"
        )),
        404 => Error::unavailable(format!("Graph does not know it ({said})")),
        429 => Error::throttled(format!("Graph asks to slow down ({said})")),
        _ => Error::unavailable(format!("Graph failed ({said})")),
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
