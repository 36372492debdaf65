//! The options of an `http` sink.

use std::collections::BTreeMap;
use std::path::PathBuf;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Secret, Size};
use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use url::Url;

use crate::sinks::line::Format;
use crate::sinks::post::{Compression, Frame, Limits, address};
use crate::sinks::trust::Trust;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: String,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    #[serde(default)]
    body: Body,
    #[serde(default)]
    format: Format,
    #[serde(default = "compression")]
    compression: Compression,
    #[serde(default = "request_size")]
    request_size: Size,
    #[serde(default = "request_events")]
    request_events: usize,
    #[serde(default = "parallel_requests")]
    parallel_requests: usize,
}

/// Not every intake inflates.
fn compression() -> Compression {
    Compression::None
}

/// Below the 1 MB that many intakes have for a limit.
fn request_size() -> Size {
    Size(900_000)
}

fn request_events() -> usize {
    1000
}

fn parallel_requests() -> usize {
    4
}

/// How events stand in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Body {
    /// One event a line.
    #[default]
    Ndjson,
    /// One JSON array of all.
    JsonArray,
}

impl Body {
    /// What stands around events; a line has its own end.
    pub(super) fn frame(self) -> Frame {
        match self {
            Self::Ndjson => Frame {
                open: "",
                between: "",
                close: "",
            },
            Self::JsonArray => Frame {
                open: "[",
                between: ",",
                close: "]",
            },
        }
    }

    /// `Content-Type`, unless the headers have one.
    pub(super) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Ndjson => "application/x-ndjson",
            Self::JsonArray => "application/json",
        })
    }
}

/// Where and how one tenant's events go.
pub(super) struct Settings {
    pub(super) url: Url,
    pub(super) trust: Trust,
    pub(super) headers: Vec<(HeaderName, Secret)>,
    pub(super) body: Body,
    pub(super) format: Format,
    pub(super) compression: Compression,
    pub(super) limits: Limits,
}

/// The settings in the options of the tenant with this name and id.
pub(super) fn read(options: &Options, name: &str, id: &str) -> Result<Settings> {
    let config: Config = options.parse()?;
    let headers = config.headers.into_iter().map(|(name, value)| {
        let expected = || {
            let key = format!("headers.{name}");
            options.invalid(&key, "the name of an HTTP header", &format!("{name:?}"))
        };
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| expected())?;
        Ok((header, value))
    });
    let url = url(options, &config.url, name, id)?;
    Ok(Settings {
        trust: Trust::read(options, config.ca_file, url.scheme() == "https")?,
        headers: headers.collect::<Result<_>>()?,
        url,
        body: config.body,
        format: config.format,
        compression: config.compression,
        limits: Limits::read(
            options,
            config.request_size,
            config.request_events,
            config.parallel_requests,
        )?,
    })
}

/// The address, in which names and ids need no escapes.
fn url(options: &Options, text: &str, name: &str, id: &str) -> Result<Url> {
    let filled = text.replace("{tenant}", name).replace("{tenant_id}", id);
    if filled.contains(['{', '}']) {
        let expected = "no placeholders but {tenant} and {tenant_id}";
        return Err(options.invalid("url", expected, &format!("{text:?}")));
    }
    address(options, "url", &filled)
}
