//! A sink on a folder of its own, that can crash and come back.

mod content;
mod contract;
mod crash;
mod limits;
mod property;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit_exporter_core::Result;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::journal::Store;
use audit_exporter_core::plugin::{Delivered, Receipt, Sink};
use bytes::Bytes;
use tempfile::TempDir;

use super::ledger::State;
use crate::testing::{batch, context, origin, tenant};

const DAY: &str = "2026-03-01";

/// A sink, and what survives its crash: the folder, the store, the last committed receipt.
pub(super) struct Bench {
    pub(super) folder: TempDir,
    options: String,
    store: Store,
    clock: Clock,
    pub(super) receipt: Option<Receipt>,
    pub(super) sink: Box<dyn Sink>,
}

impl Bench {
    /// A sink that writes `path` below a new folder.
    pub(super) async fn new(path: &str, options: &str) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), path, options).await
    }

    pub(super) async fn in_folder(folder: TempDir, path: &str, options: &str) -> Self {
        let path = folder.path().join(path);
        let options = format!("path = {:?}\n{options}", path.to_str().unwrap());
        let (store, clock) = (Store::in_memory(), Clock::system());
        let mut bench = Self {
            sink: build(&options, &store, &clock),
            folder,
            options,
            store,
            clock,
            receipt: None,
        };
        bench.crash().await;
        bench
    }

    /// Starts anew with another clock.
    pub(super) async fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self.crash().await;
        self
    }

    /// The sink goes away at once; a new one recovers from the last receipt.
    pub(super) async fn crash(&mut self) {
        self.sink = build(&self.options, &self.store, &self.clock);
        self.sink.recover(self.receipt.as_ref()).await.unwrap();
    }

    /// Keeps every instance from the files.
    pub(super) async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.store.turn().await
    }

    /// Delivers without committing the receipt.
    pub(super) async fn try_deliver(&self, events: &[AuditEvent]) -> Result<Delivered> {
        self.sink.deliver(&batch(events.iter().cloned())).await
    }

    /// Delivers and commits the receipt.
    pub(super) async fn deliver(&mut self, events: &[AuditEvent]) {
        let delivered = self.try_deliver(events).await.unwrap();
        assert_eq!(delivered.rejected, []);
        self.receipt = delivered.receipt;
    }

    /// The files that the last receipt names as open.
    pub(super) fn open_files(&self) -> Vec<PathBuf> {
        let state: State = self.receipt.as_ref().unwrap().parse().unwrap();
        state.files.iter().map(|file| file.name.path()).collect()
    }

    /// All files by their path in the folder.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.folder.path(), self.folder.path(), &mut files);
        files
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }

    /// The numbers of the events in one file.
    pub(super) fn ids_in(&self, name: &str) -> Vec<usize> {
        ids(name, &self.files()[name])
    }

    /// The numbers of the events in all files.
    pub(super) fn ids(&self) -> Vec<usize> {
        let files = self.files();
        let mut all: Vec<_> = files
            .iter()
            .flat_map(|(name, data)| ids(name, data))
            .collect();
        all.sort_unstable();
        all
    }
}

fn build(options: &str, store: &Store, clock: &Clock) -> Box<dyn Sink> {
    let mut context = context("sinks.archive", options);
    context.tenants = Arc::new([tenant("contoso"), tenant("fabrikam")]);
    context.store = store.clone();
    context.clock = clock.clone();
    super::build(context).unwrap()
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            files.insert(name.to_owned(), fs::read(&path).unwrap());
        }
    }
}

/// The text of a file; fails if a compressed one is not complete to its last byte.
pub(super) fn decode(name: &str, data: &[u8]) -> String {
    let mut text = String::new();
    match Path::new(name).extension().and_then(|name| name.to_str()) {
        Some("gz") => flate2::read::MultiGzDecoder::new(data)
            .read_to_string(&mut text)
            .unwrap(),
        Some("zst") => zstd::Decoder::new(data)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap(),
        _ => (&mut &*data).read_to_string(&mut text).unwrap(),
    };
    text
}

/// The numbers of the events in a file that is whole lines of JSON.
pub(super) fn ids(name: &str, data: &[u8]) -> Vec<usize> {
    let text = decode(name, data);
    assert!(text.is_empty() || text.ends_with('\n'), "{name} is torn");
    let id = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["Id"].as_str().unwrap().parse().unwrap()
    };
    text.lines().map(id).collect()
}

pub(super) fn record(number: usize, day: &str, padding: usize) -> String {
    let padding = "x".repeat(padding);
    format!(
        r#"{{"Id":"{number}","CreationTime":"{day}T10:00:00","Operation":"Op","Pad":"{padding}"}}"#
    )
}

pub(super) fn event_of(number: usize, day: &str, padding: usize) -> AuditEvent {
    AuditEvent::new(
        Bytes::from(record(number, day, padding)),
        origin("contoso", "Audit.General"),
    )
}

/// Small events of one day.
pub(super) fn events(numbers: std::ops::Range<usize>) -> Vec<AuditEvent> {
    numbers.map(|number| event_of(number, DAY, 0)).collect()
}

pub(super) fn numbers(range: std::ops::Range<usize>) -> Vec<usize> {
    range.collect()
}

pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

pub(super) fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}
