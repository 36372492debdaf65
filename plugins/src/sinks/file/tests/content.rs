//! What stands in the files, and what the files are called.

use std::fs;
use std::sync::Arc;

use audit_exporter_core::Kind;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::plugin::Severity;
use bytes::Bytes;

use super::*;

#[tokio::test]
async fn events_stand_in_order_in_the_file_of_their_day() {
    let mut bench = Bench::new("{tenant}/{content_type}/{date}.ndjson", "").await;
    let mut batch = events(0..3);
    batch.insert(1, event_of(9, "2026-02-28", 0));
    bench.deliver(&batch).await;
    bench.deliver(&events(3..5)).await;
    let today = format!("contoso/Audit.General/{DAY}.ndjson");
    let before = "contoso/Audit.General/2026-02-28.ndjson".to_owned();
    assert_eq!(bench.names(), [before.clone(), today.clone()]);
    assert_eq!(bench.ids_in(&today), numbers(0..5));
    assert_eq!(bench.ids_in(&before), [9]);
}

#[tokio::test]
async fn raw_lines_are_the_records_and_normalized_lines_hold_them() {
    let mut raw = Bench::new("a.ndjson", "").await;
    let record = record(7, DAY, 3);
    raw.deliver(&events(7..8)).await;
    raw.deliver(&[event_of(7, DAY, 3)]).await;
    let text = decode("a.ndjson", &raw.files()["a.ndjson"]);
    assert_eq!(text.lines().nth(1), Some(record.as_str()));

    let mut normalized = Bench::new("a.ndjson", "format = \"normalized\"").await;
    normalized.deliver(&[event_of(7, DAY, 3)]).await;
    let text = decode("a.ndjson", &normalized.files()["a.ndjson"]);
    assert_eq!(text.lines().count(), 1);
    assert!(
        text.contains(&record) && text.len() > record.len() + 50,
        "{text}"
    );
}

#[tokio::test]
async fn an_event_without_a_time_goes_to_today() {
    let now = "2026-05-06T12:00:00Z".parse().unwrap();
    let mut bench = Bench::new("{date}.ndjson", "")
        .await
        .with_clock(Clock::starting_at(now))
        .await;
    bench.deliver(&[event_of(1, "not a day", 0)]).await;
    assert_eq!(bench.names(), ["2026-05-06.ndjson"]);
}

#[tokio::test]
async fn files_and_folders_are_for_their_owner_alone() {
    let mut bench = Bench::new("a/b/{date}.ndjson", "").await;
    bench.deliver(&events(0..1)).await;
    let root = bench.folder.path();
    assert_eq!(mode(&root.join("a")), 0o700);
    assert_eq!(mode(&root.join("a/b")), 0o700);
    assert_eq!(mode(&root.join(format!("a/b/{DAY}.ndjson"))), 0o600);
}

#[tokio::test]
async fn a_workload_cannot_write_elsewhere() {
    let mut bench = Bench::new("in/{workload}/{workload}.ndjson", "").await;
    for (number, workload) in ["..", "../../escape", "/etc/escape", "a/b", "\\u0000"]
        .iter()
        .enumerate()
    {
        let record = format!(r#"{{"Id":"{number}","Workload":"{workload}"}}"#);
        let origin = origin("contoso", "Audit.General");
        let event = AuditEvent::new(Bytes::from(record), origin);
        bench.deliver(&[event]).await;
    }
    assert_eq!(bench.ids(), numbers(0..5));
    let names = bench.names();
    assert!(
        names.iter().all(|name| name.starts_with("in/")),
        "{names:?}"
    );
    assert!(
        names.iter().all(|name| name.matches('/').count() == 2),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_tenant_with_a_path_of_its_own_shares_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own/{date}.ndjson");
    let options = format!("[per_tenant.fabrikam]\npath = {:?}", own.to_str().unwrap());
    let mut bench = Bench::in_folder(folder, "all.ndjson", &options).await;
    let mut batch = events(0..2);
    let fabrikam = origin("fabrikam", "Audit.General");
    batch.insert(1, AuditEvent::new(Bytes::from(record(5, DAY, 0)), fabrikam));
    bench.deliver(&batch).await;
    assert_eq!(bench.ids_in("all.ndjson"), [0, 1]);
    assert_eq!(bench.ids_in(&format!("own/{DAY}.ndjson")), [5]);
}

#[tokio::test]
async fn somebody_elses_file_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.ndjson", "a-2.ndjson"] {
        fs::write(folder.path().join(name), "precious").unwrap();
    }
    std::os::unix::fs::symlink("/nowhere", folder.path().join("a-3.ndjson")).unwrap();
    let mut bench = Bench::in_folder(folder, "a.ndjson", "").await;
    bench.try_deliver(&events(0..2)).await.unwrap();
    bench.crash().await;
    bench.deliver(&events(0..2)).await;
    fs::remove_file(bench.folder.path().join("a-3.ndjson")).unwrap();
    assert_eq!(bench.names(), ["a-2.ndjson", "a-4.ndjson", "a.ndjson"]);
    assert_eq!(bench.ids_in("a-4.ndjson"), [0, 1]);
    assert_eq!(bench.files()["a.ndjson"], b"precious");
    assert_eq!(bench.files()["a-2.ndjson"], b"precious");
}

