//! `Ok` means on disk: seen in the system calls themselves.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use audit_exporter_core::journal::Store;

use super::{batch, sink};

const FOLDER: &str = "AUDIT_EXPORTER_TEST_FOLDER";

/// Delivers twice into the folder that the environment names, and says so after each.
#[tokio::test]
#[ignore = "the other test runs it under strace"]
async fn deliver_in_a_folder() {
    let folder = std::env::var(FOLDER).unwrap();
    let folder = Path::new(&folder);
    let sink = sink(&folder.join("new"), &Store::in_memory(), None).await;
    for (numbers, marker) in [(0..10, "first-ok"), (10..30, "second-ok")] {
        sink.deliver(&batch(numbers)).await.unwrap();
        fs::write(folder.join(marker), "").unwrap();
    }
}

#[test]
fn a_delivery_is_ok_only_after_data_and_names_are_on_disk() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().canonicalize().unwrap();
    let trace = folder.join("trace");
    let traced = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-e",
            "trace=openat,pwrite64,fdatasync,fsync",
            "-o",
        ])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "durable::deliver_in_a_folder"])
        .env(FOLDER, &folder)
        .output();
    if !traced.is_ok_and(|output| output.status.success()) {
        // Not by `eprintln!`, which is only shown of tests that fail.
        let told = b"skipped: whether data is on disk, for strace is not there, or may not trace\n";
        std::io::stderr().write_all(told).unwrap();
        return;
    }
    let text = fs::read_to_string(&trace).unwrap();
    let calls: Vec<&str> = text.lines().collect();
    let folder = folder.to_str().unwrap();
    let is = |call: &str, name: &str, path: &str| {
        call.contains(&format!(" {name}(")) && call.contains(&format!("{path}>"))
    };
    let last = |calls: &[&str], name: &str, path: &str| {
        calls.iter().rposition(|call| is(call, name, path))
    };
    let mut from = 0;
    for marker in ["first-ok", "second-ok"] {
        let ok = calls.iter().position(|call| call.contains(marker)).unwrap();
        let delivery = &calls[from..ok];
        let mut written = 0;
        for entry in fs::read_dir(format!("{folder}/new")).unwrap() {
            let path = entry.unwrap().path();
            let path = path.to_str().unwrap();
            let Some(write) = last(delivery, "pwrite64", path) else {
                continue;
            };
            written += 1;
            let synced = last(delivery, "fdatasync", path);
            assert!(synced > Some(write), "{path} is not synced before {marker}");
            let created = |call: &&str| call.contains("O_EXCL") && call.contains(path);
            if let Some(created) = delivery.iter().position(created) {
                let named = last(delivery, "fsync", &format!("{folder}/new"));
                assert!(
                    named > Some(created),
                    "{path} has no durable name before {marker}"
                );
            }
        }
        assert!(written >= 2, "{text}");
        from = ok;
    }
    let first = calls.iter().position(|call| call.contains("first-ok"));
    let above = calls.iter().position(|call| is(call, "fsync", folder));
    assert!(
        above.is_some() && above < first,
        "the new folder has no durable name"
    );
}
