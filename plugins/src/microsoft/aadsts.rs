//! Microsoft Entra's refusals of a token request: what each code means, and what to do (reference: auth.md §6).
//!
//! Only what a restart with another configuration alone can mend is [`Kind::Config`]. What an administrator mends at
//! Microsoft, or by a new secret, is [`Kind::Auth`]: it is tried again, slowly, and works without a restart.

use std::time::Duration;

use audit_exporter_core::{Error, Kind};
use serde::Deserialize;

use crate::http::text::first_sentence;

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
        Self {
            kind: Kind::Unavailable,
            message,
            code: None,
            retry_after: None,
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

const WRONG_CLOUD: &str =
    "check the tenant's id and that cloud names the national cloud it lives in";
const FEDERATION: &str = "compare the federated credential's issuer, subject and audience";
const RESOURCE: &str = "check cloud and audience, and that the tenant has Microsoft 365";

/// Codes with the engine's next action, what they mean, and what to do.
const CODES: [(&[u32], Kind, &str, &str); 29] = [
    (
        &[7_000_215],
        Kind::Auth,
        "the client secret is wrong",
        "give the secret's value, not the secret's ID",
    ),
    (
        &[7_000_222],
        Kind::Auth,
        "the client secret has expired",
        "make a new one in the app registration",
    ),
    (
        &[700_016],
        Kind::Auth,
        "the tenant has no app with this client_id",
        "check client_id and the tenant's id, and that an administrator has consented to the app there",
    ),
    (
        &[90_002],
        Kind::Config,
        "there is no such tenant",
        WRONG_CLOUD,
    ),
    (
        &[900_023],
        Kind::Config,
        "the tenant's id is malformed",
        "give the directory (tenant) ID",
    ),
    (
        &[90_038, 900_382, 900_432],
        Kind::Config,
        "the app belongs to another national cloud",
        WRONG_CLOUD,
    ),
    (
        &[50_194],
        Kind::Config,
        "the app cannot be used without a tenant",
        "give the directory (tenant) ID",
    ),
    (
        &[700_027],
        Kind::Auth,
        "the certificate or its signature is not valid",
        "compare the app's certificate with the one in use",
    ),
    (
        &[700_024],
        Kind::Auth,
        "the assertion is outside its time range",
        "set this machine's clock",
    ),
    (
        &[700_030],
        Kind::Auth,
        "the certificate's subject or issuer is not authorised",
        "check the app's certificate",
    ),
    (
        &[50_012],
        Kind::Auth,
        "the assertion's audience or signature is not valid",
        "check authority and certificate",
    ),
    (
        &[50_027],
        Kind::Auth,
        "the assertion is not a valid token",
        FEDERATION,
    ),
    (
        &[70_021, 700_211, 700_212, 700_213],
        Kind::Auth,
        "no federated credential of the app matches",
        FEDERATION,
    ),
    (
        &[70_011],
        Kind::Config,
        "the scope is not valid",
        "check audience: scheme and host, without a slash or a space",
    ),
    (
        &[700_011, 500_011],
        Kind::Auth,
        "the tenant does not know the API that the token is for",
        RESOURCE,
    ),
    (
        &[650_052, 650_057],
        Kind::Auth,
        "the API that the token is for is missing in the tenant",
        RESOURCE,
    ),
    (
        &[70_001, 7_000_112],
        Kind::Auth,
        "the app is disabled or missing in the tenant",
        "enable it under Enterprise applications",
    ),
    (
        &[700_025],
        Kind::Config,
        "the app is a public client, which has no secret",
        "register a confidential client",
    ),
    (
        &[7_000_218],
        Kind::Config,
        "the request had no client secret",
        "set client_secret",
    ),
    (
        &[900_144],
        Kind::Config,
        "a parameter of the token request is missing",
        "check that client_id and client_secret are not empty",
    ),
    (
        &[901_002],
        Kind::Config,
        "this authority does not take a resource",
        "set token_version = \"v2\"",
    ),
    (
        &[65_001],
        Kind::Auth,
        "nobody has consented to the app's permissions",
        "grant admin consent in the app registration",
    ),
    (
        &[53_003],
        Kind::Auth,
        "a Conditional Access policy blocks the app",
        "exclude it or this machine's address from the policy",
    ),
    (
        &[500_014],
        Kind::Auth,
        "the API's service principal is disabled in the tenant",
        "enable Office 365 Management APIs under Enterprise applications",
    ),
    (
        &[700_082, 70_008],
        Kind::Auth,
        "the credential has expired",
        "make a new one in the app registration",
    ),
    (
        &[50_196],
        Kind::Throttled,
        "the authority sees too many equal requests",
        "look for another program that asks for tokens with this app",
    ),
    (&[90_055], Kind::Throttled, "the tenant is throttled", ""),
    (
        &[90_006, 90_012, 90_024, 90_033, 90_090],
        Kind::Unavailable,
        "the authority has a temporary fault",
        "",
    ),
    (
        &[50_001, 500_012],
        Kind::Config,
        "the authority does not know the audience",
        RESOURCE,
    ),
];

/// Classifies a token request that `host` refused.
pub(crate) fn refusal(
    host: &str,
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Refusal {
    let answer: Answer = serde_json::from_slice(body).unwrap_or_default();
    let number = answer.number();
    let row = number.and_then(|number| CODES.iter().find(|row| row.0.contains(&number)));
    let kind = match (row, status) {
        (_, 429) => Kind::Throttled,
        (Some(row), _) => row.1,
        (None, 400 | 401 | 403) if !answer.is_temporary() => Kind::Auth,
        _ => Kind::Unavailable,
    };
    let code = number.map(|number| format!("AADSTS{number}"));
    let reason = match (&code, row) {
        (Some(code), Some((_, _, meaning, ""))) => format!("{code}: {meaning}"),
        (Some(code), Some((_, _, meaning, advice))) => format!("{code}: {meaning}; {advice}"),
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
    let pause = number
        .filter(|number| *number == 50_196)
        .map(|_| LOOP_PAUSE);
    Refusal {
        kind,
        message,
        code,
        retry_after: retry_after.or(pause),
    }
}

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
    fn number(&self) -> Option<u32> {
        self.error_codes.first().copied().or_else(|| {
            let digits = self.error_description.split_once("AADSTS")?.1;
            let end = digits
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(digits.len());
            digits[..end].parse().ok()
        })
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

    #[test]
    fn no_code_stands_twice_in_the_table() {
        let mut seen = std::collections::HashSet::new();
        assert!(
            CODES
                .iter()
                .flat_map(|row| row.0)
                .all(|code| seen.insert(code))
        );
    }
}
