//! Reading the configuration anew, by way of the running process.

use std::path::Path;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::sync::oneshot;

use super::{Admin, PATIENCE, ask};
use crate::error::Result;

/// `POST /-/reload`: answers what changed, or why nothing did.
pub(super) async fn reload(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Some(refusal) = admin.refuses(&headers) {
        return refusal;
    }
    let (answer, answered) = oneshot::channel();
    let busy = (
        StatusCode::SERVICE_UNAVAILABLE,
        "this process is not in a state to read its configuration anew\n",
    );
    if admin.control.reload.try_send(answer).is_err() {
        return busy.into_response();
    }
    match answered.await {
        Ok(Ok(changed)) => format!("{changed}\n").into_response(),
        Ok(Err(wrong)) => (StatusCode::UNPROCESSABLE_ENTITY, format!("{wrong}\n")).into_response(),
        Err(_) => busy.into_response(),
    }
}

/// Asks the process that holds the journal in `journal_dir` to read its configuration anew. Returns what changed.
pub async fn ask_to_reload(journal_dir: &Path) -> Result<String> {
    let answer = ask(journal_dir, &["reload"], Vec::new(), PATIENCE).await?;
    Ok(answer.success()?.trim_end().to_owned())
}
