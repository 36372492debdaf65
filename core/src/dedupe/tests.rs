use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::identity::Key;
use super::*;
use crate::event::{AuditEvent, Origin};
use crate::journal::tables_at;

const GUID: &str = "00000000-0000-0000-0000-00000000000";
const DAY: i64 = 86_400;

/// An event as a source shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shown {
    id: Option<u8>,
    created: Option<(u8, u8)>,
    operation: Option<bool>,
    extra: u8,
    source: u8,
    unit: u8,
    index: u8,
}

impl Shown {
    fn id(&self) -> Option<String> {
        // Two GUIDs, two constants that are none.
        self.id.map(|id| match id {
            0 | 1 => format!("{GUID}{id}"),
            _ => format!("sanitized{id}"),
        })
    }

    fn raw(&self) -> String {
        let mut raw = format!(r#"{{"extra":{}"#, self.extra);
        let mut member = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                write!(raw, r#","{key}":"{value}""#).unwrap();
            }
        };
        member("Operation", self.operation.map(|b| b.to_string()));
        member("Id", self.id());
        let time = |(day, second)| format!("2026-03-{:02}T00:00:{second:02}", day + 1);
        member("CreationTime", self.created.map(time));
        raw + "}"
    }

    fn fingerprint(&self) -> Fingerprint {
        let origin = Origin {
            tenant: "t".into(),
            tenant_name: "t".into(),
            source: format!("s{}", self.source).into(),
            content_type: "c".into(),
            unit: format!("u{}", self.unit).into(),
        };
        let event = AuditEvent::new(Bytes::from(self.raw()), Arc::new(origin));
        Fingerprinter::new(7).of(&event, self.source, u64::from(self.index))
    }

    /// What makes it the same event, in words.
    fn identity(&self) -> String {
        match (self.id(), self.created, self.operation) {
            (Some(id), Some(created), Some(operation)) => format!("{id} {created:?} {operation}"),
            _ => format!(
                "s{} u{} {} {:?}",
                self.source, self.unit, self.index, self.created
            ),
        }
    }
}

/// The rules, without any cleverness.
#[derive(Clone, Debug, Default)]
struct Model(HashMap<String, Vec<(String, u8)>>);

impl Model {
    fn admit(&mut self, shown: &Shown) -> Verdict {
        let guid = shown.id.is_some_and(|id| id < 2);
        let known = self.0.entry(shown.identity()).or_default();
        let repeat = known
            .iter()
            .any(|(raw, source)| *raw == shown.raw() || (guid && *source != shown.source));
        if repeat {
            return Verdict::Repeat;
        }
        known.push((shown.raw(), shown.source));
        if known.len() == 1 {
            Verdict::New
        } else {
            Verdict::Variant
        }
    }
}

/// A memory in a folder of its own, whose merges go on when told to.
struct Bench {
    dir: tempfile::TempDir,
    conn: Connection,
    dedupe: Dedupe,
    merging: Option<(Replacement, Merge)>,
}

