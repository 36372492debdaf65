//! The ways to name a secret in a vault.
//!
//! | form | |
//! | --- | --- |
//! | `name`, `name/version` | in the vault that `key_vault.url` names |
//! | `https://VAULT.vault.azure.net/secrets/name` | as the portal shows it; `certificates` in place of `secrets` too |
//! | `@Microsoft.KeyVault(SecretUri=…)` | as App Service has it |
//! | `@Microsoft.KeyVault(VaultName=…;SecretName=…;SecretVersion=…)` | likewise |

use url::Url;

use crate::microsoft::credentials::REFERENCE;

const EXPECTED: &str = "expected a secret's name, its address (https://VAULT.vault.azure.net/secrets/NAME), or \
                        @Microsoft.KeyVault(…)";

/// The address of the secret that `text` names, without a query. Vaults are in `domain`, or at `own`. The error says
/// what is wrong, without showing the text: it may be a secret that was put in the wrong place.
pub(super) fn url(text: &str, domain: &str, own: Option<&Url>) -> Result<Url, String> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix(REFERENCE) {
        let inner = inner
            .strip_suffix(')')
            .ok_or("the reference has no ) at its end")?;
        return reference(inner, domain, own);
    }
    if text.contains("://") {
        return address(text, domain, own);
    }
    let vault =
        own.ok_or("a name alone needs key_vault.url; or give the secret's whole address")?;
    let (name, version) = match text.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    secret(vault.clone(), name, version)
}

/// What stands between the brackets of a reference.
fn reference(inner: &str, domain: &str, own: Option<&Url>) -> Result<Url, String> {
    let (mut vault, mut name, mut version) = (None, None, None);
    for pair in inner
        .split(';')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
    {
        let (key, value) = pair
            .split_once('=')
            .ok_or("the reference has a part without =")?;
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "secreturi" => return address(value, domain, own),
            "vaultname" => vault = Some(value),
            "secretname" => name = Some(value),
            "secretversion" => version = Some(value).filter(|version| !version.is_empty()),
            _ => {
                return Err(
                    "the reference may have SecretUri, or VaultName, SecretName and \
                            SecretVersion"
                        .to_owned(),
                );
            }
        }
    }
    let (Some(vault), Some(name)) = (vault, name) else {
        return Err("the reference needs SecretUri, or VaultName and SecretName".to_owned());
    };
    if !is_name(vault) {
        return Err("the reference's VaultName is no vault's name".to_owned());
    }
    let vault = format!("https://{vault}.{domain}/");
    let vault = Url::parse(&vault).map_err(|_| "the reference's VaultName is no vault's name")?;
    secret(vault, name, version)
}

/// An address as the portal shows it.
fn address(text: &str, domain: &str, own: Option<&Url>) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| EXPECTED)?;
    let is_own = own.is_some_and(|own| own.origin() == url.origin());
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let in_domain = url.scheme() == "https"
        && url.port().is_none()
        && url
            .host_str()
            .and_then(|host| host.strip_suffix(domain)?.strip_suffix('.'))
            .is_some_and(is_name);
    if !is_plain || !(is_own || in_domain) {
        return Err(format!(
            "expected an address in the cloud's own vaults (https://VAULT.{domain}), or in the one that key_vault.url \
             names: tokens go nowhere else"
        ));
    }
    let mut parts = url
        .path_segments()
        .ok_or(EXPECTED)?
        .filter(|part| !part.is_empty());
    let (kind, name, version) = (parts.next(), parts.next(), parts.next());
    match (kind, name, parts.next()) {
        (Some("secrets" | "certificates"), Some(name), None) => {
            let mut vault = url.clone();
            vault.set_path("/");
            secret(vault, name, version)
        }
        _ => Err(EXPECTED.to_owned()),
    }
}

