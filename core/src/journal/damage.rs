//! A journal that is damaged: what is, and the way on.
//!
//! Damage is found at the start (sums of the database, sizes of the other files) or when something is read. As long as
//! the database is whole, only what is damaged is given up: bodies are skipped on record (`struck`), ids forgotten. A
//! database that is not whole cannot say which events were delivered: a new journal takes its place, without ids, so
//! that everything that the source still has is collected again. Nothing is deleted.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::open::{LOCK, lock, open_database, open_read_only};
use super::place::{self, Place};
use super::sums::{self, Known, Sums};
use super::{FILE, schema, sql};
use crate::dedupe;
use crate::error::{Error, Kind, Result};

/// What is wrong with a journal.
#[derive(Debug, Default)]
pub struct Damage {
    database: Option<Error>,
    /// By file: batches, events, and how long the file must be.
    bodies: BTreeMap<i64, Torn>,
    /// Runs of ids, and the ids in them that cannot be told.
    runs: BTreeMap<i64, String>,
}

/// Damaged bodies in a file.
#[derive(Clone, Copy, Debug, Default)]
struct Torn {
    batches: u64,
    events: i64,
    end: u64,
}

/// A source's collection of a tenant: the source's name, the tenant's id.
pub type SourceAndTenant = (String, String);

impl Damage {
    /// Reads the whole journal in `dir`, which no process may hold.
    pub fn find(dir: &Path) -> Result<Self> {
        let _lock = lock_existing(dir)?;
        Self::look(dir)
    }

    fn look(dir: &Path) -> Result<Self> {
        let mut found = Self::default();
        let whole = sums::verify(dir).and_then(|known| {
            if let Known::New = known {
                return Ok(None);
            }
            let conn = open_read_only(&dir.join(FILE))?;
            sums::check_structure(&conn, dir)?;
            Ok(Some(conn))
        });
        match whole {
            Ok(None) => return Err(missing(dir)),
            Ok(Some(conn)) => {
                schema::require_newest(&conn)?;
                found.bodies = torn_bodies(&conn, dir)?;
                found.runs = dedupe::damaged_runs(&conn, dir)?;
            }
            Err(error) if error.kind() == Kind::Config => found.database = Some(error),
            // The disk may recover.
            Err(error) => return Err(error),
        }
        Ok(found)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.database.is_none() && self.bodies.is_empty() && self.runs.is_empty()
    }

    /// A line for each file.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let database = self.database.iter().map(|error| {
            let text = error.to_string();
            let what = text.split("; `audit-exporter").next().unwrap_or_default();
            what.to_owned()
        });
        let bodies = self.bodies.iter().map(|(file, torn)| {
            format!(
                "bodies.{file}: {} batches with {} events do not hold what was written",
                torn.batches, torn.events
            )
        });
        let runs = self
            .runs
            .iter()
            .map(|(run, how)| format!("ids.{run}: {how}"));
        database.chain(bodies).chain(runs).collect()
    }
}

/// What became of a damaged journal.
#[derive(Debug)]
pub struct Recovered {
    /// What was wrong.
    pub damage: Damage,
    /// Where what is damaged is kept.
    pub aside: PathBuf,
    /// What was saved and what follows, a line each.
    pub told: Vec<String>,
}

/// Makes the journal in `dir` usable again. Nothing if it is. `kept`: how far back its sources can still list.
pub fn recover(
    dir: &Path,
    streams: &[SourceAndTenant],
    kept: Duration,
    now: DateTime<Utc>,
) -> Result<Option<Recovered>> {
    let _lock = lock_existing(dir)?;
    let damage = Damage::look(dir)?;
    if damage.is_none() {
        return Ok(None);
    }
    let stamp = format!("damaged-{}", now.format("%Y%m%dT%H%M%SZ"));
    let names = (1_u32..).map(|count| match count {
        1 => beside(dir, &stamp),
        _ => beside(dir, &format!("{stamp}-{count}")),
    });
    let mut free = names.filter(|name| !name.exists());
    let aside = free
        .next()
        .ok_or_else(|| Error::bug("no name is free to keep the damaged journal under"))?;
    let told = if damage.database.is_none() {
        mend(dir, &aside, &damage)?
    } else {
        replace(dir, &aside, streams, (kept, now))?
    };
    Ok(Some(Recovered {
        damage,
        aside,
        told,
    }))
}

