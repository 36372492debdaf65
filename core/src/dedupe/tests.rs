use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

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

/// A memory in a database of its own.
struct Bench {
    dir: tempfile::TempDir,
    conn: Connection,
    dedupe: Dedupe,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conn = tables_at(&dir.path().join("ids"));
        conn.execute_batch("PRAGMA synchronous = OFF").unwrap();
        let dedupe = Dedupe::load(&conn).unwrap();
        Self { dir, conn, dedupe }
    }

    fn restart(&mut self) {
        self.conn = tables_at(&self.dir.path().join("ids"));
        self.conn.execute_batch("PRAGMA synchronous = OFF").unwrap();
        self.dedupe = Dedupe::load(&self.conn).unwrap();
    }

    /// One transaction of several jobs; `fates` says which of them hold. As the journal's writer does it.
    fn transact(&mut self, jobs: &[(Vec<Shown>, bool)], holds: bool, model: &mut Model) {
        let before = model.clone();
        self.conn.execute_batch("BEGIN").unwrap();
        for (job, job_holds) in jobs {
            let (mark, as_it_was) = (self.dedupe.pending(), model.clone());
            self.conn.execute_batch("SAVEPOINT job").unwrap();
            let mut fresh = Vec::new();
            for shown in job {
                let fingerprint = shown.fingerprint();
                let verdict = self.dedupe.admit(&self.conn, fingerprint).unwrap();
                assert_eq!(verdict, model.admit(shown), "{}", shown.raw());
                if verdict != Verdict::Repeat {
                    fresh.push(fingerprint);
                }
            }
            Dedupe::log(&self.conn, &fresh).unwrap();
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
            self.conn.execute_batch("COMMIT").unwrap();
            self.dedupe.committed();
        } else {
            self.conn.execute_batch("ROLLBACK").unwrap();
            self.dedupe.roll_back(0);
            *model = before;
        }
    }

    fn spill(&mut self, now: i64, holds: bool) {
        self.conn.execute_batch("BEGIN").unwrap();
        let written = self.dedupe.spill(&self.conn, now).unwrap();
        if holds {
            self.conn.execute_batch("COMMIT").unwrap();
            self.dedupe.spilled(written, now);
        } else {
            self.conn.execute_batch("ROLLBACK").unwrap();
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Transact(Vec<(Vec<Shown>, bool)>, bool),
    Spill(bool),
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
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
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
                Step::Restart => bench.restart(),
            }
            let kept: usize = bench.dedupe.table.values().flat_map(HashMap::values).map(|v| v.as_slice().len()).sum();
            prop_assert_eq!(kept, bench.dedupe.table_ids);
        }
    }
}

/// An identity made of a number, spread as hashes are.
fn spread(number: u64, day: i32) -> Fingerprint {
    let identity = xxhash_rust::xxh3::xxh3_128(&number.to_le_bytes());
    Fingerprint {
        day,
        identity,
        value: 0x100,
        global: false,
    }
}

#[test]
fn runs_of_every_size_hold_all_their_ids() {
    let mut bench = Bench::new();
    for size in (1..200).chain([1_000, 5_000]) {
        for number in 0..size {
            let id = spread(number * 1_000_000 + size, 1);
            assert_eq!(bench.dedupe.admit(&bench.conn, id).unwrap(), Verdict::New);
        }
        bench.dedupe.committed();
        bench.spill(0, true);
        for number in 0..size {
            let id = spread(number * 1_000_000 + size, 1);
            assert_eq!(
                bench.dedupe.admit(&bench.conn, id).unwrap(),
                Verdict::Repeat,
                "{number} of {size}"
            );
        }
        // One run at a time, or the later ones are slow to ask.
        bench.dedupe.runs.clear();
    }
}

#[test]
fn identities_that_share_their_leading_or_trailing_bits_are_told_apart() {
    let mut bench = Bench::new();
    let ids: Vec<Fingerprint> = (0..700_u128)
        .map(|n| Fingerprint {
            // Many with one lead, more than a chunk holds; and all with one of four filter keys.
            identity: (n / 400) << 64 | (n % 4) | (n % 400) << 90,
            ..spread(0, 1)
        })
        .collect();
    for id in &ids {
        assert_eq!(bench.dedupe.admit(&bench.conn, *id).unwrap(), Verdict::New);
    }
    bench.dedupe.committed();
    bench.spill(0, true);
    for id in &ids {
        assert_eq!(
            bench.dedupe.admit(&bench.conn, *id).unwrap(),
            Verdict::Repeat
        );
    }
    let other = Fingerprint {
        identity: 5,
        ..spread(0, 1)
    };
    assert_eq!(
        bench.dedupe.admit(&bench.conn, other).unwrap(),
        Verdict::New
    );
}

#[test]
fn ids_are_remembered_for_35_days_after_their_run_was_written() {
    let mut bench = Bench::new();
    let (old, new) = (spread(1, 1), spread(2, 1));
    bench.dedupe.admit(&bench.conn, old).unwrap();
    bench.dedupe.committed();
    bench.spill(0, true);
    for (now, known) in [(35 * DAY, true), (35 * DAY + 1, false)] {
        bench.dedupe.admit(&bench.conn, new).unwrap();
        bench.dedupe.committed();
        bench.spill(now, true);
        for restart in [false, true] {
            if restart {
                bench.restart();
            }
            let runs = bench.dedupe.runs[&1].iter();
            let found = runs.filter(|run| run.may_hold(old.identity)).count() > 0;
            assert_eq!(found, known, "at {now}, restarted: {restart}");
        }
    }
    let chunks: i64 = bench
        .conn
        .query_row(
            "SELECT count(*) FROM id_chunks WHERE run NOT IN (SELECT run FROM id_runs)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(chunks, 0);
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
    let entries = |bench: &Bench| -> i64 {
        let count = bench
            .conn
            .query_row("SELECT count(*) FROM id_log", [], |row| row.get(0));
        count.unwrap()
    };
    assert_eq!(entries(&bench), 1);
    bench.spill(0, true);
    assert_eq!((entries(&bench), bench.dedupe.table_ids), (0, 0));
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
        Fingerprinter::new(7).of(&event, 1, 0).identity
    };
    assert_ne!(of("a", "bc"), of("ab", "c"));
    // The time, written into the Id.
    let zeros = r"\u0000".repeat(8);
    assert_ne!(of("a", "x"), of(&format!("a{zeros}x"), ""));
}
