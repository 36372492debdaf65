//! The options of a `file` sink.

use std::path::Path;
use std::time::Duration;

use audit_exporter_core::config::{Options, Size, Span};
use audit_exporter_core::{Error, Result};
use serde::Deserialize;

use super::template::PathTemplate;
use crate::sinks::line::Format;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    path: String,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    compression: Compression,
    #[serde(default = "rotate_size")]
    rotate_size: Size,
    #[serde(default = "rotate_age")]
    rotate_age: Span,
    #[serde(default = "max_open_files")]
    max_open_files: usize,
}

/// Small enough to be moved and searched with ordinary tools.
fn rotate_size() -> Size {
    Size(256 << 20)
}

fn rotate_age() -> Span {
    Span(Duration::from_hours(24))
}

/// Five content types of seven days for seven tenants, and a quarter of the usual limit of descriptors (1024).
fn max_open_files() -> usize {
    256
}

/// How files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Compression {
    /// Plain text.
    #[default]
    None,
    /// Gzip members, one a delivery.
    Gzip,
    /// Zstandard frames, one a delivery.
    Zstd,
}

impl Compression {
    /// What a file's name ends with.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

/// How one tenant's files are written.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) template: PathTemplate,
    pub(super) format: Format,
    pub(super) compression: Compression,
    /// A file that has reached this many bytes is closed.
    pub(super) rotate_size: u64,
    /// A file that is this old is closed.
    pub(super) rotate_age: Duration,
    /// How many files the sink keeps open; of several tenants' values the highest counts.
    pub(super) max_open_files: usize,
}

impl Settings {
    /// The settings for a tenant, or without one those that all share.
    pub(super) fn read(options: &Options, tenant: Option<&str>) -> Result<Self> {
        let options = match tenant {
            Some(tenant) => &options.for_tenant(tenant)?,
            None => options,
        };
        let config: Config = options.parse_base()?;
        if config.rotate_size.0 == 0 {
            return Err(options.invalid("rotate_size", "a size above 0", "0"));
        }
        if config.rotate_age.0.is_zero() {
            return Err(options.invalid("rotate_age", "a time span above 0", "0"));
        }
        if config.max_open_files == 0 {
            return Err(options.invalid("max_open_files", "at least 1", "0"));
        }
        Ok(Self {
            template: template(options, &config.path, config.compression)?,
            format: config.format,
            compression: config.compression,
            rotate_size: config.rotate_size.0,
            rotate_age: config.rotate_age.0,
            max_open_files: config.max_open_files,
        })
    }
}

fn template(options: &Options, path: &str, compression: Compression) -> Result<PathTemplate> {
    let folder = if Path::new(path).is_absolute() {
        None
    } else {
        // Absolute once and for all: a receipt must mean the same file wherever the next process starts.
        let folder = std::env::current_dir()
            .map_err(|error| Error::config("the working folder is unknown").with_cause(error))?
            .join(options.dir());
        let text = folder.to_str().ok_or_else(|| {
            options.invalid(
                "path",
                "a folder whose name is UTF-8",
                &folder.display().to_string(),
            )
        })?;
        Some(text.to_owned())
    };
    PathTemplate::parse(options, folder.as_deref(), path, compression.suffix())
}