fn lock_existing(dir: &Path) -> Result<File> {
    if dir.is_dir() {
        return lock(dir).map_err(|error| error.context(format_args!("journal {}", dir.display())));
    }
    Err(missing(dir))
}

fn missing(dir: &Path) -> Error {
    Error::config(format!("there is no journal in {}", dir.display()))
}

/// `dir` with something after its name.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    dir.with_file_name(name)
}

fn torn_bodies(conn: &Connection, dir: &Path) -> Result<BTreeMap<i64, Torn>> {
    let mut found: BTreeMap<i64, Torn> = BTreeMap::new();
    let mut select = sql(conn.prepare(
        "SELECT file, offset, stored_bytes, sum, events FROM batches ORDER BY file, offset",
    ))?;
    let mut rows = sql(select.query([]))?;
    while let Some(row) = sql(rows.next())? {
        let place = Place::of(row, 0)?;
        match place.read(dir) {
            Ok(Some(_)) => continue,
            Err(error) if error.kind() != Kind::Lost => return Err(error),
            Ok(None) | Err(_) => {}
        }
        let torn = found.entry(place.file).or_default();
        torn.batches += 1;
        torn.events += sql(row.get::<_, i64>(4))?;
        torn.end = torn.end.max(place.offset + place.bytes);
    }
    Ok(found)
}

/// The database is whole: gives up what is damaged, and nothing else.
fn mend(dir: &Path, aside: &Path, damage: &Damage) -> Result<Vec<String>> {
    DirBuilder::new().mode(0o700).create(aside)?;
    let bodies = damage.bodies.keys().map(|file| place::path(dir, *file));
    let runs = damage.runs.keys().map(|run| dedupe::run_path(dir, *run));
    for path in bodies.chain(runs).filter(|path| path.exists()) {
        let kept = aside.join(path.file_name().unwrap_or_default());
        std::fs::copy(&path, &kept)?;
        File::open(&kept)?.sync_all()?;
    }
    File::open(aside)?.sync_all()?;
    for (file, torn) in &damage.bodies {
        // Zeros where bytes are missing: the sums tell that they are not what was written.
        let path = place::path(dir, *file);
        let mut open = OpenOptions::new();
        let file = open
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)?;
        if file.metadata()?.len() < torn.end {
            file.set_len(torn.end)?;
        }
        file.sync_all()?;
    }
    let known = sums::verify(dir)?;
    let mut conn = open_database(&dir.join(FILE))?;
    let mut sums = Sums::watch(&mut conn, dir, &known)?;
    sums.begin(&conn, &known)?;
    for run in damage.runs.keys() {
        sql(conn.execute("DELETE FROM id_runs WHERE run = ?1", [run]))?;
    }
    sums.close(&conn);
    let mut told = Vec::new();
    if !damage.bodies.is_empty() {
        told.push(
            "sinks that have not got the damaged batches skip them, on record; their content blobs are fetched again if \
             they are still listed, and sinks that had their events get them twice"
                .to_owned(),
        );
    }
    if !damage.runs.is_empty() {
        told.push(
            "the damaged ids are forgotten: repeats of their events are delivered".to_owned(),
        );
    }
    Ok(told)
}