/// Certificates are read as the secrets that have their names: those hold the keys.
fn secret(mut vault: Url, name: &str, version: Option<&str>) -> Result<Url, String> {
    if !is_name(name) || !version.is_none_or(is_name) {
        return Err("the name or version of a secret has letters, digits and - alone".to_owned());
    }
    vault.set_path(&match version {
        Some(version) => format!("/secrets/{name}/{version}"),
        None => format!("/secrets/{name}"),
    });
    vault.set_fragment(None);
    Ok(vault)
}

fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=127).contains(&text.len()) && text.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "vault.azure.net";

    fn named(text: &str) -> Result<String, String> {
        let own = Url::parse("http://127.0.0.1:4/").unwrap();
        url(text, DOMAIN, Some(&own)).map(String::from)
    }

    #[test]
    fn a_secret_can_be_named_in_each_way() {
        for (text, address) in [
            ("o365", "http://127.0.0.1:4/secrets/o365"),
            ("o365/4387e9", "http://127.0.0.1:4/secrets/o365/4387e9"),
            (
                "http://127.0.0.1:4/secrets/o365",
                "http://127.0.0.1:4/secrets/o365",
            ),
            (
                "https://my-vault.vault.azure.net/secrets/o365/",
                "https://my-vault.vault.azure.net/secrets/o365",
            ),
            (
                "https://my-vault.vault.azure.net:443/certificates/app/9",
                "https://my-vault.vault.azure.net/secrets/app/9",
            ),
            (
                "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s/)",
                "https://v.vault.azure.net/secrets/s",
            ),
            (
                " @Microsoft.KeyVault(VaultName=v; SecretName=s;SecretVersion=2) ",
                "https://v.vault.azure.net/secrets/s/2",
            ),
            (
                "@Microsoft.KeyVault(vaultname=v;secretname=s;secretversion=)",
                "https://v.vault.azure.net/secrets/s",
            ),
        ] {
            assert_eq!(named(text).as_deref(), Ok(address), "{text}");
        }
    }

    #[test]
    fn a_token_goes_to_no_vault_elsewhere() {
        for text in [
            "https://v.vault.azure.net.evil.example/secrets/s",
            "https://evil.example/secrets/s",
            "https://vvault.azure.net/secrets/s",
            "https://vault.azure.net/secrets/s",
            "https://a.b.vault.azure.net/secrets/s",
            "http://v.vault.azure.net/secrets/s",
            "https://v.vault.azure.net:8443/secrets/s",
            "https://user@v.vault.azure.net/secrets/s",
            "https://v.vault.azure.cn/secrets/s",
            "http://127.0.0.1:5/secrets/s",
            "@Microsoft.KeyVault(SecretUri=https://evil.example/secrets/s)",
        ] {
            let problem = named(text).unwrap_err();
            assert!(
                problem.contains("tokens go nowhere else"),
                "{text}: {problem}"
            );
        }
        let problem = named("@Microsoft.KeyVault(VaultName=evil.example/x;SecretName=s)");
        assert!(problem.unwrap_err().contains("VaultName"));
    }

    #[test]
    fn what_names_no_secret_is_told_and_not_shown() {
        for text in [
            "",
            "hunter2 with spaces",
            "hunter2?x",
            "name/version/hunter2",
            "https://v.vault.azure.net/keys/hunter2",
            "https://v.vault.azure.net/secrets",
            "https://v.vault.azure.net/secrets/a/b/hunter2",
            "@Microsoft.KeyVault(SecretName=hunter2)",
            "@Microsoft.KeyVault(hunter2)",
            "@Microsoft.KeyVault(Name=hunter2)",
            "@Microsoft.KeyVault(VaultName=v;SecretName=s",
        ] {
            let problem = named(text).unwrap_err();
            assert!(!problem.contains("hunter2"), "{text}: {problem}");
        }
        assert!(
            url("o365", DOMAIN, None)
                .unwrap_err()
                .contains("key_vault.url")
        );
    }
}
