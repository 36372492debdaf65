//! Friendly names of sensitive information types (reference, "Retrieve resource friendly names").

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::json;

use crate::answer::{Answer, ApiError};

/// A few of Microsoft's built-in types; their GUIDs are the same in every tenant.
const TYPES: [(&str, &str); 4] = [
    ("50842eb7-edc8-4019-85dd-5a5c1f2bb085", "Credit Card Number"),
    (
        "a44669fe-0d48-453d-a9b1-2cc83f2cba77",
        "U.S. Social Security Number (SSN)",
    ),
    (
        "e7dc4711-11b7-4cb0-b88b-2c394a771f0e",
        "International Banking Account Number (IBAN)",
    ),
    ("cb353f78-2b72-4c3c-8827-92ebe4f69fdf", "ABA Routing Number"),
];

/// Answers `GET resources/dlpSensitiveTypes` (`AF20053`, `AF20054`).
pub(crate) fn sensitive_types(headers: &HeaderMap) -> Result<Answer, ApiError> {
    if let Some(language) = headers.get(header::ACCEPT_LANGUAGE) {
        let language = language.to_str().unwrap_or("?");
        if language.contains(',') {
            return Err(ApiError::new(
                "AF20053",
                "Only one language may be present in the Accept-Language header.",
            ));
        }
        let name = language.split(';').next().unwrap_or_default().trim();
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'*';
        if name.is_empty() || !name.bytes().all(valid) {
            return Err(ApiError::new(
                "AF20054",
                "Invalid syntax in Accept-Language header.",
            ));
        }
    }
    let list: serde_json::Value = TYPES
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name}))
        .collect();
    Ok(Answer::json(StatusCode::OK, list.to_string()))
}
