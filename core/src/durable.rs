//! Files that a power loss leaves whole.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Puts a file with these bytes in the place of what is there; on disk when this returns. Whoever is killed, or loses
/// power, finds the old one or the new one. It is its user's alone.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = OsString::from(path);
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_folder_of(path)
}

/// Makes the entry of a file in its folder durable.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    match File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()) {
        // Some network file systems know no such thing: their entries are durable at once, or never.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.1");
        let other = folder.path().join("state.2");
        replace(&path, b"a longer text").unwrap();
        replace(&other, b"other").unwrap();
        replace(&path, b"short").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
        assert_eq!(std::fs::read(&other).unwrap(), b"other");
        // What an earlier one that was killed left behind is in nobody's way.
        let left = folder.path().join("state.1.new");
        std::fs::write(&left, "half of someth").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(!left.exists());
        std::fs::create_dir(&left).unwrap();
        replace(&path, b"never").unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
