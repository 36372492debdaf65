use super::*;

fn problem(text: &str) -> String {
    access(text).unwrap_err().to_string()
}

#[test]
fn exactly_one_credential_is_taken() {
    for (text, told) in [
        (
            "client_id = \"app\"",
            "client_secret: required, but not set; certificate, federated_token or managed_identity will do as well",
        ),
        (
            "client_id = \"app\"\nclient_secret = \"hunter2\"\ncertificate = { file = \"app.pem\" }",
            "certificate: only one credential can be given, and there is client_secret already",
        ),
        (
            "federated_token = {}\nmanaged_identity = {}",
            "managed_identity: only one credential can be given, and there is federated_token already",
        ),
        (
            "client_secret = \"hunter2\"",
            "client_id: required, but not set",
        ),
        (
            "client_id = \" \"\nclient_secret = \"hunter2\"",
            "client_id: expected the app's client ID, found nothing",
        ),
        (
            "client_id = \"app\"\nmanaged_identity = {}",
            "client_id: a managed identity needs none; one that was assigned by a user is managed_identity = { \
             client_id = \"…\" }",
        ),
    ] {
        assert_eq!(problem(text), format!("tenants.contoso.{told}"));
    }
}

#[test]
fn mistakes_in_a_credential_are_named_without_showing_it() {
    for (text, told) in [
        (
            "client_secret = 12345",
            "client_secret: expected a secret: text, { env = \"NAME\" } or { file = \"PATH\" }, found a number; put it in \
             quotes",
        ),
        (
            "client_secret = [\"hunter2\"]",
            "client_secret: expected a secret: text, { env = \"NAME\" }, { file = \"PATH\" } or { key_vault = \"NAME\" }, \
             found a list",
        ),
        (
            "client_secret = { fil = \"hunter2\" }",
            "client_secret.fil: unknown key; did you mean \"file\"?",
        ),
        (
            "client_secret = { key_vault = \"a\", file = \"b\" }",
            "client_secret: expected only one of env, file and key_vault",
        ),
        (
            "client_secret = { file = \"b\", key_vault = \"a\" }",
            "client_secret: expected only one of env, file and key_vault",
        ),
        (
            "client_secret = { key_vault = \"a\" }",
            "client_secret: a name alone needs key_vault.url; or give the secret's whole address",
        ),
        (
            "certificate = {}",
            "certificate: expected a table with either file or key_vault, found none or both",
        ),
        (
            "certificate = { key_vault = \"https://v.vault.azure.net/secrets/a\", password = \"hunter2\" }",
            "certificate: what is in a key vault has no key or password of its own",
        ),
        (
            "certificate = { fil = \"a\" }",
            "certificate.fil: unknown key; did you mean \"file\"?",
        ),
        (
            "managed_identity = { client_id = \"a\", object_id = \"b\" }",
            "managed_identity: expected at most one of client_id, object_id and resource_id, found more",
        ),
        (
            "managed_identity = { endpoint = \"http://identity.example/\" }",
            "managed_identity.endpoint: expected a URL on this machine or its link, or with https, found something else",
        ),
        (
            "client_secret = \"@Microsoft.KeyVault(VaultName=v;SecretName=s)\"\n[key_vault]\nclient_id = \"b\"\n\
             client_secret = { key_vault = \"https://v.vault.azure.net/secrets/a\" }",
            "key_vault.client_secret: what reads the key vault cannot itself be in a key vault",
        ),
        (
            "client_secret = \"s\"\n[key_vault]\ntenant = \"contoso.com\"",
            "key_vault.tenant: expected a tenant's GUID, found contoso.com",
        ),
        (
            "client_secret = \"s\"\n[key_vault]\nurl = \"http://evil.example\"",
            "key_vault.url: expected https (or a loopback address), found http",
        ),
    ] {
        let client_id = if text.starts_with("managed") {
            ""
        } else {
            "client_id = \"app\"\n"
        };
        let problem = problem(&format!("{client_id}{text}"));
        assert_eq!(problem, format!("tenants.contoso.{told}"));
        assert!(!problem.contains("hunter2"));
    }
}

