//! The journal: the durable log between sources and sinks.

use std::sync::Arc;

use crate::error::{Error, Result};

/// Where a batch lies in the journal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The journal's random id.
    pub journal: Arc<str>,
    /// The lane's name: tenant id and kind.
    pub lane: Arc<str>,
    /// The first sequence number.
    pub first: u64,
    /// The last sequence number.
    pub last: u64,
}

/// A small durable store of one plugin instance.
#[derive(Clone)]
pub struct Store {}

impl Store {
    /// The value at `key`.
    pub async fn get(&self, key: &str) -> Result<Option<String>> {
        let _ = key;
        Err(Error::bug("not built yet"))
    }

    /// Sets (or with `None` removes) the value at `key`; durable when this returns.
    pub async fn put(&self, key: &str, value: Option<String>) -> Result<()> {
        let _ = (key, value);
        Err(Error::bug("not built yet"))
    }
}
