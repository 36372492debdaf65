//! The bodies of answers, read within bounds.

use std::time::Duration;

use audit_exporter_core::http;
use audit_exporter_core::{Error, Result};
use bytes::{Bytes, BytesMut};
use reqwest::Response;
use tokio::time::timeout;

/// How long a body may stand still. There is no limit to the whole: a blob of 200 MB may take its time.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// The code of the error for a body that is larger than its cap.
pub(crate) const TOO_LARGE: &str = "too_large";

/// The error for a peer that was `what` for too long.
pub(crate) fn silent(what: &str, limit: Duration) -> Error {
    Error::unavailable(format!("{what} within {} s", limit.as_secs()))
}

/// The next piece of a body, `None` at its end; an error if it stands still.
pub(crate) async fn next_chunk(response: &mut Response) -> Result<Option<Bytes>> {
    match timeout(IDLE_TIMEOUT, response.chunk()).await {
        Ok(chunk) => chunk.map_err(http::broken_off),
        Err(_) => Err(silent(
            "the body stood still and did not go on",
            IDLE_TIMEOUT,
        )),
    }
}

/// A whole body, which must not be larger than `cap` bytes.
pub(crate) async fn read_capped(mut response: Response, cap: usize) -> Result<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = next_chunk(&mut response).await? {
        if body.len() + chunk.len() > cap {
            let message = format!("the answer is larger than {cap} bytes");
            return Err(Error::unavailable(message).with_code(TOO_LARGE));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// What can be read of a body's first `cap` bytes.
pub(crate) async fn read_start(mut response: Response, cap: usize) -> Bytes {
    let mut body = BytesMut::new();
    while let Ok(Some(chunk)) = next_chunk(&mut response).await {
        let room = cap - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == cap {
            break;
        }
    }
    body.freeze()
}
