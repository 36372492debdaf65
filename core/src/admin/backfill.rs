//! Backfills by way of the process that holds the journal.

use std::path::Path;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Admin, PATIENCE, ask, refusal};
use crate::engine::backfill::Backfill;
use crate::error::{Error, Result};

/// `POST /-/backfill`, with a [`Backfill`] as JSON: answers once it is on record.
pub(super) async fn backfill(
    State(admin): State<Admin>,
    headers: HeaderMap,
    request: String,
) -> Response {
    if let Some(no) = admin.refuses(&headers) {
        return no;
    }
    let asked: Backfill = match serde_json::from_str(&request) {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    match admin.control.backfiller.ask(asked).await {
        Ok(()) => "noted\n".into_response(),
        Err(error) => refusal(&error),
    }
}

/// Asks the process that holds the journal in `journal_dir` for a backfill. Returns once it is on record.
pub async fn ask_to_backfill(journal_dir: &Path, backfill: &Backfill) -> Result<()> {
    let body = serde_json::to_vec(backfill)
        .map_err(|error| Error::bug("the request cannot be written").with_cause(error))?;
    let answer = ask(journal_dir, &["backfill"], body, PATIENCE).await?;
    answer.success().map(drop)
}
