//! Dead letters by way of the process that holds the journal: what it answers, and how a command asks.

use std::path::Path;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Admin, PATIENCE, ask, refusal};
use crate::engine::letters::{Replay, Replayed};
use crate::error::{Error, Result};

/// `POST /-/dead-letters/replay`, with a [`Replay`]; answers a [`Replayed`].
pub(super) async fn replay(
    State(admin): State<Admin>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(no) = admin.refuses(&headers) {
        return no;
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
    if let Some(no) = admin.refuses(&headers) {
        return no;
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
        Err(error) => refusal(&error),
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
    serde_json::from_str(&answer.success()?).map_err(|error| {
        Error::unavailable("the running process answers something else; is it another version?")
            .with_cause(error)
    })
}
