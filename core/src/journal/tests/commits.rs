use std::slice::from_ref;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::error::{Error, Kind};

#[tokio::test]
async fn a_batch_its_ids_its_coverage_and_its_unit_are_committed_together_or_not_at_all() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let listed = bench.journal().register(&stream, vec![unit("u")], None);
    listed.await.unwrap();
    let commit = bench.batch(TENANT, "u", &records(0..5)).await;
    // The same work in a job that fails at its end.
    let (journal, broken) = (bench.journal().clone(), commit.clone());
    let marks = journal.marks(&broken);
    let id = Arc::clone(journal.id());
    let result: Result<()> = journal
        .writer
        .run(move |tx| {
            commit::apply(tx, &broken, &marks, &id, 1 << 20)?;
            Err(Error::unavailable("power is out"))
        })
        .await;
    assert!(result.is_err());
    for table in [
        "batches",
        "id_log",
        "coverage_events",
        "coverage_content WHERE fetched > 0",
    ] {
        assert_eq!(
            bench.figure(&format!("SELECT count(*) FROM {table}")),
            0,
            "{table}"
        );
    }
    assert!(bench.journal().behind("a").is_empty());
    // The ids were forgotten with it: nothing is taken for a repeat.
    let done = bench.journal().commit(commit).await.unwrap();
    assert_eq!((done.journaled, done.repeats), (5, 0));
    assert_eq!(bench.figure("SELECT sum(fetched) FROM coverage_content"), 1);
    assert_eq!(
        bench.figure("SELECT sum(journaled) FROM coverage_events"),
        5
    );
}

type Job = Box<dyn FnOnce(&mut writer::Tx<'_>) -> Result<()> + Send>;
type LightJob = &'static (dyn Fn(&mut writer::Tx<'_>) -> Result<()> + Send + Sync);

/// Runs jobs in one transaction: they wait together behind one that is held up.
async fn together(journal: &Journal, jobs: Vec<Job>) -> Vec<Result<()>> {
    hold_up(journal, jobs, async |job| journal.writer.run(job).await).await
}

/// The same with jobs that are light.
async fn light_together(journal: &Journal, jobs: Vec<LightJob>) -> Vec<Result<()>> {
    hold_up(journal, jobs, async |job| {
        journal.writer.run_light(job).await
    })
    .await
}

async fn hold_up<T>(
    journal: &Journal,
    jobs: Vec<T>,
    run: impl AsyncFn(T) -> Result<()>,
) -> Vec<Result<()>> {
    let (proceed, wait) = std::sync::mpsc::channel();
    let (started, running) = tokio::sync::oneshot::channel();
    let first = tokio::spawn({
        let journal = journal.clone();
        async move {
            let hold = move |_: &mut writer::Tx<'_>| {
                started.send(()).unwrap();
                wait.recv().unwrap();
                Ok(())
            };
            journal.writer.run(hold).await
        }
    });
    running.await.unwrap();
    let mut waiting = Vec::new();
    for job in jobs {
        let mut run = Box::pin(run(job));
        // Polled once, so that it is in the queue.
        assert!(futures::poll!(&mut run).is_pending());
        waiting.push(run);
    }
    proceed.send(()).unwrap();
    first.await.unwrap().unwrap();
    futures::future::join_all(waiting).await
}

fn put(key: &'static str) -> Job {
    Box::new(move |tx| {
        sql(tx.conn.execute("INSERT INTO meta VALUES (?1, '')", [key]))?;
        Ok(())
    })
}

#[tokio::test]
async fn a_job_that_fails_leaves_the_other_jobs_of_its_transaction_intact() {
    let bench = Bench::attached(&[sink("a")]).await;
    let fail = Box::new(|tx: &mut writer::Tx<'_>| {
        sql(tx.conn.execute("INSERT INTO meta VALUES ('half', '')", []))?;
        tx.after_commit(|state| state.used_bytes = u64::MAX);
        Err(Error::rejected("not this one"))
    });
    let results = together(bench.journal(), vec![put("before"), fail, put("after")]).await;
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(results[1].as_ref().unwrap_err().to_string(), "not this one");
    let count = |key| bench.figure(&format!("SELECT count(*) FROM meta WHERE key = '{key}'"));
    assert_eq!((count("before"), count("half"), count("after")), (1, 0, 1));
    assert!(bench.journal().shared.look(|state| state.used_bytes) < u64::MAX);
}

