//! Refusals of a token request: how Microsoft Entra's answer is understood (reference: auth.md §6).

use std::time::Duration;

use audit_exporter_core::{Error, Kind};
use serde::Deserialize;

use super::explain::{self, Service};
use crate::http::text::first_sentence;

/// The authority sees a loop.
const LOOP: &str = "AADSTS50196";
/// How long to leave the authority alone when it says that it sees a loop.
const LOOP_PAUSE: Duration = Duration::from_mins(5);

/// A refusal that can be told more than once: to every caller that waits for the same token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The engine's next action.
    pub(crate) kind: Kind,
    /// What failed, why, and what to do.
    pub(crate) message: String,
    /// `AADSTS…`.
    pub(crate) code: Option<String>,
    /// The wait that the authority asked for.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    /// A failure without an answer from the authority.
    pub(crate) fn unavailable(message: String) -> Self {
        Self::without_code(Kind::Unavailable, message)
    }

    /// A failure without a code of the authority's.
    pub(crate) fn without_code(kind: Kind, message: String) -> Self {
        Self {
            kind,
            message,
            code: None,
            retry_after: None,
        }
    }

    /// An error, to be told more than once.
    pub(crate) fn of(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            message: error.to_string(),
            code: error.code().map(str::to_owned),
            retry_after: error.retry_after(),
        }
    }

    /// The error that the engine gets.
    pub(crate) fn to_error(&self) -> Error {
        let error = Error::new(self.kind, self.message.clone()).with_retry_after(self.retry_after);
        match &self.code {
            Some(code) => error.with_code(code.clone()),
            None => error,
        }
    }
}

/// Classifies a token request that `host` refused.
pub(crate) fn refusal(
    host: &str,
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Refusal {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let code = answer.code();
    let row = code
        .as_deref()
        .and_then(|code| explain::find(Service::Entra, code));
    let kind = match (row, status) {
        (_, 429) => Kind::Throttled,
        (Some(row), _) => row.kind,
        (None, 400 | 401 | 403) if !answer.is_temporary() => Kind::Auth,
        _ => Kind::Unavailable,
    };
    let reason = match (&code, row) {
        (Some(code), Some(row)) => format!("{code}: {}", row.text()),
        (Some(code), None) => code.clone(),
        (None, _) => format!("HTTP {status} {}", first_sentence(&answer.error)),
    };
    let said = match first_sentence(answer.words()) {
        said if said.is_empty() => said,
        said => format!(" (\"{said}\")"),
    };
    let message = format!(
        "{host} refused the token request: {}{said}",
        reason.trim_end()
    );
    let pause = code
        .as_deref()
        .filter(|code| *code == LOOP)
        .map(|_| LOOP_PAUSE);
    Refusal {
        kind,
        message,
        code,
        retry_after: retry_after.or(pause),
    }
}

/// "Error validating credentials": older answers put it before the code that says why.
const WRAPPER: u32 = 70_002;

#[derive(Default, Deserialize)]
struct Answer {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
    #[serde(default)]
    error_codes: Vec<u32>,
}

impl Answer {
    fn code(&self) -> Option<String> {
        let mut numbers = self.error_codes.iter().copied();
        let number = numbers.find(|number| *number != WRAPPER).or_else(|| {
            let digits = self.error_description.split_once("AADSTS")?.1;
            let end = digits
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(digits.len());
            digits[..end].parse().ok()
        })?;
        Some(format!("AADSTS{number}"))
    }

    fn is_temporary(&self) -> bool {
        matches!(
            self.error.as_str(),
            "temporarily_unavailable" | "server_error"
        )
    }

    /// The description without the code at its front.
    fn words(&self) -> &str {
        match self.error_description.split_once(": ") {
            Some((code, words)) if code.starts_with("AADSTS") => words,
            _ => &self.error_description,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(code: u32) -> String {
        format!(
            r#"{{"error":"invalid_client","error_description":"AADSTS{code}: What happened. Trace ID: t Timestamp: 2026","error_codes":[{code}]}}"#
        )
    }

    #[test]
    fn each_code_leads_to_its_action() {
        let cases = [
            (7_000_215, 401, Kind::Auth),
            (700_016, 400, Kind::Auth),
            (90_002, 400, Kind::Config),
            (900_382, 400, Kind::Config),
            (90_033, 400, Kind::Unavailable),
            (90_055, 400, Kind::Throttled),
            (50_196, 400, Kind::Throttled),
            (1_234_567, 400, Kind::Auth),
            (7_000_215, 429, Kind::Throttled),
        ];
        for (code, status, kind) in cases {
            let refusal = refusal("login.example", status, body(code).as_bytes(), None);
            assert_eq!(refusal.kind, kind, "{code}");
            assert_eq!(refusal.code, Some(format!("AADSTS{code}")));
        }
    }

    #[test]
    fn the_code_that_says_why_is_told_not_the_one_before_it() {
        let body = r#"{"error_description":"AADSTS70002: Error. AADSTS50012: No.","error_codes":[70002,50012]}"#;
        let refusal = refusal("login.example", 401, body.as_bytes(), None);
        assert_eq!(refusal.code.as_deref(), Some("AADSTS50012"));
    }

    #[test]
    fn a_message_says_code_meaning_advice_and_microsofts_first_sentence() {
        let refusal = refusal("login.example", 401, body(7_000_215).as_bytes(), None);
        assert_eq!(
            refusal.message,
            "login.example refused the token request: AADSTS7000215: the client secret is wrong; give the secret's \
             value, not the secret's ID (\"What happened\")"
        );
    }

    #[test]
    fn answers_without_a_code_are_classified_by_status() {
        for (status, body, kind) in [
            (503, "<html>", Kind::Unavailable),
            (429, "", Kind::Throttled),
            (
                400,
                r#"{"error":"temporarily_unavailable"}"#,
                Kind::Unavailable,
            ),
            (
                400,
                r#"{"error":"invalid_request","error_description":"AADSTS90002: Tenant not found."}"#,
                Kind::Config,
            ),
            (401, "", Kind::Auth),
            (302, "", Kind::Unavailable),
        ] {
            assert_eq!(
                refusal("h", status, body.as_bytes(), None).kind,
                kind,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn an_error_of_any_length_with_escapes_is_shown_harmless_and_short() {
        let error = format!("\u{1b}]0;owned\u{7}\u{202e}{}", "x".repeat(5000));
        let body = serde_json::json!({ "error": error, "error_description": error }).to_string();
        let refusal = refusal("login.example", 400, body.as_bytes(), None);
        assert!(refusal.message.chars().count() < 600, "{}", refusal.message);
        let is_unsafe = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!refusal.message.contains(is_unsafe));
        assert!(refusal.message.contains("HTTP 400 ]0;owned"));
    }
}
