//! One table of the configuration: a plugin's own part, or one of ours.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use figment::Figment;
use serde::de::DeserializeOwned;

use super::Span;
use super::layers::Layer;
use super::message::{self, Table};
use crate::error::{Error, Result};

const PER_TENANT: &str = "per_tenant";

/// The options of one tenant, source, filter or sink, with enough of their origin to say where an error is.
///
/// Cheap to clone. `Debug` shows the path alone, since the values may be secrets.
#[derive(Clone)]
pub struct Options(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    path: String,
    /// The configuration file's name, as messages begin with it.
    label: Arc<str>,
    file: Arc<Path>,
    layers: Vec<Layer>,
    /// The keys of the table that are ours, not the plugin's.
    common: &'static [&'static str],
    /// Why there is nothing to parse.
    broken: Option<String>,
    /// The overrides of a tenant are applied.
    narrowed: bool,
}

impl Options {
    /// Options from TOML text, for tests and examples. `path` says what they stand for: `sinks.archive`.
    #[must_use]
    pub fn from_toml(path: &str, text: &str) -> Self {
        let file = Path::new("config.toml");
        let mut layers = Vec::new();
        let mut broken = None;
        match Layer::toml("", file, text) {
            Ok(mut layer) => {
                path.clone_into(&mut layer.path);
                layers.push(layer);
            }
            Err(error) => broken = Some(message::line("", path, &error.to_string())),
        }
        Self(Arc::new(Inner {
            path: path.to_owned(),
            label: "".into(),
            file: file.into(),
            layers,
            common: super::keys::common(path),
            broken,
            narrowed: false,
        }))
    }

    /// The whole configuration.
    pub(super) fn root(label: &str, file: &Path, layers: Vec<Layer>) -> Self {
        Self(Arc::new(Inner {
            path: String::new(),
            label: label.into(),
            file: file.into(),
            layers,
            common: &[],
            broken: None,
            narrowed: false,
        }))
    }