#[tokio::test]
async fn compressed_files_are_valid_at_every_receipt() {
    for (compression, name) in [("gzip", "a.ndjson.gz"), ("zstd", "a.ndjson.zst")] {
        let mut bench = Bench::new("a.ndjson", &format!("compression = \"{compression}\"")).await;
        let mut lengths = Vec::new();
        for step in 0..5 {
            let batch: Vec<_> = (step * 10..(step + 1) * 10)
                .map(|number| event_of(number, DAY, 5000))
                .collect();
            bench.deliver(&batch).await;
            let state: State = bench.receipt.as_ref().unwrap().parse().unwrap();
            lengths.push(state.files[0].length as usize);
        }
        let data = &bench.files()[name];
        assert_eq!(lengths.last(), Some(&data.len()));
        assert!(data.len() < 50 * 1000, "it is compressed");
        for (step, length) in lengths.iter().enumerate() {
            assert_eq!(ids(name, &data[..*length]), numbers(0..(step + 1) * 10));
        }
        assert_eq!(bench.ids(), numbers(0..50));
    }
}

#[tokio::test]
async fn check_tries_the_folder_and_leaves_nothing_behind() {
    let bench = Bench::new("new/{tenant}.ndjson", "rotate_size = \"1kB\"").await;
    let findings = bench.sink.check().await;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].severity, Severity::Ok, "{findings:?}");
    assert!(findings[0].message.contains("free"), "{findings:?}");
    assert_eq!(bench.names(), [""; 0]);

    let shared = Bench::new("new/all.ndjson", "rotate_size = \"1kB\"").await;
    let findings = shared.sink.check().await;
    assert_eq!(findings[1].severity, Severity::Warning, "{findings:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_one_clear_problem() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "in the way").unwrap();
    let bench = Bench::in_folder(folder, "file/below/{tenant}.ndjson", "").await;
    let findings = bench.sink.check().await;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].severity, Severity::Problem);
    assert!(findings[0].message.contains("/file"), "{findings:?}");
    assert!(findings[0].message.contains("writable"), "{findings:?}");

    let error = bench.try_deliver(&events(0..1)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("/file"), "{error}");
}

#[test]
fn options_that_cannot_be_right_are_refused() {
    for (options, word) in [
        ("", "path"),
        ("path = \"a/\"", "name"),
        ("path = \"{tenannt}\"", "tenant"),
        ("path = \"{tenant\"", "}"),
        ("path = \"a\"\nrotate_size = \"0B\"", "rotate_size"),
        ("path = \"a\"\nrotate_age = \"0s\"", "rotate_age"),
        ("path = \"a\"\nmax_open_files = 0", "max_open_files"),
        ("path = \"a\"\ncompression = \"lz4\"", "compression"),
        ("path = \"a\"\nformt = \"raw\"", "formt"),
    ] {
        let mut context = context("sinks.archive", options);
        context.tenants = Arc::new([tenant("contoso")]);
        let error = super::super::build(context).err().unwrap();
        assert_eq!(error.kind(), Kind::Config, "{options}");
        assert!(error.to_string().contains(word), "{options}: {error}");
    }
}
