//! The Management Activity API's errors: what each code means, and what to do (reference: management-activity-api.md §9).
//!
//! Microsoft documents no HTTP status for any code, sends throttling as 403, and sometimes answers with pseudo JSON,
//! HTML or nothing. So the code is searched in all the text there is, and a status counts only when there is no code.

use std::time::Duration;

use audit_exporter_core::{Error, Kind};
use serde::Deserialize;

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

/// A code, the engine's next action, what it means, and what to do about it (empty: nothing).
type Row = (&'static str, Kind, &'static str, &'static str);

/// An error that can only come from a defect here is still retried: it must not stop a tenant for good.
const REPORT: &str = "this is a defect of the exporter; please report it with this message";

const CODES: [Row; 24] = [
    (
        MISSING_PERMISSION,
        Kind::Auth,
        "the app lacks a permission",
        "grant it the application permission ActivityFeed.Read of the Office 365 Management APIs, with admin consent",
    ),
    (
        "AF20001",
        Kind::Unavailable,
        "a request parameter is missing",
        REPORT,
    ),
    (
        "AF20002",
        Kind::Unavailable,
        "a request parameter has the wrong type",
        REPORT,
    ),
    (
        "AF20003",
        Kind::Unavailable,
        "a webhook's expiration is in the past",
        REPORT,
    ),
    (
        "AF20010",
        Kind::Auth,
        "the token belongs to another tenant than the one asked for",
        "check the tenant's id, authority and credentials",
    ),
    (
        "AF20011",
        Kind::Auth,
        "Microsoft 365 does not know the tenant, or it was deleted",
        "check the tenant's id and cloud, and that it has Microsoft 365",
    ),
    (
        "AF20012",
        Kind::Auth,
        "the tenant is set up incorrectly in the service",
        "ask Microsoft's support; the exporter keeps trying",
    ),
    (
        "AF20013",
        Kind::Config,
        "the tenant's id is not a GUID",
        "give the directory (tenant) ID, not a domain name",
    ),
    (
        "AF20020",
        Kind::Config,
        "the content type is not valid here",
        "remove it from content_types; not every cloud offers all five",
    ),
    (
        "AF20021",
        Kind::Unavailable,
        "a webhook could not be validated",
        REPORT,
    ),
    (
        NO_SUBSCRIPTION,
        Kind::Unavailable,
        "there is no subscription for the content type",
        "it is started by start_subscriptions = true",
    ),
    (
        SUBSCRIPTION_DISABLED,
        Kind::Unavailable,
        "the subscription was disabled by an administrator",
        "it is restarted by start_subscriptions = true",
    ),
    (
        ALREADY_ENABLED,
        Kind::Unavailable,
        "the subscription is enabled already",
        "",
    ),
    (
        BAD_WINDOW[0],
        Kind::Unavailable,
        "the time window is not accepted",
        "check this machine's clock",
    ),
    (
        STALE_PAGE,
        Kind::Unavailable,
        "the next page is no longer valid",
        "",
    ),
    (
        UNKNOWN_CONTENT,
        Kind::Lost,
        "the content blob does not exist",
        "",
    ),
    ("AF20051", Kind::Lost, "the content blob has expired", ""),
    (
        "AF20052",
        Kind::Lost,
        "the content blob's id is not valid",
        "",
    ),
    (
        "AF20053",
        Kind::Unavailable,
        "more than one language was asked for",
        REPORT,
    ),
    (
        "AF20054",
        Kind::Unavailable,
        "the language asked for is not valid",
        REPORT,
    ),
    (
        BAD_WINDOW[1],
        Kind::Unavailable,
        "the time window is not accepted",
        "check this machine's clock",
    ),
    ("AF429", Kind::Throttled, "too many requests", ""),
    (
        "AF50000",
        Kind::Unavailable,
        "the service has an internal error",
        "",
    ),
    (
        "AF50005",
        Kind::Unavailable,
        "the service has an internal error",
        "",
    ),
];

/// Classifies a refused call by what its answer says.
pub(crate) fn refusal(status: u16, body: &[u8], retry_after: Option<Duration>) -> Error {
    let answer = Answer::read(body);
    if let Some(code) = answer.find_code()
        && let Some(row) = CODES.iter().find(|row| row.0 == code)
    {
        return listed(row).with_retry_after(retry_after);
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

fn listed((code, kind, meaning, advice): &Row) -> Error {
    let advice = if advice.is_empty() {
        String::new()
    } else {
        format!("; {advice}")
    };
    Error::new(*kind, format!("{code}: {meaning}{advice}")).with_code(*code)
}

fn auditing_off() -> Error {
    Error::auth(
        "auditing is off for this tenant, or was switched on less than an hour ago, or the tenant has no plan with \
         unified auditing; switch it on in Microsoft Purview (Audit, \"Start recording user and admin activity\") or by \
         Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true",
    )
    .with_code(AUDITING_OFF)
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
    match status {
        401 => Error::auth(format!(
            "the service does not accept the token, HTTP 401 {said}; check the tenant's cloud and audience"
        )),
        403 => Error::auth(format!(
            "access is refused, HTTP 403 {said}; check that the app has the application permission ActivityFeed.Read \
             with admin consent"
        )),
        _ => Error::unavailable(format!("the service answered HTTP {status} {said}")),
    }
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
