//! Each credential, against endpoints that know nothing of this code and verify what they are given.

use std::time::Duration;

use audit_exporter_core::Kind;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::metrics::Metrics;
use audit_exporter_simulator::{
    Config, Faults, FederatedCredential, ManagedIdentity as Identity, Simulator, TenantConfig,
    TokenFaults, VaultConfig, VaultSecret,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use tempfile::TempDir;

use super::*;
use crate::microsoft::testing::{self, SECRET};
use crate::microsoft::token::Tokens;

const MACHINE: &str = "9a1b0000-0000-0000-0000-0000000000aa";
const ASSIGNED: &str = "9a1b0000-0000-0000-0000-0000000000bb";
const RESOURCE: &str = "/subscriptions/s/userAssignedIdentities/exporter";
const HEADER: &str = "what-app-service-sets";

fn federation() -> FederatedCredential {
    FederatedCredential {
        issuer: "https://oidc.example/cluster/".to_owned(),
        subject: "system:serviceaccount:audit:exporter".to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
    }
}

/// A tenant with every way to prove its app, two identities, and a vault that the machine's own may read.
async fn microsoft(faults: Faults) -> Simulator {
    let roles = vec!["ActivityFeed.Read".to_owned()];
    let identity = |client_id: &str, system| Identity {
        client_id: client_id.to_owned(),
        object_id: format!("object of {client_id}"),
        resource_id: if system {
            String::new()
        } else {
            RESOURCE.to_owned()
        },
        system,
        roles: roles.clone(),
    };
    let pfx = STANDARD.encode(std::fs::read(fixture("vault.pfx")).unwrap());
    let disabled = VaultSecret {
        enabled: false,
        ..VaultSecret::new("disabled", SECRET)
    };
    Simulator::start(Config {
        tenants: vec![TenantConfig {
            id: TENANT.to_owned(),
            client_id: APP.to_owned(),
            client_secret: SECRET.to_owned(),
            certificates: vec![fixture_text("app.crt")],
            federated: vec![federation()],
            identities: vec![identity(MACHINE, true), identity(ASSIGNED, false)],
            ..TenantConfig::default()
        }],
        vault: VaultConfig {
            secrets: vec![
                VaultSecret::new("o365", SECRET),
                VaultSecret::new("app", pfx),
                VaultSecret::new("text", "hunter2"),
                disabled,
            ],
            readers: vec![MACHINE.to_owned(), APP.to_owned()],
        },
        identity_header: HEADER.to_owned(),
        faults,
        ..Config::default()
    })
    .await
    .unwrap()
}

fn tokens(simulator: &Simulator, text: &str) -> Tokens {
    let url = simulator.url();
    let access = access(&format!("authority = \"{url}\"\n{text}")).unwrap();
    let audience = access.audience.clone();
    let meter = Metrics::new().unwrap().meter("contoso", "audit");
    let http = testing::http();
    Tokens::new(http, access.into(), audience, meter, Clock::system())
}

/// Gets a token and says who holds it, by its claims.
async fn holder(tokens: &Tokens) -> Result<String, String> {
    let token = tokens.get().await.map_err(|error| {
        assert!(error.kind() != Kind::Bug);
        let told = format!("{error} {error:?}");
        assert!(
            !told.contains(SECRET) && !told.contains(HEADER) && !told.contains("eyJ"),
            "{told}"
        );
        error.to_string()
    })?;
    let claims = token.claims().unwrap();
    assert!(claims.has_role("ActivityFeed.Read"));
    assert_eq!(claims.aud.as_deref(), Some("https://manage.office.com"));
    let payload = token.bearer().to_str().unwrap().split('.').nth(1).unwrap();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    Ok(claims["appid"].as_str().unwrap().to_owned())
}

/// Lets the time pass for which a refusal is repeated.
async fn later() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
}

fn certificate(version: &str) -> String {
    format!(
        "client_id = \"{APP}\"\ntoken_version = \"{version}\"\ncertificate = {{ file = {:?}, password = \"geheim\" }}",
        fixture("app.pfx")
    )
}

