use audit_exporter_core::Error;
use audit_exporter_core::plugin::LaneKind;
use audit_exporter_simulator::AnswerFaults;
use chrono::Utc;

use super::super::fetch::Cure;
use super::*;

fn graph(faults: GraphAuditFaults) -> Faults {
    Faults {
        graph_audit: faults,
        ..Faults::default()
    }
}

/// Enough queries a day for everything that is tried again.
const MANY: &str = "start = \"12d\"\npoll_interval = \"10ms\"\ndaily_queries = 5000";

fn plenty() -> GraphAuditConfig {
    GraphAuditConfig {
        creates_per_day: 5000,
        ..GraphAuditConfig::default()
    }
}

#[tokio::test]
async fn every_fault_at_once_loses_nothing_and_leaks_no_token() {
    for seed in 1..3 {
        let faults = Faults {
            seed: Some(seed),
            retry_after_seconds: (seed == 1).then_some(1),
            ..graph(GraphAuditFaults {
                foreign_page: 0.0,
                ..GraphAuditFaults::all()
            })
        };
        let mut bench = Bench::new(
            Config {
                faults,
                graph_audit: plenty(),
                ..events(500)
            },
            MANY,
        )
        .await;
        let kinds = bench.collect().await;
        assert!(kinds.contains_key("unavailable"), "{kinds:?}");
        let known = ["throttled", "unavailable", "auth"];
        assert!(kinds.keys().all(|kind| known.contains(kind)), "{kinds:?}");
        bench.assert_whole().await;
    }
}

#[tokio::test]
async fn throttling_does_not_end_a_reading() {
    let answers = AnswerFaults {
        throttled_429: 0.5,
        ..AnswerFaults::default()
    };
    let faults = Faults {
        retry_after_seconds: Some(0),
        ..graph(GraphAuditFaults {
            answers,
            ..GraphAuditFaults::default()
        })
    };
    let config = Config {
        faults,
        graph_audit: plenty(),
        ..events(5000)
    };
    let bench = Bench::new(config, MANY).await;
    let mut pages = 0;
    loop {
        let listed = bench.list().await.is_ok();
        for unit in bench.due().await {
            bench.fetch(&unit).await.unwrap();
            pages += 1;
        }
        if listed && pages > 0 && bench.open().await == 0 && bench.due().await.is_empty() {
            break;
        }
        bench.simulator.control().advance(TimeDelta::seconds(20));
    }
    let throttled = bench
        .simulator
        .stats()
        .count("graph_records", "TooManyRequests");
    assert!(throttled > 20, "{throttled}");
    bench.assert_whole().await;
}

#[tokio::test]
async fn a_query_that_seems_gone_once_is_read_and_not_paid_for_again() {
    let error = |code: &'static str| Error::unavailable("as told").with_code(code);
    let bench = Bench::new(events(10), ALL).await;
    let fetcher = &bench.source.fetcher;
    let unit = |id: &str| Unit {
        id: id.into(),
        content_type: "Audit".into(),
        locator: String::new(),
        created: Utc::now(),
        expires: Utc::now(),
        lane: LaneKind::Live,
    };
    let gone = unit("gone");
    assert_eq!(fetcher.cure(&gone, &error("HTTP 404"), false), None);
    let cure = fetcher.cure(&gone, &error("HTTP 404"), false);
    assert_eq!(cure, Some(Cure::Again));
    // An outage is no reason to search in halves; paging that breaks off is.
    let there = unit("there");
    for _ in 0..100 {
        assert_eq!(fetcher.cure(&there, &error("HTTP 503"), false), None);
    }
    assert_eq!(fetcher.cure(&there, &error("HTTP 500"), true), None);
    assert_eq!(fetcher.cure(&there, &error("HTTP 500"), true), None);
    let cure = fetcher.cure(&there, &error("HTTP 500"), true);
    assert_eq!(cure, Some(Cure::Split));
}

#[tokio::test]
async fn a_next_page_at_another_host_is_not_followed() {
    let faults = graph(GraphAuditFaults {
        foreign_page: 1.0,
        ..GraphAuditFaults::default()
    });
    let mut bench = Bench::new(
        Config {
            faults,
            ..events(2000)
        },
        ALL,
    )
    .await;
    let kinds = bench.collect().await;
    assert!(kinds.contains_key("unavailable"), "{kinds:?}");
    bench.assert_whole().await;
}

#[tokio::test]
async fn readings_that_differ_are_read_until_they_bring_nothing_new() {
    let faults = graph(GraphAuditFaults {
        unstable: 1.0,
        ..GraphAuditFaults::default()
    });
    let mut bench = Bench::new(
        Config {
            faults,
            ..events(600)
        },
        ALL,
    )
    .await;
    assert_eq!(bench.collect().await, BTreeMap::new());
    bench.assert_whole().await;
}

#[tokio::test]
async fn one_reading_of_a_query_would_not_have_been_enough() {
    let faults = graph(GraphAuditFaults {
        unstable: 1.0,
        ..GraphAuditFaults::default()
    });
    let options = format!("{ALL}read_twice = false");
    let mut bench = Bench::new(
        Config {
            faults,
            ..events(600)
        },
        &options,
    )
    .await;
    bench.collect().await;
    assert!(bench.journaled().await.len() < 600);
}

