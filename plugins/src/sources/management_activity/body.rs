//! A content blob's body on its way into the journal.

use audit_exporter_core::plugin::UnitWriter;
use audit_exporter_core::{Error, Result};
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;

use crate::http::body::next_chunk;

/// How a body is compressed.
enum Coding {
    Identity,
    Gzip,
}

/// Reads `response` to its end into `out`.
pub(super) async fn copy(mut response: Response, out: &mut UnitWriter) -> Result<()> {
    match coding(&response)? {
        Coding::Identity => {
            while let Some(chunk) = next_chunk(&mut response).await? {
                out.write(&chunk)?;
                out.settle().await?;
                interrupt();
            }
        }
        Coding::Gzip => {
            while let Some(chunk) = next_chunk(&mut response).await? {
                out.write_gzip(&chunk).await?;
                interrupt();
            }
        }
    }
    out.end_of_body().await
}

/// Where the tests kill the process: in mid-body.
fn interrupt() {
    fail::fail_point!("source::fetch");
}

fn coding(response: &Response) -> Result<Coding> {
    let coding = match response.headers().get(CONTENT_ENCODING) {
        None => "",
        Some(value) => value.to_str().unwrap_or("that is not text").trim(),
    };
    match coding.to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Coding::Identity),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        _ => Err(Error::unavailable(format!(
            "the body has a content encoding ({coding}) that was not asked for"
        ))),
    }
}
