//! The options of a `splunk_hec` sink.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Secret, Size, Span};
use serde::Deserialize;
use url::Url;

use super::envelope::Envelope;
use crate::sinks::post::{Compression, Limits, address};
use crate::sinks::template::Template;
use crate::sinks::trust::Trust;

/// What endpoints end with, however the address was copied.
const PATHS: [&str; 4] = [
    "/services/collector/event/1.0",
    "/services/collector/event",
    "/services/collector",
    "/",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    urls: Vec<String>,
    ca_file: Option<PathBuf>,
    token: Secret,
    index: Option<String>,
    #[serde(default = "host")]
    host: String,
    #[serde(default = "source")]
    source: String,
    #[serde(default = "sourcetype")]
    sourcetype: String,
    #[serde(default)]
    fields: BTreeMap<String, String>,
    #[serde(default)]
    acknowledgement: bool,
    #[serde(default = "ack_timeout")]
    ack_timeout: Span,
    #[serde(default = "compression")]
    compression: Compression,
    #[serde(default = "request_size")]
    request_size: Size,
    #[serde(default = "parallel_requests")]
    parallel_requests: usize,
}

fn host() -> String {
    "{tenant}".to_owned()
}

fn source() -> String {
    "audit-exporter".to_owned()
}

/// What Splunk's own add-on gives these records, and dashboards look for.
fn sourcetype() -> String {
    "o365:management:activity".to_owned()
}

/// Less than a delivery's own time-out: what is not acknowledged is told as such.
fn ack_timeout() -> Span {
    Span::seconds(4 * 60)
}

fn compression() -> Compression {
    Compression::Gzip
}

/// Splunk Cloud asks for no more than about 1 MB.
fn request_size() -> Size {
    Size(900_000)
}

fn parallel_requests() -> usize {
    4
}

/// One tenant's Splunk.
pub(super) struct Settings {
    /// Never empty; without the paths of the protocol, and without a slash at the end.
    pub(super) urls: Vec<Url>,
    pub(super) trust: Trust,
    pub(super) token: Secret,
    pub(super) envelope: Envelope,
    /// How long the indexers may take to acknowledge a request, if they are asked.
    pub(super) acknowledgement: Option<Duration>,
    pub(super) compression: Compression,
    pub(super) limits: Limits,
}

/// The settings in a tenant's options.
pub(super) fn read(options: &Options) -> Result<Settings> {
    let config: Config = options.parse()?;
    if config.urls.is_empty() {
        return Err(options.invalid("urls", "at least one address", "none"));
    }
    if config.ack_timeout.0.is_zero() {
        return Err(options.invalid("ack_timeout", "a time span above 0", "0"));
    }
    if config.index.as_deref() == Some("") {
        return Err(options.invalid("index", "an index, or no key for the token's own", "\"\""));
    }
    let urls = config.urls.iter().enumerate();
    let urls = urls.map(|(place, text)| {
        let base = PATHS.iter().find_map(|path| text.strip_suffix(path));
        address(options, &format!("urls[{place}]"), base.unwrap_or(text))
    });
    let urls: Vec<Url> = urls.collect::<Result<_>>()?;
    let uses_tls = urls.iter().any(|url| url.scheme() == "https");
    let template = |key: &str, text: &str| Template::parse(options, key, text);
    let fields = config.fields.iter();
    let fields =
        fields.map(|(name, text)| Ok((name.clone(), template(&format!("fields.{name}"), text)?)));
    Ok(Settings {
        urls,
        trust: Trust::read(options, config.ca_file, uses_tls)?,
        token: config.token,
        envelope: Envelope {
            host: template("host", &config.host)?,
            source: template("source", &config.source)?,
            sourcetype: template("sourcetype", &config.sourcetype)?,
            index: config.index,
            fields: fields.collect::<Result<_>>()?,
        },
        acknowledgement: config.acknowledgement.then_some(config.ack_timeout.0),
        compression: config.compression,
        limits: Limits::read(
            options,
            config.request_size,
            usize::MAX,
            config.parallel_requests,
        )?,
    })
}
