//! Real records, read from the folder that `AUDIT_EXPORTER_TEST_DATA` names (one record a line, `*.ndjson`).

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::cut::{Cutter, Limits, Piece};
use super::*;

fn ndjson_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            ndjson_files(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "ndjson")
        {
            files.push(path);
        }
    }
}

/// All records, or `None`, with a note, where there is no test data.
pub(super) fn real_records() -> Option<Vec<Vec<u8>>> {
    let Some(folder) = std::env::var_os("AUDIT_EXPORTER_TEST_DATA") else {
        // Not by `eprintln!`, which is only shown of tests that fail.
        let told = b"skipped: AUDIT_EXPORTER_TEST_DATA names no folder of real records\n";
        std::io::stderr().write_all(told).unwrap();
        return None;
    };
    let mut files = Vec::new();
    ndjson_files(Path::new(&folder), &mut files);
    let records: Vec<Vec<u8>> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read(file).unwrap();
            let lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(Vec::from).collect();
            lines
        })
        .filter(|line| !line.is_empty())
        .collect();
    assert!(!records.is_empty(), "no records in the test data");
    Some(records)
}

pub(super) fn body(records: &[Vec<u8>]) -> Vec<u8> {
    let mut body = b"[".to_vec();
    body.extend(records.join(&b","[..]));
    body.push(b']');
    body
}

pub(super) fn cut(body: &[u8], chunk_bytes: usize) -> Vec<Bytes> {
    let mut cutter = Cutter::new(Limits::default());
    let mut records = Vec::new();
    for chunk in body.chunks(chunk_bytes) {
        cutter.write(chunk);
        if cutter.pending_bytes() >= 1 << 20 {
            records.extend(cutter.take());
        }
    }
    cutter.finish().unwrap();
    records.extend(cutter.take());
    records
        .into_iter()
        .map(|piece| match piece {
            Piece::Record { raw, .. } => raw,
            Piece::Oversize { .. } => panic!("no record is that large"),
        })
        .collect()
}

pub(super) fn event(raw: Bytes) -> AuditEvent {
    let name: Arc<str> = "test".into();
    AuditEvent::new(
        raw,
        Arc::new(Origin {
            tenant: Arc::clone(&name),
            tenant_name: Arc::clone(&name),
            source: Arc::clone(&name),
            content_type: Arc::clone(&name),
            unit: name,
        }),
    )
}

/// A field as text, by serde's reading of the record.
fn expected_text(object: &Map<String, Value>, name: &str) -> Option<String> {
    let insensitive = || {
        object
            .iter()
            .rfind(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let value = object
        .get(name)
        .or_else(|| insensitive().map(|(_, value)| value))?;
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

#[test]
fn real_records_are_read_as_serde_reads_them() {
    let Some(records) = real_records() else {
        return;
    };
    let pieces = cut(&body(&records), 777);
    assert_eq!(pieces.len(), records.len());
    for (raw, line) in pieces.into_iter().zip(&records) {
        assert_eq!(raw, line.trim_ascii());
        let object: Map<String, Value> = serde_json::from_slice(&raw).unwrap();
        let event = event(raw.clone());
        for (name, found) in [
            ("Id", event.id()),
            ("Operation", event.operation()),
            ("Workload", event.workload()),
            ("UserId", event.user_id()),
            ("OrganizationId", event.organization_id()),
        ] {
            assert_eq!(
                found.map(Cow::into_owned),
                expected_text(&object, name),
                "{name}"
            );
        }
        let created = expected_text(&object, "CreationTime");
        assert_eq!(event.created().is_some(), created.is_some());
        if let (Some(time), Some(text)) = (event.created(), created) {
            let seconds = time.format("%Y-%m-%dT%H:%M:%S").to_string();
            assert_eq!(seconds, text.replace(' ', "T")[..19]);
        }
        let record_type = expected_text(&object, "RecordType");
        assert_eq!(event.record_type().is_some(), record_type.is_some());
        if let Some(number) = object.get("RecordType").and_then(Value::as_i64) {
            assert_eq!(event.record_type(), Some(RecordType(number)));
        }

        let mut line = Vec::new();
        normalized::write(&event, &mut line);
        assert!(line.ends_with(&[&raw[..], b"}"].concat()));
        let normalized: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(normalized["raw"], Value::Object(object));
    }
}
