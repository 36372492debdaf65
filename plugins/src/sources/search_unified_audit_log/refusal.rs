//! What the services say when they refuse, understood (reference: search-unified-audit-log.md, B.1 and B.2).

use std::time::Duration;

use audit_exporter_core::Error;
use serde::Deserialize;

use crate::http::text::first_sentence;
use crate::microsoft::explain::{self, Service};

/// Texts of failures that pass, in exceptions and in warnings.
const PASSING: [&str; 5] = [
    "server side error",
    "operation could not be completed",
    "timed out",
    "task was canceled",
    "failed to process request",
];
/// The text for a time that the service has forgotten.
const FORGOTTEN: &str = "startdate should be after";
/// The exception of a role that lacks a cmdlet.
pub(super) const NO_SUCH_CMDLET: &str = "CommandNotFoundException";

/// Whether a warning means that the search failed.
pub(super) fn is_failure(warning: &str) -> bool {
    let warning = warning.to_lowercase();
    PASSING.iter().any(|text| warning.contains(text))
}

/// Classifies a refusal of Exchange Online's `InvokeCommand`.
pub(super) fn of_exchange(status: u16, body: &[u8], retry_after: Option<Duration>) -> Error {
    judge(Service::Exchange, status, body, retry_after)
}

/// Classifies a refusal of the older REST service.
pub(super) fn of_legacy(status: u16, body: &[u8], retry_after: Option<Duration>) -> Error {
    judge(Service::ExchangeBasic, status, body, retry_after)
}

fn judge(service: Service, status: u16, body: &[u8], retry_after: Option<Duration>) -> Error {
    let said = Said::read(body);
    let http = format!("HTTP {status}");
    let known = explain::find(service, &http).filter(|_| matches!(status, 401 | 403 | 429));
    let error = match known {
        Some(row) => row.error(&http),
        None => said.into_error(&http),
    };
    error.with_retry_after(retry_after)
}

