use audit_exporter_simulator::{
    AfterTheEnd, ContentType, ExplicitBlob, ResultCount, SearchConfig, SearchFaults, TokenFaults,
};
use chrono::{DurationRound as _, TimeDelta};

use super::*;

#[tokio::test]
async fn a_tenant_is_collected_whole_by_either_service() {
    for way in Way::BOTH {
        let bench = Bench::new(events(700), &way.options()).await;
        assert_eq!(bench.collect().await, BTreeMap::new());
        bench.assert_whole().await;
        assert_eq!(bench.simulator.stats().foreign_requests, 0);
    }
}

#[tokio::test]
async fn odd_and_hostile_records_and_repeats_arrive_as_they_are() {
    let generated = Generated {
        events: 500,
        oddities: 20.0,
        hostile_records: 0.1,
        ..Generated::default()
    };
    let all = Faults::all(3);
    let config = Config {
        tenants: vec![TenantConfig {
            records: Records::Generated(generated),
            ..TenantConfig::default()
        }],
        faults: Faults {
            records: audit_exporter_simulator::RecordFaults {
                late_blob: 0.0,
                ..all.records
            },
            ..Faults::default()
        },
        ..Config::default()
    };
    let bench = Bench::new(config, &Way::Exchange.options()).await;
    assert_eq!(bench.collect().await, BTreeMap::new());
    let held = bench.journaled().await;
    let shown: HashSet<String> = bench.simulator.ledger().map(|entry| entry.sha256).collect();
    assert_eq!(held.into_keys().collect::<HashSet<_>>(), shown);
}

#[tokio::test]
async fn sessions_are_whole_whatever_they_count_and_however_they_end() {
    for result_count in [
        ResultCount::Session,
        ResultCount::Page,
        ResultCount::ResultSize,
    ] {
        for after_the_end in [AfterTheEnd::Empty, AfterTheEnd::StartsOver] {
            for way in Way::BOTH {
                let config = Config {
                    search: SearchConfig {
                        result_count,
                        after_the_end,
                        duplicates: 0.1,
                        ..SearchConfig::default()
                    },
                    ..events(300)
                };
                let options = format!("{}page_size = 7\n", way.options());
                let bench = Bench::new(config, &options).await;
                let kinds = bench.collect().await;
                assert_eq!(kinds, BTreeMap::new(), "{result_count:?} {after_the_end:?}");
                bench.assert_whole().await;
            }
        }
    }
}

#[tokio::test]
async fn every_fault_at_once_loses_nothing_and_leaks_nothing() {
    for (seed, way) in [(1, Way::Exchange), (2, Way::Exchange), (3, Way::Rest)] {
        let config = Config {
            faults: Faults {
                seed: Some(seed),
                retry_after_seconds: Some(0),
                search: SearchFaults::all(),
                tokens: TokenFaults {
                    retry_after_seconds: Some(0),
                    throttled: 0.1,
                    unavailable: 0.1,
                    ..TokenFaults::default()
                },
                ..Faults::default()
            },
            ..events(600)
        };
        let options = format!("{}page_size = 20\n", way.options());
        let bench = Bench::new(config, &options).await;
        let kinds = bench.collect().await;
        let usual = ["throttled", "unavailable", "auth"];
        assert!(kinds.keys().all(|kind| usual.contains(kind)), "{kinds:?}");
        bench.assert_whole().await;
        let stats = bench.simulator.stats();
        assert_eq!((stats.foreign_requests, stats.foreign_tokens), (0, 0));
        let outcomes = &stats.requests[way.counted()];
        assert!(outcomes.len() > 8, "too few faults were met: {outcomes:?}");
    }
}

