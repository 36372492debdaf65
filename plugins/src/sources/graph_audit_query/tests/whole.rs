use super::*;

#[tokio::test]
async fn a_tenant_is_collected_whole_with_one_query_a_slice() {
    let mut bench = Bench::new(events(600), ALL).await;
    assert_eq!(bench.collect().await, BTreeMap::new());
    bench.assert_whole().await;
    let stats = bench.simulator.stats();
    assert_eq!(stats.audit_queries, stats.count("graph_create", "201"));
    // Twelve days, of which the last hours in shorter slices.
    assert!(
        (12..=20).contains(&stats.audit_queries),
        "{}",
        stats.audit_queries
    );
    // Each page was read, and read again.
    let reads = stats.count("graph_records", "200");
    assert!(reads >= 2 * stats.audit_queries, "{reads}");
}

#[tokio::test]
async fn nothing_is_created_while_nothing_is_due() {
    let mut bench = Bench::new(events(50), ALL).await;
    bench.collect().await;
    let before = bench.simulator.stats().audit_queries;
    for _ in 0..5 {
        bench.restart();
        assert!(matches!(bench.list().await.unwrap(), Next::After(_)));
    }
    assert_eq!(bench.simulator.stats().audit_queries, before);
}

#[tokio::test]
async fn what_shows_up_late_is_found_by_a_later_pass() {
    let mut config = events(0);
    config.tenants[0].records = Records::Explicit(Vec::new());
    let mut bench = Bench::new(config, ALL).await;
    bench.collect().await;
    let control = bench.simulator.control();
    let time = (chrono::Utc::now() + TimeDelta::minutes(-30)).format("%Y-%m-%dT%H:%M:%S");
    let record = format!(
        r#"{{"CreationTime":"{time}","Id":"0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10","Operation":"CreateFlow","RecordType":30}}"#
    );
    let blob = audit_exporter_simulator::ExplicitBlob::new(
        audit_exporter_simulator::ContentType::General,
        [record.clone()],
    );
    control.add_blob(&TenantConfig::default().id, blob).unwrap();
    bench.collect().await;
    assert_eq!(bench.journaled().await.len(), 0, "it was searched before");
    control.advance(TimeDelta::hours(4));
    bench.collect().await;
    let events = bench.journaled().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].raw(), record.as_bytes());
    control.advance(TimeDelta::hours(200));
    bench.collect().await;
    assert_eq!(
        bench.journaled().await.len(),
        1,
        "other passes bring it again"
    );
}

#[tokio::test]
async fn filters_are_pushed_to_microsoft() {
    let options = format!(
        "{ALL}operations = [\"FileAccessed\"]\nrecord_types = [\"SharePointFileOperation\"]"
    );
    let mut bench = Bench::new(events(600), &options).await;
    bench.collect().await;
    let events = bench.journaled().await;
    assert!(!events.is_empty());
    for event in events {
        assert_eq!(event.operation().as_deref(), Some("FileAccessed"));
    }
}

#[tokio::test]
async fn coverage_knows_how_far_each_pass_is() {
    let mut bench = Bench::new(events(50), ALL).await;
    bench.collect().await;
    let now = bench.source.client.now();
    let settings = &bench.source.settings;
    let reach = bench
        .checkpoint()
        .await
        .plan
        .reach(CONTENT_TYPE, now, &settings.schedule);
    assert_eq!(reach.passes.len(), 6);
    let behind = now - reach.passes[0].to;
    assert!(
        behind >= TimeDelta::minutes(15) && behind < TimeDelta::minutes(50),
        "{behind}"
    );
    let behind = now - reach.passes[5].to;
    assert!(
        behind >= TimeDelta::days(7) && behind <= TimeDelta::days(8),
        "{behind}"
    );
}

