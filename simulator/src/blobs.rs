//! Fetching a blob (reference, "Retrieve content").

use std::sync::{Arc, atomic::Ordering};

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    answer::{Answer, ApiError, Payload},
    api::Call,
    catalogue::{Blob, Compressor},
    chance::{Chance, part},
    faults::Failure,
    state::State,
};

/// Finds the blob that a request names, and whether it may have it
/// (`AF20050`, `AF20051`, `AF20052`).
pub(crate) fn find(call: &Call<'_>, id: &str) -> Result<Arc<Blob>, ApiError> {
    if !well_formed(id) {
        return Err(ApiError::new(
            "AF20052",
            format!("Content ID {id} in the URL is invalid."),
        ));
    }
    let unknown = || {
        ApiError::new(
            "AF20050",
            format!("The specified content ({id}) does not exist."),
        )
    };
    let blob = call.tenant.find(id).ok_or_else(unknown)?;
    let view = call.tenant.subscriptions.view(
        &call.claims.appid,
        blob.content_type,
        &call.state.config,
    )?;
    if !view.shows(&blob, call.now) {
        return Err(unknown());
    }
    let share = call.faults.expired_blobs;
    if blob.expires() <= call.now || of_share(call, &blob, "expired", share) {
        return Err(ApiError::new(
            "AF20051",
            format!(
                "Content requested with the key {id} has already expired. Content older than 7 days cannot be retrieved."
            ),
        ));
    }
    Ok(blob)
}

/// Whether the blob is one of those that fail until they expire, or has a script.
pub(crate) fn own_failure(call: &Call<'_>, blob: &Blob) -> Option<Failure> {
    let stuck = of_share(call, blob, "stuck", call.faults.stuck_blobs);
    blob.scripted()
        .or_else(|| stuck.then_some(Failure::InternalError))
}

fn of_share(call: &Call<'_>, blob: &Blob, what: &str, share: f64) -> bool {
    Chance::of(&[call.seed(), part(what), part(&blob.id)]).hit(share)
}

/// `{digits}${digits}${feed}${Feed}…`, or the older shape with four parts.
fn well_formed(id: &str) -> bool {
    let parts: Vec<&str> = id.split('$').collect();
    parts.len() >= 4
        && !parts[0].is_empty()
        && parts[0].bytes().all(|byte| byte.is_ascii_digit())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"$_-".contains(&byte))
}

/// The blob's body, compressed if the client takes that.
pub(crate) async fn body(state: &Arc<State>, blob: Arc<Blob>, headers: &HeaderMap) -> Answer {
    let compressed = accepts_gzip(headers);
    blob.served.fetch_add(1, Ordering::Relaxed);
    let mut answer = Answer::json(StatusCode::OK, Bytes::new());
    if blob.is_giant() {
        answer.body = Payload::Stream(stream(blob, compressed), usize::MAX);
        return if compressed {
            answer.with(header::CONTENT_ENCODING, "gzip")
        } else {
            answer
        };
    }
    let made = {
        let state = Arc::clone(state);
        tokio::task::spawn_blocking(move || {
            if compressed {
                blob.gzip(&state.cache)
            } else {
                blob.plain()
            }
        })
        .await
    };
    match made {
        Ok(bytes) => {
            state
                .counts
                .bytes
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            answer.body = if compressed {
                Payload::Gzip(bytes)
            } else {
                Payload::Whole(bytes)
            };
            answer
        }
        Err(error) => {
            tracing::error!(%error, "could not make a body");
            ApiError::new("AF50000", "An internal error occurred. Retry the request.")
                .answer(&state.config.statuses)
        }
    }
}

/// Makes a body piece by piece, no faster than it is read.
fn stream(blob: Arc<Blob>, compressed: bool) -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(4);
    // The thread ends with the body, or when the receiver is dropped with the connection.
    tokio::task::spawn_blocking(move || {
        let mut compressor = Compressor::new();
        blob.pieces(|piece| {
            if !compressed {
                return sender.blocking_send(piece.into()).is_ok();
            }
            compressor.add(&piece);
            let out = compressor.take();
            out.is_empty() || sender.blocking_send(out.into()).is_ok()
        });
        if compressed && sender.blocking_send(compressor.finish().into()).is_err() {
            tracing::debug!(blob = %blob.id, "the client left before the end");
        }
    });
    receiver
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value.split(',').any(|coding| {
                let mut parts = coding.split(';').map(str::trim);
                let named = parts
                    .next()
                    .is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
                named && !parts.any(|weight| ["q=0", "q=0.0"].contains(&weight))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ids_of_both_shapes_are_well_formed_and_others_are_not() {
        for id in [
            "20171014180051748005825$20171014180051748005825$audit_sharepoint$Audit_SharePoint",
            "492638008028$492638008028$f28ab78ad40140608012736e373933ebspo2015043022$04",
        ] {
            assert!(well_formed(id), "{id}");
        }
        for id in ["", "garbage", "a$b$c$d", "1$2$3", "1$2$3$../../etc"] {
            assert!(!well_formed(id), "{id}");
        }
    }

    #[test]
    fn gzip_is_sent_only_to_those_who_ask() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::ACCEPT_ENCODING,
                header::HeaderValue::from_static(value),
            );
            accepts_gzip(&headers)
        };
        assert!(accepts("gzip"));
        assert!(accepts("br, GZIP;q=0.5"));
        assert!(accepts("*"));
        assert!(!accepts("identity"));
        assert!(!accepts("gzip;q=0"));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
