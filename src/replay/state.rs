//! How far a replay is, in a file of the user's.

use std::io::ErrorKind;
use std::path::Path;

use audit_exporter_core::{Error, Result, durable};
use serde::{Deserialize, Serialize};

use crate::terminal;

/// How far a replay is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) sink: String,
    pub(super) files: Vec<String>,
    /// Lines of all files together that are dealt with.
    pub(super) lines: u64,
}

impl State {
    /// The lines that an earlier replay of the same files to the same sink has noted; none if there was none.
    pub(super) fn read(path: &Path, sink: &str, files: &[String]) -> Result<u64> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => {
                let unreadable = Error::config(format!("{}: cannot be read", path.display()));
                return Err(unreadable.with_cause(error));
            }
        };
        let state: Option<Self> = serde_json::from_slice(&text).ok();
        state
            .filter(|state| state.sink == sink && state.files == files)
            .map(|state| state.lines)
            .ok_or_else(|| {
                Error::config(format!(
                    "{}: belongs to another replay: of other files, in another order, or to another sink; delete it to \
                     begin anew",
                    path.display()
                ))
            })
    }

    /// Notes it; on disk when this returns.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        durable::replace(path, terminal::json(self)?.as_bytes()).map_err(|error| {
            Error::unavailable(format!("{}: cannot be written", path.display())).with_cause(error)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_holds_for_the_same_replay_alone_and_a_note_that_fails_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let state = State {
            sink: "siem".to_owned(),
            files: vec!["a".to_owned(), "b".to_owned()],
            lines: 7,
        };
        let read = |sink, files: &[&str]| {
            let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
            State::read(&path, sink, &files)
        };
        assert_eq!(read("siem", &["a", "b"]).unwrap(), 0);
        state.write(&path).unwrap();
        assert_eq!(read("siem", &["a", "b"]).unwrap(), 7);
        for (sink, files) in [("archive", ["a", "b"]), ("siem", ["b", "a"])] {
            let error = read(sink, &files).unwrap_err().to_string();
            assert!(error.contains("belongs to another replay"), "{error}");
        }
        std::fs::create_dir(folder.path().join("state.new")).unwrap();
        let further = State { lines: 8, ..state };
        let error = further.write(&path).unwrap_err().to_string();
        assert!(error.contains("state: cannot be written"), "{error}");
        assert_eq!(read("siem", &["a", "b"]).unwrap(), 7);
    }
}
