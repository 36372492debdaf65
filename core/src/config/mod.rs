//! The configuration: a TOML file, then the environment, checked as a whole before anything starts.
//!
//! Every instance (a tenant, source, filter or sink) is one table. The keys in it that are ours are split off here;
//! the rest are [`Options`], which the plugin parses. Selections (`tenants = ["contoso", "tag:emea"]`) are resolved
//! here, so that the rest of the program knows names alone.
//!
//! A problem is one line: the file or variable to blame, the key's full path, what was expected and what was found,
//! never a secret. As many problems are told at once as can be found.

mod build;
mod keys;
mod layers;
mod message;
pub mod options;
pub mod secret;
mod select;
mod tenant_files;
pub mod units;
mod warnings;

#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

pub use keys::{Admin, Journal, Limits, Start, Webhooks};
pub use options::Options;
pub use secret::{Secret, same_secret};
pub use units::{Size, Span};

use crate::error::{Error, Result};
use build::Problems;
use layers::Layer;

/// The whole configuration, in the order of the names.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[journal]`; its path is resolved.
    pub journal: Journal,
    /// `[admin]`
    pub admin: Admin,
    /// `[webhooks]`
    pub webhooks: Webhooks,
    /// `[limits]`
    pub limits: Limits,
    /// `[tenants.NAME]`; at least one.
    pub tenants: Arc<[Tenant]>,
    /// `[sources.NAME]`; at least one.
    pub sources: Vec<Source>,
    /// `[filters.NAME]`
    pub filters: Vec<Filter>,
    /// `[sinks.NAME]`; at least one.
    pub sinks: Vec<Sink>,
    /// What is allowed, but perhaps not meant, a line each.
    pub warnings: Vec<String>,
}

/// One Microsoft Entra tenant. What belongs to a vendor (cloud, credentials, hosts) stays in `options`.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// Its name in the configuration: labels, paths, selections.
    pub name: Arc<str>,
    /// Its id: a GUID in lower case.
    pub id: Arc<str>,
    /// Free words that sources and sinks can select by.
    pub tags: Vec<String>,
    /// The rest of its table, read by the sources.
    pub options: Options,
}

/// One `[sources.NAME]`.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub name: Arc<str>,
    /// Its `type`: the plugin.
    pub kind: String,
    /// The tenants that it collects from: names of [`Config::tenants`].
    pub tenants: Vec<Arc<str>>,
    /// The rest of its table. A source is built once a tenant, with [`Options::for_tenant`].
    pub options: Options,
}

/// One `[filters.NAME]`.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Its name.
    pub name: Arc<str>,
    /// Its `type`: the plugin.
    pub kind: String,
    /// The rest of its table.
    pub options: Options,
}

/// One `[sinks.NAME]`.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Its name.
    pub name: Arc<str>,
    /// Its `type`: the plugin.
    pub kind: String,
    /// The tenants whose events it gets: names of [`Config::tenants`].
    pub tenants: Vec<Arc<str>>,
    /// The sources whose events it gets: names of [`Config::sources`].
    pub sources: Vec<Arc<str>>,
    /// What its events go through, in this order: names of [`Config::filters`].
    pub filters: Vec<Arc<str>>,
    /// Whether the journal waits for it when it is full, rather than leave it behind.
    pub required: bool,
    /// Where it begins when the journal does not know it yet.
    pub start: Start,
    /// The name whose cursors it takes over.
    pub renamed_from: Option<Arc<str>>,
    /// The most events in one delivery.
    pub batch_events: NonZeroUsize,
    /// The most bytes of records in one delivery; a single larger record travels alone.
    pub batch_size: Size,
    /// How long one delivery may take before it is broken off and tried again.
    pub timeout: Span,
    /// The rest of its table.
    pub options: Options,
}

impl Config {
    /// The configuration of a file and this process's environment.
    pub fn load(path: &Path) -> Result<Self> {
        // No key accepts what is not UTF-8, and no message would be better than the key's own.
        let environment = std::env::vars_os().map(|(name, value)| {
            let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
            (text(name), text(value))
        });
        Self::load_with(path, environment)
    }

    /// The configuration of a file and the given environment variables.
    pub fn load_with(
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let label = path.display().to_string();
        let unreadable = || Error::config(format!("{label}: cannot be read"));
        let text = std::fs::read_to_string(path).map_err(|error| unreadable().with_cause(error))?;
        // Absolute, so that what is shown later means the same wherever it is read.
        let path = std::path::absolute(path).map_err(|error| unreadable().with_cause(error))?;
        Self::build(&label, &path, &text, environment)
    }

    /// The configuration of TOML text alone, as if it were `config.toml` in `dir`.
    pub fn from_toml(text: &str, dir: &Path) -> Result<Self> {
        Self::build("config.toml", &dir.join("config.toml"), text, [])
    }

    fn build(
        label: &str,
        path: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let file = Layer::toml(label, path, text)?;
        let mut variables: Vec<_> = environment.into_iter().collect();
        variables.sort();
        let mut problems = Problems::default();
        let from_environment = variables.iter();
        let from_environment = from_environment
            .filter_map(|(name, value)| Layer::variable(name, value, &file))
            .collect::<Vec<_>>();
        let mut layers = vec![file.clone()];
        layers.extend(from_environment.iter().cloned());
        let tenants = tenant_files::read(&Options::root(label, path, layers), &file, &mut problems);
        let mut layers = vec![file];
        layers.extend(tenants);
        layers.extend(from_environment);
        for (name, _) in &variables {
            if let Some(error) = layers::misspelled(name) {
                problems.add(&error);
            }
        }
        build::build(&Options::root(label, path, layers), problems)
    }

    /// The tenant of this name.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| &*tenant.name == name)
    }

    /// The name of the tenant with this id, or the id of one that is not configured any more.
    #[must_use]
    pub fn tenant_of<'a>(&'a self, id: &'a str) -> &'a str {
        let known = self.tenants.iter().find(|tenant| &*tenant.id == id);
        known.map_or(id, |tenant| &tenant.name)
    }
}
