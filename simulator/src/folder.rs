//! Records from files: real ones, for instance, which are served byte for byte.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::{
    config::{ExplicitBlob, Folder},
    content_type::ContentType,
};

/// What is needed to put a record into its feed.
#[derive(Deserialize)]
struct Placed {
    #[serde(rename = "RecordType", default)]
    record_type: serde_json::Value,
    #[serde(rename = "Workload", default)]
    workload: serde_json::Value,
}

fn feed_of(record: &str) -> ContentType {
    serde_json::from_str::<Placed>(record).map_or(ContentType::General, |placed| {
        let number = placed.record_type.as_i64();
        let number = number.or_else(|| placed.record_type.as_str()?.parse().ok());
        ContentType::of_record(number, placed.workload.as_str().unwrap_or_default())
    })
}

/// Blobs of the records below a folder, each record in its feed.
pub(crate) fn read(folder: &Folder, anchor: DateTime<Utc>) -> io::Result<Vec<ExplicitBlob>> {
    let mut records: HashMap<ContentType, Vec<String>> = HashMap::new();
    for path in files_below(&folder.path)? {
        for line in fs::read_to_string(&path)?
            .lines()
            .filter(|line| !line.trim().is_empty())
        {
            records
                .entry(feed_of(line))
                .or_default()
                .push(line.to_owned());
        }
    }
    let size = folder.records_per_blob.max(1);
    let mut blobs: Vec<ExplicitBlob> = ContentType::ALL
        .into_iter()
        .flat_map(|it| {
            let records = records.remove(&it).unwrap_or_default();
            records
                .chunks(size)
                .map(|chunk| ExplicitBlob::new(it, chunk.to_vec()))
                .collect::<Vec<_>>()
        })
        .collect();
    let step = folder.days * 86_400_000.0 / (blobs.len() + 1) as f64;
    for (place, blob) in blobs.iter_mut().rev().enumerate() {
        blob.created = Some(anchor - TimeDelta::milliseconds((step * (place + 1) as f64) as i64));
    }
    Ok(blobs)
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "ndjson")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
