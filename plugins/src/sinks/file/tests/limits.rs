//! Rotation, the number of open files, memory, a full disk, two sinks in one folder.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use audit_exporter_core::Kind;
use audit_exporter_core::clock::Clock;

use super::*;

#[tokio::test]
async fn a_file_that_is_full_is_closed_between_two_events() {
    let mut bench = Bench::new("a.ndjson", "rotate_size = \"1kB\"").await;
    bench.deliver(&events(0..50)).await;
    bench.deliver(&events(50..100)).await;
    let files = bench.files();
    assert!(files.len() >= 5, "{:?}", bench.names());
    assert!(files.values().all(|data| data.len() <= 1000));
    assert!(files.contains_key("a.ndjson") && files.contains_key("a-2.ndjson"));
    assert_eq!(bench.ids(), numbers(0..100));
}

#[tokio::test]
async fn an_event_larger_than_a_file_has_one_of_its_own() {
    let mut bench = Bench::new("a.ndjson", "rotate_size = \"1kB\"").await;
    bench
        .deliver(&[
            event_of(0, DAY, 0),
            event_of(1, DAY, 5000),
            event_of(2, DAY, 0),
        ])
        .await;
    assert_eq!(bench.ids_in("a.ndjson"), [0]);
    assert_eq!(bench.ids_in("a-2.ndjson"), [1]);
    assert_eq!(bench.ids_in("a-3.ndjson"), [2]);
}

