//! What the sinks that post batches over HTTP share: how a delivery becomes requests, and what becomes of each event.
//!
//! A delivery is packed into requests within the far side's limits, a few of them at once. Whatever an answer says about
//! a part of a request (too large, one event refused, refused without saying which) is dealt with here: what is left
//! is packed anew, until each event is stored or refused by itself. What is stored stays so when another request of
//! the same delivery fails, or the delivery is broken off: when it comes again, the rest alone is sent.

mod gzip;
mod pack;
mod progress;
mod sink;
pub(super) mod status;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Size};
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::plugin::{Batch, Delivered, Finding};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use url::Url;

use crate::http::is_loopback;
use pack::Queue;
use progress::Progress;

pub(super) use gzip::{Compression, Packed};
pub(super) use sink::Posting;

/// What bodies begin with, have between two events, and end with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) open: &'static str,
    pub(super) between: &'static str,
    pub(super) close: &'static str,
}

/// What one request may hold, and how many are under way at once.
#[derive(Debug)]
pub(super) struct Limits {
    bytes: AtomicUsize,
    events: usize,
    parallel: usize,
}

impl Limits {
    /// The options `request_size` (before compression; one event that is larger travels alone), `request_events` and
    /// `parallel_requests`.
    pub(super) fn read(
        options: &Options,
        size: Size,
        events: usize,
        parallel: usize,
    ) -> Result<Self> {
        for (key, value) in [
            ("request_size", size.bytes()),
            ("request_events", events),
            ("parallel_requests", parallel),
        ] {
            if value == 0 {
                return Err(options.invalid(key, "more than nothing", "0"));
            }
        }
        Ok(Self {
            bytes: AtomicUsize::new(size.bytes()),
            events,
            parallel,
        })
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The far side takes less than a request of so many bytes.
    fn learn(&self, refused: usize) {
        let less = refused / 2;
        if self.bytes.fetch_min(less, Ordering::Relaxed) > less {
            tracing::warn!(
                "the destination refuses requests of {refused} bytes as too large; from now on they have {less}: \
                 set request_size to what it takes"
            );
        }
    }
}

/// What became of the events of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All are safe at the far side.
    Stored,
    /// The request is too large. One event alone is refused for good.
    TooLarge(String),
    /// Something in it is refused, but not said what. One event alone is refused for good.
    Unclear(String),
    /// This event is refused for good.
    Refused {
        /// Its place in the request.
        index: usize,
        /// Whether those before it are safe; those behind it were not looked at.
        stored_before: bool,
        /// Why, in the far side's words.
        reason: String,
    },
}

/// A far side, as one tenant sees it.
#[async_trait]
pub(super) trait Destination: Send + Sync + 'static {
    /// How events stand in a body.
    fn frame(&self) -> Frame;

    /// What a request may hold, and how many are under way at once.
    fn limits(&self) -> &Limits;

    /// Appends one event to a body; an error says why the far side could never take it.
    fn write(&self, event: &AuditEvent, body: &mut Vec<u8>) -> Result<(), String>;

    /// Sends one body. Never an error of kind `Rejected`: what is refused is an [`Outcome`].
    async fn send(&self, body: Vec<u8>) -> Result<Outcome>;

    /// What `check` says about it, without an event.
    async fn check(&self) -> Vec<Finding>;
}

/// Posts deliveries, one at a time.
#[derive(Default)]
struct Post {
    progress: Mutex<Progress>,
}

impl Post {
    /// Delivers a batch to `destination`. After an error, what is under way is still waited for, so that it need not be
    /// sent again.
    async fn deliver(&self, destination: &dyn Destination, batch: &Batch) -> Result<Delivered> {
        let mut progress = self.progress.lock().await;
        progress.begin(&batch.events);
        let mut queue = Queue::of(progress.open());
        let mut sending = FuturesUnordered::new();
        let mut failed = None;
        loop {
            while failed.is_none() && sending.len() < destination.limits().parallel {
                let packed = queue.pack(&batch.events, destination, &mut progress);
                let Some((parcel, body)) = packed else { break };
                sending.push(async move { (parcel, destination.send(body).await) });
            }
            let Some((parcel, answer)) = sending.next().await else {
                break;
            };
            match answer {
                Ok(outcome) => queue.settle(parcel, outcome, destination.limits(), &mut progress),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Delivered {
                rejected: progress.end()?,
                ..Delivered::default()
            }),
        }
    }
}

/// The address of a far side, the value of `key`: without a password, which would not be treated as one.
pub(super) fn address(options: &Options, key: &str, text: &str) -> Result<Url> {
    let plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
    };
    Url::parse(text.trim()).ok().filter(plain).ok_or_else(|| {
        let found = if text.contains('@') {
            "one with a user or password".to_owned()
        } else {
            format!("{text:?}")
        };
        options.invalid(
            key,
            "an address such as \"https://siem.example.com:8088\"",
            &found,
        )
    })
}

/// For `check`: whether events would travel in clear text.
pub(super) fn warn_of_clear_text(url: &Url) -> Option<Finding> {
    let here = is_loopback(url.host_str()?);
    (url.scheme() == "http" && !here).then(|| {
        Finding::warning(format!(
            "{}: http sends credentials and events in clear text; use https",
            url.authority()
        ))
    })
}

/// Appends a record as a JSON value: its own bytes if it is JSON that `fits`, else its text as a string, so that a
/// record that is none cannot spoil what stands around it.
pub(super) fn write_value(
    raw: &[u8],
    fits: impl Fn(&str) -> bool,
    body: &mut Vec<u8>,
) -> Result<(), String> {
    if serde_json::from_slice::<&RawValue>(raw).is_ok_and(|value| fits(value.get())) {
        body.extend_from_slice(raw);
        return Ok(());
    }
    let text = std::str::from_utf8(raw).map_err(|_| {
        "the record is neither JSON nor UTF-8 text, so it cannot be sent as it is".to_owned()
    })?;
    write_string(text, body);
    Ok(())
}

/// Appends `text` as a JSON string.
pub(super) fn write_string(text: &str, body: &mut Vec<u8>) {
    // A Vec takes everything, and text is always JSON.
    serde_json::to_writer(body, text).unwrap_or_default();
}