#[tokio::test]
async fn a_time_with_more_rows_than_a_session_shows_is_searched_in_parts() {
    // 5,200 events in an hour that lies within one slice of six hours.
    let slice = (Utc::now() - TimeDelta::hours(12)).duration_trunc(TimeDelta::hours(6));
    let begin = slice.unwrap() + TimeDelta::hours(1);
    let record = |number: i64| {
        let time = (begin + TimeDelta::seconds(number % 3_600)).format("%Y-%m-%dT%H:%M:%S");
        let id = format!("00000000-0000-4000-8000-{number:012x}");
        format!(
            r#"{{"CreationTime":"{time}","Id":"{id}","Operation":"CreateFlow","RecordType":30}}"#
        )
    };
    let records: Vec<String> = (0..5_200).map(record).collect();
    for result_count in [ResultCount::Session, ResultCount::Page] {
        let blob = ExplicitBlob::new(ContentType::General, records.clone());
        let config = Config {
            search: SearchConfig {
                result_count,
                ..SearchConfig::default()
            },
            ..blobs([blob])
        };
        let options = format!("{}page_size = 400\n", Way::Rest.options());
        let bench = Bench::new(config, &options).await;
        assert_eq!(bench.collect().await, BTreeMap::new());
        // A session shows 5,000.
        bench.assert_whole().await;
        let requests = bench.requests(Way::Rest);
        assert!((14..150).contains(&requests), "{requests}");
    }
}

#[tokio::test]
async fn a_second_that_is_too_full_takes_nothing_else_with_it() {
    let slice = (Utc::now() - TimeDelta::hours(12)).duration_trunc(TimeDelta::hours(6));
    let begin = slice.unwrap() + TimeDelta::hours(1);
    let record = |number: i64| {
        // A session of the older service shows 5,000.
        let second = if number < 5_100 {
            1_800
        } else {
            number - 5_100
        };
        let time = (begin + TimeDelta::seconds(second)).format("%Y-%m-%dT%H:%M:%S");
        let id = format!("00000000-0000-4000-8000-{number:012x}");
        format!(
            r#"{{"CreationTime":"{time}","Id":"{id}","Operation":"CreateFlow","RecordType":30}}"#
        )
    };
    // A second apart, before and after it.
    let records = (0..8_700).filter(|number| *number < 5_100 || number % 60 == 30);
    let records: Vec<String> = records.map(record).collect();
    let others = records.len() - 5_100;
    let config = blobs([ExplicitBlob::new(ContentType::General, records)]);
    let options = format!("{}page_size = 400\n", Way::Rest.options());
    let bench = Bench::new(config, &options).await;
    bench.list().await.unwrap();
    let mut lost = Vec::new();
    for unit in bench.due().await {
        if let Err(error) = bench.fetch(&unit).await {
            assert_eq!(error.kind(), Kind::Lost, "{error}");
            lost.push(error.to_string());
        }
    }
    assert_eq!(lost.len(), 1, "{lost:?}");
    let full = begin + TimeDelta::seconds(1_800);
    assert!(lost[0].contains(&full.to_string()), "{lost:?}");
    assert_eq!(bench.journaled().await.len(), 5_000 + others);
}

/// A record of some minutes ago.
fn record(operation: &str, minutes: i64) -> String {
    let time = (Utc::now() - TimeDelta::minutes(minutes)).format("%Y-%m-%dT%H:%M:%S");
    let number: u32 = operation.bytes().map(u32::from).sum();
    let id = format!("00000000-0000-4000-8000-{number:012x}");
    format!(
        r#"{{"CreationTime":"{time}","Id":"{id}","Operation":"{operation}","UserId":"a@b.example","RecordType":30}}"#
    )
}

/// A tenant with these blobs.
fn blobs(blobs: impl IntoIterator<Item = ExplicitBlob>) -> Config {
    let records = Records::Explicit(blobs.into_iter().collect());
    Config {
        tenants: vec![TenantConfig {
            records,
            ..TenantConfig::default()
        }],
        ..Config::default()
    }
}

