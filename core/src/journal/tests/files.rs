use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn a_second_process_is_refused() {
    let bench = Bench::new();
    let error = bench.try_open().err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "journal {}: another audit-exporter uses this journal; stop it first, or give this one its own journal.path",
            bench.dir.path().join("journal").display()
        )
    );
    assert_eq!(error.kind(), crate::Kind::Config);
}

#[tokio::test]
async fn nobody_opens_the_journal_while_accepted_work_is_still_written() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    let (journal, closer) = bench.open.take().unwrap();
    let (proceed, wait) = std::sync::mpsc::channel();
    let (started, running) = tokio::sync::oneshot::channel();
    let job = tokio::spawn({
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
    job.abort();
    assert!(job.await.unwrap_err().is_cancelled());
    drop(journal);
    // Dropped, as by an engine that is dropped.
    drop(closer);
    assert!(bench.try_open().is_err());
    proceed.send(()).unwrap();
    while bench.try_open().is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn only_its_user_can_read_it() {
    let bench = Bench::attached(&[sink("a")]).await;
    bench.commit("u", &records(0..3)).await;
    let dir = bench.dir.path().join("journal");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut seen = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        seen += 1;
    }
    assert_eq!(
        seen, 7,
        "lock, database, log, its index, sums, mark, and bodies"
    );
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let mut bench = Bench::new();
    bench.close();
    let path = bench.dir.path().join("journal").join(FILE);
    // Otherwise what the test does would count as damage.
    std::fs::remove_file(bench.dir.path().join("journal/journal.sums")).unwrap();
    let conn = Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let error = bench.try_open().err().unwrap().to_string();
    assert!(
        error.ends_with(
            "the journal has schema version 99, this program knows up to 1: use a newer program"
        ),
        "{error}"
    );
    let error = Status::read(&bench.dir.path().join("journal")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the journal has schema version 99, this program reads 1: use the version that runs on it"
    );
}

#[tokio::test]
async fn the_journals_id_and_seed_stay() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    let id = Arc::clone(bench.journal().id());
    assert_eq!(bench.commit("u", &records(0..3)).await.journaled, 3);
    bench.reopen();
    bench.attach(&[sink("a")]).await;
    assert_eq!(*bench.journal().id(), id);
    assert_eq!(bench.commit("u", &records(0..3)).await.repeats, 3);
    assert_ne!(*Bench::new().journal().id(), id);
}

#[tokio::test]
async fn a_status_can_be_read_without_disturbing_the_process_that_runs() {
    let mut bench = Bench::attached(&[sink("a")]).await;
    bench.commit("u", &records(0..3)).await;
    let dir = bench.dir.path().join("journal");
    let read = Status::read(&dir).unwrap();
    assert_eq!(read, bench.journal().status().await.unwrap());
    bench.close();
    assert_eq!(Status::read(&dir).unwrap(), read);
    let error = Status::read(bench.dir.path()).unwrap_err().to_string();
    assert!(error.starts_with("there is no journal in "), "{error}");
}

#[tokio::test]
async fn a_store_keeps_what_it_was_given() {
    let mut bench = Bench::new();
    for store in [bench.journal().store("sink/a"), Store::in_memory()] {
        assert_eq!(store.get("k").await.unwrap(), None);
        store.put("k", Some("1".to_owned())).await.unwrap();
        store.put("k", Some("2".to_owned())).await.unwrap();
        store.put("gone", Some("x".to_owned())).await.unwrap();
        store.put("gone", None).await.unwrap();
        assert_eq!(store.get("k").await.unwrap().as_deref(), Some("2"));
        assert_eq!(store.get("gone").await.unwrap(), None);
    }
    bench.reopen();
    let store = bench.journal().store("sink/a");
    assert_eq!(store.get("k").await.unwrap().as_deref(), Some("2"));
    let other = bench.journal().store("sink/b");
    assert_eq!(other.get("k").await.unwrap(), None);
}
