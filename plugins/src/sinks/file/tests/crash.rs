//! After a crash, an error, or a delivery that was dropped: every event exactly once.

use std::fs;
use std::io::Write;
use std::time::Duration;

use audit_exporter_core::plugin::Receipt;

use super::super::ledger::KEPT_DELIVERIES;
use super::*;

const FILE: &str = "a.ndjson";

#[tokio::test]
async fn what_was_not_confirmed_is_cut_off() {
    let mut bench = Bench::new(FILE, "").await;
    bench.deliver(&events(0..3)).await;
    // Written, but the receipt was never committed.
    bench.try_deliver(&events(3..6)).await.unwrap();
    assert_eq!(bench.ids(), numbers(0..6));
    bench.crash().await;
    assert_eq!(bench.ids(), numbers(0..3));
    bench.deliver(&events(3..6)).await;
    assert_eq!(bench.ids_in(FILE), numbers(0..6));
}

#[tokio::test]
async fn a_torn_write_is_cut_off() {
    for compression in ["none", "gzip", "zstd"] {
        let mut bench = Bench::new(FILE, &format!("compression = \"{compression}\"")).await;
        bench.deliver(&events(0..3)).await;
        let path = bench.open_files().remove(0);
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"Id\":\"to").unwrap();
        bench.crash().await;
        assert_eq!(bench.ids(), numbers(0..3));
        bench.deliver(&events(3..4)).await;
        assert_eq!(bench.ids(), numbers(0..4));
    }
}

#[tokio::test]
async fn files_created_after_the_last_receipt_go() {
    let mut bench = Bench::new("{date}.ndjson", "rotate_size = \"300B\"").await;
    bench.deliver(&events(0..1)).await;
    let before = bench.files();
    // Fills several files and opens some for another day.
    let mut batch = events(1..20);
    batch.extend((20..30).map(|number| event_of(number, "2026-02-01", 0)));
    bench.try_deliver(&batch).await.unwrap();
    assert!(bench.names().len() > 5);
    bench.crash().await;
    assert_eq!(bench.files(), before);
    bench.deliver(&batch).await;
    assert_eq!(bench.ids(), numbers(0..30));
}

#[tokio::test]
async fn files_of_a_first_delivery_that_was_never_confirmed_go() {
    let mut bench = Bench::new("{date}.ndjson", "").await;
    bench.try_deliver(&events(0..3)).await.unwrap();
    bench.crash().await;
    assert_eq!(bench.names(), [""; 0]);
    bench.deliver(&events(0..3)).await;
    assert_eq!(bench.names(), [format!("{DAY}.ndjson")]);
    assert_eq!(bench.ids(), numbers(0..3));
}

#[tokio::test]
async fn a_file_that_was_only_announced_is_nobodys() {
    // Killed between the ledger's entry and the file: then the name is free, and may be somebody else's tomorrow.
    let mut bench = Bench::new(FILE, "").await;
    bench.try_deliver(&events(0..3)).await.unwrap();
    fs::remove_file(bench.folder.path().join(FILE)).unwrap();
    bench.crash().await;
    fs::write(bench.folder.path().join(FILE), "precious").unwrap();
    bench.crash().await;
    bench.deliver(&events(0..3)).await;
    assert_eq!(bench.files()[FILE], b"precious");
    assert_eq!(bench.ids_in("a-2.ndjson"), numbers(0..3));
}

#[tokio::test]
async fn crashes_in_a_row_change_nothing() {
    let mut bench = Bench::new("{date}.ndjson", "rotate_size = \"500B\"").await;
    for step in 0..10 {
        let batch = events(step * 4..(step + 1) * 4);
        for _ in 0..3 {
            bench.try_deliver(&batch).await.unwrap();
            bench.crash().await;
            bench.crash().await;
        }
        bench.deliver(&batch).await;
    }
    assert_eq!(bench.ids(), numbers(0..40));
}

#[tokio::test]
async fn closed_files_are_final() {
    let mut bench = Bench::new(FILE, "rotate_size = \"500B\"").await;
    bench.deliver(&events(0..20)).await;
    let open = bench.open_files();
    assert_eq!(open.len(), 1);
    let open = open[0].file_name().unwrap().to_str().unwrap().to_owned();
    let mut closed = bench.files();
    closed.remove(&open);
    assert!(closed.len() >= 2);
    bench.deliver(&events(20..40)).await;
    bench.crash().await;
    bench.deliver(&events(40..60)).await;
    let files = bench.files();
    assert!(closed.iter().all(|(name, data)| files[name] == *data));
    assert_eq!(bench.ids(), numbers(0..60));
}

