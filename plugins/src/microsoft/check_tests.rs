use std::path::Path;
use std::sync::Arc;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::metrics::Metrics;
use audit_exporter_core::plugin::Severity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::microsoft::testing::{self, TENANT};

const APP: &str = "9a1b0000-0000-0000-0000-000000000001";

async fn told(text: &str) -> Vec<(Severity, String)> {
    let access = Access::of(&Tenant {
        name: "contoso".into(),
        id: TENANT.into(),
        tags: Vec::new(),
        options: Options::from_toml("tenants.contoso", text),
    });
    let access = Arc::new(access.unwrap());
    let tokens = Tokens::new(
        testing::http(),
        Arc::clone(&access),
        access.audience.clone(),
        Metrics::new().unwrap().meter("contoso", "audit"),
        Clock::system(),
    );
    let findings = tenant(&access, &tokens).await.into_iter();
    findings
        .map(|found| (found.severity, found.message))
        .collect()
}

fn app(more: &str) -> String {
    format!("client_id = \"{APP}\"\n{more}")
}

#[tokio::test]
async fn the_hosts_that_see_tokens_and_the_page_for_consent_are_told() {
    let ok = |message: &str| (Severity::Ok, message.to_owned());
    let found = told(&app("client_secret = \"s\"\ncloud = \"gcc_high\"")).await;
    let expected = [
        ok(
            "cloud gcc_high: tokens are asked for at login.microsoftonline.us, and go to manage.office365.us, \
            graph.microsoft.us and outlook.office365.us alone; this cloud has no Graph audit queries",
        ),
        ok(&format!(
            "an administrator of the tenant consents to the app at https://login.microsoftonline.us/{TENANT}/adminconsent?\
             client_id={APP}"
        )),
    ];
    assert_eq!(found, expected);
    for (cloud, lacks) in [
        ("commercial", false),
        ("gcc", false),
        ("dod", true),
        ("china", true),
    ] {
        let found = told(&app(&format!("client_secret = \"s\"\ncloud = \"{cloud}\""))).await;
        assert_eq!(
            found[0].1.contains("has no Graph audit queries"),
            lacks,
            "{cloud}"
        );
    }
}

#[tokio::test]
async fn a_managed_identity_has_no_page_for_consent() {
    let found = told("managed_identity = { endpoint = \"http://127.0.0.1:1/x\" }").await;
    assert!(found[1].1.contains("asked for at 127.0.0.1:1"), "{found:?}");
    assert!(
        found[0]
            .1
            .starts_with("managed identity: this machine's own identity"),
        "{found:?}"
    );
    assert!(
        found[2]
            .1
            .contains("New-MgServicePrincipalAppRoleAssignment"),
        "{found:?}"
    );
}

#[tokio::test]
async fn ids_in_the_wrong_place_are_told() {
    let found =
        told("client_id = \"exporter\"\nclient_secret = \"0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10\"")
            .await;
    let warnings: Vec<&str> = found
        .iter()
        .filter(|(severity, _)| *severity == Severity::Warning)
        .map(|(_, message)| message.as_str())
        .collect();
    assert!(
        warnings[1].starts_with("client_id is not a GUID"),
        "{warnings:?}"
    );
    assert!(
        warnings[0].contains("that is the secret's ID"),
        "{warnings:?}"
    );
    assert_eq!(warnings.len(), 2);
}

#[test]
fn a_certificate_is_told_before_it_ends() {
    let pfx = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/certificates/vault.pfx");
    let pfx = STANDARD.encode(std::fs::read(pfx).unwrap());
    let found = Certificate::from_vault(&pfx).unwrap();
    for (before, severity, word) in [
        (TimeDelta::days(365), Severity::Ok, "is valid until"),
        (TimeDelta::days(29), Severity::Warning, "expires on"),
        (TimeDelta::zero(), Severity::Problem, "has expired on"),
    ] {
        let finding = certificate(&found, found.ends() - before);
        assert_eq!(finding.severity, severity, "{}", finding.message);
        assert!(finding.message.contains(word), "{}", finding.message);
        assert!(finding.message.contains(&found.shown_thumbprint()));
    }
}

#[test]
fn a_federated_token_says_what_the_credential_must_name() {
    let payload = r#"{"iss":"https://i\u001b[31m/","sub":"s","aud":["a","b"],"exp":1790000000}"#;
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(payload);
    let subject = Subject::of(&format!("h.{payload}.s").into()).unwrap();
    let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
    let good = federated(&subject, at(1_789_999_999));
    assert_eq!(good.severity, Severity::Ok);
    assert_eq!(
        good.message,
        "federated token with issuer https://i[31m/, subject s and audience a, b"
    );
    let expired = federated(&subject, at(1_790_000_000));
    assert_eq!(expired.severity, Severity::Problem);
}

#[test]
fn a_clock_that_is_ahead_is_not_called_behind() {
    let told = |minutes| clock(TimeDelta::minutes(minutes), "h").map(|finding| finding.message);
    assert_eq!((told(5), told(-5)), (None, None));
    assert!(told(7).unwrap().contains("is 7 min behind that of h;"));
    assert!(told(-7).unwrap().contains("is 7 min ahead of that of h;"));
}
