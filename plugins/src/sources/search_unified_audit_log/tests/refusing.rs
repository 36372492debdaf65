use audit_exporter_core::plugin::{Finding, Severity};

use super::*;

/// One tenant, with a change to it.
fn tenant(change: impl FnOnce(&mut TenantConfig)) -> Config {
    let mut config = events(50);
    change(&mut config.tenants[0]);
    config
}

async fn refused(config: Config, way: Way) -> Error {
    let bench = Bench::new(config, &way.options()).await;
    let error = bench.list().await.unwrap_err();
    assert_eq!(bench.due().await.len(), 0);
    let findings = bench.source.check().await;
    let problem = findings.last().unwrap();
    assert_eq!(problem.severity, Severity::Problem, "{findings:?}");
    error
}

#[tokio::test]
async fn each_grant_that_is_missing_is_told_apart() {
    let without_permission = tenant(|tenant| {
        tenant.roles.retain(|role| role != "Exchange.ManageAsApp");
    });
    let error = refused(without_permission, Way::Exchange).await;
    assert_eq!((error.kind(), error.code()), (Kind::Auth, Some("HTTP 401")));
    assert!(
        error.to_string().contains("Exchange.ManageAsApp"),
        "{error}"
    );
    let without_role = tenant(|tenant| tenant.exchange_role = false);
    let error = refused(without_role, Way::Exchange).await;
    assert_eq!((error.kind(), error.code()), (Kind::Auth, Some("HTTP 403")));
    assert!(
        error.to_string().contains("View-Only Audit Logs"),
        "{error}"
    );
}

#[tokio::test]
async fn auditing_that_is_off_is_told_and_not_taken_for_an_empty_log() {
    let error = refused(tenant(|tenant| tenant.audit = false), Way::Exchange).await;
    assert_eq!(error.kind(), Kind::Auth);
    assert!(error.to_string().contains("auditing is off"), "{error}");
}

#[tokio::test]
async fn a_password_a_second_factor_and_a_missing_role_are_told() {
    type Change = fn(&mut AuditReader);
    let cases: [(Change, &str, &str); 3] = [
        (
            |reader| "other".clone_into(&mut reader.password),
            "HTTP 401",
            "retired",
        ),
        (|reader| reader.mfa = true, "HTTP 401", "multifactor"),
        (
            |reader| reader.role = false,
            "HTTP 403",
            "View-Only Audit Logs",
        ),
    ];
    for (change, code, told) in cases {
        let config = tenant(|tenant| change(&mut tenant.audit_reader));
        let error = refused(config, Way::Rest).await;
        assert_eq!((error.kind(), error.code()), (Kind::Auth, Some(code)));
        let text = error.to_string();
        assert!(
            text.contains(told) && !text.contains("simulator-password"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_grant_that_is_taken_away_makes_the_next_listing_fail() {
    let mut config = events(300);
    config.faults.search.unauthorized = 1.0;
    config.faults.most_in_a_row = 0;
    let bench = Bench::new(config, &Way::Exchange.options()).await;
    bench.list().await.unwrap();
    let units = bench.due().await;
    let error = bench.fetch(&units[0]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Auth);
    assert!(bench.source.probed.lock().unwrap().is_none());
}

#[tokio::test]
async fn a_tenant_that_is_set_up_has_good_findings_and_the_older_service_a_warning() {
    let bench = Bench::new(events(50), &Way::Exchange.options()).await;
    let findings = bench.source.check().await;
    assert!(
        findings
            .iter()
            .all(|finding| finding.severity == Severity::Ok),
        "{findings:?}"
    );
    let says = |text: &str| findings.iter().any(|found| found.message.contains(text));
    assert!(says("Exchange.ManageAsApp"), "{findings:?}");
    assert!(says("adminconsent"), "{findings:?}");
    let bench = Bench::new(events(50), &Way::Rest.options()).await;
    let findings = bench.source.check().await;
    let severities: Vec<_> = findings.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Severity::Warning, Severity::Ok]);
    assert!(findings[0].message.contains("retired"), "{findings:?}");
}

#[tokio::test]
async fn clouds_that_lack_it_are_told() {
    let simulator = Simulator::start(Config::default()).await.unwrap();
    for (cloud, told) in [
        ("gcc_high", "Security & Compliance"),
        ("china", "returns nothing"),
    ] {
        let mut tenant = tenant_of(&simulator);
        let text = format!(
            "cloud = \"{cloud}\"\nclient_id = \"a\"\nclient_secret = \"b\"\nauthority = \"{url}\"\nexchange_api = \"{url}\"",
            url = simulator.url()
        );
        tenant.options = Options::from_toml("tenants.contoso", &text);
        let findings = source_of(tenant, SHORT).check().await;
        let said =
            |found: &Finding| found.severity == Severity::Warning && found.message.contains(told);
        assert!(findings.iter().any(said), "{findings:?}");
    }
}

#[tokio::test]
async fn a_time_that_the_service_has_forgotten_is_lost_by_name() {
    let mut config = events(50);
    config.search.retention_days = 1;
    let bench = Bench::new(config, &Way::Exchange.options()).await;
    bench.list().await.unwrap();
    let units = bench.due().await;
    let oldest = units.iter().min_by_key(|unit| unit.created).unwrap();
    let error = bench.fetch(oldest).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Lost, "{error}");
    assert!(
        error.to_string().contains("does not keep this time"),
        "{error}"
    );
}
