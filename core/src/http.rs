//! The HTTP client that plugins share.

use std::time::Duration;

use crate::error::{Error, Result};

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(15);
/// Longest silence while an answer arrives. Not a bound on the whole answer: a large body may take its time.
const SILENCE: Duration = Duration::from_secs(90);

/// A client that follows no redirect by itself, since a token must not follow one either, and leaves compressed
/// bodies as they are, so that a plugin can inflate them within bounds.
pub fn client() -> Result<reqwest::Client> {
    // Whoever comes second finds the same provider installed.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder()
        .user_agent(concat!("audit-exporter/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .build()
        .map_err(|error| Error::config("the TLS client cannot be set up").with_cause(error))
}