#[tokio::test]
async fn a_file_that_is_gone_or_shorter_is_not_continued() {
    for truncate in [false, true] {
        let mut bench = Bench::new(FILE, "").await;
        bench.deliver(&events(0..3)).await;
        let path = bench.folder.path().join(FILE);
        if truncate {
            fs::write(&path, "short").unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        bench.crash().await;
        bench.deliver(&events(3..6)).await;
        assert_eq!(bench.ids_in("a-2.ndjson"), numbers(3..6));
        assert_eq!(path.exists(), truncate, "its name is not used again");
        bench.crash().await;
        assert_eq!(bench.ids_in("a-2.ndjson"), numbers(3..6));
    }
}

#[tokio::test]
async fn a_file_that_is_moved_or_changed_under_the_sink_is_not_continued() {
    for change in ["move", "remove", "replace", "empty"] {
        let mut bench = Bench::new(FILE, "").await;
        bench.deliver(&events(0..3)).await;
        let path = bench.folder.path().join(FILE);
        match change {
            "move" => fs::rename(&path, bench.folder.path().join("moved")).unwrap(),
            "remove" => fs::remove_file(&path).unwrap(),
            "replace" => {
                let data = fs::read(&path).unwrap();
                let other = bench.folder.path().join("other");
                fs::write(&other, data).unwrap();
                fs::rename(&other, &path).unwrap();
            }
            _ => fs::write(&path, "").unwrap(),
        }
        bench.deliver(&events(3..6)).await;
        assert_eq!(bench.ids_in("a-2.ndjson"), numbers(3..6), "{change}");
        if change == "move" {
            assert_eq!(bench.ids_in("moved"), numbers(0..3));
        }
    }
}

#[tokio::test]
async fn another_file_in_the_place_of_one_of_ours_is_not_cut() {
    for link in [false, true] {
        let mut bench = Bench::new(FILE, "").await;
        bench.deliver(&events(0..1)).await;
        let (path, theirs) = (
            bench.folder.path().join(FILE),
            bench.folder.path().join("theirs"),
        );
        let data = [record(0, DAY, 0), record(1, DAY, 5000), String::new()].join("\n");
        fs::write(&theirs, &data).unwrap();
        fs::remove_file(&path).unwrap();
        if link {
            std::os::unix::fs::symlink(&theirs, &path).unwrap();
        } else {
            fs::rename(&theirs, &path).unwrap();
        }
        bench.crash().await;
        assert_eq!(fs::read_to_string(&path).unwrap(), data);
        bench.deliver(&events(2..3)).await;
        assert_eq!(bench.ids_in("a-2.ndjson"), [2]);
        assert_eq!(fs::read_to_string(&path).unwrap(), data);
    }
}

#[tokio::test]
async fn a_delivery_that_is_dropped_half_way_is_taken_back() {
    let mut bench = Bench::new("{date}.ndjson", "rotate_size = \"2kB\"").await;
    for step in 0..30 {
        let batch: Vec<_> = (step * 5..(step + 1) * 5)
            .map(|number| event_of(number, DAY, 200))
            .collect();
        let wait = Duration::from_micros(step as u64 * 40);
        let dropped = tokio::time::timeout(wait, bench.try_deliver(&batch)).await;
        if let Ok(delivered) = dropped {
            bench.receipt = delivered.unwrap().receipt;
        } else {
            bench.deliver(&batch).await;
        }
    }
    assert_eq!(bench.ids(), numbers(0..150));
    bench.crash().await;
    assert_eq!(bench.ids(), numbers(0..150));
}

#[tokio::test]
async fn a_sink_that_nobody_recovered_leaves_everything_alone() {
    let mut bench = Bench::new(FILE, "").await;
    bench.deliver(&events(0..3)).await;
    bench.sink = build(&bench.options, &bench.store, &bench.clock);
    bench.deliver(&events(3..6)).await;
    assert_eq!(bench.ids_in(FILE), numbers(0..3));
    assert_eq!(bench.ids_in("a-2.ndjson"), numbers(3..6));
}

#[tokio::test]
async fn a_reset_cursor_removes_no_file_that_was_once_confirmed() {
    let mut bench = Bench::new("{date}.ndjson", "rotate_size = \"200B\"").await;
    let count = KEPT_DELIVERIES as usize + 2;
    for number in 0..count {
        bench.deliver(&events(number..number + 1)).await;
    }
    bench.receipt = None;
    bench.crash().await;
    assert_eq!(bench.ids(), numbers(0..count));
    bench.deliver(&events(count..count + 1)).await;
    assert_eq!(bench.ids(), numbers(0..count + 1));
}

#[tokio::test]
async fn a_receipt_of_another_sink_is_refused() {
    let bench = Bench::new(FILE, "").await;
    let foreign = Receipt::of(&"a position").unwrap();
    assert!(bench.sink.recover(Some(&foreign)).await.is_err());
}

#[tokio::test]
async fn a_sink_waits_for_what_the_one_before_it_still_does_to_the_files() {
    let bench = Bench::new("a.ndjson", "").await;
    // As the work of an instance that a reload has left behind.
    let turn = bench.turn().await;
    let events = events(0..3);
    let mut delivery = Box::pin(bench.try_deliver(&events));
    assert!(futures::poll!(&mut delivery).is_pending());
    assert!(bench.files().is_empty());
    drop(turn);
    delivery.await.unwrap();
    assert_eq!(bench.ids(), numbers(0..3));
}
