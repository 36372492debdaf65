//! Asks a sink something that changes nothing, beside the process that may hold the journal or without one.

use super::build::Builder;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http;
use crate::journal::Store;
use crate::metrics::Meter;
use crate::plugin::Registry;

/// Builds the sink `name` on what the journal has of it, which it can only read, and passes `request` on to it.
pub async fn look(
    config: &Config,
    registry: &Registry,
    name: &str,
    request: &str,
) -> Result<String> {
    let mut sinks = config.sinks.iter();
    let sink = sinks
        .find(|sink| *sink.name == *name)
        .ok_or_else(|| Error::config(format!("the configuration has no sink {name}")))?;
    let store = Store::read_only(&config.journal.path, &format!("sink/{name}"))?;
    let clock = Clock::system();
    let builder = Builder {
        config,
        registry,
        clock: &clock,
        http: &http::Client::new()?,
        store: &|_| store.clone(),
        meter: &|_, _| Meter::default(),
        replay: None,
    };
    Ok(builder.sink(sink)?.command(request).await?.text)
}