fn open(dir: &Path) -> (Connection, Dedupe) {
    let conn = tables_at(&dir.join("ids"));
    conn.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let dedupe = Dedupe::load(&conn, dir, 0, Sizes::SMALL).unwrap();
    (conn, dedupe)
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (conn, dedupe) = open(dir.path());
        Self {
            dir,
            conn,
            dedupe,
            merging: None,
        }
    }

    /// As after a kill: what is in memory is gone, a merge leaves what it has written.
    fn restart(&mut self) {
        self.merging = None;
        (self.conn, self.dedupe) = open(self.dir.path());
    }

    fn figure(&self, query: &str) -> i64 {
        let row = self.conn.query_row(query, [], |row| row.get(0));
        row.unwrap()
    }

    /// Files of runs.
    fn files(&self) -> usize {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names
            .filter(|name| name.to_str().unwrap().starts_with("ids."))
            .count()
    }

    /// Does `work`; if it does not hold, on a database that refuses to be written.
    fn with(&mut self, holds: bool, work: impl FnOnce(&mut Dedupe, &Connection) -> Result<()>) {
        self.conn.pragma_update(None, "query_only", !holds).unwrap();
        let done = work(&mut self.dedupe, &self.conn);
        assert_eq!(done.is_ok(), holds, "{done:?}");
        self.conn.pragma_update(None, "query_only", false).unwrap();
    }

    fn spill(&mut self, now: i64, holds: bool) {
        self.with(holds, |dedupe, conn| dedupe.spill(conn, now));
    }

    /// Starts a merge, writes one block of it, or ends it.
    fn merge_step(&mut self, now: i64, holds: bool) {
        let Some((_, merge)) = &mut self.merging else {
            self.merging = self.dedupe.prepare_merge().unwrap();
            return;
        };
        if !merge.step().unwrap()
            && let Some((new, merge)) = self.merging.take()
        {
            let bytes = merge.finish().unwrap();
            self.with(holds, |dedupe, conn| dedupe.switch(conn, &new, bytes, now));
        }
    }

    /// One transaction of several jobs; `fates` says which of them hold. As the journal's writer does it.
    fn transact(&mut self, jobs: &[(Vec<Shown>, bool)], holds: bool, model: &mut Model) {
        let before = model.clone();
        self.conn.execute_batch("BEGIN").unwrap();
        for (job, job_holds) in jobs {
            let (mark, as_it_was) = (self.dedupe.pending(), model.clone());
            self.conn.execute_batch("SAVEPOINT job").unwrap();
            for shown in job {
                let fingerprint = shown.fingerprint();
                let verdict = self.dedupe.admit(fingerprint).unwrap();
                assert_eq!(verdict, model.admit(shown), "{}", shown.raw());
            }
            if *job_holds {
                self.conn.execute_batch("RELEASE job").unwrap();
            } else {
                self.dedupe.roll_back(mark);
                *model = as_it_was;
                self.conn
                    .execute_batch("ROLLBACK TO job; RELEASE job")
                    .unwrap();
            }
        }
        if holds {
            self.dedupe.log(&self.conn).unwrap();
            self.conn.execute_batch("COMMIT").unwrap();
            self.dedupe.committed();
        } else {
            self.conn.execute_batch("ROLLBACK").unwrap();
            self.dedupe.roll_back(0);
            *model = before;
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Transact(Vec<(Vec<Shown>, bool)>, bool),
    Spill(bool),
    Merge(bool),
    Restart,
}

fn shown() -> impl Strategy<Value = Shown> {
    (
        prop::option::weighted(0.8, 0_u8..4),
        prop::option::weighted(0.9, (0_u8..3, 0_u8..2)),
        prop::option::weighted(0.9, any::<bool>()),
        0_u8..3,
        (1_u8..3, 0_u8..2, 0_u8..3),
    )
        .prop_map(
            |(id, created, operation, extra, (source, unit, index))| Shown {
                id,
                created,
                operation,
                extra,
                source,
                unit,
                index,
            },
        )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let job = (
        prop::collection::vec(shown(), 0..8),
        prop::bool::weighted(0.8),
    );
    let step = prop_oneof![
        6 => (prop::collection::vec(job, 1..4), prop::bool::weighted(0.8))
            .prop_map(|(jobs, holds)| Step::Transact(jobs, holds)),
        2 => prop::bool::weighted(0.8).prop_map(Step::Spill),
        6 => prop::bool::weighted(0.8).prop_map(Step::Merge),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_event_is_dropped_that_was_not_seen_and_no_repeat_is_missed(steps in steps()) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Transact(jobs, holds) => bench.transact(&jobs, holds, &mut model),
                Step::Spill(holds) => bench.spill(1_000, holds),
                Step::Merge(holds) => bench.merge_step(1_000, holds),
                Step::Restart => bench.restart(),
            }
            prop_assert_eq!(bench.dedupe.table.sorted().len(), bench.dedupe.table.len());
        }
    }
}