/// What a refusal says.
struct Said {
    /// The exception's name without its namespace; empty if there is none.
    kind: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Envelope {
    error: Option<Outer>,
    #[serde(rename = "odata.error")]
    odata: Option<Odata>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Outer {
    message: String,
    details: Vec<Detail>,
    innererror: Option<Inner>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Detail {
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Inner {
    internalexception: Option<Exception>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Exception {
    message: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Odata {
    message: Text,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Text {
    value: String,
}

impl Said {
    /// Reads the depth of the envelope: its surface always says "Invalid Operation". A body may also be no JSON, such as
    /// a run of NUL bytes; then nothing was said.
    fn read(body: &[u8]) -> Self {
        let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
        if let Some(odata) = envelope.odata {
            return Self::new("", odata.message.value);
        }
        let outer = envelope.error.unwrap_or_default();
        let exception = outer.innererror.and_then(|inner| inner.internalexception);
        if let Some(exception) = exception.filter(|exception| !exception.message.is_empty()) {
            return Self::new(&exception.kind, exception.message);
        }
        let Some(detail) = outer.details.into_iter().next() else {
            return Self::new("", outer.message);
        };
        let parts = detail
            .message
            .strip_prefix('|')
            .and_then(|rest| rest.split_once('|'));
        match parts {
            Some((kind, message)) => Self::new(kind, message.to_owned()),
            None => Self::new("", detail.message),
        }
    }

    fn new(kind: &str, message: String) -> Self {
        let kind = kind.rsplit('.').next().unwrap_or_default();
        let is_name = kind.len() <= 100 && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Self {
            kind: if is_name {
                kind.to_owned()
            } else {
                String::new()
            },
            message,
        }
    }

    fn into_error(self, http: &str) -> Error {
        let lower = self.message.to_lowercase();
        let said = match first_sentence(&self.message) {
            said if said.is_empty() => "without an explanation".to_owned(),
            said => format!("({said})"),
        };
        let code = if self.kind.is_empty() {
            http.to_owned()
        } else {
            self.kind
        };
        if lower.contains(FORGOTTEN) {
            return Error::lost(format!(
                "the service does not keep this time any more {said}"
            ))
            .with_code(code);
        }
        let error = if code == NO_SUCH_CMDLET {
            Error::auth(format!(
                "{code}: the role of the app does not include the search {said}; give it View-Only Audit Logs"
            ))
        } else {
            Error::unavailable(format!("the service answered {http} {said}"))
        };
        error.with_code(code)
    }
}

#[cfg(test)]
mod tests {
    use audit_exporter_core::Kind;

    use super::*;

    fn envelope(kind: &str, message: &str) -> String {
        format!(
            r#"{{"error":{{"code":"BadRequest","message":"Invalid Operation","details":[{{"code":"Client","message":"|x|y"}}],
            "innererror":{{"message":"m","internalexception":{{"message":"{message}","type":"{kind}"}}}}}}}}"#
        )
    }

    fn told(status: u16, body: &str) -> (Kind, String, String) {
        let error = of_exchange(status, body.as_bytes(), None);
        let code = error.code().unwrap_or_default().to_owned();
        (error.kind(), code, error.to_string())
    }

    #[test]
    fn the_text_comes_from_the_depth_of_the_envelope() {
        let inner = envelope("Some.Exception.TypeException", "the actual text");
        let details = r#"{"error":{"message":"Invalid Operation","details":[{"message":"|Some.TypeException|the actual text"}]}}"#;
        let plain = r#"{"error":{"message":"the actual text"}}"#;
        for (body, code) in [
            (inner.as_str(), "TypeException"),
            (details, "TypeException"),
            (plain, "HTTP 400"),
        ] {
            let (kind, found, text) = told(400, body);
            assert_eq!((kind, found.as_str()), (Kind::Unavailable, code));
            assert!(text.contains("(the actual text)"), "{text}");
        }
    }

    #[test]
    fn the_two_grants_are_told_apart_whatever_the_body_is() {
        let (kind, code, text) = told(401, "");
        assert_eq!((kind, code.as_str()), (Kind::Auth, "HTTP 401"));
        assert!(text.contains("Exchange.ManageAsApp"), "{text}");
        let (kind, code, text) = told(403, &"\0".repeat(64));
        assert_eq!((kind, code.as_str()), (Kind::Auth, "HTTP 403"));
        assert!(
            text.contains("View-Only Audit Logs") && !text.contains('\0'),
            "{text}"
        );
    }

    #[test]
    fn a_password_that_is_refused_is_told_with_what_to_use_instead() {
        let error = of_legacy(401, b"", None);
        assert_eq!(error.kind(), Kind::Auth);
        let text = error.to_string();
        for part in [
            "retired Basic authentication",
            "multifactor",
            "Exchange.ManageAsApp",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let body = br#"{"odata.error":{"message":{"lang":"en","value":"A server side error has occurred"}}}"#;
        let error = of_legacy(500, body, None);
        assert!(
            error
                .to_string()
                .contains("(A server side error has occurred)"),
            "{error}"
        );
    }

    #[test]
    fn a_time_that_is_forgotten_is_lost_and_throttling_waits() {
        let body = envelope("X", "The startDate should be after 01/01/2026");
        assert_eq!(told(400, &body).0, Kind::Lost);
        let wait = Some(Duration::from_secs(7));
        let error = of_exchange(429, b"", wait);
        assert_eq!((error.kind(), error.retry_after()), (Kind::Throttled, wait));
    }

    #[test]
    fn a_role_without_the_cmdlet_is_told() {
        let body = envelope(
            "System.Management.Automation.CommandNotFoundException",
            "The term is not recognized",
        );
        let (kind, code, text) = told(400, &body);
        assert_eq!((kind, code.as_str()), (Kind::Auth, NO_SUCH_CMDLET));
        assert!(text.contains("View-Only Audit Logs"), "{text}");
    }

    #[test]
    fn what_the_service_says_cannot_steer_the_terminal() {
        let (_, code, text) = told(400, &envelope("a\\u001b[2J", "b\\u001b[2Jc"));
        assert!(!text.contains('\u{1b}') && !code.contains('\u{1b}'));
    }
}
