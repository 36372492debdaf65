//! Small files that hold something secret, read anew each time, so that they can be replaced while we run.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More than any certificate chain; a mistaken path (a device, a log) must not fill the memory.
const MAX_BYTES: u64 = 256 * 1024;

/// A whole file. It is small and local, so this may be called on the runtime.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is too large to be one"));
    }
    Ok(bytes)
}
