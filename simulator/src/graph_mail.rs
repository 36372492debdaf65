//! `sendMail` of Microsoft Graph: takes a message as MIME in base64, from an app with `Mail.Send`, and keeps it for
//! whoever looks (`GET /mails`).

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;
use serde_json::json;

use crate::{
    answer::Answer,
    state::{State, lock},
};

/// Graph's limit of a request.
const MOST_BYTES: usize = 4 << 20;
/// The application permission.
const PERMISSION: &str = "Mail.Send";

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SentMail {
    /// The tenant of the token.
    pub tenant: String,
    /// The mailbox that sent it.
    pub sender: String,
    /// The message as it came.
    pub mime: String,
}

/// Answers `POST /v1.0/users/{sender}/sendMail`.
pub(crate) fn send(state: &Arc<State>, sender: String, headers: &HeaderMap, body: &[u8]) -> Answer {
    let answer = accept(state, sender, headers, body).unwrap_or_else(|refusal| *refusal);
    state.counts.request("send_mail", &answer.outcome);
    answer
}

fn accept(
    state: &Arc<State>,
    sender: String,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Answer, Box<Answer>> {
    let claims = state.authenticate(headers).ok_or_else(|| {
        refusal(
            StatusCode::UNAUTHORIZED,
            "InvalidAuthenticationToken",
            "Access token is empty.",
        )
    })?;
    if !claims.roles.iter().any(|role| role == PERMISSION) {
        let text = "Access is denied. Check credentials and try again.";
        return Err(refusal(StatusCode::FORBIDDEN, "ErrorAccessDenied", text));
    }
    let tenant = state.tenant_named(&claims.tid);
    let mailboxes = tenant.map_or(&[][..], |tenant| &tenant.config.mailboxes);
    let known = |mailbox: &String| mailbox.eq_ignore_ascii_case(&sender);
    if !mailboxes.is_empty() && !mailboxes.iter().any(known) {
        let text = format!("The requested user '{sender}' is invalid.");
        return Err(refusal(StatusCode::NOT_FOUND, "ErrorInvalidUser", &text));
    }
    if body.len() > MOST_BYTES {
        let text = "The server is unable to process the current request.";
        return Err(refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            text,
        ));
    }
    let is_mime = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let mime = BASE64_STANDARD
        .decode(body)
        .ok()
        .filter(|_| is_mime)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| {
            let text = "Invalid base64 string for MIME content.";
            refusal(
                StatusCode::BAD_REQUEST,
                "ErrorMimeContentInvalidBase64String",
                text,
            )
        })?;
    let tenant = claims.tid;
    lock(&state.mails).push(SentMail {
        tenant,
        sender,
        mime,
    });
    Ok(Answer::new(StatusCode::ACCEPTED, "text/plain", ""))
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Box<Answer> {
    let body = json!({"error": {"code": code, "message": message}});
    let mut answer = Answer::json(status, body.to_string());
    code.clone_into(&mut answer.outcome);
    Box::new(answer)
}
