//! Backfills by way of the process that holds the journal.

use std::path::Path;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::letters::text_of;
use super::{Admin, PATIENCE, ask, unexpected};
use crate::engine::backfill::Backfill;
use crate::error::{Error, Kind, Result};

/// `POST /-/backfill`, with a [`Backfill`] as JSON: answers once it is on record.
pub(super) async fn backfill(
    State(admin): State<Admin>,
    headers: HeaderMap,
    request: String,
) -> Response {
    if let Some(refusal) = admin.refuses(&headers) {
        return refusal;
    }
    let asked: Backfill = match serde_json::from_str(&request) {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    match admin.control.backfiller.ask(asked).await {
        Ok(()) => "noted\n".into_response(),
        Err(error) => {
            let status = match error.kind() {
                Kind::Config => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::BAD_GATEWAY,
            };
            (status, error.to_string()).into_response()
        }
    }
}

/// Asks the process that holds the journal in `journal_dir` for a backfill. Returns once it is on record.
pub async fn ask_to_backfill(journal_dir: &Path, backfill: &Backfill) -> Result<()> {
    let body = serde_json::to_vec(backfill)
        .map_err(|error| Error::bug("the request cannot be written").with_cause(error))?;
    let answer = ask(journal_dir, &["backfill"], body, PATIENCE).await?;
    let status = answer.status().as_u16();
    let text = String::from_utf8_lossy(&text_of(answer).await?).into_owned();
    match status {
        200 => Ok(()),
        422 => Err(Error::config(text)),
        502 => Err(Error::unavailable(text)),
        status => Err(unexpected(status)),
    }
}
