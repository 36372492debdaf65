use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;

use super::*;
use crate::event::{AuditEvent, Origin};

const DAY: &str = "2026-03-01";

fn day() -> NaiveDate {
    DAY.parse().unwrap()
}

fn event(source: &str, text: &str) -> AuditEvent {
    let origin = Origin {
        tenant: "t".into(),
        tenant_name: "contoso".into(),
        source: source.into(),
        content_type: "Audit.General".into(),
        unit: "u".into(),
    };
    AuditEvent::new(Bytes::copy_from_slice(text.as_bytes()), Arc::new(origin))
}

/// A record of the day by its number, ten minutes apart.
fn record(number: u32) -> String {
    let (hour, minute) = (number / 6 % 24, number % 6 * 10);
    format!(
        r#"{{"Id":"{number}","CreationTime":"{DAY}T{hour:02}:{minute:02}:00","Operation":"Op{}","Workload":"W"}}"#,
        number % 2
    )
}

/// What a source says that holds these records.
async fn answer(folder: &Path, source: &str, complete: bool, records: &[String]) -> Answer {
    let from = day().and_time(NaiveTime::MIN).and_utc();
    let piles = Piles::create(&folder.join(source), Fingerprinter::new(7), from).unwrap();
    let piles = Arc::new(Mutex::new(piles));
    let batch = crate::plugin::Batch {
        position: None,
        events: Arc::new(records.iter().map(|text| event(source, text)).collect()),
    };
    let sink = Collector(Arc::clone(&piles));
    crate::plugin::Sink::deliver(&sink, &batch).await.unwrap();
    piles.lock().unwrap().end().unwrap();
    Answer {
        asked: Asked {
            source: source.to_owned(),
            kind: String::new(),
            complete,
            reasons: Vec::new(),
            figures: Figures::default(),
            incomparable: 0,
            units: 0,
            requests: 0,
        },
        piles,
    }
}

/// What the comparison says: the figures of the sources, and a line for each difference.
fn told(folder: &Path, answers: &[Answer]) -> (Compared, String) {
    let path = folder.join("differences");
    let stopped = CancellationToken::new();
    let compared = judge(answers, day(), None, &stopped, &path).unwrap();
    let mut told = String::new();
    for line in std::fs::read_to_string(&path).unwrap().lines() {
        let found: Difference = serde_json::from_str(line).unwrap();
        let time = found.event.time.format("%H:%M");
        let (held, missing) = (found.held_by.join("+"), found.missing_in.join("+"));
        writeln!(
            told,
            "{time} {} {held} not {missing}",
            found.event.operation
        )
        .unwrap();
    }
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds personal data");
    (compared.unwrap(), told)
}

fn figures(events: u64, only_here: u64, missing_here: Option<u64>) -> Figures {
    Figures {
        events,
        only_here,
        missing_here,
    }
}

#[tokio::test]
async fn what_only_some_hold_is_named_in_the_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let some = |numbers: &[u32]| numbers.iter().map(|it| record(*it)).collect::<Vec<_>>();
    let answers = [
        answer(folder.path(), "a", true, &some(&[7, 140, 3, 20, 20])).await,
        answer(folder.path(), "b", true, &some(&[3, 20, 140])).await,
        answer(folder.path(), "c", true, &some(&[3, 1, 20])).await,
    ];
    let (compared, told) = told(folder.path(), &answers);
    assert_eq!(
        told,
        "00:10 Op1 c not a+b\n01:10 Op1 a not b+c\n23:20 Op0 a+b not c\n"
    );
    let sources = [
        figures(4, 1, Some(1)),
        figures(3, 0, Some(2)),
        figures(3, 1, Some(2)),
    ];
    assert_eq!(compared.sources, sources);
    assert_eq!((compared.events, compared.different), (5, 3));
    assert_eq!(compared.unrecorded, None);
}

#[tokio::test]
async fn a_source_that_was_not_asked_to_its_end_lacks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let answers = [
        answer(folder.path(), "a", true, &[record(1)]).await,
        answer(folder.path(), "b", false, &[record(2)]).await,
    ];
    let (compared, told) = told(folder.path(), &answers);
    assert_eq!(told, "00:20 Op0 b not a\n");
    assert_eq!(
        compared.sources,
        [figures(1, 1, Some(1)), figures(1, 1, None)]
    );
}