fn fingerprint(identity: u128, day: u16) -> Fingerprint {
    let key = Key::new(day, identity);
    Fingerprint {
        id: Id { key, value: 0x100 },
        global: false,
    }
}

/// An identity made of a number, spread as hashes are.
fn spread(number: u64, day: u16) -> Fingerprint {
    let identity = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
    fingerprint(identity, day)
}

#[test]
fn runs_of_every_size_hold_all_their_ids() {
    let mut bench = Bench::new();
    for size in (1..200).chain([1_000, 5_000]) {
        for number in 0..size {
            let id = spread(number * 1_000_000 + size, 1);
            assert_eq!(bench.dedupe.admit(id).unwrap(), Verdict::New);
        }
        bench.dedupe.committed();
        bench.spill(0, true);
        for number in 0..size {
            let id = spread(number * 1_000_000 + size, 1);
            assert_eq!(
                bench.dedupe.admit(id).unwrap(),
                Verdict::Repeat,
                "{number} of {size}"
            );
        }
    }
}

#[test]
fn identities_that_share_their_leading_or_trailing_bits_are_told_apart() {
    let mut bench = Bench::new();
    let ids: Vec<Fingerprint> = (0..700_u128)
        // Many next to each other and far from where they should be; and many with one key of the filter.
        .map(|n| {
            fingerprint(
                (n / 400) << 64 | (n % 4) | (n % 20) << 90 | (n % 400) << 20,
                1,
            )
        })
        .collect();
    for id in &ids {
        assert_eq!(bench.dedupe.admit(*id).unwrap(), Verdict::New);
    }
    bench.dedupe.committed();
    bench.spill(0, true);
    for id in &ids {
        assert_eq!(bench.dedupe.admit(*id).unwrap(), Verdict::Repeat);
    }
    let other = fingerprint(5, 1);
    assert_eq!(bench.dedupe.admit(other).unwrap(), Verdict::New);
}

#[test]
fn ids_are_remembered_for_35_days_after_they_were_journaled() {
    let mut bench = Bench::new();
    let old = spread(1, 1);
    bench.dedupe.admit(old).unwrap();
    bench.dedupe.committed();
    bench.spill(0, true);
    for (now, known) in [(35 * DAY, true), (35 * DAY + 1, false)] {
        bench.dedupe.admit(spread(now as u64, 1)).unwrap();
        bench.dedupe.committed();
        bench.spill(now, true);
        for restart in [false, true] {
            if restart {
                bench.restart();
            }
            let mut found = Vec::new();
            for section in bench.dedupe.runs.of_day(1) {
                section.find(old.id.key, &mut found).unwrap();
            }
            assert_eq!(!found.is_empty(), known, "at {now}, restarted: {restart}");
        }
    }
    assert_eq!(bench.files(), 2);
}

#[test]
fn what_is_in_a_run_is_not_in_the_log_any_more() {
    let mut bench = Bench::new();
    let mut model = Model::default();
    let shown = Shown {
        id: Some(0),
        created: Some((0, 0)),
        operation: Some(true),
        extra: 0,
        source: 1,
        unit: 0,
        index: 0,
    };
    bench.transact(&[(vec![shown], true)], true, &mut model);
    let entries = "SELECT count(*) FROM id_log";
    assert_eq!(bench.figure(entries), 1);
    bench.spill(0, true);
    assert_eq!((bench.figure(entries), bench.dedupe.table.len()), (0, 0));
}

#[test]
fn an_ids_end_is_part_of_the_identity() {
    let of = |id: &str, operation: &str| {
        let origin = Origin {
            tenant: "t".into(),
            tenant_name: "t".into(),
            source: "s".into(),
            content_type: "c".into(),
            unit: "u".into(),
        };
        let raw = format!(
            r#"{{"Id":"{id}","CreationTime":"1970-01-01T00:00:00","Operation":"{operation}"}}"#
        );
        let event = AuditEvent::new(Bytes::from(raw), Arc::new(origin));
        Fingerprinter::new(7).of(&event, 1, 0).id.key
    };
    assert_ne!(of("a", "bc"), of("ab", "c"));
    // The time, written into the Id.
    let zeros = r"\u0000".repeat(8);
    assert_ne!(of("a", "x"), of(&format!("a{zeros}x"), ""));
}