#[tokio::test]
async fn only_what_is_asked_for_is_searched_for() {
    for way in Way::BOTH {
        let records = ["CreateFlow", "EditFlow", "DeleteFlow"].map(|name| record(name, 60));
        let deleted = bench::hash(records[2].as_bytes());
        let config = blobs([ExplicitBlob::new(ContentType::General, records)]);
        let wanted = "operations = [\"CreateFlow\", \"EditFlow\"]\n";
        let options = format!("{}{wanted}", way.options());
        let bench = Bench::new(config, &options).await;
        bench.collect().await;
        bench.assert_holds(|entry| entry.sha256 != deleted).await;
    }
}

#[tokio::test]
async fn what_shows_up_late_is_found_by_a_later_pass() {
    let blob = |name, after| ExplicitBlob {
        visible_at: Some(Utc::now() + TimeDelta::minutes(after)),
        ..ExplicitBlob::new(ContentType::General, [record(name, 10)])
    };
    let config = blobs([blob("CreateFlow", -5), blob("EditFlow", 30)]);
    let again = "search_again_after = [\"1h\"]\n";
    let options = format!("{}{again}", Way::Exchange.options());
    let mut bench = Bench::new(config, &options).await;
    bench.collect().await;
    bench
        .assert_holds(|entry| entry.visible_at < Utc::now())
        .await;
    // A pass of an hour comes within two.
    bench.simulator.control().advance(TimeDelta::hours(3));
    bench.restart();
    bench.collect().await;
    bench.assert_whole().await;
}

#[tokio::test]
async fn a_restart_in_any_phase_loses_nothing() {
    for way in Way::BOTH {
        let options = format!("{}page_size = 50\n", way.options());
        let mut bench = Bench::new(events(500), &options).await;
        bench.list().await.unwrap();
        // Broken off after one request more each time, until nothing is left to break off.
        for most in 0.. {
            bench.restart();
            let limit = bench.requests(way) + most;
            let units = bench.due().await;
            if units.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                () = asked(&bench, way, limit) => {}
                () = async {
                    for unit in &units {
                        bench.fetch(unit).await.unwrap();
                    }
                } => {}
            }
        }
        bench.assert_whole().await;
    }
}

/// Returns when so many requests were answered.
async fn asked(bench: &Bench, way: Way, limit: u64) {
    while bench.requests(way) < limit {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_start_that_was_not_journaled_is_planned_again() {
    let mut bench = Bench::new(events(50), &Way::Exchange.options()).await;
    bench.list().await.unwrap();
    let planned = bench.due().await.len();
    bench.restart();
    bench.list().await.unwrap();
    // Nothing that is planned is planned again, and nothing but the new minute comes.
    assert!(bench.due().await.len() <= planned + 1);
}

#[tokio::test]
async fn throttling_does_not_end_a_session() {
    let mut config = events(200);
    config.faults.search.throttled = 0.5;
    config.faults.retry_after_seconds = Some(0);
    let options = format!("{}page_size = 10\n", Way::Exchange.options());
    let bench = Bench::new(config, &options).await;
    assert_eq!(bench.collect().await, BTreeMap::new());
    bench.assert_whole().await;
    let throttled = bench.simulator.stats().count("invoke_command", "throttled");
    assert!(throttled > 10, "{throttled}");
}

#[tokio::test]
async fn a_minute_that_is_used_up_is_waited_for() {
    let config = Config {
        search: SearchConfig {
            requests_per_minute: Some(2),
            ..SearchConfig::default()
        },
        ..events(10)
    };
    let bench = Bench::new(config, &Way::Exchange.options()).await;
    bench.source.probe().await.unwrap();
    bench.source.searcher.client().probe().await.unwrap();
    // Nothing is left of this minute, so the third request is not sent before the next.
    let minute = |time: DateTime<Utc>| time.timestamp() / 60;
    let (began, third) = (Utc::now(), bench.source.searcher.client().probe());
    let waits = tokio::time::timeout(Duration::from_millis(300), third).await;
    let is_the_same_minute = minute(began) == minute(Utc::now());
    assert!(waits.is_err() || !is_the_same_minute);
    assert_eq!(bench.simulator.stats().count("invoke_command", "429"), 0);
}
