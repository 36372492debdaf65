//! What the memory costs at scale. Run by hand, as `docs/performance.md` says.

use std::path::Path;
use std::time::{Duration, Instant};

use super::identity::Key;
use super::*;
use crate::journal::tables_at;

const DAYS: u64 = 7;
const FIRST_DAY: u16 = 20_000;
const NOW: i64 = (FIRST_DAY as i64 + 7) * 86_400;
/// Checkpoints of the database come with its 1,000th page. Events take about seven times the pages of their ids, so
/// that of ids alone it should be this one.
const PAGES_TO_CHECKPOINT: u32 = 140;

struct Plan {
    ids: u64,
    /// Percent of what is shown that was shown before.
    repeats: u64,
    batch: usize,
    /// Batches in a transaction.
    group: usize,
    /// Days at once (a first start, many tenants) rather than one after the other.
    mixed: bool,
}

impl Plan {
    fn from_environment() -> Self {
        let number = |name: &str, default| {
            std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap())
        };
        Self {
            ids: number("IDS", 2_000_000),
            repeats: number("REPEATS", 0),
            batch: number("BATCH", 1_000) as usize,
            group: number("GROUP", 8) as usize,
            mixed: number("MIXED", 0) > 0,
        }
    }

    fn fingerprint(&self, number: u64) -> Fingerprint {
        let identity = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
        let day = if self.mixed {
            number % DAYS
        } else {
            number * DAYS / self.ids
        };
        Fingerprint {
            id: Id {
                key: Key::new(FIRST_DAY + day as u16, identity),
                value: identity as u64 & !0xff | 1,
            },
            global: true,
        }
    }

    /// The next thing shown after `fresh` new ones: an old one now and then.
    fn next(&self, turn: u64, fresh: u64) -> (Fingerprint, bool) {
        let dice = xxhash_rust::xxh3::xxh3_64_with_seed(&turn.to_le_bytes(), 1);
        if fresh > 0 && dice % 100 < self.repeats {
            (self.fingerprint((dice >> 8) % fresh), true)
        } else {
            (self.fingerprint(fresh), false)
        }
    }
}

/// What the kernel accounts to this process.
#[derive(Clone, Copy)]
struct Usage {
    cpu: Duration,
    written: u64,
    resident: u64,
    peak: u64,
}

fn usage() -> Usage {
    let field = |file: &str, name: &str| -> u64 {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = |at| -> u64 {
        after_name
            .split_whitespace()
            .nth(at)
            .unwrap()
            .parse()
            .unwrap()
    };
    Usage {
        cpu: Duration::from_millis((ticks(11) + ticks(12)) * 10),
        written: field("/proc/self/io", "write_bytes:"),
        resident: field("/proc/self/status", "VmRSS:") * 1024,
        peak: field("/proc/self/status", "VmHWM:") * 1024,
    }
}

fn bytes_under(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            meta if meta.is_dir() => bytes_under(&entry.path()),
            meta => meta.len(),
        })
        .sum()
}

fn open(dir: &Path) -> (Connection, Dedupe) {
    let conn = tables_at(&dir.join("journal.sqlite"));
    conn.pragma_update(None, "wal_autocheckpoint", PAGES_TO_CHECKPOINT)
        .unwrap();
    let dedupe = Dedupe::load(&conn, dir, NOW, Sizes::REAL).unwrap();
    (conn, dedupe)
}

/// One transaction, as the journal's writer does it.
fn transact(conn: &Connection, dedupe: &mut Dedupe, shown: &[Vec<(Fingerprint, bool)>]) {
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    for batch in shown {
        conn.execute_batch("SAVEPOINT job").unwrap();
        for (fingerprint, repeat) in batch {
            let verdict = dedupe.admit(*fingerprint).unwrap();
            assert_eq!(verdict == Verdict::Repeat, *repeat);
        }
        conn.execute_batch("RELEASE job").unwrap();
    }
    dedupe.log(conn).unwrap();
    conn.execute_batch("COMMIT").unwrap();
    dedupe.committed();
}

#[test]
#[ignore = "takes minutes; prints figures"]
fn figures() {
    let plan = Plan::from_environment();
    let dir = tempfile::tempdir_in(std::env::var("FOLDER").unwrap_or("/var/tmp".into())).unwrap();
    let (conn, mut dedupe) = open(dir.path());
    let before = usage();
    let (mut turn, mut fresh, mut making) = (0, 0, Duration::ZERO);
    let (mut longest_commit, mut longest_pause) = (Duration::ZERO, Duration::ZERO);
    let mut shown: Vec<Vec<(Fingerprint, bool)>> = vec![Vec::new(); plan.group];
    while fresh < plan.ids {
        let start = Instant::now();
        for batch in &mut shown {
            batch.clear();
            // A repeat within the transaction is one, too.
            while batch.len() < plan.batch && fresh < plan.ids {
                let next = plan.next(turn, fresh);
                turn += 1;
                fresh += u64::from(!next.1);
                batch.push(next);
            }
        }
        making += start.elapsed();
        let start = Instant::now();
        transact(&conn, &mut dedupe, &shown);
        longest_commit = longest_commit.max(start.elapsed());
        let start = Instant::now();
        dedupe.maintain(&conn, NOW).unwrap();
        longest_pause = longest_pause.max(start.elapsed());
    }
    let after = usage();
    let per = |amount: f64| amount / turn as f64;
    println!(
        "{} ids, {} % repeats, batches of {}, {} a transaction, {}",
        fresh,
        plan.repeats,
        plan.batch,
        plan.group,
        if plan.mixed {
            "days mixed"
        } else {
            "day by day"
        }
    );
    let cpu = after.cpu.saturating_sub(before.cpu + making);
    println!(
        "cpu            {:.3} µs an id shown",
        per(cpu.as_secs_f64() * 1e6)
    );
    println!(
        "making         {:.3} µs an id shown",
        per(making.as_secs_f64() * 1e6)
    );
    println!(
        "written        {:.1} bytes an id",
        (after.written - before.written) as f64 / fresh as f64
    );
    println!(
        "memory         {:.1} MB more, {:.1} MB at most",
        (after.resident - before.resident) as f64 / 1e6,
        (after.peak - before.resident) as f64 / 1e6
    );
    println!("longest commit {longest_commit:?}, spill or merge {longest_pause:?}");
    drop((conn, dedupe));
    println!(
        "on disk        {:.2} bytes an id",
        bytes_under(dir.path()) as f64 / fresh as f64
    );
    let start = Instant::now();
    let (_conn, _dedupe) = open(dir.path());
    println!("restart        {:?}", start.elapsed());
}
