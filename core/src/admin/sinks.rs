//! Sinks by way of the process that holds the journal: what it answers, and how a command asks.

use std::path::Path;
use std::time::Duration;

use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Admin, Answer, PATIENCE, ask, refusal};
use crate::error::{Error, Result};

/// `POST /-/sinks/NAME/forget`.
pub(super) async fn forget(
    State(admin): State<Admin>,
    UrlPath(sink): UrlPath<String>,
    headers: HeaderMap,
) -> Response {
    if let Some(no) = admin.refuses(&headers) {
        return no;
    }
    match admin.journal.forget_orphan(&sink).await {
        Ok(Some(true)) => format!("sink {sink} is forgotten\n").into_response(),
        Ok(Some(false)) => unknown(&sink),
        Ok(None) => refusal(&Error::config(format!(
            "sink {sink} is in the running configuration; when it has left the file, `audit-exporter reload` lets go of \
             it, and then it can be forgotten"
        ))),
        Err(error) => refusal(&error),
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
    if let Some(no) = admin.refuses(headers) {
        return no;
    }
    match admin.journal.pause_sink(sink, paused).await {
        Ok(true) => {
            tracing::warn!(sink, paused, "an operator pauses or resumes a sink");
            "done\n".into_response()
        }
        Ok(false) => unknown(sink),
        Err(error) => refusal(&error),
    }
}

/// `POST /-/sinks/NAME/ask`, with what the sink's plugin understands; answers what it answers.
pub(super) async fn pass_on(
    State(admin): State<Admin>,
    UrlPath(sink): UrlPath<String>,
    headers: HeaderMap,
    request: String,
) -> Response {
    if let Some(no) = admin.refuses(&headers) {
        return no;
    }
    match admin.control.replayer.ask(&sink, request).await {
        Ok(text) => text.into_response(),
        Err(error) => refusal(&error),
    }
}

fn unknown(sink: &str) -> Response {
    let text = format!("the journal knows no sink {sink}\n");
    (StatusCode::NOT_FOUND, text).into_response()
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
    found(answer)
}

/// Asks the process that holds the journal in `journal_dir` to pause or resume a sink. `false` if its journal knows none
/// of this name.
pub async fn ask_to_pause(journal_dir: &Path, sink: &str, paused: bool) -> Result<bool> {
    let action = if paused { "pause" } else { "resume" };
    let path = ["sinks", sink, action];
    let answer = ask(journal_dir, &path, Vec::new(), PATIENCE).await?;
    found(answer)
}

/// Whether the journal knows the sink that was asked for.
fn found(answer: Answer) -> Result<bool> {
    // Who does not know the path either has nothing to say ([`Answer::success`]).
    if answer.status == StatusCode::NOT_FOUND && !answer.text.is_empty() {
        return Ok(false);
    }
    answer.success().map(|_| true)
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
    answer.success()
}
