//! Bodies as they travel.

use std::io::Write as _;

use audit_exporter_core::{Error, Result};
use bytes::Bytes;
use flate2::write::GzEncoder;
use serde::Deserialize;
use tokio::task::spawn_blocking;

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::sinks) enum Compression {
    /// As they are.
    None,
    /// `Content-Encoding: gzip`.
    Gzip,
}

/// A body, ready to be sent more than once.
#[derive(Clone, Debug)]
pub(in crate::sinks) struct Packed {
    pub(in crate::sinks) bytes: Bytes,
    /// `Content-Encoding`.
    pub(in crate::sinks) encoding: Option<&'static str>,
}

impl Compression {
    /// Compresses a body, off the runtime. The fastest level: audit records repeat themselves, and it is done for every
    /// event.
    pub(in crate::sinks) async fn pack(self, body: Vec<u8>) -> Result<Packed> {
        if self == Self::None {
            return Ok(Packed {
                bytes: body.into(),
                encoding: None,
            });
        }
        let packed = spawn_blocking(move || {
            let room = Vec::with_capacity(body.len() / 4);
            let mut encoder = GzEncoder::new(room, flate2::Compression::fast());
            encoder.write_all(&body)?;
            encoder.finish()
        });
        match packed.await {
            Ok(bytes) => Ok(Packed {
                bytes: bytes?.into(),
                encoding: Some("gzip"),
            }),
            Err(error) if error.is_panic() => {
                Err(Error::bug("compressing a body broke off").with_cause(error))
            }
            Err(_) => Err(Error::unavailable("the program is stopping")),
        }
    }
}