/// Puts a key, and counts how often it was tried; does or does not fail then.
fn light(key: &'static str, tries: &Arc<AtomicU32>, fails: bool) -> LightJob {
    let tries = Arc::clone(tries);
    Box::leak(Box::new(move |tx: &mut writer::Tx<'_>| {
        tries.fetch_add(1, Ordering::Relaxed);
        sql(tx.conn.execute("INSERT INTO meta VALUES (?1, '')", [key]))?;
        tx.after_commit(move |state| state.used_bytes += if fails { u64::MAX / 2 } else { 0 });
        if fails {
            return Err(Error::rejected("not this one"));
        }
        Ok(())
    }))
}

#[tokio::test]
async fn a_light_job_that_fails_fails_alone_though_all_are_undone_once() {
    let bench = Bench::attached(&[sink("a")]).await;
    let count = |key| bench.figure(&format!("SELECT count(*) FROM meta WHERE key = '{key}'"));
    for (before, half, after, expected) in
        [("b1", "h1", "a1", [2, 1, 1]), ("b2", "h2", "a2", [1, 1, 1])]
    {
        let tries: [Arc<AtomicU32>; 3] = Default::default();
        let jobs = vec![
            light(before, &tries[0], false),
            light(half, &tries[1], true),
            light(after, &tries[2], false),
        ];
        let results = light_together(bench.journal(), jobs).await;
        assert!(results[0].is_ok() && results[2].is_ok());
        assert_eq!(results[1].as_ref().unwrap_err().kind(), Kind::Rejected);
        assert_eq!((count(before), count(half), count(after)), (1, 0, 1));
        // The third was not even begun when the second failed; the next time each had a savepoint of its own.
        assert_eq!(tries.map(|tries| tries.load(Ordering::Relaxed)), expected);
    }
    assert!(bench.journal().shared.look(|state| state.used_bytes) < u64::MAX / 2);
}

#[tokio::test]
async fn a_transaction_that_is_lost_in_the_middle_is_an_error_to_all_and_the_next_one_works() {
    let bench = Bench::attached(&[sink("a")]).await;
    // What SQLite does by itself when the disk is full.
    let rolled_back = Box::new(|tx: &mut writer::Tx<'_>| {
        sql(tx.conn.execute_batch("ROLLBACK"))?;
        Err(Error::unavailable("the disk is full"))
    });
    let results = together(bench.journal(), vec![put("one"), rolled_back, put("two")]).await;
    for result in &results {
        assert_eq!(result.as_ref().unwrap_err().kind(), Kind::Unavailable);
    }
    assert_eq!(
        bench.figure("SELECT count(*) FROM meta WHERE key IN ('one', 'two')"),
        0
    );
    bench.journal().writer.run(put("one")).await.unwrap();
    assert_eq!(
        bench.figure("SELECT count(*) FROM meta WHERE key = 'one'"),
        1
    );
}

#[tokio::test]
async fn a_transaction_that_could_not_be_rolled_back_does_not_block_the_journal() {
    let bench = Bench::attached(&[sink("a")]).await;
    // Commits behind the journal's back and opens a transaction that is never ended.
    let astray = Box::new(|tx: &mut writer::Tx<'_>| {
        sql(tx.conn.execute_batch("COMMIT; BEGIN; SAVEPOINT job"))?;
        Ok(())
    });
    let results = together(bench.journal(), vec![astray]).await;
    drop(results);
    bench.journal().writer.run(put("one")).await.unwrap();
    assert_eq!(
        bench.figure("SELECT count(*) FROM meta WHERE key = 'one'"),
        1
    );
}

#[tokio::test]
async fn a_sequence_number_is_never_used_again() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    let lane = bench.lane();
    for unit in 0..3 {
        bench
            .commit(&format!("u{unit}"), &records(unit * 10..unit * 10 + 3))
            .await;
    }
    bench.pass("a", lane, 3).await;
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
    bench.reopen();
    bench.attach(&[sink("a")]).await;
    assert!(bench.journal().behind("a").is_empty());
    bench.commit("u9", &records(90..91)).await;
    assert_eq!(bench.journal().behind("a"), [(lane, LaneKind::Live, 3)]);
    let found = bench.journal().read(lane, 3, 10, 1000).await.unwrap();
    assert_eq!(found[0].seq, 4);
}