#[tokio::test]
async fn the_same_event_may_have_other_bytes_and_other_days_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let spaced = record(5).replace(',', ", ");
    let first = record(0);
    let last = record(0).replace("00:00:00", "23:59:59");
    let before = record(0)
        .replace(DAY, "2026-02-28")
        .replace("00:00:00", "23:59:59");
    let after = record(0).replace(DAY, "2026-03-02");
    let answers = [
        answer(
            folder.path(),
            "a",
            true,
            &[
                record(5),
                first.clone(),
                last.clone(),
                before,
                "{}".to_owned(),
            ],
        )
        .await,
        answer(folder.path(), "b", true, &[spaced, first, last, after]).await,
    ];
    let (compared, told) = told(folder.path(), &answers);
    assert_eq!(told, "");
    assert_eq!(compared.events, 3);
    let incomparable = |answer: &Answer| answer.piles.lock().unwrap().incomparable;
    assert_eq!(answers.each_ref().map(incomparable), [1, 0]);
}

#[tokio::test]
async fn differences_of_a_kind_are_counted_together() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<String> = (0..100).map(record).collect();
    let answers = [
        answer(folder.path(), "a", true, &all).await,
        answer(folder.path(), "b", true, &all[..40]).await,
    ];
    let (compared, _) = told(folder.path(), &answers);
    let groups = compared.groups.iter();
    let groups: Vec<_> = groups
        .map(|group| (&*group.operation, group.events, group.missing_in.join(" ")))
        .collect();
    let missing = || "b".to_owned();
    assert_eq!(groups, [("Op0", 30, missing()), ("Op1", 30, missing())]);
}

#[tokio::test]
async fn long_names_are_kept_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let name = "ü".repeat(5_000);
    let text = record(1).replace("Op1", &name);
    let answers = [
        answer(folder.path(), "a", true, &[text]).await,
        answer(folder.path(), "b", true, &[]).await,
    ];
    let (compared, _) = told(folder.path(), &answers);
    let operation = &compared.groups[0].operation;
    assert!(operation.ends_with('…') && operation.len() < 1_000);
    assert_eq!(compared.sources[0].only_here, 1);
}

#[tokio::test]
async fn a_comparison_that_is_stopped_goes_no_further() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<String> = (0..100).map(record).collect();
    let answers = [
        answer(folder.path(), "a", true, &all).await,
        answer(folder.path(), "b", true, &[]).await,
    ];
    let piles = answers
        .each_ref()
        .map(|answer| answer.piles.lock().unwrap());
    let sides = [0, 1].map(|index| Side {
        name: &answers[index].asked.source,
        piles: &piles[index],
        complete: true,
    });
    let (stopped, mut told) = (CancellationToken::new(), 0);
    let compared = compare(&sides, None, &stopped, |_| {
        told += 1;
        stopped.cancel();
        Ok(())
    });
    assert!(compared.unwrap().is_none());
    assert!(told < 10, "{told}");
}

#[tokio::test]
async fn a_disk_that_was_full_for_a_while_has_spoilt_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let answers = [
        answer(folder.path(), "a", true, &[record(0)]).await,
        answer(folder.path(), "b", true, &[]).await,
    ];
    let name = "n".repeat(300);
    let text =
        |n| format!(r#"{{"Id":"{name}{n}","CreationTime":"{DAY}T00:00:00","Operation":"{name}"}}"#);
    let batch = crate::plugin::Batch {
        position: None,
        events: Arc::new(
            (0..100)
                .map(|n| event("a", &text(n)))
                .chain([event("a", "{}")])
                .collect(),
        ),
    };
    let piles = &answers[0].piles;
    let sink = Collector(Arc::clone(piles));
    let whole = piles.lock().unwrap().break_disk();
    for _ in 0..3 {
        let error = crate::plugin::Sink::deliver(&sink, &batch)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Unavailable);
        assert!(error.to_string().contains("TMPDIR"), "{error}");
    }
    piles.lock().unwrap().mend_disk(whole);
    crate::plugin::Sink::deliver(&sink, &batch).await.unwrap();
    piles.lock().unwrap().end().unwrap();
    let (compared, told) = told(folder.path(), &answers);
    assert_eq!(compared.sources[0], figures(101, 101, Some(0)));
    assert_eq!(told.lines().count(), 101);
    assert_eq!(piles.lock().unwrap().incomparable, 1);
}