    /// The options as `T`, which should deny unknown fields.
    ///
    /// Refuses options per tenant, which would have no effect: a type that has them uses [`Options::parse_for`].
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        if !self.overridden_tenants()?.is_empty() {
            return Err(self.problem(PER_TENANT, "this type has no options per tenant"));
        }
        self.parse_base()
    }

    /// The options as `T` without the overrides, for what a type shares among its tenants (a connection). Whatever
    /// names a destination comes from [`Options::parse_for`].
    pub fn parse_base<T: DeserializeOwned>(&self) -> Result<T> {
        let common = self.0.common;
        self.extract(|key, overlay| overlay || !(common.contains(&key) || key == PER_TENANT))
    }

    /// The options as `T` with the overrides of `per_tenant.NAME` applied.
    pub fn parse_for<T: DeserializeOwned>(&self, tenant: &str) -> Result<T> {
        self.for_tenant(tenant)?.parse()
    }

    /// The keys of the table that are ours.
    pub(super) fn parse_common<T: DeserializeOwned>(&self) -> Result<T> {
        let common = self.0.common;
        self.extract(|key, overlay| !overlay && common.contains(&key) && key != PER_TENANT)
    }

    /// The options of one tenant: each key in `per_tenant.NAME` replaces that key as a whole.
    pub fn for_tenant(&self, tenant: &str) -> Result<Self> {
        let mut inner = (*self.0).clone();
        let mut overlays = Vec::new();
        if !inner.narrowed {
            for layer in &inner.layers {
                let Some(all) = layer.table(PER_TENANT).transpose()? else {
                    continue;
                };
                if let Some(mut overlay) = all.table(tenant).transpose()? {
                    overlay.overlay = true;
                    overlays.push(overlay);
                }
            }
        }
        for key in overlays.iter().flat_map(|overlay| overlay.dict.keys()) {
            if !inner.common.contains(&key.as_str()) {
                for layer in &mut inner.layers {
                    layer.dict.remove(key);
                }
            }
        }
        inner.layers.extend(overlays);
        inner.narrowed = true;
        Ok(Self(Arc::new(inner)))
    }

    /// The tenants that have options of their own here.
    pub fn overridden_tenants(&self) -> Result<BTreeSet<String>> {
        if self.0.narrowed || !self.0.common.contains(&PER_TENANT) {
            return Ok(BTreeSet::new());
        }
        Ok(self.child(PER_TENANT, &[])?.names())
    }

    /// Whether they say the same. Files that they name, secrets among them, may still hold something else.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let tables = |options: &Self| {
            let layers = options.0.layers.iter();
            layers
                .map(|layer| (layer.overlay, layer.dict.clone()))
                .filter(|(_, dict)| !dict.is_empty())
                .collect::<Vec<_>>()
        };
        self.0.narrowed == other.0.narrowed
            && self.0.file == other.0.file
            && tables(self) == tables(other)
    }

    /// The folder of the configuration file, which relative paths start from.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.0.file.parent().unwrap_or(Path::new(""))
    }

    /// A path of the configuration as it is meant: relative to the configuration file's folder.
    #[must_use]
    pub fn resolve_path(&self, path: &Path) -> PathBuf {
        self.dir().join(path)
    }

    /// The path of the table in the configuration: `sinks.archive`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The lengths, in seconds, of time spans of whole seconds that lie within `range` and rise.
    pub fn rising_spans(
        &self,
        key: &str,
        given: &[Span],
        range: &RangeInclusive<Duration>,
    ) -> Result<Vec<i64>> {
        let is_fit = |span: &Span| range.contains(&span.0) && span.0.subsec_nanos() == 0;
        let mut pairs = given.iter().zip(given.iter().skip(1));
        let falling = pairs.find_map(|(one, next)| (next <= one).then_some(next));
        if let Some(wrong) = given.iter().find(|span| !is_fit(span)).or(falling) {
            let (least, most) = (Span(*range.start()), Span(*range.end()));
            let expected = format!("rising time spans of whole seconds, from {least} to {most}");
            return Err(self.invalid(key, &expected, &wrong.to_string()));
        }
        let seconds = given.iter().map(|span| span.0.as_secs().cast_signed());
        Ok(seconds.collect())
    }

    /// The error for a value that is understood but cannot be right. `found` stands in the message as it is.
    #[must_use]
    pub fn invalid(&self, key: &str, expected: &str, found: &str) -> Error {
        self.problem(key, &format!("expected {expected}, found {found}"))
    }

    /// The error for a value that is none of `valid`; names the nearest.
    pub fn unknown_value<'a>(
        &self,
        key: &str,
        expected: &str,
        found: &str,
        valid: impl Iterator<Item = &'a str>,
    ) -> Error {
        let valid: Vec<_> = valid.collect();
        let hint = message::hint(found, &valid, "valid");
        self.problem(key, &format!("expected {expected}, found {found:?}{hint}"))
    }

    /// The error for anything else about a key; names the file or variable that the key comes from.
    #[must_use]
    pub fn problem(&self, key: &str, problem: &str) -> Error {
        self.problem_at(&message::keys(key), problem)
    }

    /// As [`Options::problem`], for keys that may have dots in them.
    pub(super) fn problem_at(&self, keys: &[&str], problem: &str) -> Error {
        let origin = self.0.layers.iter().rev().find(|layer| layer.gives(keys));
        let (label, path) = origin.map_or((&self.0.label, &self.0.path), |layer| {
            (&layer.label, &layer.path)
        });
        Error::config(message::line(label, &message::join(path, keys), problem))
    }

    /// A table in this one, empty if nothing gives it.
    pub(super) fn child(&self, key: &str, common: &'static [&'static str]) -> Result<Self> {
        let layers = self
            .0
            .layers
            .iter()
            .filter_map(|layer| layer.table(key))
            .collect::<Result<Vec<_>>>()?;
        // What a variable alone begins is that variable's fault.
        let file = |layer: &Layer| layer.label == self.0.label;
        let label = match layers.last() {
            Some(last) if !layers.iter().any(file) => Arc::clone(&last.label),
            _ => Arc::clone(&self.0.label),
        };
        Ok(Self(Arc::new(Inner {
            path: message::below(&self.0.path, key),
            label,
            layers,
            common,
            ..(*self.0).clone()
        })))
    }

    /// The names of all keys.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let keys = self.0.layers.iter().flat_map(|layer| layer.dict.keys());
        keys.cloned().collect()
    }

    fn extract<T: DeserializeOwned>(&self, keep: impl Fn(&str, bool) -> bool) -> Result<T> {
        if let Some(broken) = &self.0.broken {
            return Err(Error::config(broken));
        }
        let mut figment = Figment::new();
        for layer in &self.0.layers {
            let mut layer = layer.clone();
            let overlay = layer.overlay;
            layer.dict.retain(|key, _| keep(key, overlay));
            figment = figment.merge(layer);
        }
        // Lossy: what a variable gives is text, also where a number or boolean is expected.
        figment.extract_lossy().map_err(|error| {
            let table = Table {
                label: &self.0.label,
                path: &self.0.path,
                common: self.0.common,
            };
            Error::config(table.render(error))
        })
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options({})", self.0.path)
    }
}