#[tokio::test]
async fn a_certificate_gets_tokens_from_both_endpoints() {
    let microsoft = microsoft(Faults::default()).await;
    for version in ["v1", "v2"] {
        let tokens = tokens(&microsoft, &certificate(version));
        assert_eq!(holder(&tokens).await.as_deref(), Ok(APP));
    }
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_used_without_a_restart() {
    let microsoft = microsoft(Faults::default()).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("app.pem");
    let put = |name: &str| {
        let both = fixture_text(&format!("{name}.crt")) + &fixture_text(&format!("{name}.key"));
        std::fs::write(&file, both).unwrap();
    };
    let tokens = tokens(
        &microsoft,
        &format!("client_id = \"{APP}\"\ncertificate = {{ file = {file:?} }}"),
    );
    let missing = holder(&tokens).await.unwrap_err();
    assert!(missing.contains("app.pem cannot be read"), "{missing}");
    later().await;
    put("other");
    let unknown = holder(&tokens).await.unwrap_err();
    assert!(
        unknown.contains("AADSTS700027: the certificate is not registered for the app"),
        "{unknown}"
    );
    later().await;
    put("app");
    assert_eq!(holder(&tokens).await.as_deref(), Ok(APP));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told_by_an_assertion() {
    let microsoft = microsoft(Faults::default()).await;
    microsoft.control().advance(TimeDelta::hours(1));
    let told = holder(&tokens(&microsoft, &certificate("v2")))
        .await
        .unwrap_err();
    assert!(told.contains("AADSTS700024"), "{told}");
    assert!(told.contains("set this machine's clock"), "{told}");
}

#[tokio::test]
async fn a_federated_token_is_read_anew_and_must_match_the_credential() {
    let microsoft = microsoft(Faults::default()).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    let text = format!("client_id = \"{APP}\"\nfederated_token = {{ file = {file:?} }}");
    let tokens = tokens(&microsoft, &text);
    let other = |change: fn(&mut FederatedCredential)| {
        let mut credential = federation();
        change(&mut credential);
        microsoft.control().federated_token(&credential, 3600)
    };
    let foreign = other(|_| {}) + "x";
    for (content, told) in [
        (None, "token cannot be read"),
        (Some(String::new()), "token is empty"),
        (Some("hello".to_owned()), "token holds no token"),
        (Some("a.b.c".to_owned()), "AADSTS50027"),
        (Some(other(|it| it.issuer.push('x'))), "AADSTS700211"),
        (Some(other(|it| it.audience.push('x'))), "AADSTS700212"),
        (Some(other(|it| it.subject.push('x'))), "AADSTS700213"),
        (Some(foreign), "AADSTS50027"),
        (
            Some(microsoft.control().federated_token(&federation(), -900)),
            "AADSTS700024",
        ),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let refused = holder(&tokens).await.unwrap_err();
        assert!(refused.contains(told), "{refused}");
        later().await;
    }
    std::fs::write(&file, other(|_| {}) + "\n").unwrap();
    assert_eq!(holder(&tokens).await.as_deref(), Ok(APP));
}

/// The options of an identity at the simulator.
fn identity(microsoft: &Simulator, app_service: bool, who: &str) -> String {
    let url = microsoft.url();
    if app_service {
        format!(
            "managed_identity = {{ endpoint = \"{url}/msi/token\", header = \"{HEADER}\"{who} }}"
        )
    } else {
        format!("managed_identity = {{ endpoint = \"{url}/metadata/identity/oauth2/token\"{who} }}")
    }
}

#[tokio::test]
async fn a_managed_identity_gets_tokens_by_both_endpoints() {
    let microsoft = microsoft(Faults::default()).await;
    for app_service in [false, true] {
        for (who, expected) in [
            (String::new(), MACHINE),
            (format!(", client_id = \"{ASSIGNED}\""), ASSIGNED),
            (format!(", object_id = \"object of {ASSIGNED}\""), ASSIGNED),
            (format!(", resource_id = \"{RESOURCE}\""), ASSIGNED),
        ] {
            let tokens = tokens(&microsoft, &identity(&microsoft, app_service, &who));
            assert_eq!(holder(&tokens).await.as_deref(), Ok(expected), "{who}");
        }
        let unknown = identity(&microsoft, app_service, ", client_id = \"nobody\"");
        let told = holder(&tokens(&microsoft, &unknown)).await.unwrap_err();
        assert!(
            told.contains("refused the managed identity's token request: invalid_request: this machine has no such"),
            "{told}"
        );
    }
    let wrong = identity(&microsoft, true, "").replace(HEADER, "another");
    let told = holder(&tokens(&microsoft, &wrong)).await.unwrap_err();
    assert!(told.contains("HTTP 401"), "{told}");
}

#[tokio::test]
async fn an_endpoint_that_is_being_updated_is_asked_again() {
    let updating = Faults {
        most_in_a_row: 1,
        tokens: TokenFaults {
            identity_updating: 1.0,
            ..TokenFaults::default()
        },
        ..Faults::default()
    };
    let microsoft = microsoft(updating).await;
    let tokens = tokens(&microsoft, &identity(&microsoft, false, ""));
    let error = tokens.get().await.err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.to_string().contains("it is being updated"), "{error}");
    later().await;
    assert_eq!(holder(&tokens).await.as_deref(), Ok(MACHINE));
}

/// The options of an app whose `credential` is in the simulator's vault, which the machine reads.
fn in_vault(microsoft: &Simulator, credential: &str) -> String {
    let (url, reader) = (microsoft.url(), identity(microsoft, false, ""));
    format!("client_id = \"{APP}\"\n{credential}\n[key_vault]\nurl = \"{url}\"\n{reader}\n")
}

#[tokio::test]
async fn secrets_and_certificates_come_from_a_key_vault() {
    let microsoft = microsoft(Faults::default()).await;
    let address = format!("{}/secrets/o365", microsoft.url());
    let version = VaultSecret::new("o365", SECRET).version();
    for credential in [
        "client_secret = { key_vault = \"o365\" }".to_owned(),
        format!("client_secret = {{ key_vault = \"o365/{version}\" }}"),
        format!("client_secret = \"@Microsoft.KeyVault(SecretUri={address})\""),
        "certificate = { key_vault = \"app\" }".to_owned(),
        format!(
            "certificate = {{ key_vault = \"{}/certificates/app\" }}",
            microsoft.url()
        ),
    ] {
        let tokens = tokens(&microsoft, &in_vault(&microsoft, &credential));
        assert_eq!(holder(&tokens).await.as_deref(), Ok(APP), "{credential}");
    }
}

#[tokio::test]
async fn what_a_vault_refuses_is_told_with_its_place() {
    let microsoft = microsoft(Faults::default()).await;
    let vault = microsoft.url().trim_start_matches("http://");
    for (credential, told) in [
        (
            "client_secret = { key_vault = \"o356\" }",
            "o356 in key vault VAULT: SecretNotFound: the vault has no secret or certificate of this name and version",
        ),
        (
            "client_secret = { key_vault = \"disabled\" }",
            "disabled in key vault VAULT: SecretDisabled: the secret or certificate is disabled",
        ),
        (
            "certificate = { key_vault = \"text\" }",
            "certificate: text in key vault VAULT is neither PEM nor a PFX in base64",
        ),
        (
            "client_secret = { key_vault = \"text\" }",
            "AADSTS7000215: the client secret is wrong",
        ),
    ] {
        let refused = holder(&tokens(&microsoft, &in_vault(&microsoft, credential))).await;
        let refused = refused.unwrap_err();
        assert!(refused.contains(&told.replace("VAULT", vault)), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    let not_a_reader = in_vault(&microsoft, "client_secret = { key_vault = \"o365\" }").replace(
        "oauth2/token\" }",
        &format!("oauth2/token\", client_id = \"{ASSIGNED}\" }}"),
    );
    let refused = holder(&tokens(&microsoft, &not_a_reader))
        .await
        .unwrap_err();
    assert!(
        refused.contains("ForbiddenByRbac: the vault does not let this identity read secrets; give it the role Key Vault"),
        "{refused}"
    );
    let foreign = in_vault(&microsoft, "client_secret = { key_vault = \"o365\" }").replace(
        "[key_vault]",
        "[key_vault]\naudience = \"https://manage.office.com\"",
    );
    let refused = holder(&tokens(&microsoft, &foreign)).await.unwrap_err();
    assert!(
        refused.contains("Unauthorized: the vault does not accept the token"),
        "{refused}"
    );
}

#[tokio::test]
async fn another_apps_credential_reads_the_vault_as_well() {
    let microsoft = microsoft(Faults::default()).await;
    let text = in_vault(&microsoft, "client_secret = { key_vault = \"o365\" }");
    let (head, _) = text.split_once("managed_identity").unwrap();
    let reader = format!(
        "{head}tenant = \"{TENANT}\"\nclient_id = \"{APP}\"\ncertificate = {{ file = {:?}, password = \"geheim\" }}",
        fixture("app.pfx")
    );
    let tokens = tokens(&microsoft, &reader);
    assert_eq!(holder(&tokens).await.as_deref(), Ok(APP));
}

#[tokio::test]
async fn a_secret_that_is_replaced_in_the_vault_is_used_without_a_restart() {
    let microsoft = microsoft(Faults::default()).await;
    microsoft
        .control()
        .put_secret(VaultSecret::new("o365", "an older one"));
    let text = in_vault(&microsoft, "client_secret = { key_vault = \"o365\" }");
    let tokens = tokens(&microsoft, &text);
    let refused = holder(&tokens).await.unwrap_err();
    assert!(refused.contains("AADSTS7000215"), "{refused}");
    later().await;
    microsoft
        .control()
        .put_secret(VaultSecret::new("o365", SECRET));
    assert_eq!(holder(&tokens).await.as_deref(), Ok(APP));
}

#[tokio::test]
async fn an_outage_of_the_vault_does_not_stop_what_was_read_before() {
    let outage = Faults {
        most_in_a_row: 0,
        tokens: TokenFaults {
            vault_unavailable: 1.0,
            lifetime_seconds: 60,
            ..TokenFaults::default()
        },
        ..Faults::default()
    };
    let microsoft = microsoft(outage.clone()).await;
    let text = in_vault(&microsoft, "client_secret = { key_vault = \"o365\" }");
    let tokens = tokens(&microsoft, &text);
    let error = tokens.get().await.err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    later().await;
    let short = TokenFaults {
        lifetime_seconds: 60,
        ..TokenFaults::default()
    };
    microsoft.control().set_faults(Faults {
        tokens: short,
        ..Faults::default()
    });
    assert_eq!(holder(&tokens).await.as_deref(), Ok(APP));
    microsoft.control().set_faults(outage);
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(2)).await;
    tokio::time::resume();
    assert_eq!(holder(&tokens).await.as_deref(), Ok(APP));
}