/// The database is not whole: a new journal takes the place of the damaged one.
fn replace(
    dir: &Path,
    aside: &Path,
    streams: &[SourceAndTenant],
    (kept, now): (Duration, DateTime<Utc>),
) -> Result<Vec<String>> {
    let new = beside(dir, "new");
    if new.exists() {
        // Left by a recovery that broke off.
        std::fs::remove_dir_all(&new)?;
    }
    let _lock = lock(&new)?;
    let known = sums::verify(&new)?;
    let mut conn = open_database(&new.join(FILE))?;
    let mut sums = Sums::watch(&mut conn, &new, &known)?;
    schema::migrate(&mut conn)?;
    sums.begin(&conn, &known)?;
    let mut told = vec![save_letters(dir, &conn)];
    let made: DateTime<Utc> = made(dir).into();
    let until = now - kept;
    if made < until {
        for (source, tenant) in streams {
            note_gap(&conn, (source, tenant), (made, until), (aside, now))?;
        }
        told.push(format!(
            "what was collected before {} and not delivered cannot be collected again: it is noted as a gap",
            until.format("%Y-%m-%dT%H:%M:%SZ")
        ));
    }
    sums.close(&conn);
    drop(conn);
    // In one step each has the other's name: broken off at any moment, the damaged one is never where leftovers are.
    renameat_with(CWD, &new, CWD, aside, RenameFlags::NOREPLACE)
        .and_then(|()| renameat_with(CWD, aside, CWD, dir, RenameFlags::EXCHANGE))
        .map_err(|error| {
            let [aside, dir] = [aside, dir].map(Path::display);
            Error::unavailable(format!("{aside} and {dir} cannot change names"))
                .with_cause(std::io::Error::from(error))
        })?;
    told.push(format!(
        "the next run begins anew with what Microsoft still lists (the last {} days): sinks get events that they had \
         once more; the account of earlier hours is in the damaged journal alone",
        kept.as_secs() / 86_400
    ));
    Ok(told)
}

/// When a journal was made: nobody writes its lock.
fn made(dir: &Path) -> SystemTime {
    let lock = dir.join(LOCK).metadata();
    lock.and_then(|found| found.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Takes over the dead letters of the damaged journal in `dir`, if all that holds them is as it was written.
fn save_letters(dir: &Path, new: &Connection) -> String {
    let saved = copy_letters(dir, new);
    if let Err(error) = new.execute_batch("DETACH old") {
        tracing::debug!(%error, "the damaged database stays attached");
    }
    match saved {
        Ok(letters) => format!("{letters} dead letters are saved"),
        Err(error) => format!("dead letters are not saved: {error}"),
    }
}

fn copy_letters(dir: &Path, new: &Connection) -> Result<usize> {
    let wrong = sums::wrong_pages(dir)?
        .ok_or_else(|| Error::config("what is right in the database is not known"))?;
    sql(new.execute("ATTACH ?1 AS old", [dir.join(FILE).to_string_lossy()]))?;
    for table in ["sqlite_schema", "dead_letters", "dead_letter_parts"] {
        let mut pages = sql(new.prepare("SELECT pageno FROM dbstat('old') WHERE name = ?1"))?;
        let mut pages = sql(pages.query([table]))?;
        while let Some(page) = sql(pages.next())? {
            if wrong.contains(&sql(page.get::<_, u32>(0))?) {
                return Err(Error::config("they are damaged themselves"));
            }
        }
    }
    let transaction = sql(new.unchecked_transaction())?;
    let letters = sql(new.execute(
        "INSERT INTO dead_letters (letter, sink, tenant, source, content_type, unit, record, reason, at, attempts, \
         complete) SELECT letter, sink, tenant, source, content_type, unit, record, reason, at, attempts, complete \
         FROM old.dead_letters NOT INDEXED",
        [],
    ))?;
    sql(new.execute(
        "INSERT INTO dead_letter_parts SELECT * FROM old.dead_letter_parts",
        [],
    ))?;
    sql(transaction.commit())?;
    Ok(letters)
}

fn note_gap(
    conn: &Connection,
    (source, tenant): (&str, &str),
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    (aside, now): (&Path, DateTime<Utc>),
) -> Result<()> {
    sql(conn.execute(
        "INSERT OR IGNORE INTO streams (source, tenant) VALUES (?1, ?2)",
        [source, tenant],
    ))?;
    let reason = format!(
        "the journal was damaged; what it had and had not delivered yet is in {}",
        aside.display()
    );
    sql(conn.execute(
        "INSERT INTO gaps (stream, content_type, \"from\", \"to\", reason, at) \
         SELECT stream, 'everything', ?3, ?4, ?5, ?6 FROM streams WHERE source = ?1 AND tenant = ?2",
        params![
            source,
            tenant,
            from.timestamp_millis(),
            to.timestamp_millis(),
            reason,
            now.timestamp_millis()
        ],
    ))?;
    Ok(())
}
