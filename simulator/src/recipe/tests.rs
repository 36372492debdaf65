//! The plan of the blobs against what is made of it.

use super::*;

fn recipe(config: Generated, faults: RecordFaults) -> Recipe {
    let directory = Arc::new(Directory::new(1, "t", "contoso.example"));
    Recipe::new(
        (1, 0),
        ("t", "contoso.example"),
        directory,
        (config, faults),
        "2026-06-01T12:00:00Z".parse().unwrap(),
    )
}

fn all_faults() -> RecordFaults {
    crate::faults::Faults::all(1).records
}

#[test]
fn each_event_occurs_once_without_faults_and_the_count_is_exact() {
    let recipe = recipe(
        Generated {
            events: 333,
            events_per_blob: 10,
            ..Generated::default()
        },
        RecordFaults::default(),
    );
    let mut seen = HashMap::new();
    for blob in 0..recipe.blobs() {
        recipe.each(blob, |bytes, written| {
            assert_eq!(written.same_as, None);
            *seen.entry(bytes.to_vec()).or_insert(0) += 1;
            true
        });
    }
    assert_eq!(seen.len(), 333);
    assert!(seen.values().all(|count| *count == 1));
}

#[test]
fn planned_repeats_are_exactly_the_occurrences_whose_bytes_were_there_before() {
    let config = Generated {
        events: 3_000,
        events_per_blob: 25,
        oddities: 3.0,
        ..Generated::default()
    };
    let recipe = recipe(config, all_faults());
    let mut first: HashMap<Vec<u8>, (u64, usize)> = HashMap::new();
    let mut repeats = 0;
    for blob in 0..recipe.blobs() {
        let mut index = 0;
        recipe.each(blob, |bytes, written| {
            let expected = first
                .get(bytes)
                .copied()
                .filter(|_| written.meta.identified);
            assert_eq!(written.same_as, expected, "blob {blob} index {index}");
            repeats += usize::from(expected.is_some());
            first.entry(bytes.to_vec()).or_insert((blob, index));
            index += 1;
            true
        });
    }
    assert!(repeats > 50, "{repeats}");
}

#[test]
fn events_lie_before_their_blob_and_blobs_before_the_anchor() {
    let recipe = recipe(
        Generated {
            oddities: 0.0,
            ..Generated::default()
        },
        RecordFaults::default(),
    );
    for blob in 0..recipe.blobs() {
        let outline = recipe.outline(blob);
        assert!(outline.created < recipe.anchor);
        assert!(outline.created > recipe.anchor - TimeDelta::hours(157));
        let created = outline.created.format("%Y-%m-%dT%H:%M:%S").to_string();
        recipe.each(blob, |bytes, _| {
            let record: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            assert!(record["CreationTime"].as_str().unwrap() < created.as_str());
            true
        });
    }
}

#[test]
fn live_blobs_follow_the_anchor_at_the_configured_rate() {
    let config = Generated {
        events: 100,
        events_per_blob: 10,
        live_events_per_second: 20.0,
        live_for_seconds: 60,
        ..Generated::default()
    };
    let recipe = recipe(config, RecordFaults::default());
    assert_eq!(recipe.blobs(), 10 + 120);
    assert_eq!(
        recipe.outline(10).visible_at,
        recipe.anchor + TimeDelta::milliseconds(500)
    );
    assert_eq!(
        recipe.outline(129).visible_at,
        recipe.anchor + TimeDelta::seconds(60)
    );
}

#[test]
fn record_sizes_are_those_of_published_records() {
    let config = Generated {
        events: 20_000,
        events_per_blob: 100,
        huge_records: 0.0,
        ..Generated::default()
    };
    let recipe = recipe(config, RecordFaults::default());
    let mut sizes = Vec::new();
    for blob in 0..recipe.blobs() {
        recipe.each(blob, |bytes, _| {
            sizes.push(bytes.len());
            serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
            true
        });
    }
    sizes.sort_unstable();
    let at = |share: f64| sizes[(sizes.len() as f64 * share) as usize];
    assert!((1_100..1_500).contains(&at(0.5)), "median {}", at(0.5));
    assert!((2_500..4_000).contains(&at(0.99)), "p99 {}", at(0.99));
}
