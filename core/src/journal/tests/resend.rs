use super::*;

/// A sink's two dead letters, of two hours, in a journal whose account has them.
async fn two_dead() -> Bench {
    let bench = Bench::attached(&[sink("a"), sink("b")]).await;
    bench.commit("u", &records([1, 11])).await;
    let stored = bench.journal().read(bench.lane(), 0, 10, 10_000).await;
    let mut tally = Tally::default();
    for event in stored.unwrap()[0].events.iter() {
        let letter = DeadLetter {
            sink: "a".into(),
            event: event.clone(),
            reason: "400 Bad things".into(),
        };
        tally.dead(1, hour_of(&letter.event), letter);
    }
    let step = Advance {
        sink: "a".into(),
        lane: bench.lane(),
        last: 1,
        receipt: None,
        tally,
        changes: Changes::default(),
    };
    bench.journal().advance(step).await.unwrap();
    bench
}

async fn kept(bench: &Bench, letter: i64) -> Kept {
    match bench.journal().letter(letter, 1000).await.unwrap() {
        Found::Whole(kept) => kept,
        other => panic!("{other:?}"),
    }
}

/// Delivered and dead: of the cursor, and of all hours.
async fn account(bench: &Bench) -> [i64; 4] {
    let status = bench.sink("a").await;
    assert!(status.balances(), "{status:?}");
    let hours = |column: &str| {
        bench.figure(&format!(
            "SELECT coalesce(sum({column}), 0) FROM coverage_sinks WHERE sink = 'a' AND {column} >= 0"
        ))
    };
    [
        status.delivered,
        status.dead,
        hours("delivered"),
        hours("dead"),
    ]
}

#[tokio::test]
async fn a_letter_that_is_delivered_moves_in_the_account_and_leaves() {
    let bench = two_dead().await;
    assert_eq!(account(&bench).await, [0, 2, 0, 2]);
    let receipt = Receipt::of(&7).unwrap();
    let fates = vec![(kept(&bench, 1).await, None)];
    // Told twice, it counts once.
    for _ in 0..2 {
        let told = bench.journal().settle_letters(
            "a",
            Some(receipt.clone()),
            Changes::default(),
            fates.clone(),
        );
        told.await.unwrap();
    }
    assert_eq!(account(&bench).await, [1, 1, 1, 1]);
    assert_eq!(bench.figure("SELECT letter FROM dead_letters"), 2);
    assert_eq!(bench.figure("SELECT letter FROM dead_letter_parts"), 2);
    let hour = "SELECT delivered FROM coverage_sinks WHERE sink = 'a' ORDER BY hour LIMIT 1";
    assert_eq!(bench.figure(hour), 1, "its own hour");
    assert_eq!(bench.journal().receipt("a").await.unwrap(), Some(receipt));
}

#[tokio::test]
async fn a_letter_that_is_refused_again_stays_with_the_new_reason_and_a_count() {
    let bench = two_dead().await;
    let again = vec![(kept(&bench, 1).await, Some("still bad".to_owned()))];
    bench
        .journal()
        .settle_letters("a", None, Changes::default(), again)
        .await
        .unwrap();
    let other = vec![(kept(&bench, 2).await, Some("not here".to_owned()))];
    bench
        .journal()
        .settle_letters("b", None, Changes::default(), other)
        .await
        .unwrap();
    assert_eq!(account(&bench).await, [0, 2, 0, 2]);
    let shown = DeadLetters::read(&bench.dir.path().join("journal")).unwrap();
    let shown = shown.newest(&Letters::default(), 10).unwrap();
    let told = shown.iter().map(|l| (l.letter, &*l.reason, l.attempts));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(2, "sink b: not here", 2), (1, "still bad", 2)]
    );
}

#[tokio::test]
async fn a_letter_that_another_sink_took_or_that_was_dropped_stays_dead_in_the_account() {
    let bench = two_dead().await;
    let taken = vec![(kept(&bench, 1).await, None)];
    bench
        .journal()
        .settle_letters("b", None, Changes::default(), taken)
        .await
        .unwrap();
    let dropped = bench.journal().drop_letters(vec![1, 2, 3]).await.unwrap();
    assert_eq!(dropped, [2]);
    assert_eq!(account(&bench).await, [0, 2, 0, 2]);
    assert_eq!(bench.sink("b").await.delivered, 0);
    assert_eq!(bench.figure("SELECT count(*) FROM dead_letters"), 0);
    assert_eq!(bench.figure("SELECT count(*) FROM dead_letter_parts"), 0);
}

