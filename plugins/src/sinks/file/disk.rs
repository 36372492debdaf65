//! The file system: folders, durability, errors with their path.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit_exporter_core::{Error, Result};

/// An error that names the path. All of them may pass (a full disk, a read-only mount), so the work is retried.
pub(super) fn failed(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let message = format!("cannot {action} {}", path.display());
    move |error| Error::unavailable(message).with_cause(error)
}

/// The folder of a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Creates `folder` and what is above it, readable by its owner alone. Adds to `unsynced` the folders that got an
/// entry.
pub(super) fn create_folder(folder: &Path, unsynced: &mut BTreeSet<PathBuf>) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder_of(folder);
    if above != folder {
        create_folder(above, unsynced)?;
    }
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
        result => result.map_err(failed("create folder", folder))?,
    }
    unsynced.insert(above.to_owned());
    Ok(())
}

/// Makes the entries of a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    match synced {
        // Some network file systems know no such thing: their entries are durable at once, or never.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        result => result.map_err(failed("sync folder", folder)),
    }
}

/// Keeps other sinks out of a folder while a name in it is chosen, so that none notes another's file as its own.
///
/// Only sinks heed it. Where the file system has no locks, or somebody holds it for long, it goes without: creation
/// is exclusive in any case.
pub(super) fn lock_folder(folder: &Path) -> Option<File> {
    const STEP: Duration = Duration::from_millis(10);
    let handle = File::open(folder).ok()?;
    for _ in 0..200 {
        match handle.try_lock() {
            Ok(()) => return Some(handle),
            Err(TryLockError::WouldBlock) => std::thread::sleep(STEP),
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}

/// Whether there is anything at `path`, be it a dangling link.
pub(super) fn exists(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// Removes a file if it is there; says whether it was.
pub(super) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// A place where a test can stop or fail the sink. Nothing without the feature `failpoints`.
#[cfg(feature = "failpoints")]
pub(super) fn fail_point(name: &str) -> io::Result<()> {
    fail::fail_point!(name, |_| Err(io::Error::other(format!(
        "fail point {name}"
    ))));
    Ok(())
}

/// A place where a test can stop or fail the sink. Nothing without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
#[allow(clippy::unnecessary_wraps, clippy::inline_always)] // The shape of its twin; no code.
pub(super) fn fail_point(_name: &str) -> io::Result<()> {
    Ok(())
}