/// Runs of `size` ids each, of days 1 to 3, until there are enough for a merge.
fn filled(size: u64) -> (Bench, Vec<Fingerprint>) {
    let mut bench = Bench::new();
    let mut all = Vec::new();
    for _ in 0..bench.dedupe.sizes.merge_runs {
        for _ in 0..size {
            let number = all.len() as u64;
            let id = spread(number, 1 + (number % 3) as u16);
            assert_eq!(bench.dedupe.admit(id).unwrap(), Verdict::New);
            all.push(id);
        }
        bench.dedupe.log(&bench.conn).unwrap();
        bench.dedupe.committed();
        bench.spill(0, true);
    }
    (bench, all)
}

impl Bench {
    /// What was seen is known, what was not is not.
    fn check(&mut self, seen: &[Fingerprint]) {
        for id in seen {
            assert_eq!(self.dedupe.admit(*id).unwrap(), Verdict::Repeat);
        }
        for number in 0..100 {
            let id = spread(1 << 40 | number, 1 + (number % 3) as u16);
            assert_eq!(self.dedupe.admit(id).unwrap(), Verdict::New);
        }
        self.dedupe.roll_back(0);
    }
}

#[test]
fn a_merge_that_is_broken_off_anywhere_loses_nothing_and_leaves_nothing() {
    let (mut bench, seen) = filled(100);
    let runs = bench.files();
    for steps in 1.. {
        for _ in 0..steps {
            bench.merge_step(0, true);
        }
        bench.check(&seen);
        let done = bench.merging.is_none();
        bench.restart();
        bench.check(&seen);
        if done {
            break;
        }
        assert_eq!(bench.files(), runs);
    }
    assert_eq!(bench.files(), 1);
    assert_eq!(bench.figure("SELECT level FROM id_runs"), 1);
}

#[test]
fn merges_in_the_background_lose_nothing() {
    let mut bench = Bench::new();
    let mut seen = Vec::new();
    for number in 0..5_000 {
        let id = spread(number, 1 + (number % 3) as u16);
        assert_eq!(bench.dedupe.admit(id).unwrap(), Verdict::New);
        seen.push(id);
        if number % 10 == 0 {
            bench.dedupe.log(&bench.conn).unwrap();
            bench.dedupe.committed();
            bench.dedupe.maintain(&bench.conn, 0).unwrap();
        }
    }
    bench.dedupe.log(&bench.conn).unwrap();
    bench.dedupe.committed();
    bench.check(&seen);
    bench.restart();
    bench.check(&seen);
    assert!(bench.dedupe.runs.of_level(1).count() > 0);
    let behind = bench.dedupe.runs.of_level(0).count();
    assert!(behind <= 3 * bench.dedupe.sizes.merge_runs, "{behind}");
}

#[test]
fn filters_take_no_more_memory_than_allowed_and_answers_stay_exact() {
    let (mut bench, seen) = filled(1_000);
    for allowed in [0, 1_000, 4_000, usize::MAX] {
        bench.dedupe.runs.warm(3, allowed);
        let sections = (1..=3).flat_map(|day| bench.dedupe.runs.of_day(day));
        let blocks: Vec<_> = sections.flat_map(|section| &section.blocks).collect();
        let warm = blocks.iter().filter(|block| block.is_warm());
        let bytes: usize = warm.clone().map(|block| block.filter_bytes()).sum();
        assert!(bytes <= allowed);
        assert_eq!(warm.count() == blocks.len(), allowed == usize::MAX);
        bench.check(&seen);
    }
}