#[tokio::test]
async fn records_without_an_id_come_once_although_they_are_searched_again() {
    let mut config = events(0);
    let time = (chrono::Utc::now() - TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%S");
    let record = format!(r#"{{"CreationTime":"{time}","Operation":"CreateFlow","RecordType":30}}"#);
    let blob = audit_exporter_simulator::ExplicitBlob::new(
        audit_exporter_simulator::ContentType::General,
        [record],
    );
    config.tenants[0].records = Records::Explicit(vec![blob]);
    let mut bench = Bench::new(config, ALL).await;
    bench.collect().await;
    bench.simulator.control().advance(TimeDelta::hours(100));
    bench.collect().await;
    let events = bench.journaled().await;
    assert_eq!(events.len(), 1);
    assert!(events[0].id().is_some(), "its row's");
}

#[tokio::test]
async fn a_cloud_without_audit_queries_says_so_and_asks_nothing() {
    let bench = Bench::with_tenant(events(5), ALL, "cloud = \"gcc_high\"").await;
    let error = bench.list().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("gcc_high"), "{error}");
    let found = bench.source.check().await;
    assert_eq!(found[0].severity, Severity::Problem);
    assert_eq!(bench.simulator.stats().requests, BTreeMap::new());
}

#[tokio::test]
async fn a_check_names_missing_permissions_and_creates_nothing() {
    for (roles, severity, named) in [
        (&["AuditLogsQuery.Read.All"][..], Severity::Ok, "was issued"),
        (
            &["AuditLogsQuery-Exchange.Read.All"],
            Severity::Warning,
            "some services alone",
        ),
        (
            &["ActivityFeed.Read"],
            Severity::Problem,
            "lacks the application permission",
        ),
    ] {
        let mut config = events(5);
        config.tenants[0].roles = roles.iter().map(ToString::to_string).collect();
        let bench = Bench::new(config, ALL).await;
        let found = bench.source.check().await;
        let told = |one: &Finding| one.severity == severity && one.message.contains(named);
        assert!(found.iter().any(told), "{found:?}");
        let consent = |one: &Finding| one.message.contains("adminconsent");
        assert!(found.iter().any(consent), "{found:?}");
        assert_eq!(bench.simulator.stats().audit_queries, 0);
    }
}

#[tokio::test]
async fn a_missing_permission_is_told_with_what_mends_it() {
    let mut config = events(5);
    config.tenants[0].roles = vec!["ActivityFeed.Read".to_owned()];
    let bench = Bench::new(config, ALL).await;
    let error = bench.list().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Auth, Some("Forbidden"))
    );
    assert!(
        error.to_string().contains("AuditLogsQuery.Read.All"),
        "{error}"
    );
}

/// Lists and fetches until nothing is left to list, with some minutes between.
async fn single_run(bench: &mut Bench) {
    bench.to.begin_single_run().await;
    for _ in 0..150 {
        bench.restart();
        let next = bench.list().await.unwrap();
        for unit in bench.due().await {
            bench.fetch(&unit).await.unwrap();
        }
        if matches!(next, Next::After(_)) {
            return;
        }
        bench.simulator.control().advance(TimeDelta::minutes(2));
    }
    panic!("the run does not end");
}

#[tokio::test]
async fn a_single_run_whose_queries_take_longer_than_a_slice_ends_and_the_next_goes_on_there() {
    let mut config = events(0);
    config.graph_audit.run_seconds = 45 * 60;
    config.tenants[0].records = Records::Generated(Generated {
        events: 100,
        days: 0.5,
        oddities: 0.0,
        huge_records: 0.0,
        ..Generated::default()
    });
    let mut bench = Bench::new(config, "start = \"6d\"").await;
    let began = bench.source.client.now();
    let time = (began + TimeDelta::hours(1)).format("%Y-%m-%dT%H:%M:%S");
    let record = format!(
        r#"{{"CreationTime":"{time}","Id":"0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10","Operation":"CreateFlow","RecordType":30}}"#
    );
    let blob = audit_exporter_simulator::ExplicitBlob::new(
        audit_exporter_simulator::ContentType::General,
        [record],
    );
    let (control, tenant) = (bench.simulator.control(), TenantConfig::default().id);
    control.add_blob(&tenant, blob).unwrap();
    single_run(&mut bench).await;
    let took = bench.source.client.now() - began;
    assert!(took > TimeDelta::minutes(45), "{took}");
    assert_eq!(bench.journaled().await.len(), 100);
    control.advance(TimeDelta::hours(2));
    single_run(&mut bench).await;
    bench.assert_whole().await;
}
