//! What the exporter's journal says, read from its tables without any code of the exporter's.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, Row};

use super::history::Millis;
use super::random::start;

/// By tenant, content type and hour: listed, fetched, lost.
pub(crate) type Content = BTreeMap<(String, String, i64), [i64; 3]>;
/// By tenant and hour: journaled, repeats, variants.
pub(crate) type Events = BTreeMap<(String, i64), [i64; 3]>;
/// By tenant and hour: filtered, delivered, dead, skipped.
pub(crate) type Counts = BTreeMap<(String, i64), [i64; 4]>;

/// The journal's account.
pub(crate) struct Tables {
    pub(crate) content: Content,
    pub(crate) events: Events,
    /// By sink.
    pub(crate) sinks: BTreeMap<String, Counts>,
    /// By sink, sorted.
    pub(crate) dead: BTreeMap<String, Vec<String>>,
    pub(crate) gaps: Vec<Gap>,
}

/// A time that the exporter says was never listed, in the model's time.
#[derive(Debug)]
pub(crate) struct Gap {
    pub(crate) tenant: String,
    pub(crate) content_type: String,
    pub(crate) from: Millis,
    pub(crate) to: Millis,
}

/// Reads the account of the journal in `folder`, which nobody holds.
pub(crate) fn read(folder: &Path) -> Result<Tables, String> {
    tables(folder).map_err(|error| format!("the journal cannot be read: {error}"))
}

fn tables(folder: &Path) -> rusqlite::Result<Tables> {
    let path = folder.join("journal.sqlite");
    let journal = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let content = "SELECT tenant, content_type, hour, listed, fetched, lost \
                   FROM coverage_content JOIN streams USING (stream)";
    let events = "SELECT tenant, hour, journaled, repeats, variants FROM coverage_events";
    let sinks = "SELECT sink, tenant, hour, filtered, delivered, dead, skipped FROM coverage_sinks";
    let dead = "SELECT sink, CAST(body AS TEXT) FROM dead_letters JOIN dead_letter_parts USING (letter) \
                WHERE complete ORDER BY 2";
    let gaps = "SELECT tenant, content_type, \"from\", \"to\" FROM gaps JOIN streams USING (stream) \
         WHERE reason LIKE 'content of this time cannot be listed any more%'";
    let began = start().timestamp_millis();
    let mut by_sink: BTreeMap<String, Counts> = BTreeMap::new();
    let counts = |row: &Row<'_>| {
        let counts = [row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?];
        Ok((row.get(0)?, ((row.get(1)?, row.get(2)?), counts)))
    };
    for (sink, (at, counts)) in rows(&journal, sinks, counts)? {
        by_sink.entry(sink).or_default().insert(at, counts);
    }
    let mut letters: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (sink, record) in rows(&journal, dead, |row| Ok((row.get(0)?, row.get(1)?)))? {
        letters.entry(sink).or_default().push(record);
    }
    Ok(Tables {
        content: rows(&journal, content, |row| {
            let at = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok((at, [row.get(3)?, row.get(4)?, row.get(5)?]))
        })?
        .into_iter()
        .collect(),
        events: rows(&journal, events, |row| {
            let counts = [row.get(2)?, row.get(3)?, row.get(4)?];
            Ok(((row.get(0)?, row.get(1)?), counts))
        })?
        .into_iter()
        .collect(),
        sinks: by_sink,
        dead: letters,
        gaps: rows(&journal, gaps, |row| {
            Ok(Gap {
                tenant: row.get(0)?,
                content_type: row.get(1)?,
                from: row.get::<_, i64>(2)? - began,
                to: row.get::<_, i64>(3)? - began,
            })
        })?,
    })
}

fn rows<T>(
    journal: &Connection,
    question: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut select = journal.prepare(question)?;
    select.query_map([], read)?.collect()
}
