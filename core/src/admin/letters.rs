//! Dead letters by way of the process that holds the journal: what it answers, and how a command asks.

use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Admin, PATIENCE, ask, unexpected};
use crate::engine::letters::{Replay, Replayed};
use crate::error::{Error, Result};

/// The most that an answer to a command may have: reasons are the far side's words.
const ANSWER_BYTES: usize = 16 << 20;

/// `POST /-/dead-letters/replay`, with a [`Replay`]; answers a [`Replayed`].
pub(super) async fn replay(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = admin.refuses(&headers) {
        return refusal;
    }
    match serde_json::from_slice::<Replay>(&body) {
        Ok(wish) => json(&admin.control.replayer.replay(&wish).await),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// `POST /-/dead-letters/drop`, with a list of numbers; answers those that were there.
pub(super) async fn drop_letters(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(refusal) = admin.refuses(&headers) {
        return refusal;
    }
    let letters = match serde_json::from_slice::<Vec<i64>>(&body) {
        Ok(letters) => letters,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    match admin.journal.drop_letters(letters).await {
        Ok(dropped) => {
            tracing::warn!(letters = ?dropped, "dead letters were dropped, as an operator asked");
            json(&dropped)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn json(answer: &impl Serialize) -> Response {
    match serde_json::to_vec(answer) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Asks the process that holds the journal in `journal_dir` to hand dead letters over again.
pub async fn ask_to_replay(
    journal_dir: &Path,
    replay: &Replay,
    patience: Duration,
) -> Result<Replayed> {
    exchange(journal_dir, "replay", replay, patience).await
}

/// Asks the process that holds the journal in `journal_dir` to drop dead letters. Returns those that were there.
pub async fn ask_to_drop(journal_dir: &Path, letters: &[i64]) -> Result<Vec<i64>> {
    exchange(journal_dir, "drop", &letters, PATIENCE).await
}

async fn exchange<T: DeserializeOwned>(
    journal_dir: &Path,
    action: &str,
    wish: &impl Serialize,
    patience: Duration,
) -> Result<T> {
    let body = serde_json::to_vec(wish)
        .map_err(|error| Error::bug("the request makes no JSON").with_cause(error))?;
    let answer = ask(journal_dir, &["dead-letters", action], body, patience).await?;
    if answer.status() != StatusCode::OK {
        return Err(unexpected(answer.status().as_u16()));
    }
    let text = text_of(answer).await?;
    serde_json::from_slice(&text).map_err(|error| {
        Error::unavailable("the running process answers something else; is it another version?")
            .with_cause(error)
    })
}

/// The body of an answer.
pub(super) async fn text_of(mut answer: reqwest::Response) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| {
        Error::unavailable("the running process breaks off its answer")
            .with_cause(error.without_url())
    })? {
        text.extend_from_slice(&chunk);
        if text.len() > ANSWER_BYTES {
            return Err(Error::unavailable("the running process answers too much"));
        }
    }
    Ok(text)
}
