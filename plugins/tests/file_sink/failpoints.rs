//! Errors at the worst moments.

use std::path::Path;

use audit_exporter_core::Kind;
use audit_exporter_core::journal::Store;

use super::{batch, sink};

/// The points, in the order in which a delivery passes them.
const POINTS: [&str; 3] = [
    "sink::file::rotate",
    "sink::file::write",
    "sink::file::sync",
];

/// The numbers of the events in all files, whatever else the files hold.
fn ids(folder: &Path) -> Vec<usize> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            ids.push(record["Id"].as_str().unwrap().parse().unwrap());
        }
    }
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn after_an_error_at_any_point_each_event_is_there_once() {
    let scenario = fail::FailScenario::setup();
    let (folder, store) = (tempfile::tempdir().unwrap(), Store::in_memory());
    let mut sink_now = sink(folder.path(), &store, None).await;
    let (mut receipt, mut next) = (None, 0);
    for (point, dies) in POINTS
        .iter()
        .flat_map(|point| [(point, false), (point, true)])
    {
        receipt = sink_now
            .deliver(&batch(next..next + 3))
            .await
            .unwrap()
            .receipt;
        next += 3;
        fail::cfg(*point, "return").unwrap();
        for _ in 0..2 {
            let error = sink_now.deliver(&batch(next..next + 20)).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unavailable);
            assert!(error.to_string().contains(point), "{error}");
        }
        fail::remove(point);
        if dies {
            sink_now = sink(folder.path(), &store, receipt.as_ref()).await;
            assert_eq!(ids(folder.path()), (0..next).collect::<Vec<_>>(), "{point}");
        }
        receipt = sink_now
            .deliver(&batch(next..next + 20))
            .await
            .unwrap()
            .receipt;
        next += 20;
        assert_eq!(ids(folder.path()), (0..next).collect::<Vec<_>>(), "{point}");
    }
    drop(sink(folder.path(), &store, receipt.as_ref()).await);
    assert_eq!(ids(folder.path()), (0..next).collect::<Vec<_>>());
    scenario.teardown();
}