#[tokio::test]
async fn compressed_files_rotate_by_their_size_on_disk() {
    for compression in ["gzip", "zstd"] {
        let options = format!("rotate_size = \"2kB\"\ncompression = \"{compression}\"");
        let mut bench = Bench::new("a.ndjson", &options).await;
        for step in 0..20 {
            bench.deliver(&events(step * 50..(step + 1) * 50)).await;
        }
        let files = bench.files();
        assert!(files.len() >= 2, "{:?}", bench.names());
        assert_eq!(bench.ids(), numbers(0..1000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_old_is_closed_at_the_next_delivery() {
    let clock = Clock::starting_at("2026-03-01T00:00:00Z".parse().unwrap());
    let mut bench = Bench::new("{date}.ndjson", "rotate_age = \"1h\"")
        .await
        .with_clock(clock)
        .await;
    let name = |number: &str| format!("{DAY}{number}.ndjson");
    bench.deliver(&events(0..1)).await;
    bench.deliver(&[event_of(100, "2026-02-01", 0)]).await;
    tokio::time::advance(Duration::from_mins(59)).await;
    bench.deliver(&events(1..2)).await;
    assert_eq!(bench.ids_in(&name("")), [0, 1]);
    assert_eq!(bench.open_files().len(), 2);
    tokio::time::advance(Duration::from_mins(1)).await;
    bench.deliver(&events(2..3)).await;
    assert_eq!(bench.ids_in(&name("-2")), [2]);
    assert_eq!(bench.open_files().len(), 1, "also the one that is idle");
    // A late event of a day whose file is closed.
    bench.deliver(&[event_of(101, "2026-02-01", 0)]).await;
    assert_eq!(bench.ids_in("2026-02-01-2.ndjson"), [101]);
    // The age outlives a crash.
    tokio::time::advance(Duration::from_hours(1)).await;
    bench.crash().await;
    bench.deliver(&events(3..4)).await;
    assert_eq!(bench.ids_in(&name("-3")), [3]);
}

#[tokio::test]
async fn no_more_than_the_allowed_files_are_open() {
    let mut bench = Bench::new("{date}.ndjson", "max_open_files = 2").await;
    let day = |day: usize| format!("2026-01-{day:02}");
    for round in 0..3 {
        let batch: Vec<_> = (1..=5)
            .map(|n| event_of(round * 5 + n - 1, &day(n), 0))
            .collect();
        bench.deliver(&batch).await;
        assert_eq!(bench.open_files().len(), 2);
        bench.crash().await;
    }
    assert_eq!(bench.ids(), numbers(0..15));
}

#[tokio::test]
async fn the_least_recently_used_file_is_closed_first() {
    let mut bench = Bench::new("{date}.ndjson", "max_open_files = 2").await;
    let days = [1, 2, 1, 3, 1, 2];
    for (number, day) in days.into_iter().enumerate() {
        bench
            .deliver(&[event_of(number, &format!("2026-01-{day:02}"), 0)])
            .await;
    }
    assert_eq!(bench.ids_in("2026-01-01.ndjson"), [0, 2, 4]);
    assert_eq!(bench.ids_in("2026-01-02.ndjson"), [1]);
    assert_eq!(bench.ids_in("2026-01-03.ndjson"), [3]);
    assert_eq!(bench.ids_in("2026-01-02-2.ndjson"), [5], "closed is closed");
    // Files that a batch needs are not closed by its new ones before they were used.
    bench
        .deliver(&[
            event_of(6, "2026-01-04", 0),
            event_of(7, "2026-01-01", 0),
            event_of(8, "2026-01-02", 0),
        ])
        .await;
    assert_eq!(bench.ids_in("2026-01-01.ndjson"), [0, 2, 4, 7]);
    assert_eq!(bench.ids_in("2026-01-02-2.ndjson"), [5, 8]);
}

#[tokio::test]
async fn records_larger_than_the_buffer_are_written_whole() {
    for compression in ["none", "gzip", "zstd"] {
        let options = format!("compression = \"{compression}\"");
        let mut bench = Bench::new("a.ndjson", &options).await;
        let batch: Vec<_> = (0..6)
            .map(|number| event_of(number, DAY, 200_000 * number))
            .collect();
        bench.deliver(&batch).await;
        assert_eq!(bench.ids(), numbers(0..6));
    }
}

#[tokio::test]
async fn two_sinks_with_one_path_share_a_folder_but_no_file() {
    let mut one = Bench::new("{date}.ndjson", "rotate_size = \"300B\"").await;
    let mut two = Bench::new("unused", "").await;
    two.options.clone_from(&one.options);
    two.crash().await;
    for step in 0..20 {
        let (ours, theirs) = (events(step..step + 1), events(100 + step..101 + step));
        let (first, second) = tokio::join!(one.try_deliver(&ours), two.try_deliver(&theirs));
        one.receipt = first.unwrap().receipt;
        two.receipt = second.unwrap().receipt;
        if step % 5 == 4 {
            one.crash().await;
            two.crash().await;
        }
    }
    let mut expected = numbers(0..20);
    expected.extend(100..120);
    assert_eq!(one.ids(), expected);
}

/// A small file system, for as long as this lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).status());
    }
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else {
        // Not by `eprintln!`, which is only shown of tests that fail.
        let told = b"skipped: a full disk, for mounting a small file system needs root\n";
        std::io::stderr().write_all(told).unwrap();
        return;
    };
    for compression in ["none", "gzip"] {
        let below = tempfile::tempdir_in(disk.0.path()).unwrap();
        let options = format!("compression = \"{compression}\"\nrotate_size = \"64kB\"");
        let mut bench = Bench::in_folder(below, "a.ndjson", &options).await;
        bench.deliver(&events(0..10)).await;
        let ballast = bench.folder.path().join("ballast");
        fill(&ballast);
        let before = bench.files();
        let batch: Vec<_> = (10..400).map(noisy).collect();
        for _ in 0..3 {
            let error = bench.try_deliver(&batch).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unavailable);
            let text = error.to_string().to_lowercase();
            assert!(
                text.contains("no space left on device (os error 28)"),
                "{text}"
            );
            assert!(
                text.contains("a.ndjson") || text.contains("a-2.ndjson"),
                "{text}"
            );
        }
        bench.crash().await;
        assert_eq!(bench.files(), before);
        assert!(bench.try_deliver(&batch).await.is_err());
        fs::remove_file(ballast).unwrap();
        bench.deliver(&batch).await;
        assert_eq!(bench.ids(), numbers(0..400));
    }
}

/// An event that hardly compresses.
fn noisy(number: usize) -> AuditEvent {
    use std::hash::{BuildHasher, RandomState};
    let words = [(); 12].map(|()| format!("{:016x}", RandomState::new().hash_one(number)));
    let noise = words.concat();
    let record = format!(
        r#"{{"Id":"{number}","CreationTime":"{DAY}T10:00:00","Operation":"Op","Pad":"{noise}"}}"#
    );
    AuditEvent::new(Bytes::from(record), origin("contoso", "Audit.General"))
}

/// Takes all the space that is left.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let block = [0; 4096];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
}

#[tokio::test]
async fn a_file_keeps_its_identity_between_deliveries() {
    let mut bench = Bench::new("a.ndjson", "").await;
    bench.deliver(&events(0..1)).await;
    let path = bench.folder.path().join("a.ndjson");
    let before = inode(&path);
    bench.deliver(&events(1..2)).await;
    bench.crash().await;
    bench.deliver(&events(2..3)).await;
    assert_eq!(inode(&path), before);
    assert_eq!(bench.names(), ["a.ndjson"]);
}
