//! Against the simulator, which knows the protocol and nothing of this source.

use std::collections::BTreeMap;

use audit_exporter_simulator::{
    AnswerFaults, Config, ContentType, Faults, Generated, HeaderCase, Records, Simulator,
    TenantConfig, TokenFaults,
};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::sources::bench;

async fn simulate(config: Config) -> (Simulator, Bench) {
    let simulator = Simulator::start(config).await.unwrap();
    let fast = "requests_per_minute = 100000";
    let tenant = bench::tenant_of(&simulator, "management_api", fast);
    let bench = Bench::of(tenant, "").await;
    (simulator, bench)
}

fn events(count: u64) -> Vec<TenantConfig> {
    let records = Records::Generated(Generated {
        events: count,
        ..Generated::default()
    });
    vec![TenantConfig {
        records,
        ..TenantConfig::default()
    }]
}

/// Lists and fetches until nothing waits, each time as a process that has just started; failures are tried again at
/// once. Returns the kinds that were met.
async fn collect(bench: &mut Bench) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    let mut note = |error: &Error| *kinds.entry(error.kind().as_str()).or_default() += 1;
    let mut listed = false;
    for _ in 0..1000 {
        bench.restart();
        match bench.list().await {
            Ok(next) => listed |= next != Next::Now,
            Err(error) => note(&error),
        }
        for unit in bench.filled.due().await {
            if let Err(error) = bench.fetch(&unit).await {
                note(&error);
            }
        }
        if listed && bench.filled.due().await.is_empty() {
            return kinds;
        }
    }
    panic!("not done after 1000 rounds: {kinds:?}");
}

/// Every record that the tenant shows is in the journal, as often as it is there without repetitions, and no other.
async fn assert_whole(bench: &Bench, simulator: &Simulator) {
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for kind in [LaneKind::Live, LaneKind::CatchUp] {
        for event in bench.filled.journaled(kind).await.into_iter().flatten() {
            let digest = Sha256::digest(event.raw());
            counts.entry(hex(&digest)).or_default().0 += 1;
        }
    }
    for entry in simulator.ledger().filter(|entry| entry.repeats.is_none()) {
        counts.entry(entry.sha256).or_default().1 += 1;
    }
    let count = |wrong: &dyn Fn(usize, usize) -> bool| {
        counts
            .values()
            .filter(|(held, shown)| wrong(*held, *shown))
            .count()
    };
    let (missing, repeated) = (
        count(&|held, shown| held < shown),
        count(&|held, shown| held > shown),
    );
    assert_eq!(
        (missing, repeated),
        (0, 0),
        "missing and repeated, of {}",
        counts.len()
    );
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[tokio::test]
async fn a_tenant_is_collected_whole_over_many_pages() {
    for next_page_header in [HeaderCase::Documented, HeaderCase::Title, HeaderCase::Lower] {
        let (simulator, mut bench) = simulate(Config {
            tenants: events(600),
            page_size: 2,
            next_page_header,
            reject_exactly_24_hours: true,
            ..Config::default()
        })
        .await;
        assert_eq!(collect(&mut bench).await, BTreeMap::new());
        assert_whole(&bench, &simulator).await;
        let stats = simulator.stats();
        assert_eq!((stats.without_publisher, stats.tokens_issued), (0, 1));
        assert!(
            stats.blobs_served.keys().all(|times| *times == 1),
            "{:?}",
            stats.blobs_served
        );
    }
}

#[tokio::test]
async fn every_fault_at_once_loses_nothing_and_leaks_no_token() {
    for seed in 1..3 {
        let faults = Faults::all(seed);
        let (simulator, mut bench) = simulate(Config {
            tenants: events(600),
            page_size: 3,
            faults: Faults {
                tokens: TokenFaults::default(),
                records: audit_exporter_simulator::RecordFaults {
                    late_blob: 0.0,
                    ..faults.records.clone()
                },
                ..faults
            },
            ..Config::default()
        })
        .await;
        let kinds = collect(&mut bench).await;
        assert!(
            kinds.contains_key("throttled") && kinds.contains_key("unavailable"),
            "{kinds:?}"
        );
        assert!(
            kinds
                .keys()
                .all(|kind| ["throttled", "unavailable", "auth"].contains(kind)),
            "{kinds:?}"
        );
        assert_whole(&bench, &simulator).await;
        let stats = simulator.stats();
        assert_eq!(
            (
                stats.foreign_requests,
                stats.foreign_tokens,
                stats.without_publisher
            ),
            (0, 0, 0)
        );
    }
}

#[tokio::test]
async fn a_token_that_is_refused_early_is_renewed() {
    let (simulator, bench) = simulate(Config {
        tenants: events(100),
        faults: Faults {
            tokens: TokenFaults {
                refused_after_seconds: Some(60),
                ..TokenFaults::default()
            },
            ..Faults::default()
        },
        ..Config::default()
    })
    .await;
    bench.list().await.unwrap();
    simulator.control().advance(TimeDelta::seconds(120));
    bench.list().await.unwrap();
    assert_eq!(simulator.stats().tokens_issued, 2);
}

#[tokio::test]
async fn a_subscription_that_an_administrator_disables_is_started_again() {
    let (simulator, mut bench) = simulate(Config {
        tenants: events(100),
        ..Config::default()
    })
    .await;
    collect(&mut bench).await;
    let tenant = TenantConfig::default().id;
    let control = simulator.control();
    assert_eq!(
        control.disable_subscription(&tenant, ContentType::General, false),
        1
    );
    // Within the cool-down of the first start nothing is asked; the other content types go on.
    let error = bench.list().await.unwrap_err();
    assert_eq!(error.code(), Some(errors::SUBSCRIPTION_DISABLED));
    assert_eq!(simulator.stats().count("start", "200"), 5);
    control.advance(TimeDelta::minutes(16));
    bench.restart();
    bench.list().await.unwrap();
    assert_eq!(simulator.stats().count("start", "200"), 6);
    collect(&mut bench).await;
    assert_whole(&bench, &simulator).await;
}

#[tokio::test]
async fn a_start_again_whose_answer_is_lost_leaves_its_gap_on_record() {
    let (simulator, mut bench) = simulate(Config::default()).await;
    collect(&mut bench).await;
    let tenant = TenantConfig::default().id;
    let control = simulator.control();
    let disabled = control.disable_subscription(&tenant, ContentType::General, false);
    assert_eq!(disabled, 1);
    control.advance(TimeDelta::minutes(20));
    let subscriptions = AnswerFaults {
        lost: 1.0,
        ..AnswerFaults::default()
    };
    control.set_faults(Faults {
        subscriptions,
        ..Faults::default()
    });
    let error = bench.list().await.unwrap_err();
    assert!(error.to_string().contains("HTTP 504"), "{error}");
    control.set_faults(Faults::default());
    bench.restart();
    bench.list().await.unwrap();
    let gaps = bench.filled.journal.status().await.unwrap().gaps;
    let [gap] = &*gaps else { panic!("{gaps:?}") };
    assert_eq!(gap.content_type, "Audit.General");
    assert!((gap.to_ms - gap.from_ms - 20 * 60_000).abs() < 30_000);
    assert_eq!(simulator.stats().count("start", "lost"), 1);
}

#[tokio::test]
async fn auditing_that_is_off_is_told() {
    let (simulator, bench) = simulate(Config::default()).await;
    let known = simulator
        .control()
        .set_audit(&TenantConfig::default().id, false);
    assert!(known);
    let error = bench.list().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Auth, Some(errors::AUDITING_OFF))
    );
}

