//! A content blob's body on its way into the journal: inflated in small steps, never held as a whole.

use std::io::{self, Write};

use audit_exporter_core::plugin::UnitWriter;
use audit_exporter_core::{Error, Result};
use flate2::write::MultiGzDecoder;
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;

use crate::microsoft::http::next_chunk;

/// Compressed bytes that are inflated at once. They give at most a thousand times as many: what is ready is committed
/// in between, so that a small body that inflates to gigabytes does not fill the memory.
const SLICE: usize = 8 * 1024;

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
                for slice in chunk.chunks(SLICE) {
                    out.write(slice)?;
                }
                out.settle().await?;
                interrupt();
            }
        }
        Coding::Gzip => {
            let mut decoder = MultiGzDecoder::new(Inflated(out));
            while let Some(chunk) = next_chunk(&mut response).await? {
                for slice in chunk.chunks(SLICE) {
                    decoder.write_all(slice).map_err(broken)?;
                    decoder.get_mut().0.settle().await?;
                }
                interrupt();
            }
            decoder.try_finish().map_err(broken)?;
        }
    }
    out.end_of_body()
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

/// The far end of the decoder.
struct Inflated<'a>(&'a mut UnitWriter);

impl Write for Inflated<'_> {
    fn write(&mut self, inflated: &[u8]) -> io::Result<usize> {
        self.0.write(inflated).map_err(io::Error::other)?;
        Ok(inflated.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error of the writer as it was; anything else is a body that is damaged or cut off.
fn broken(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => {
            Error::unavailable("the compressed body is damaged or cut off").with_cause(error)
        }
    }
}
