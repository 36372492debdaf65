use super::*;

/// A commit of a unit's oversized pieces: which record, its bytes, whether it is the first and the last piece.
async fn pieces(bench: &Bench, unit: &str, pieces: &[(u64, &str, bool, bool)]) {
    let mut commit = bench.batch(TENANT, unit, &[]).await;
    let piece = |(record, part, first, last): &(u64, &str, bool, bool)| OversizePart {
        record: *record,
        part: Bytes::copy_from_slice(part.as_bytes()),
        first: *first,
        last: *last,
    };
    commit.oversize = Arc::new(pieces.iter().map(piece).collect());
    commit.unit_done = false;
    bench.journal().commit(commit).await.unwrap();
}

/// Each letter with its bytes, and whether it is complete.
fn letters(bench: &Bench) -> Vec<(String, bool)> {
    let conn = open_read_only(&bench.dir.path().join("journal").join(FILE)).unwrap();
    let mut select = conn
        .prepare(
            "SELECT (SELECT CAST(group_concat(CAST(body AS TEXT), '') AS TEXT) FROM \
             (SELECT body FROM dead_letter_parts p WHERE p.letter = d.letter ORDER BY part)), complete \
             FROM dead_letters d ORDER BY letter",
        )
        .unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(|row| row.unwrap()).collect()
}

fn one(text: &str, complete: bool) -> (String, bool) {
    (text.to_owned(), complete)
}

#[tokio::test]
async fn an_oversized_record_is_kept_whole_over_several_batches() {
    let bench = Bench::attached(&[sink("a")]).await;
    pieces(&bench, "u", &[(0, "AAAA", true, false)]).await;
    assert_eq!(letters(&bench), [one("AAAA", false)]);
    pieces(&bench, "u", &[(0, "BBBB", false, false)]).await;
    pieces(
        &bench,
        "u",
        &[(0, "C", false, true), (1, "DDDD", true, false)],
    )
    .await;
    pieces(&bench, "u", &[(1, "", false, true)]).await;
    assert_eq!(letters(&bench), [one("AAAABBBBC", true), one("DDDD", true)]);
}

#[tokio::test]
async fn a_unit_that_is_fetched_again_completes_its_letters_and_repeats_none() {
    let bench = Bench::attached(&[sink("a")]).await;
    pieces(
        &bench,
        "u",
        &[(0, "AA", true, true), (1, "BB", true, false)],
    )
    .await;
    // Broken off here; and again, before the second one.
    pieces(&bench, "u", &[(0, "AA", true, false)]).await;
    assert_eq!(letters(&bench), [one("AA", true), one("BB", false)]);
    let whole = [
        (0, "A", true, false),
        (0, "A", false, true),
        (1, "BBB", true, true),
    ];
    pieces(&bench, "u", &whole).await;
    assert_eq!(letters(&bench), [one("AA", true), one("BBB", true)]);
    pieces(&bench, "other", &[(0, "CC", true, true)]).await;
    assert_eq!(letters(&bench).len(), 3);
}

#[tokio::test]
async fn a_refused_event_is_kept_with_the_reason_and_counted_once() {
    let bench = Bench::attached(&[sink("a")]).await;
    bench.commit("u", &records(0..2)).await;
    let stored = bench
        .journal()
        .read(bench.lane(), 0, 10, 10_000)
        .await
        .unwrap();
    let mut tally = Tally::default();
    tally.delivered(1, hour_of(&stored[0].events[0]));
    let letter = DeadLetter {
        sink: "a".into(),
        event: stored[0].events[1].clone(),
        reason: "400 invalid".into(),
    };
    tally.dead(1, hour_of(&letter.event), letter);
    let step = Advance {
        sink: "a".into(),
        lane: bench.lane(),
        last: 1,
        receipt: None,
        tally,
        changes: Changes::default(),
    };
    for _ in 0..2 {
        bench.journal().advance(step.clone()).await.unwrap();
    }
    assert_eq!(letters(&bench), [one(&record(1), true)]);
    let status = bench.sink("a").await;
    assert_eq!((status.delivered, status.dead), (1, 1));
    let kept = DeadLetters::read(&bench.dir.path().join("journal")).unwrap();
    let [shown] = &kept.newest(&Letters::default(), 10).unwrap()[..] else {
        panic!("one letter");
    };
    assert_eq!(
        (shown.sink.as_deref(), &*shown.reason),
        (Some("a"), "400 invalid")
    );
    let mut text = Vec::new();
    assert!(kept.write(shown.letter, &mut text).unwrap());
    assert_eq!(text, record(1).into_bytes());
    assert_eq!(shown.bytes, text.len() as i64);
    assert!(!kept.write(shown.letter + 1, &mut text).unwrap());
    assert_eq!(
        bench.figure("SELECT count(*) FROM dead_letters WHERE reason = '400 invalid'"),
        1
    );
}

#[tokio::test]
async fn a_letter_that_is_dropped_while_its_record_comes_does_not_come_back_without_its_beginning()
{
    let bench = Bench::attached(&[sink("a")]).await;
    pieces(&bench, "u", &[(0, "AAAA", true, false)]).await;
    assert_eq!(bench.journal().drop_letters(vec![1]).await.unwrap(), [1]);
    let rest = [(0, "BBBB", false, true), (1, "C", true, true)];
    pieces(&bench, "u", &rest).await;
    assert_eq!(letters(&bench), [one("C", true)]);
}
