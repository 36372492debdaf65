//! The proof that nothing is missing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit_exporter_core::journal::Status;
use audit_exporter_core::{Error, Result};
use audit_exporter_simulator as simulator;
use sha2::{Digest, Sha256};

use crate::run::Figures;
use crate::terminal::{number, say, say_coloured};

/// The comparison of the files with the simulator's own ledger.
pub(super) struct Proof {
    occurrences: usize,
    expected: usize,
    found: usize,
    missing: usize,
    twice: usize,
    foreign: usize,
}

impl Proof {
    /// Reads every file below `events`, a line at a time.
    pub(super) fn of(
        ledger: impl Iterator<Item = simulator::Entry>,
        events: &Path,
    ) -> Result<Self> {
        let mut expected: HashMap<[u8; 32], i64> = HashMap::new();
        let mut occurrences = 0;
        for entry in ledger {
            occurrences += 1;
            if entry.repeats.is_none() {
                *expected.entry(digest(&entry.sha256)?).or_default() += 1;
            }
        }
        let wanted = expected.values().sum::<i64>() as usize;
        let (mut found, mut foreign) = (0, 0);
        for file in files_below(events)? {
            for line in BufReader::new(File::open(file)?).split(b'\n') {
                found += 1;
                let hash: [u8; 32] = Sha256::digest(line?).into();
                match expected.get_mut(&hash) {
                    Some(left) => *left -= 1,
                    None => foreign += 1,
                }
            }
        }
        let missing = expected.values().filter(|left| **left > 0).sum::<i64>() as usize;
        let twice = expected
            .values()
            .filter(|left| **left < 0)
            .map(|left| -left)
            .sum::<i64>() as usize;
        Ok(Self {
            occurrences,
            expected: wanted,
            found,
            missing,
            twice,
            foreign,
        })
    }

    pub(super) fn holds(&self) -> bool {
        self.missing + self.twice + self.foreign == 0
    }

    pub(super) fn tell(&self, status: &Status, complete: bool, took: Duration) {
        let figures = Figures::of(status);
        let (colour, verdict) = match (complete, self.holds()) {
            (false, _) => ("33", "Broken off"),
            (true, true) => ("32", "Complete"),
            (true, false) => ("31", "NOT COMPLETE"),
        };
        say("");
        say_coloured(
            colour,
            verdict,
            &format!(" after {:.1} s", took.as_secs_f64()),
        );
        if !complete {
            say(
                "  A run would go on from here, and nothing that is missing now would be missing then.",
            );
        }
        say(format!(
            "  {} records served in {} content blobs, {} of them repeats that must not arrive",
            number(self.occurrences as u64),
            number(figures.fetched),
            number((self.occurrences - self.expected) as u64)
        ));
        say(format!(
            "  {} expected, {} in the files: {} missing, {} twice, {} foreign (by SHA-256 of every record)",
            number(self.expected as u64),
            number(self.found as u64),
            self.missing,
            self.twice,
            self.foreign
        ));
        for sink in &status.sinks {
            say(format!(
                "  sink {}: {} delivered, {} filtered, {} dead letters",
                sink.sink,
                number(sink.delivered),
                number(sink.filtered),
                number(sink.dead)
            ));
        }
        if figures.lost > 0 {
            say(format!("  {} content blobs LOST", number(figures.lost)));
        }
    }
}

/// The hash that a ledger writes in hexadecimal digits.
fn digest(text: &str) -> Result<[u8; 32]> {
    let mut digest = [0; 32];
    let wrong = || Error::bug("the ledger holds no SHA-256");
    if text.len() != 2 * digest.len() {
        return Err(wrong());
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        let digits = text.get(2 * at..2 * at + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|error| wrong().with_cause(error))?;
    }
    Ok(digest)
}

/// Every file below a folder; none if there is no such folder yet.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_that_is_stopped_before_its_first_delivery_has_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let proof = Proof::of(std::iter::empty(), &folder.path().join("events")).unwrap();
        assert_eq!((proof.found, proof.missing), (0, 0));
        assert!(proof.holds());
    }

    #[test]
    fn a_proof_counts_what_is_missing_there_twice_and_foreign() {
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("events/contoso");
        std::fs::create_dir_all(&events).unwrap();
        std::fs::write(events.join("a.ndjson"), "one\ntwo\ntwo\nalien\n").unwrap();
        let entry = |record: &str| simulator::Entry {
            tenant: String::new(),
            content_type: String::new(),
            blob: String::new(),
            index: 0,
            id: None,
            sha256: Sha256::digest(record)
                .iter()
                .flat_map(|byte| [byte >> 4, byte & 15])
                .filter_map(|digit| char::from_digit(digit.into(), 16))
                .collect(),
            repeats: None,
            visible_at: chrono::DateTime::UNIX_EPOCH,
        };
        let ledger = ["one", "two", "three"].map(entry);
        let proof = Proof::of(ledger.into_iter(), folder.path()).unwrap();
        let Proof {
            missing,
            twice,
            foreign,
            found,
            ..
        } = proof;
        assert_eq!((missing, twice, foreign, found), (1, 1, 1, 4));
    }
}