#[tokio::test]
async fn a_sink_that_was_forgotten_and_came_back_does_not_count_its_old_letters() {
    let bench = two_dead().await;
    let old = kept(&bench, 1).await;
    assert!(bench.journal().forget_sink("a").await.unwrap());
    bench.attach(&[sink("a"), sink("b")]).await;
    bench
        .journal()
        .settle_letters("a", None, Changes::default(), vec![(old, None)])
        .await
        .unwrap();
    let fates = vec![(kept(&bench, 2).await, None)];
    bench
        .journal()
        .settle_letters("a", None, Changes::default(), fates)
        .await
        .unwrap();
    let status = bench.sink("a").await;
    assert_eq!((status.delivered, status.dead), (0, 0), "{status:?}");
    assert!(status.balances());
}

#[tokio::test]
async fn a_renamed_sink_takes_its_letters_along() {
    let bench = two_dead().await;
    let renamed = SinkSpec {
        renamed_from: Some("a".into()),
        ..sink("c")
    };
    bench.attach(&[renamed, sink("b")]).await;
    let fates = vec![(kept(&bench, 1).await, None)];
    bench
        .journal()
        .settle_letters("c", None, Changes::default(), fates)
        .await
        .unwrap();
    let status = bench.sink("c").await;
    assert_eq!((status.delivered, status.dead), (1, 1), "{status:?}");
}

#[tokio::test]
async fn an_oversized_record_is_journaled_once_it_may_be_as_an_event_like_any_other() {
    let bench = Bench::attached(&[sink("a")]).await;
    let text = record(1);
    for unit in ["u", "v"] {
        let mut commit = bench.batch(TENANT, unit, &[]).await;
        commit.oversize = Arc::new(vec![OversizePart {
            record: 0,
            part: Bytes::from(text.clone()),
            first: true,
            last: true,
        }]);
        bench.journal().commit(commit).await.unwrap();
    }
    let small = bench.journal().letter(1, 10).await.unwrap();
    let Found::Stays(reason) = small else {
        panic!("{small:?}")
    };
    assert_eq!(
        reason,
        format!(
            "the record has {} bytes, more than limits.record_size (10); raise it first",
            text.len()
        )
    );
    let (first, second) = (kept(&bench, 1).await, kept(&bench, 2).await);
    assert!(bench.journal().journal_letter(first.clone()).await.unwrap());
    assert!(
        !bench.journal().journal_letter(first).await.unwrap(),
        "gone"
    );
    assert!(
        !bench.journal().journal_letter(second).await.unwrap(),
        "a repeat"
    );
    assert_eq!(bench.rest(bench.lane(), 0).await, [text]);
    let status = bench.sink("a").await;
    assert_eq!((status.journaled, status.pending), (1, 1));
    assert_eq!(bench.figure("SELECT count(*) FROM dead_letters"), 0);
    let found = bench.journal().letter(1, 1000).await.unwrap();
    assert!(matches!(found, Found::Gone), "{found:?}");
}

#[tokio::test]
async fn letters_are_found_by_everything_that_is_asked() {
    let bench = two_dead().await;
    let mut commit = bench.batch(TENANT, "u", &[]).await;
    commit.oversize = Arc::new(vec![OversizePart {
        record: 0,
        part: Bytes::from_static(b"x"),
        first: true,
        last: false,
    }]);
    bench.journal().commit(commit).await.unwrap();
    let kept = DeadLetters::read(&bench.dir.path().join("journal")).unwrap();
    let all = Letters::default();
    let now = Some(start().timestamp_millis());
    for (meant, expected) in [
        (all.clone(), &[1, 2, 3][..]),
        (
            Letters {
                numbers: vec![3, 1, 9],
                ..all.clone()
            },
            &[1, 3],
        ),
        (
            Letters {
                sink: Some("a".into()),
                ..all.clone()
            },
            &[1, 2],
        ),
        (
            Letters {
                sink: Some("b".into()),
                ..all.clone()
            },
            &[],
        ),
        (
            Letters {
                oversized: true,
                ..all.clone()
            },
            &[3],
        ),
        (
            Letters {
                reason: Some("bad THINGS".into()),
                ..all.clone()
            },
            &[1, 2],
        ),
        (
            Letters {
                tenant: Some(OTHER.into()),
                ..all.clone()
            },
            &[],
        ),
        (
            Letters {
                from_ms: now,
                ..all.clone()
            },
            &[1, 2, 3],
        ),
        (
            Letters {
                to_ms: now,
                ..all.clone()
            },
            &[],
        ),
    ] {
        let found = kept.numbers(&meant, 0, 10).unwrap();
        assert_eq!(found, expected, "{meant:?}");
        let last = expected.last().copied().unwrap_or(0);
        assert_eq!(kept.count(&meant).unwrap(), (expected.len() as u64, last));
    }
    assert_eq!(kept.numbers(&all, 1, 1).unwrap(), [2]);
    assert_eq!(kept.sinks(&all).unwrap(), ["a"]);
    let broken_off = bench.journal().letter(3, 1000).await.unwrap();
    assert!(matches!(broken_off, Found::Stays(_)), "{broken_off:?}");
}
