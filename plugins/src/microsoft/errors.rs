//! The Management Activity API's errors: how a refusal is understood (reference: management-activity-api.md §9).
//!
//! Microsoft documents no HTTP status for any code, sends throttling as 403, and sometimes answers with pseudo JSON,
//! HTML or nothing. So the code is searched in all the text there is, and a status counts only when there is no code.

use std::time::Duration;

use audit_exporter_core::Error;
use serde::Deserialize;

use super::explain::{self, ACCESS_IS_REFUSED, AUDITING_IS_OFF, Service, TOKEN_IS_REFUSED};
use crate::http::text::first_sentence;

/// The token lacks a permission.
pub(crate) const MISSING_PERMISSION: &str = "AF10001";
/// There is no subscription for the content type.
pub(crate) const NO_SUBSCRIPTION: &str = "AF20022";
/// An administrator has disabled the subscription.
pub(crate) const SUBSCRIPTION_DISABLED: &str = "AF20023";
/// Undocumented: the subscription is enabled already.
pub(crate) const ALREADY_ENABLED: &str = "AF20024";
/// A window that the API does not take.
pub(crate) const BAD_WINDOW: [&str; 2] = ["AF20030", "AF20055"];
/// A next-page address that is no longer valid.
pub(crate) const STALE_PAGE: &str = "AF20031";
/// The API does not know the content blob.
pub(crate) const UNKNOWN_CONTENT: &str = "AF20050";
/// The name that this crate gives to the answer of a tenant without auditing, which carries no code of its own.
pub(crate) const AUDITING_OFF: &str = "DataServiceException";

/// Switching auditing on takes up to an hour to show.
const AUDITING_RETRY: Duration = Duration::from_hours(1);

/// Classifies a refused call by what its answer says.
pub(crate) fn refusal(status: u16, body: &[u8], retry_after: Option<Duration>) -> Error {
    let answer = Answer::read(body);
    if let Some(code) = answer.find_code()
        && let Some(row) = explain::find(Service::ManagementActivity, code)
    {
        return row.error(code).with_retry_after(retry_after);
    }
    if answer.is_throttling() || status == 429 {
        return Error::throttled(format!("too many requests (HTTP {status})"))
            .with_retry_after(retry_after);
    }
    if answer.says_auditing_is_off() {
        return auditing_off().with_retry_after(Some(retry_after.unwrap_or(AUDITING_RETRY)));
    }
    let error = unlisted(status, &answer).with_retry_after(retry_after);
    match answer.find_code() {
        Some(code) => error.with_code(code),
        None => error.with_code(format!("HTTP {status}")),
    }
}

/// It has no code that people would know, so the text alone is told.
fn auditing_off() -> Error {
    Error::new(AUDITING_IS_OFF.kind, AUDITING_IS_OFF.text()).with_code(AUDITING_OFF)
}

fn unlisted(status: u16, answer: &Answer) -> Error {
    let said = match answer.find_code() {
        Some(code) => format!("{code}: {}", answer.shown()),
        None => answer.shown(),
    };
    let said = if said.is_empty() {
        "without an explanation".to_owned()
    } else {
        format!("({said})")
    };
    let row = match status {
        401 => TOKEN_IS_REFUSED,
        403 => ACCESS_IS_REFUSED,
        _ => return Error::unavailable(format!("the service answered HTTP {status} {said}")),
    };
    let (meaning, advice) = (row.meaning, row.advice);
    Error::new(
        row.kind,
        format!("{meaning}, HTTP {status} {said}; {advice}"),
    )
}

/// What a refusal says, as far as it can be understood.
struct Answer {
    code: String,
    message: String,
    is_json: bool,
}

#[derive(Deserialize)]
struct Envelope {
    error: Option<Detail>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Answer {
    fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Envelope>(body) {
            Ok(Envelope {
                error: Some(detail),
                ..
            }) => Self {
                code: detail.code,
                message: detail.message,
                is_json: true,
            },
            Ok(Envelope {
                message: Some(message),
                ..
            }) => Self {
                code: String::new(),
                message,
                is_json: true,
            },
            _ => Self {
                code: String::new(),
                message: String::from_utf8_lossy(body).into_owned(),
                is_json: false,
            },
        }
    }

    fn find_code(&self) -> Option<&str> {
        find_code(&self.code).or_else(|| find_code(&self.message))
    }

    fn is_throttling(&self) -> bool {
        [&self.code, &self.message]
            .iter()
            .any(|text| text.to_ascii_lowercase().contains("too many request"))
    }

    /// Reference: §9.3. No code, but a diagnostic dump whose message names the exception.
    fn says_auditing_is_off(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        self.code.contains(AUDITING_OFF)
            || self.message.contains(AUDITING_OFF)
            || (message.contains("tenant ") && message.contains(" does not exist"))
    }

    /// Microsoft's own words, but no page of HTML.
    fn shown(&self) -> String {
        if self.is_json {
            first_sentence(&self.message)
        } else {
            String::new()
        }
    }
}

/// Finds `AF` and three to five digits that stand alone: not a part of a GUID in upper case.
fn find_code(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    text.match_indices("AF").find_map(|(start, _)| {
        let digits = bytes[start + 2..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let end = start + 2 + digits;
        let alone = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
        let before = start.checked_sub(1).and_then(|index| bytes.get(index));
        ((3..=5).contains(&digits) && alone(before) && alone(bytes.get(end)))
            .then(|| &text[start..end])
    })
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
