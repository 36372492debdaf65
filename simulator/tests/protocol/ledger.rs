//! What is served is what the ledger says, whole and byte for byte.

use std::collections::{BTreeMap, HashMap, HashSet};

use audit_exporter_simulator::{
    Config, ContentType, Entry, ExplicitBlob, Faults, Folder, Generated, Records, TenantConfig,
};
use chrono::{TimeDelta, Utc};
use serde_json::value::RawValue;

use crate::client::{Stage, blobs, config, generated, hash, record, tenant};

/// Hashes of the records of every blob that is listed over seven days, as served.
async fn served(stage: &Stage) -> BTreeMap<String, Vec<String>> {
    let mut bodies = BTreeMap::new();
    for content_type in ContentType::ALL {
        for day in 0..7 {
            let end = Utc::now() - TimeDelta::hours(23 * day) + TimeDelta::minutes(1);
            let start = end - TimeDelta::hours(23);
            let window = format!(
                "&startTime={}&endTime={}",
                start.format("%Y-%m-%dT%H:%M:%S"),
                end.format("%Y-%m-%dT%H:%M:%S")
            );
            for entry in stage.list(content_type, &window).await.0 {
                let id = entry["contentId"].as_str().unwrap().to_owned();
                let body = stage
                    .get_url(entry["contentUri"].as_str().unwrap())
                    .await
                    .text()
                    .await
                    .unwrap();
                let records: Vec<&RawValue> = serde_json::from_str(&body).unwrap();
                let hashes = records.iter().map(|it| hash(it.get().as_bytes())).collect();
                bodies.insert(id, hashes);
            }
        }
    }
    bodies
}

fn expected(stage: &Stage) -> BTreeMap<String, Vec<String>> {
    let mut bodies: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in stage.simulator.ledger() {
        let hashes = bodies.entry(entry.blob).or_default();
        assert_eq!(entry.index, hashes.len());
        hashes.push(entry.sha256);
    }
    bodies
}

#[tokio::test]
async fn every_generated_record_is_served_as_the_ledger_says() {
    let stage = Stage::new(generated(2_000, 40)).await;
    let expected = expected(&stage);
    assert_eq!(expected.values().map(Vec::len).sum::<usize>(), 2_000);
    assert_eq!(served(&stage).await, expected);
}

#[tokio::test]
async fn hostile_records_are_valid_json_and_served_as_the_ledger_says() {
    let hostile = Generated {
        events: 400,
        hostile_records: 0.5,
        ..Generated::default()
    };
    let stage = Stage::new(config(tenant(Records::Generated(hostile)))).await;
    assert_eq!(served(&stage).await, expected(&stage));
    assert!(
        stage
            .simulator
            .ledger()
            .filter(|it| it.id.is_none())
            .count()
            > 50
    );
}

#[tokio::test]
async fn repeats_name_the_first_occurrence_of_the_same_bytes() {
    let mut config = generated(3_000, 30);
    config.faults.records = Faults::all(3).records;
    config.faults.records.late_blob = 0.0;
    let stage = Stage::new(config).await;
    assert_eq!(served(&stage).await, expected(&stage));
    let mut first: HashMap<String, (String, usize)> = HashMap::new();
    let mut repeats = 0;
    for entry in stage.simulator.ledger() {
        if let Some(repeated) = &entry.repeats {
            assert_eq!(
                first[&entry.sha256],
                (repeated.blob.clone(), repeated.index)
            );
            assert!(entry.id.is_some());
            repeats += 1;
        }
        first
            .entry(entry.sha256)
            .or_insert((entry.blob, entry.index));
    }
    assert!(repeats > 100, "{repeats}");
}

#[tokio::test]
async fn given_records_repeat_only_with_an_identity() {
    let no_id = r#"{"CreationTime":"2026-06-01T10:00:00","Operation":"X"}"#.to_owned();
    let first = ExplicitBlob::new(
        ContentType::General,
        [record("a"), no_id.clone(), record("a")],
    );
    let second = ExplicitBlob::new(ContentType::General, [no_id, record("b"), record("a")]);
    let stage = Stage::new(blobs(vec![first, second])).await;
    let entries: Vec<Entry> = stage.simulator.ledger().collect();
    let repeated: Vec<Option<usize>> = entries
        .iter()
        .map(|it| it.repeats.as_ref().map(|it| it.index))
        .collect();
    assert_eq!(repeated, [None, None, Some(0), None, None, Some(0)]);
    assert_eq!(entries[5].repeats.as_ref().unwrap().blob, entries[0].blob);
    assert_eq!(entries[1].id, None);
}

#[tokio::test]
async fn a_folder_is_served_byte_for_byte_in_the_feeds_of_its_records() {
    let folder = std::env::temp_dir().join(format!("simulator-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("inner")).unwrap();
    let flow = "{ \"RecordType\":30 , \"Id\": \"f\" }";
    let sign_in = r#"{"RecordType":"15","Workload":"AzureActiveDirectory","Name":"Zo\u00eb \/"}"#;
    std::fs::write(
        folder.join("inner/a.ndjson"),
        format!("{flow}\n\n{sign_in}\n"),
    )
    .unwrap();
    std::fs::write(folder.join("ignored.json"), "{}").unwrap();
    let stage = Stage::new(config(tenant(Records::Folder(Folder::new(&folder))))).await;
    let entries: Vec<Entry> = stage.simulator.ledger().collect();
    let feeds: HashSet<&str> = entries.iter().map(|it| it.content_type.as_str()).collect();
    assert_eq!(
        feeds,
        HashSet::from(["Audit.General", "Audit.AzureActiveDirectory"])
    );
    let hashes: HashSet<String> = served(&stage).await.into_values().flatten().collect();
    assert_eq!(
        hashes,
        HashSet::from([hash(flow.as_bytes()), hash(sign_in.as_bytes())])
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn the_ledger_over_http_is_the_same_and_streams() {
    let stage = Stage::new(generated(5_000, 50)).await;
    let url = format!("{}/ledger", stage.simulator.url());
    let text = stage
        .http
        .get(url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let lines: Vec<Entry> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, stage.simulator.ledger().collect::<Vec<_>>());
}

#[tokio::test]
async fn the_same_seed_and_anchor_give_the_same_ledger_and_another_seed_another() {
    let of = |seed: u64| Config {
        seed,
        anchor: Some("2026-06-01T00:00:00Z".parse().unwrap()),
        ..generated(500, 20)
    };
    let ledger = async |seed| {
        let stage = Stage::new(of(seed)).await;
        stage
            .simulator
            .ledger()
            .map(|it| (it.blob, it.sha256))
            .collect::<Vec<_>>()
    };
    assert_eq!(ledger(5).await, ledger(5).await);
    assert_ne!(ledger(5).await, ledger(6).await);
}

#[tokio::test]
async fn tenants_have_records_of_their_own() {
    let mut config = generated(200, 20);
    config.tenants.push(TenantConfig {
        id: "22222222-2222-4222-8222-222222222222".to_owned(),
        domain: "fabrikam.example".to_owned(),
        records: Records::Generated(Generated {
            events: 200,
            ..Generated::default()
        }),
        ..TenantConfig::default()
    });
    let stage = Stage::new(config).await;
    let mut hashes: HashMap<String, HashSet<String>> = HashMap::new();
    for entry in stage.simulator.ledger() {
        hashes.entry(entry.tenant).or_default().insert(entry.sha256);
    }
    assert_eq!(hashes.len(), 2);
    let sets: Vec<_> = hashes.values().collect();
    assert!(sets[0].is_disjoint(sets[1]));
}