#[test]
fn a_damaged_filter_is_not_trusted() {
    let (mut bench, seen) = filled(100);
    for entry in std::fs::read_dir(bench.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("ids.")
        {
            let mut bytes = std::fs::read(&path).unwrap();
            // Behind the 33 or 34 ids of the first block.
            bytes[34 * 22 + 5] ^= 0xff;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    bench.restart();
    bench.check(&seen);
}

#[test]
fn ids_that_are_damaged_let_repeats_through_and_drop_nothing() {
    for at in [0, 5, 13, 20, 300] {
        let (mut bench, seen) = filled(100);
        let path = bench.dedupe.runs.path(1);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[at] ^= 0x04;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(
            damaged_runs(&bench.conn, bench.dir.path()).unwrap().len(),
            1
        );
        bench.restart();
        let admit = |id: &Fingerprint| bench.dedupe.admit(*id).unwrap();
        let verdicts: Vec<Verdict> = seen.iter().map(admit).collect();
        let again = verdicts.iter().filter(|verdict| **verdict == Verdict::New);
        let again = again.count();
        assert!(again > 0 && again < verdicts.len(), "{at}: {again}");
        assert!(!verdicts.contains(&Verdict::Variant), "{at}");
    }
}

#[test]
fn a_run_that_is_cut_short_or_missing_is_refused() {
    let (bench, _) = filled(100);
    let path = bench.dedupe.runs.path(1);
    let bytes = std::fs::read(&path).unwrap();
    let load = || Dedupe::load(&bench.conn, bench.dir.path(), 0, Sizes::SMALL);
    for length in [0, 10, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(load().is_err(), "{length}");
    }
    std::fs::write(&path, &bytes).unwrap();
    assert!(load().is_ok());
    std::fs::remove_file(&path).unwrap();
    assert!(load().is_err());
}

#[test]
fn a_memory_that_cannot_be_spilled_does_not_grow_without_end() {
    let mut bench = Bench::new();
    for number in 0..TABLE_LIMIT as u64 {
        bench.dedupe.table.insert(spread(number, 1).id);
    }
    let error = bench.dedupe.admit(spread(u64::MAX, 1)).unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Unavailable);
}

#[test]
fn who_only_reads_finds_every_id_of_the_day_in_the_log_and_in_runs() {
    let mut bench = Bench::new();
    let seed = "INSERT INTO meta (key, value) VALUES ('seed', '7')";
    bench.conn.execute_batch(seed).unwrap();
    let ids: Vec<Fingerprint> = (0..300).map(|number| spread(number, 1)).collect();
    for (count, id) in ids.iter().enumerate() {
        bench.dedupe.admit(*id).unwrap();
        bench.dedupe.admit(spread(1_000 + count as u64, 2)).unwrap();
        if count % 90 == 89 {
            bench.dedupe.committed();
            bench.spill(0, true);
        }
    }
    bench.dedupe.log(&bench.conn).unwrap();
    bench.dedupe.committed();
    let read = |bench: &Bench| Memory::try_read(&bench.conn, bench.dir.path(), 1).unwrap();
    let check = |bench: &Bench| {
        let memory = read(bench).unwrap();
        assert!(memory.is_for(Fingerprinter::new(7)) && !memory.is_for(Fingerprinter::new(8)));
        for id in &ids {
            assert!(memory.holds(id.key()).unwrap());
        }
        for other in [300, 1_005, 1_299] {
            assert!(!memory.holds(spread(other, 1).key()).unwrap());
        }
    };
    check(&bench);
    while bench.merging.is_none() {
        bench.merge_step(0, true);
    }
    while bench.merging.is_some() {
        check(&bench);
        bench.merge_step(0, true);
    }
    check(&bench);
    // A run that goes while it is read makes the reader begin anew.
    let run = bench.dedupe.runs.of_level(1).next().unwrap();
    std::fs::remove_file(bench.dedupe.runs.path(run.number)).unwrap();
    assert!(read(&bench).is_none());
}
