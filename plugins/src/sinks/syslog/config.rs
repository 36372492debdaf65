//! The options of a `syslog` sink.

use std::path::PathBuf;
use std::sync::Arc;

use audit_exporter_core::config::{Options, Size};
use audit_exporter_core::{Error, Result};
use serde::Deserialize;

use super::connection::{CloseNotify, Peer};
use super::message::Layout;
use crate::sinks::line::Format;
use crate::sinks::template::Template;
use crate::sinks::trust::Trust;

/// The facilities by number.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    address: String,
    #[serde(default = "tls")]
    tls: bool,
    ca_file: Option<PathBuf>,
    close_notify: Option<CloseNotify>,
    #[serde(default = "facility")]
    facility: String,
    #[serde(default = "hostname")]
    hostname: String,
    #[serde(default = "app_name")]
    app_name: String,
    #[serde(default = "data_id")]
    data_id: String,
    #[serde(default)]
    format: Format,
    #[serde(default = "message_size")]
    message_size: Size,
}

fn tls() -> bool {
    true
}

fn facility() -> String {
    "audit".to_owned()
}

fn hostname() -> String {
    "{tenant}".to_owned()
}

fn app_name() -> String {
    "audit-exporter".to_owned()
}

/// With the number that is kept for those who have none of their own (RFC 5612).
fn data_id() -> String {
    "audit@32473".to_owned()
}

/// What syslog-ng takes without being told otherwise; others take less.
fn message_size() -> Size {
    Size::kib(64)
}

/// Where and how one tenant's events go.
pub(super) struct Settings {
    pub(super) peer: Peer,
    pub(super) layout: Layout,
}

/// The settings in a tenant's options.
pub(super) fn read(options: &Options) -> Result<Settings> {
    let config: Config = options.parse()?;
    let facility = FACILITIES.iter().position(|name| *name == config.facility);
    let facility = facility.ok_or_else(|| {
        let names = FACILITIES.iter().copied();
        options.unknown_value("facility", "a facility", &config.facility, names)
    })?;
    let is_name = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'=' | b']' | b'"');
    if !(1..=32).contains(&config.data_id.len()) || !config.data_id.bytes().all(is_name) {
        let expected = "a name and a number such as \"audit@32473\", of at most 32 characters";
        return Err(options.invalid("data_id", expected, &format!("{:?}", config.data_id)));
    }
    Ok(Settings {
        peer: peer(options, &config)?,
        layout: Layout {
            facility: facility as u8,
            hostname: Template::parse(options, "hostname", &config.hostname)?,
            app_name: Template::parse(options, "app_name", &config.app_name)?,
            data_id: config.data_id,
            format: config.format,
            message_bytes: config.message_size.bytes(),
        },
    })
}

fn peer(options: &Options, config: &Config) -> Result<Peer> {
    let wrong = || {
        let expected = "a host and port such as \"syslog.example.com:6514\"";
        options.invalid("address", expected, &format!("{:?}", config.address))
    };
    let (host, port) = config.address.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    let trust = Trust::read(options, config.ca_file.clone(), config.tls)?;
    if config.close_notify.is_some() && !config.tls {
        return Err(options.problem("close_notify", "has no effect without TLS"));
    }
    let tls = config.tls.then(|| {
        let name = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let name = name.try_into().map_err(|_| wrong())?;
        Ok::<_, Error>((name, Arc::new(trust.tls(options)?)))
    });
    Ok(Peer {
        address: config.address.clone(),
        tls: tls.transpose()?,
        trust,
        close_notify: config.close_notify.unwrap_or_default(),
    })
}
