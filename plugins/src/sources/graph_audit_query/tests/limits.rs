use super::*;

#[tokio::test]
async fn a_query_that_is_cut_off_is_searched_in_halves() {
    let config = Config {
        graph_audit: GraphAuditConfig {
            most_records: 40,
            ..GraphAuditConfig::default()
        },
        ..events(600)
    };
    let mut bench = Bench::new(config, ALL).await;
    assert_eq!(bench.collect().await, BTreeMap::new());
    bench.assert_whole().await;
    let most = bench.simulator.stats().audit_queries;
    assert!(most > 25, "{most}");
}

#[tokio::test]
async fn a_second_with_too_many_records_is_a_gap_beside_what_there_is() {
    let mut config = events(0);
    let time = (chrono::Utc::now() - TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%S");
    let record = |number: u32| {
        format!(
            r#"{{"CreationTime":"{time}","Id":"0b1cf0ad-1f43-4bdd-9a1b-{number:012x}","Operation":"CreateFlow","RecordType":30}}"#
        )
    };
    let blob = audit_exporter_simulator::ExplicitBlob::new(
        audit_exporter_simulator::ContentType::General,
        (0..60).map(record),
    );
    config.tenants[0].records = Records::Explicit(vec![blob]);
    config.graph_audit.most_records = 40;
    let mut bench = Bench::new(config, "start = \"3h\"\nsearch_again_after = []").await;
    bench.collect().await;
    assert_eq!(bench.journaled().await.len(), 40);
    let tenant = bench.coverage().await;
    assert_eq!(tenant.state, audit_exporter_core::coverage::State::Gap);
    let reasons = format!("{:?}", tenant.reasons);
    assert!(reasons.contains("most records"), "{reasons}");
}

#[tokio::test]
async fn paging_that_breaks_off_for_good_is_searched_in_halves() {
    let mut config = events(0);
    config.faults.graph_audit.breaks_after_pages = Some(1);
    config.tenants[0].records = Records::Generated(Generated {
        events: 700,
        days: 1.0,
        oddities: 0.0,
        huge_records: 0.0,
        ..Generated::default()
    });
    let mut bench = Bench::new(config, "start = \"6d\"").await;
    let kinds = bench.collect().await;
    assert_eq!(kinds.keys().collect::<Vec<_>>(), [&"unavailable"]);
    bench.assert_whole().await;
    assert!(!bench.checkpoint().await.replaced.is_empty());
}

#[tokio::test]
async fn a_query_that_is_gone_before_it_was_read_is_created_again() {
    let config = Config {
        graph_audit: GraphAuditConfig {
            kept_days: 1,
            ..GraphAuditConfig::default()
        },
        ..events(100)
    };
    let mut bench = Bench::new(config, ALL).await;
    while bench.open().await > 0 || bench.due().await.is_empty() {
        bench.restart();
        bench.list().await.unwrap();
        bench.simulator.control().advance(TimeDelta::seconds(20));
    }
    bench.simulator.control().advance(TimeDelta::days(2));
    let kinds = bench.collect().await;
    assert_eq!(kinds.keys().collect::<Vec<_>>(), [&"unavailable"]);
    bench.assert_whole().await;
}

#[tokio::test]
async fn no_more_queries_are_created_than_the_options_allow_in_a_day() {
    let options = format!("{ALL}slice = \"1d\"\nsearch_again_after = []\ndaily_queries = 3");
    let mut bench = Bench::new(events(100), &options).await;
    let mut refusals = 0;
    for _ in 0..20 {
        bench.restart();
        if let Err(error) = bench.list().await {
            assert!(error.to_string().contains("daily_queries"), "{error}");
            refusals += 1;
        }
        bench.simulator.control().advance(TimeDelta::seconds(20));
    }
    assert!(refusals > 10, "{refusals}");
    assert_eq!(bench.simulator.stats().audit_queries, 3);
    bench.simulator.control().advance(TimeDelta::hours(24));
    bench.restart();
    bench.list().await.ok();
    assert_eq!(bench.simulator.stats().audit_queries, 4);
}

#[tokio::test]
async fn microsofts_own_limits_are_waited_for_while_the_rest_goes_on() {
    for (creates_per_day, at_once) in [(4, 50), (200, 2)] {
        let config = Config {
            graph_audit: GraphAuditConfig {
                creates_per_day,
                at_once,
                run_seconds: 30,
                ..GraphAuditConfig::default()
            },
            ..events(100)
        };
        let mut bench = Bench::new(config, ALL).await;
        let mut codes = HashSet::new();
        for _ in 0..8 {
            if let Err(error) = bench.list().await {
                assert_eq!(
                    error.kind(),
                    Kind::Unavailable,
                    "the engine goes on: {error}"
                );
                codes.insert(error.code().map(str::to_owned));
            }
        }
        assert!(
            codes.contains(&Some("TooManyRequests".to_owned())),
            "{codes:?}"
        );
        // Refused once, not asked again at once.
        assert_eq!(
            bench
                .simulator
                .stats()
                .count("graph_create", "TooManyRequests"),
            1
        );
        bench.simulator.control().advance(TimeDelta::seconds(40));
        bench.restart();
        bench.list().await.ok();
        assert!(
            !bench.due().await.is_empty(),
            "what has succeeded is registered"
        );
    }
}

#[tokio::test]
async fn queries_at_a_time_stay_within_the_options() {
    let options = format!("{ALL}concurrent_queries = 2");
    let config = Config {
        graph_audit: GraphAuditConfig {
            run_seconds: 3600,
            ..GraphAuditConfig::default()
        },
        ..events(100)
    };
    let bench = Bench::new(config, &options).await;
    for _ in 0..6 {
        bench.list().await.unwrap();
    }
    assert_eq!(bench.simulator.stats().audit_queries, 2);
}
