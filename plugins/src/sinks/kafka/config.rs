//! The options of a `kafka` sink.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Size};
use serde::Deserialize;

use super::security::{Sasl, SaslOptions, Tls, TlsOptions};
use crate::sinks::line::Format;
use crate::sinks::template::Template;
use crate::sinks::value::MAX_VALUE_BYTES;

/// The longest name that a topic may have.
const MAX_TOPIC: usize = 249;
/// A value that is cut has a sign and a hash behind it.
const MAX_VALUE: usize = MAX_VALUE_BYTES + 17;
/// librdkafka's own default, a little below the brokers' (1,048,588 with the batch's header).
const MESSAGE_BYTES: u64 = 1_000_000;
/// What librdkafka takes.
const POSSIBLE_MESSAGES: RangeInclusive<u64> = 1_000..=1_000_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    brokers: Vec<String>,
    topic: String,
    #[serde(default)]
    key: Key,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    compression: Compression,
    #[serde(default = "message_bytes")]
    max_message_size: Size,
    #[serde(default)]
    transactional: bool,
    #[serde(default = "position_topic")]
    position_topic: String,
    tls: Option<TlsOptions>,
    sasl: Option<SaslOptions>,
    #[serde(default)]
    properties: BTreeMap<String, Property>,
}

fn message_bytes() -> Size {
    Size(MESSAGE_BYTES)
}

fn position_topic() -> String {
    "audit-exporter-positions".to_owned()
}

/// What a record's key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    /// `Id`: all copies of an event are in one partition, and compaction keeps one.
    #[default]
    EventId,
    /// The tenant's id: all of a tenant's events are in one partition.
    Tenant,
    /// `UserId`.
    User,
    /// No key: records are spread over all partitions.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    #[default]
    Zstd,
}

impl Compression {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// A value of librdkafka's. A key with dots that is not in quotes is a table in TOML.
#[derive(Deserialize)]
#[serde(untagged)]
enum Property {
    Text(String),
    Bool(bool),
    Integer(i64),
    Number(f64),
    Table(BTreeMap<String, Property>),
}

impl Property {
    fn flatten(self, name: String, into: &mut BTreeMap<String, String>) {
        let value = match self {
            Self::Text(text) => text,
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
            Self::Table(table) => {
                for (key, value) in table {
                    value.flatten(format!("{name}.{key}"), into);
                }
                return;
            }
        };
        into.insert(name, value);
    }
}

/// How the brokers are reached and what holds for all records: one for all tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// As librdkafka takes them: with commas in between.
    pub(super) brokers: String,
    pub(super) compression: &'static str,
    pub(super) max_message_bytes: u64,
    /// The topic for positions, if deliveries are transactions.
    pub(super) positions: Option<String>,
    pub(super) tls: Option<Tls>,
    pub(super) sasl: Option<Sasl>,
    /// Passed through to librdkafka.
    pub(super) properties: BTreeMap<String, String>,
}

/// Where one tenant's events go, and how they look there.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) topic: Template,
    pub(super) key: Key,
    pub(super) format: Format,
}

/// The options that apply to a tenant, or without one those that all share.
pub(super) fn read(options: &Options, tenant: Option<&str>) -> Result<(Connection, Destination)> {
    let options = match tenant {
        Some(tenant) => &options.for_tenant(tenant)?,
        None => options,
    };
    let config: Config = options.parse_base()?;
    let destination = Destination {
        topic: topic(options, &config.topic)?,
        key: config.key,
        format: config.format,
    };
    let max_message_bytes = config.max_message_size.0;
    if !POSSIBLE_MESSAGES.contains(&max_message_bytes) {
        let found = config.max_message_size.to_string();
        return Err(options.invalid("max_message_size", "a size from 1kB to 1GB", &found));
    }
    if !is_topic(&config.position_topic) {
        let found = format!("{:?}", config.position_topic);
        return Err(options.invalid("position_topic", "the name of a topic", &found));
    }
    let connection = Connection {
        brokers: brokers(options, &config.brokers)?,
        compression: config.compression.as_str(),
        max_message_bytes,
        positions: config.transactional.then_some(config.position_topic),
        tls: config.tls.map(|tls| Tls::read(options, tls)),
        sasl: match config.sasl {
            Some(sasl) => Some(Sasl::read(options, sasl)?),
            None => None,
        },
        properties: super::properties::read(options, flat(config.properties))?,
    };
    Ok((connection, destination))
}

fn flat(properties: BTreeMap<String, Property>) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    for (name, value) in properties {
        value.flatten(name, &mut flat);
    }
    flat
}

fn brokers(options: &Options, brokers: &[String]) -> Result<String> {
    if brokers.is_empty() {
        return Err(options.invalid("brokers", "at least one HOST:PORT", "none"));
    }
    for (index, broker) in brokers.iter().enumerate() {
        let port = broker
            .rsplit_once(':')
            .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok())?);
        if port.is_none() || broker.contains([',', '/', ' ']) {
            let key = format!("brokers[{index}]");
            let expected = "HOST:PORT such as \"kafka-1.example.com:9093\"";
            return Err(options.invalid(&key, expected, &format!("{broker:?}")));
        }
    }
    Ok(brokers.join(","))
}

fn topic(options: &Options, text: &str) -> Result<Template> {
    let template = Template::parse(options, "topic", text)?;
    let longest: usize =
        template.literals().map(str::len).sum::<usize>() + template.placeholders() * MAX_VALUE;
    if longest > MAX_TOPIC {
        let expected = format!("a topic's name of up to {MAX_TOPIC} characters");
        return Err(options.invalid("topic", &expected, &format!("up to {longest}")));
    }
    if template.placeholders() == 0 && !is_topic(text) || !template.literals().all(legal) {
        let expected = "a topic's name of the characters a-z, A-Z, 0-9, '.', '_' and '-'";
        return Err(options.invalid("topic", expected, &format!("{text:?}")));
    }
    Ok(template)
}

fn is_topic(name: &str) -> bool {
    (1..=MAX_TOPIC).contains(&name.len()) && name != "." && name != ".." && legal(name)
}

fn legal(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    text.bytes().all(legal)
}
