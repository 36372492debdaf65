//! Sinks by way of the process that holds the journal: what it answers, and how a command asks.

use std::path::Path;
use std::time::Duration;

use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::letters::text_of;
use super::{Admin, PATIENCE, ask, unexpected};
use crate::error::{Error, Kind, Result};

/// `POST /-/sinks/NAME/forget`.
pub(super) async fn forget(
    State(admin): State<Admin>,
    UrlPath(sink): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = admin.refuses(&headers) {
        return refusal;
    }
    match admin.journal.forget_orphan(&sink).await {
        Ok(Some(true)) => format!("sink {sink} is forgotten\n").into_response(),
        Ok(Some(false)) => unknown(&sink),
        Ok(None) => {
            let refusal =
                format!("sink {sink} is in the running configuration; remove it there first\n");
            (StatusCode::CONFLICT, refusal).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// `POST /-/sinks/NAME/pause`.
pub(super) async fn pause(
    State(admin): State<Admin>,
    UrlPath(sink): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    set_paused(&admin, &sink, &headers, true).await
}

/// `POST /-/sinks/NAME/resume`.
pub(super) async fn resume(
    State(admin): State<Admin>,
    UrlPath(sink): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    set_paused(&admin, &sink, &headers, false).await
}

async fn set_paused(admin: &Admin, sink: &str, headers: &HeaderMap, paused: bool) -> Response {
    if let Some(refusal) = admin.refuses(headers) {
        return refusal;
    }
    match admin.journal.pause_sink(sink, paused).await {
        Ok(true) => {
            tracing::warn!(sink, paused, "an operator pauses or resumes a sink");
            "done\n".into_response()
        }
        Ok(false) => unknown(sink),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// `POST /-/sinks/NAME/ask`, with what the sink's plugin understands; answers what it answers.
pub(super) async fn pass_on(
    State(admin): State<Admin>,
    UrlPath(sink): UrlPath<String>,
    headers: HeaderMap,
    request: String,
) -> Response {
    if let Some(refusal) = admin.refuses(&headers) {
        return refusal;
    }
    match admin.control.replayer.ask(&sink, request).await {
        Ok(text) => text.into_response(),
        Err(error) => {
            let status = match error.kind() {
                Kind::Config => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::BAD_GATEWAY,
            };
            (status, error.to_string()).into_response()
        }
    }
}

fn unknown(sink: &str) -> Response {
    let refusal = format!("the journal knows no sink {sink}\n");
    (StatusCode::NOT_FOUND, refusal).into_response()
}

/// Asks the process that holds the journal in `journal_dir` to forget a sink. `false` if its journal knows none of
/// this name.
pub async fn ask_to_forget(journal_dir: &Path, sink: &str) -> Result<bool> {
    let answer = ask(
        journal_dir,
        &["sinks", sink, "forget"],
        Vec::new(),
        PATIENCE,
    )
    .await?;
    match answer.status().as_u16() {
        200 => Ok(true),
        404 => Ok(false),
        409 => Err(Error::config(format!(
            "sink {sink} is in the running configuration; remove it there, and start the program anew"
        ))),
        status => Err(unexpected(status)),
    }
}

/// Asks the process that holds the journal in `journal_dir` to pause or resume a sink. `false` if its journal knows none
/// of this name.
pub async fn ask_to_pause(journal_dir: &Path, sink: &str, paused: bool) -> Result<bool> {
    let action = if paused { "pause" } else { "resume" };
    let path = ["sinks", sink, action];
    let answer = ask(journal_dir, &path, Vec::new(), PATIENCE).await?;
    match answer.status().as_u16() {
        200 => Ok(true),
        404 => Ok(false),
        status => Err(unexpected(status)),
    }
}

/// Passes a request on to a sink of the process that holds the journal in `journal_dir`, and the answer back.
pub async fn ask_sink(
    journal_dir: &Path,
    sink: &str,
    request: &str,
    patience: Duration,
) -> Result<String> {
    let path = ["sinks", sink, "ask"];
    let answer = ask(journal_dir, &path, request.as_bytes().to_vec(), patience).await?;
    let status = answer.status();
    let text = String::from_utf8(text_of(answer).await?)
        .map_err(|error| Error::unavailable("the answer is no text").with_cause(error))?;
    match status.as_u16() {
        200 => Ok(text),
        422 => Err(Error::config(text)),
        502 => Err(Error::unavailable(text)),
        status => Err(unexpected(status)),
    }
}
