//! The credentials that a program finds in its environment: on AKS, in App Service, and in Key Vault. Each collects
//! everything that the tenant has.

use audit_exporter_simulator::{
    Config, FederatedCredential, Generated, ManagedIdentity, Records, TenantConfig, VaultConfig,
    VaultSecret,
};
use serde_json::json;

use crate::exporter::Home;
use crate::microsoft::Microsoft;

const MACHINE: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const SOURCE: &str = "[sources.activity]\ntype = \"management_activity\"\n";
const SINK: &str = "[sinks.archive]\ntype = \"file\"\npath = \"archive/{content_type}.ndjson\"\n";

fn federation() -> FederatedCredential {
    FederatedCredential {
        issuer: "https://oidc.example/".to_owned(),
        subject: "system:serviceaccount:audit:exporter".to_owned(),
        audience: "api://AzureADTokenExchange".to_owned(),
    }
}

fn microsoft() -> Microsoft {
    let tenant = TenantConfig {
        federated: vec![federation()],
        identities: vec![ManagedIdentity {
            client_id: MACHINE.to_owned(),
            object_id: String::new(),
            resource_id: String::new(),
            system: true,
            roles: TenantConfig::default().roles,
        }],
        records: Records::Generated(Generated {
            events: 60,
            ..Generated::default()
        }),
        ..TenantConfig::default()
    };
    let secret = VaultSecret::new("o365", tenant.client_secret.clone());
    Microsoft::start(Config {
        tenants: vec![tenant],
        vault: VaultConfig {
            secrets: vec![secret],
            readers: vec![MACHINE.to_owned()],
        },
        ..Config::default()
    })
}

/// The configuration of the tenant with this credential.
fn home(microsoft: &Microsoft, credential: &str) -> Home {
    let (id, url) = (microsoft.id(0), microsoft.url());
    Home::new(&format!(
        "[tenants.contoso]\nid = \"{id}\"\nauthority = \"{url}\"\nmanagement_api = \"{url}\"\n{credential}\n{SOURCE}{SINK}"
    ))
}

/// Checks and collects with these variables; returns what `check` said.
fn collect(microsoft: &Microsoft, home: &Home, variables: &[(&str, &str)]) -> String {
    let ask = |words: &[&str]| {
        let mut command = home.command(words);
        let ended = command.envs(variables.iter().copied()).output().unwrap();
        let said = String::from_utf8(ended.stdout).unwrap();
        let log = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{said}{log}");
        for (_, secret) in variables
            .iter()
            .filter(|(name, _)| name.ends_with("HEADER"))
        {
            assert!(!format!("{said}{log}").contains(secret));
        }
        said
    };
    let said = ask(&["check"]);
    ask(&["run", "--once"]);
    microsoft.judge(&home.path("archive"), None);
    said
}

#[test]
fn on_aks_the_environment_names_the_token_and_the_app() {
    let microsoft = microsoft();
    let home = home(&microsoft, "federated_token = {}");
    let wanted = json!({
        "credential": {"issuer": federation().issuer, "subject": federation().subject},
        "life_seconds": 3600,
    });
    let token = microsoft.control("federated_token", &wanted);
    let file = home.path("token");
    std::fs::write(&file, token["token"].as_str().unwrap()).unwrap();
    let variables = [
        ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
        ("AZURE_CLIENT_ID", &TenantConfig::default().client_id),
    ];
    let said = collect(&microsoft, &home, &variables);
    assert!(
        said.contains("subject system:serviceaccount:audit:exporter"),
        "{said}"
    );
}

#[test]
fn in_app_service_the_environment_names_the_identitys_endpoint() {
    let microsoft = microsoft();
    let home = home(&microsoft, "managed_identity = {}");
    let endpoint = format!("{}/msi/token", microsoft.url());
    let header = Config::default().identity_header;
    let variables = [
        ("IDENTITY_ENDPOINT", endpoint.as_str()),
        ("IDENTITY_HEADER", &header),
    ];
    let said = collect(&microsoft, &home, &variables);
    assert!(said.contains("by App Service at "), "{said}");
}

#[test]
fn a_reference_to_key_vault_takes_the_place_of_the_secret() {
    let microsoft = microsoft();
    let (url, app) = (microsoft.url(), TenantConfig::default().client_id);
    let credential = format!(
        "client_id = \"{app}\"\nclient_secret = \"@Microsoft.KeyVault(SecretUri={url}/secrets/o365)\"\n\
         [tenants.contoso.key_vault]\nurl = \"{url}\"\n\
         managed_identity = {{ endpoint = \"{url}/metadata/identity/oauth2/token\" }}"
    );
    collect(&microsoft, &home(&microsoft, &credential), &[]);
    assert!(microsoft.stats()["requests"]["key_vault"]["200"].is_u64());
}

#[test]
fn a_person_cannot_sign_in_and_is_told_why() {
    let microsoft = microsoft();
    let credential = "username = \"ada@contoso.com\"\npassword = \"hunter2\"";
    let checked = home(&microsoft, credential).ask(&["check"]);
    assert_eq!(checked.code, 78, "{checked:?}");
    let told = checked.stdout + &checked.stderr;
    assert!(
        told.contains("tenants.contoso.username: signing in as a person is not supported"),
        "{told}"
    );
    assert!(!told.contains("hunter2"), "{told}");
}