#[test]
fn signing_in_as_a_person_is_refused_with_the_reason() {
    for text in ["username = \"ada@contoso.com\"", "password = \"hunter2\""] {
        let problem = problem(&format!(
            "{text}\nclient_id = \"app\"\nclient_secret = \"s\""
        ));
        for word in [
            "signing in as a person is not supported",
            "runs unattended",
            "multifactor",
            "application permissions",
        ] {
            assert!(problem.contains(word), "{problem}");
        }
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn a_secret_may_be_named_in_a_key_vault_in_each_way() {
    for text in [
        "client_secret = \"@Microsoft.KeyVault(VaultName=v;SecretName=s)\"",
        "client_secret = { key_vault = \"https://v.vault.azure.net/secrets/s\" }",
        "client_secret = { key_vault = \"s\" }\nkey_vault = { url = \"https://v.vault.azure.net\" }",
    ] {
        let access = access(&format!("client_id = \"app\"\n{text}")).unwrap();
        assert!(access.app.credential.vault().is_some(), "{text}");
    }
}

#[test]
fn each_cloud_has_vaults_of_its_own() {
    for (cloud, domain) in [
        ("commercial", "vault.azure.net"),
        ("gcc_high", "vault.usgovcloudapi.net"),
        ("dod", "vault.usgovcloudapi.net"),
        ("china", "vault.azure.cn"),
    ] {
        let text = |domain| {
            format!(
                "cloud = \"{cloud}\"\nclient_id = \"app\"\nclient_secret = {{ key_vault = \
                 \"https://v.{domain}/secrets/s\" }}"
            )
        };
        assert!(access(&text(domain)).is_ok(), "{cloud}");
        assert!(access(&text("vault.example.com")).is_err(), "{cloud}");
    }
}

#[test]
fn the_environment_of_aks_says_where_the_token_is() {
    let options = Options::from_toml("tenants.contoso", "");
    let file = |given: &str, variable: Option<&str>| {
        let given = Options::from_toml("x", given).parse().unwrap();
        let found = Federated::of(&options, given, &|name| {
            (name == "AZURE_FEDERATED_TOKEN_FILE").then(|| variable.map(str::to_owned))?
        });
        format!("{found:?}")
    };
    for (given, variable, expected) in [
        (
            "",
            None,
            "/var/run/secrets/azure/tokens/azure-identity-token",
        ),
        ("", Some("/run/token"), "/run/token"),
        ("file = \"/mine\"", Some("/run/token"), "/mine"),
    ] {
        assert!(file(given, variable).contains(expected), "{given}");
    }
}

#[test]
fn the_environment_of_app_service_says_where_identities_are() {
    let options = Options::from_toml("tenants.contoso", "");
    let identity = |given: &str, endpoint: Option<&str>| {
        let given = Options::from_toml("x", given).parse().unwrap();
        ManagedIdentity::of(&options, "managed_identity", given, &|name| match name {
            "IDENTITY_ENDPOINT" => endpoint.map(str::to_owned),
            "IDENTITY_HEADER" => Some("hunter2".to_owned()),
            _ => None,
        })
    };
    for (given, endpoint, expected) in [
        (
            "",
            None,
            "this machine's own identity, by the instance metadata service at 169.254.169.254",
        ),
        (
            "client_id = \"c\"",
            Some("http://127.0.0.1:41741/msi/token"),
            "the identity with client ID c, by App Service at 127.0.0.1:41741",
        ),
        (
            "endpoint = \"http://localhost:1/x\"",
            Some("http://127.0.0.1:41741/msi/token"),
            "this machine's own identity, by the instance metadata service at localhost:1",
        ),
    ] {
        let found = identity(given, endpoint).unwrap();
        assert_eq!(found.describe(), expected);
        assert!(!format!("{found:?}").contains("hunter2"));
    }
    let error = identity("", Some("http://10.0.0.1/x"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("environment variable IDENTITY_ENDPOINT: expected a URL"),
        "{error}"
    );
}