#[tokio::test]
async fn a_unit_that_broke_off_is_fetched_again_and_repeats_nothing() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    bench
        .journal()
        .register(&stream, vec![unit("u")], None)
        .await
        .unwrap();
    // Records without an Id are told apart by their place alone.
    let body: Vec<String> = (0..6).map(|n| format!(r#"{{"n":{}}}"#, n % 3)).collect();
    let mut first = bench.batch(TENANT, "u", &body[..4]).await;
    first.unit_done = false;
    assert_eq!(bench.journal().commit(first).await.unwrap().journaled, 4);
    let (due, _) = bench
        .journal()
        .due(
            &stream,
            LaneKind::Live,
            std::collections::HashSet::new(),
            10,
        )
        .await
        .unwrap();
    assert_eq!(due.len(), 1, "still to be fetched");
    let done = bench.commit("u", &body).await;
    assert_eq!((done.journaled, done.repeats, done.variants), (2, 4, 0));
    assert_eq!(bench.rest(bench.lane(), 0).await, body);
    // The same records in another unit are other events.
    assert_eq!(bench.commit("v", &body).await.journaled, 6);
}

#[tokio::test]
async fn only_equal_bytes_of_one_identity_are_a_repeat() {
    let bench = Bench::attached(&[sink("a")]).await;
    let one = |extra: &str, operation: &str, second: u8| {
        format!(
            r#"{{"Id":"sanitized","CreationTime":"2026-03-01T00:00:{second:02}","Operation":"{operation}"{extra}}}"#
        )
    };
    let figures = |done: Committed| (done.journaled, done.repeats, done.variants);
    let repeated = one("", "A", 0);
    let first = bench.commit("u", from_ref(&repeated)).await;
    assert_eq!(figures(first), (1, 0, 0));
    let again = bench.commit("v", from_ref(&repeated)).await;
    assert_eq!(again.repeated_bytes, repeated.len());
    assert_eq!(figures(again), (0, 1, 0));
    let variant = bench.commit("w", &[one(r#","x":1"#, "A", 0)]).await;
    assert_eq!(figures(variant), (1, 0, 1));
    let others = bench.commit("x", &[one("", "B", 0), one("", "A", 1)]).await;
    assert_eq!(figures(others), (2, 0, 0));
    assert_eq!(bench.figure("SELECT sum(variants) FROM coverage_events"), 1);
    assert_eq!(bench.figure("SELECT sum(repeats) FROM coverage_events"), 1);
}

#[tokio::test]
async fn another_sources_copy_is_a_repeat_if_the_id_is_a_guid() {
    let bench = Bench::attached(&[sink("a")]).await;
    let copy = async |source: &str, record: &str| {
        let origin = origin(TENANT, source, "u");
        let commit = Commit {
            stream: bench.journal().stream(source, TENANT).await.unwrap(),
            lane: bench.lane(),
            events: Arc::new(events(&origin, &[record.to_owned()])),
            origin,
            first_index: 0,
            oversize: Arc::default(),
            wire: None,
            again: None,
            unit_done: true,
        };
        bench.journal().commit(commit).await.unwrap()
    };
    let with = |id: &str, extra: &str| {
        format!(r#"{{"Id":"{id}","CreationTime":"2026-03-01T00:00:00","Operation":"A"{extra}}}"#)
    };
    let guid = "00000000-0000-0000-0000-00000000000a";
    assert_eq!(copy("activity", &with(guid, "")).await.journaled, 1);
    assert_eq!(copy("graph", &with(guid, r#","x":1"#)).await.repeats, 1);
    assert_eq!(copy("activity", &with(guid, r#","x":1"#)).await.variants, 1);
    assert_eq!(copy("activity", &with("b", "")).await.journaled, 1);
    assert_eq!(copy("graph", &with("b", r#","x":1"#)).await.variants, 1);
}

#[tokio::test]
async fn a_batch_in_memory_does_not_hold_the_body_it_was_cut_from() {
    let bench = Bench::attached(&[sink("a")]).await;
    let body = Bytes::from(vec![b' '; 1 << 20]);
    let mut commit = bench.batch(TENANT, "u", &[]).await;
    let small = body.slice(10..20);
    commit.events = Arc::new(vec![AuditEvent::new(small, Arc::clone(&commit.origin))]);
    bench.journal().commit(commit).await.unwrap();
    let found = bench
        .journal()
        .read(bench.lane(), 0, 10, 1000)
        .await
        .unwrap();
    assert_eq!(found[0].events[0].raw(), &body[10..20]);
    assert!(
        body.is_unique(),
        "the journal still refers to the large body"
    );
}

#[tokio::test]
async fn a_lane_that_no_sink_takes_keeps_nothing_but_knows_its_events() {
    let bench = Bench::attached(&[]).await;
    assert_eq!(bench.commit("u", &records(0..3)).await.journaled, 3);
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
    assert_eq!(bench.commit("v", &records(0..3)).await.repeats, 3);
    assert_eq!(bench.journal().shared.look(|state| state.recent.len()), 0);
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_collecting_goes_on_once_there_is_space() {
    let bench = Bench::attached(&[sink("a")]).await;
    let limit = async |pages: i64| {
        let set = move |tx: &mut writer::Tx<'_>| {
            let set = format!("PRAGMA max_page_count = {pages}");
            sql(tx.conn.query_row(&set, [], |_| Ok(())))
        };
        bench.journal().writer.run(set).await.unwrap();
    };
    // More ids than fit the pages that there are.
    let many = records(0..5_000);
    let commit = bench.batch(TENANT, "u", &many).await;
    limit(1).await;
    let (full, small) = tokio::join!(
        bench.journal().commit(commit.clone()),
        bench.journal().settled()
    );
    let error = full.unwrap_err();
    assert_eq!(error.kind(), crate::Kind::Unavailable);
    assert!(
        error
            .to_string()
            .starts_with("the disk that holds the journal is full"),
        "{error}"
    );
    // A job in the same transaction fails with it or was alone; in either case the caller knows.
    drop(small);
    assert_eq!(bench.figure("SELECT count(*) FROM batches"), 0);
    limit(1 << 30).await;
    let done = bench.journal().commit(commit).await.unwrap();
    assert_eq!((done.journaled, done.repeats), (5_000, 0));
    assert_eq!(bench.rest(bench.lane(), 0).await, many);
}

#[tokio::test]
async fn the_log_stays_bounded_while_others_read() {
    let bench = Bench::attached(&[sink("a")]).await;
    let wal = bench.dir.path().join("journal").join("journal.sqlite-wal");
    for number in 0..300_u64 {
        let noise: String = (0..3_000)
            .map(|_| uuid::Uuid::new_v4().to_string())
            .collect();
        bench.commit(&format!("u{number}"), &[noise]).await;
        let (_, read) = tokio::join!(
            bench.journal().status(),
            bench.journal().read(bench.lane(), number / 2, 10, 1 << 20)
        );
        assert!(!read.unwrap().is_empty());
        bench.pass("a", bench.lane(), number + 1).await;
        let size = wal.metadata().unwrap().len();
        assert!(size < 24 << 20, "{size}");
    }
}

#[tokio::test]
async fn a_unit_that_loses_a_batch_while_the_rest_is_fetched_is_fetched_as_a_whole_again() {
    let bench = Bench::attached(&[sink("a")]).await;
    let stream = bench.stream().await;
    let listed = bench.journal().register(&stream, vec![unit("u")], None);
    listed.await.unwrap();
    let part = async |records, again, unit_done| Commit {
        unit_done,
        again,
        ..bench.batch(TENANT, "u", records).await
    };
    let all = records(0..6);
    let first = part(&all[..3], None, false).await;
    let done = bench.journal().commit(first).await.unwrap();
    assert_eq!((done.journaled, done.again), (3, false));
    let strike = |tx: &mut writer::Tx<'_>| {
        let strike = "INSERT INTO struck (seq, stream, unit) SELECT seq, stream, unit FROM batches";
        sql(tx.conn.execute(strike, []))
    };
    bench.journal().writer.run(strike).await.unwrap();
    let rest = part(&all[3..], Some(false), true).await;
    let error = bench.journal().commit(rest).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let open = "SELECT count(*) FROM units WHERE state = 0";
    assert_eq!(bench.figure(open), 1);
    let first = part(&all[..3], None, false).await;
    let done = bench.journal().commit(first).await.unwrap();
    assert_eq!((done.journaled, done.again), (3, true));
    let rest = part(&all[3..], Some(true), true).await;
    bench.journal().commit(rest).await.unwrap();
    assert_eq!(bench.figure(open), 0);
}