#[tokio::test]
async fn a_blob_that_expires_before_it_is_fetched_is_lost_and_no_other() {
    let (simulator, bench) = simulate(Config {
        tenants: events(100),
        ..Config::default()
    })
    .await;
    bench.list().await.unwrap();
    let units = bench.filled.due().await;
    assert!(simulator.control().expire_blob(&units[0].id));
    let error = bench.fetch(&units[0]).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Kind::Lost, Some("AF20051")));
    for unit in &units[1..] {
        bench.fetch(unit).await.unwrap();
    }
}

#[tokio::test]
async fn a_check_changes_nothing() {
    let (simulator, bench) = simulate(Config::default()).await;
    let found = bench.source.check().await;
    let warnings = found
        .iter()
        .filter(|finding| finding.severity == Severity::Warning);
    assert_eq!(warnings.count(), 5, "{found:?}");
    assert_eq!(simulator.stats().count("start", "200"), 0);
}

#[tokio::test]
async fn a_single_run_lists_what_there_was_when_it_began_and_the_next_the_rest() {
    let config = Config {
        tenants: events(100),
        ..Config::default()
    };
    let (simulator, mut bench) = simulate(config).await;
    bench.filled.begin_single_run().await;
    collect(&mut bench).await;
    let before = bench.filled.events().await.len();
    let control = simulator.control();
    control.advance(chrono::TimeDelta::minutes(40));
    let generated = Generated {
        events: 50,
        days: 0.01,
        ..Generated::default()
    };
    let tenant = TenantConfig::default().id;
    assert!(!control.add_events(&tenant, generated).unwrap().is_empty());
    for _ in 0..2 {
        collect(&mut bench).await;
        assert_eq!(bench.filled.events().await.len(), before);
    }
    bench.filled.begin_single_run().await;
    for _ in 0..2 {
        collect(&mut bench).await;
    }
    assert_whole(&bench, &simulator).await;
}
