//! What the sink remembers across a crash.
//!
//! Two records, written at two moments. The *receipt* goes with the cursor and says how long each open file was when
//! its events were confirmed. The *ledger* is in the sink's store and names each file before it is created. Whatever
//! a crash leaves behind, the two tell the sink's own unconfirmed bytes (cut off) and files (removed) from everything
//! else in the folder, which it never touches.

use std::path::PathBuf;

use audit_exporter_core::journal::Store;
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The store's key.
const KEY: &str = "files";

/// For how many deliveries a created file stays in the ledger. The engine may have confirmed deliveries whose cursor
/// it has not committed yet; it is never this far ahead. Beyond it, a ledger that is newer than the receipt shows that
/// the cursor was reset, and then the files were confirmed once and are kept.
pub(super) const KEPT_DELIVERIES: u64 = 64;

/// A file's name: the template's path, a number from the second file on, the extension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    pub(super) stem: String,
    pub(super) extension: String,
    pub(super) number: u32,
}

impl Name {
    /// The path on disk.
    pub(super) fn path(&self) -> PathBuf {
        let Self {
            stem,
            extension,
            number,
        } = self;
        if *number == 1 {
            format!("{stem}{extension}").into()
        } else {
            format!("{stem}-{number}{extension}").into()
        }
    }

    /// What all files of one template path share.
    pub(super) fn slot(&self) -> String {
        format!("{}{}", self.stem, self.extension)
    }
}

/// An open file as it was when its events were confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confirmed {
    pub(super) name: Name,
    pub(super) length: u64,
    /// Tells the file from another that took its place.
    pub(super) inode: u64,
    pub(super) opened: DateTime<Utc>,
}

/// The sink's receipt: all open files after one delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The delivery's number, counted by the sink.
    pub(super) delivery: u64,
    pub(super) files: Vec<Confirmed>,
}

/// A file that was created, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Created {
    name: Name,
    delivery: u64,
}

/// The files that were created lately.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    created: Vec<Created>,
    /// The store's contents differ.
    changed: bool,
}

impl Ledger {
    /// Reads the ledger from the store.
    pub(super) async fn load(store: &Store) -> Result<Self> {
        let created = match store.get(KEY).await? {
            None => Vec::new(),
            Some(text) => serde_json::from_str(&text).map_err(|error| {
                Error::bug("the list of created files in the store cannot be read")
                    .with_cause(error)
            })?,
        };
        Ok(Self {
            created,
            changed: false,
        })
    }

    /// Writes it to the store, durably, if it has changed.
    pub(super) async fn save(&mut self, store: &Store) -> Result<()> {
        if self.changed {
            let text = serde_json::to_string(&self.created).map_err(|error| {
                Error::bug("the list of created files cannot be written as JSON").with_cause(error)
            })?;
            store.put(KEY, Some(text)).await?;
            self.changed = false;
        }
        Ok(())
    }

    /// The last delivery that created a file.
    pub(super) fn newest(&self) -> u64 {
        let deliveries = self.created.iter().map(|created| created.delivery);
        deliveries.max().unwrap_or_default()
    }

    /// Notes a file that is about to be created; forgets those of long ago.
    pub(super) fn add(&mut self, name: Name, delivery: u64) {
        self.created
            .retain(|created| created.delivery + KEPT_DELIVERIES >= delivery);
        self.created.push(Created { name, delivery });
        self.changed = true;
    }

    /// Takes back the last note: the file turned out to be somebody else's.
    pub(super) fn withdraw(&mut self) {
        self.created.pop();
        self.changed = true;
    }

    /// The files created after `delivery`, newest first.
    pub(super) fn after(&self, delivery: u64) -> impl Iterator<Item = (&Name, u64)> {
        self.created
            .iter()
            .rev()
            .filter(move |created| created.delivery > delivery)
            .map(|created| (&created.name, created.delivery))
    }

    /// Forgets the files created after `delivery`.
    pub(super) fn forget_after(&mut self, delivery: u64) {
        let before = self.created.len();
        self.created.retain(|created| created.delivery <= delivery);
        self.changed |= self.created.len() != before;
    }
}
