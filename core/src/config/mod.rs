//! The configuration: a TOML file, then the environment, checked as a whole before anything starts.

pub mod options;
pub mod secret;
pub mod units;

use std::sync::Arc;

pub use options::Options;
pub use secret::Secret;
pub use units::{Size, Span};

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