#[tokio::test]
async fn queries_that_fail_or_are_cancelled_are_created_again() {
    let faults = graph(GraphAuditFaults {
        failed: 0.4,
        cancelled: 0.4,
        slow: 0.5,
        slow_seconds: 60,
        ..GraphAuditFaults::default()
    });
    let mut bench = Bench::new(
        Config {
            faults,
            graph_audit: plenty(),
            ..events(300)
        },
        MANY,
    )
    .await;
    let kinds = bench.collect().await;
    assert_eq!(kinds.keys().collect::<Vec<_>>(), [&"unavailable"]);
    bench.assert_whole().await;
    let created = bench.simulator.stats().audit_queries;
    assert!(created > 20, "{created}");
}

/// A tenant whose queries all come to nothing, of which one hour is searched.
async fn hopeless(faults: GraphAuditFaults) -> Bench {
    let config = Config {
        faults: Faults {
            most_in_a_row: 0,
            ..graph(faults)
        },
        ..events(5)
    };
    Bench::new(config, "start = \"1h\"\ndaily_queries = 5000").await
}

#[tokio::test]
async fn a_search_that_waits_because_its_query_came_to_nothing_is_told_with_the_reason() {
    for (cancelled, end) in [(0.0, "failed"), (1.0, "was cancelled")] {
        let faults = GraphAuditFaults {
            failed: 1.0 - cancelled,
            cancelled,
            ..GraphAuditFaults::default()
        };
        let mut bench = hopeless(faults).await;
        bench.list().await.unwrap();
        bench.simulator.control().advance(TimeDelta::seconds(20));
        bench.restart();
        let error = bench.list().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        let told = format!(": query 1 for it {end}; the next is created at 20");
        assert!(error.to_string().contains(&told), "{error}");
    }
}

#[tokio::test]
async fn a_query_is_waited_for_unless_three_before_it_came_to_nothing() {
    let failed = GraphAuditFaults {
        failed: 1.0,
        ..GraphAuditFaults::default()
    };
    let mut bench = hopeless(failed).await;
    let mut awaited = BTreeMap::new();
    while awaited.len() < 5 {
        bench.restart();
        bench.list().await.ok();
        for open in bench.checkpoint().await.plan.open() {
            if open.state.query.is_some() {
                let is_awaited = bench.source.lister.is_awaited(&open.state);
                awaited.insert(open.state.failures, is_awaited);
            }
        }
        bench.simulator.control().advance(TimeDelta::minutes(1));
    }
    let expected = [(0, true), (1, true), (2, true), (3, false), (4, false)];
    assert_eq!(awaited, expected.into());
}

#[tokio::test]
async fn answers_to_creations_that_are_lost_make_no_second_query() {
    let run = |lost_create| async move {
        let faults = graph(GraphAuditFaults {
            lost_create,
            ..GraphAuditFaults::default()
        });
        let config = Config {
            faults,
            ..events(100)
        };
        let mut bench = Bench::new(config, ALL).await;
        bench.collect().await;
        let stats = bench.simulator.stats();
        assert_eq!(
            stats.count("graph_create", "lost_create") > 0,
            lost_create > 0.0
        );
        let listed = bench.checkpoint().await.asked.len() as u64;
        assert_eq!(stats.audit_queries, listed);
    };
    run(0.0).await;
    run(0.9).await;
}

#[tokio::test]
async fn a_tenant_that_v1_does_not_serve_is_asked_by_beta_and_that_is_remembered() {
    let config = Config {
        graph_audit: GraphAuditConfig {
            v1: false,
            ..GraphAuditConfig::default()
        },
        ..events(100)
    };
    let mut bench = Bench::new(config, ALL).await;
    assert_eq!(bench.collect().await, BTreeMap::new());
    bench.assert_whole().await;
    let stats = bench.simulator.stats();
    assert_eq!(stats.count("graph_list", "UnknownError"), 1);
    assert_eq!(stats.count("graph_records", "UnknownError"), 0);
    assert!(bench.checkpoint().await.beta);
}

#[tokio::test]
async fn a_tenant_whose_creations_v1_does_not_take_is_asked_by_beta() {
    let config = Config {
        graph_audit: GraphAuditConfig {
            v1_creates: false,
            ..GraphAuditConfig::default()
        },
        ..events(100)
    };
    let mut bench = Bench::new(config, ALL).await;
    assert_eq!(bench.collect().await, BTreeMap::new());
    bench.assert_whole().await;
    let refused = bench
        .simulator
        .stats()
        .count("graph_create", "UnknownError");
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn a_page_whose_address_has_expired_begins_the_reading_anew() {
    let faults = graph(GraphAuditFaults {
        stale_page: 0.5,
        ..GraphAuditFaults::default()
    });
    let mut bench = Bench::new(
        Config {
            faults,
            ..events(3000)
        },
        ALL,
    )
    .await;
    let kinds = bench.collect().await;
    assert_eq!(kinds.keys().collect::<Vec<_>>(), [&"unavailable"]);
    bench.assert_whole().await;
}
