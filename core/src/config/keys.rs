//! The keys that are ours: the engine's tables, and what each instance's table has beside its plugin's options.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use reqwest::Url;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};

use super::units::{Size, Span};
use crate::http::is_loopback;

/// `[journal]`: the durable log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    /// Its folder.
    pub path: PathBuf,
    /// What it may take of the disk.
    pub max_size: Size,
    /// How long it keeps what only a sink needs that has left the configuration.
    pub orphan_grace: Span,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            path: PathBuf::from("data/journal"),
            max_size: Size::gib(10),
            orphan_grace: Span::seconds(7 * 24 * 60 * 60),
        }
    }
}

/// `[admin]`: the HTTP listener for health, metrics and the commands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Names that requests may call it by, besides its addresses and `localhost`.
    #[serde(deserialize_with = "hosts")]
    pub hosts: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 9477)),
            hosts: Vec::new(),
        }
    }
}

/// `[webhooks]`: the HTTP listener for those who tell sources of news.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// Where it listens.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Where it is reached from outside. Without it there is no listener.
    #[serde(deserialize_with = "public_url")]
    pub public_url: Option<Url>,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9478)),
            public_url: None,
        }
    }
}

impl Webhooks {
    /// Where one source of one tenant is reached: their names are the last two parts of the path.
    pub(crate) fn address(&self, source: &str, tenant: &str) -> Option<Url> {
        let mut url = self.public_url.clone()?;
        let mut path = url.path_segments_mut().ok()?;
        path.pop_if_empty().extend([source, tenant]);
        drop(path);
        Some(url)
    }
}

/// `[tenant_files]`: tenants that have a file each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TenantFiles {
    /// Their folder. `contoso.toml` in it is what `[tenants.contoso]` would be.
    pub(super) folder: Option<PathBuf>,
}

/// `[limits]`: what bounds the memory and the load on the sources.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The bodies being cut into events, of all fetches together.
    pub intake_memory: Size,
    /// The records of one batch in the journal.
    pub batch_size: Size,
    /// One record. A larger one goes to the dead letters in parts, not into memory.
    pub record_size: Size,
    /// One inflated body.
    pub blob_size: Size,
    /// Fetches at once.
    pub parallel_fetches: NonZeroUsize,
    /// Fetches at once for one tenant.
    pub parallel_fetches_per_tenant: NonZeroUsize,
    /// Batches kept in memory for sinks that have caught up.
    pub handover_memory: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            intake_memory: Size::mib(32),
            batch_size: Size::mib(1),
            record_size: Size::mib(16),
            blob_size: Size::gib(4),
            parallel_fetches: NonZeroUsize::MIN.saturating_add(15),
            parallel_fetches_per_tenant: NonZeroUsize::MIN.saturating_add(3),
            handover_memory: Size::mib(8),
        }
    }
}

/// Where a sink that the journal does not know yet begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest event that the journal holds.
    #[default]
    Oldest,
    /// With the next event.
    Now,
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        let expected = "an address and port such as \"127.0.0.1:9477\"";
        D::Error::invalid_value(Unexpected::Str(&text), &expected)
    })
}

fn public_url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Url>, D::Error> {
    let text = String::deserialize(from)?;
    let is_fit = |url: &Url| {
        let host = url.host_str().unwrap_or_default();
        let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(host));
        let is_bare = url.query().is_none() && url.fragment().is_none();
        is_safe && is_bare && url.username().is_empty() && url.password().is_none()
    };
    let url = Url::parse(&text).ok().filter(is_fit);
    url.map(Some).ok_or_else(|| {
        let expected = "an address such as \"https://hooks.example.com/audit\"";
        // It may hold a password.
        D::Error::invalid_value(Unexpected::Other("something else"), &expected)
    })
}

fn hosts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let hosts = Vec::<String>::deserialize(from)?;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    match hosts
        .iter()
        .find(|host| host.is_empty() || !host.bytes().all(is_part))
    {
        None => Ok(hosts),
        Some(wrong) => {
            let expected = "a host name such as \"audit.example.com\", without a port";
            Err(D::Error::invalid_value(Unexpected::Str(wrong), &expected))
        }
    }
}

/// The tables of the configuration.
pub(super) const SECTIONS: &[&str] = &[
    "journal",
    "admin",
    "webhooks",
    "limits",
    "tenants",
    "tenant_files",
    "sources",
    "filters",
    "sinks",
];

/// The keys of the engine's own tables.
pub(super) const ENGINE: &[(&str, &[&str])] = &[
    ("journal", &["path", "max_size", "orphan_grace"]),
    ("admin", &["enabled", "listen", "hosts"]),
    ("webhooks", &["listen", "public_url"]),
    (
        "limits",
        &[
            "intake_memory",
            "batch_size",
            "record_size",
            "blob_size",
            "parallel_fetches",
            "parallel_fetches_per_tenant",
            "handover_memory",
        ],
    ),
    ("tenant_files", &["folder"]),
];

const TENANT: &[&str] = &["id", "tags"];
const SOURCE: &[&str] = &["type", "tenants", "per_tenant"];
const FILTER: &[&str] = &["type"];
const SINK: &[&str] = &[
    "type",
    "tenants",
    "sources",
    "filters",
    "required",
    "start",
    "renamed_from",
    "batch_events",
    "batch_size",
    "timeout",
    "per_tenant",
];

/// The keys of an instance's table that are ours.
pub(super) fn common(path: &str) -> &'static [&'static str] {
    match path.split_once('.') {
        Some(("tenants", _)) => TENANT,
        Some(("sources", _)) => SOURCE,
        Some(("filters", _)) => FILTER,
        Some(("sinks", _)) => SINK,
        _ => &[],
    }
}

#[derive(Deserialize)]
pub(super) struct TenantKeys {
    pub(super) id: String,
    #[serde(default)]
    pub(super) tags: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct SourceKeys {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) tenants: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct FilterKeys {
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Deserialize)]
pub(super) struct SinkKeys {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) tenants: Option<Vec<String>>,
    pub(super) sources: Option<Vec<String>>,
    #[serde(default)]
    pub(super) filters: Vec<String>,
    #[serde(default = "yes")]
    pub(super) required: bool,
    #[serde(default)]
    pub(super) start: Start,
    pub(super) renamed_from: Option<String>,
    #[serde(default = "batch_events")]
    pub(super) batch_events: NonZeroUsize,
    #[serde(default = "batch_size")]
    pub(super) batch_size: Size,
    #[serde(default = "timeout")]
    pub(super) timeout: Span,
}

fn yes() -> bool {
    true
}

fn batch_events() -> NonZeroUsize {
    NonZeroUsize::MIN.saturating_add(4999)
}

fn batch_size() -> Size {
    Size::mib(4)
}

fn timeout() -> Span {
    Span::seconds(5 * 60)
}
