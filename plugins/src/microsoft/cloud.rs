//! Where a tenant lives, and with which credentials it is read (reference: management-activity-api.md §1, auth.md §1).

mod table;

use std::sync::Arc;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::event::is_guid;
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use self::table::{CLOUDS, Cloud};
use super::credentials::{self, App, Credential, Given};
use super::key_vault::{ReaderOptions, Vaults};
use crate::http::is_loopback;

/// Microsoft's own baseline of requests a minute for a tenant (reference: §8).
const BASELINE_REQUESTS_PER_MINUTE: u32 = 2000;
/// More than Microsoft grants to anybody.
const MOST_REQUESTS_PER_MINUTE: u32 = 100_000;

/// A tenant's options, as they stand in the configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantOptions {
    #[serde(default = "commercial")]
    cloud: String,
    client_id: Option<String>,
    client_secret: Option<credentials::Text>,
    certificate: Option<credentials::CertificateOptions>,
    federated_token: Option<credentials::FederatedOptions>,
    managed_identity: Option<credentials::IdentityOptions>,
    key_vault: Option<ReaderOptions>,
    authority: Option<String>,
    management_api: Option<String>,
    graph_api: Option<String>,
    exchange_api: Option<String>,
    audience: Option<String>,
    graph_audience: Option<String>,
    exchange_audience: Option<String>,
    publisher_identifier: Option<String>,
    #[serde(default = "baseline")]
    requests_per_minute: u32,
    #[serde(default = "version_two")]
    token_version: String,
    // The older connector's sign-in as a person.
    username: Option<IgnoredAny>,
    password: Option<IgnoredAny>,
}

fn commercial() -> String {
    "commercial".to_owned()
}

fn baseline() -> u32 {
    BASELINE_REQUESTS_PER_MINUTE
}

fn version_two() -> String {
    "v2".to_owned()
}

/// Which of Entra's token endpoints is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenVersion {
    /// `/oauth2/token` with a `resource`.
    V1,
    /// `/oauth2/v2.0/token` with a `scope`.
    V2,
}

/// How a tenant is read: its options, completed and checked.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The tenant's id, a GUID.
    pub(crate) tenant: Arc<str>,
    /// The cloud's name.
    pub(crate) cloud: &'static str,
    /// Who asks for its tokens, where, and with which proof.
    pub(crate) app: Arc<App>,
    /// The Management API: scheme and host. The one place that its tokens go to.
    pub(crate) management_api: Url,
    /// Microsoft Graph: scheme and host. The one place that its tokens go to.
    pub(crate) graph_api: Url,
    /// Exchange Online: scheme and host. The one place that its tokens go to.
    pub(crate) exchange_api: Url,
    /// What Management API tokens are for, without a slash at the end.
    pub(crate) audience: String,
    /// What Graph tokens are for, likewise.
    pub(crate) graph_audience: String,
    /// What Exchange Online tokens are for, likewise.
    pub(crate) exchange_audience: String,
    /// Whether the cloud offers Graph audit queries; false in GCC High, `DoD` and China.
    pub(crate) has_graph_audit_queries: bool,
    /// The throttling bucket: the tenant that wrote the client.
    pub(crate) publisher: String,
    /// The pace of requests to the Management API.
    pub(crate) requests_per_minute: u32,
}

impl Access {
    /// Reads and checks a tenant's options.
    pub(crate) fn of(tenant: &Tenant) -> Result<Self> {
        let options = &tenant.options;
        let given: TenantOptions = options.parse()?;
        refuse_people(options, &given)?;
        let cloud = cloud(options, &given.cloud)?;
        let host = |key: &str, given: &Option<String>, default: &str| {
            origin(options, key, given.as_deref().unwrap_or(default))
        };
        let audience = |key: &str, given: &Option<String>, default: &str| {
            bare_audience(options, key, given.as_deref().unwrap_or(default))
        };
        let publisher = given.publisher_identifier.as_deref().unwrap_or(&tenant.id);
        if !is_guid(publisher.trim()) {
            return Err(options.invalid("publisher_identifier", "a tenant's GUID", publisher));
        }
        if !(1..=MOST_REQUESTS_PER_MINUTE).contains(&given.requests_per_minute) {
            let expected = format!("1 to {MOST_REQUESTS_PER_MINUTE}");
            let found = given.requests_per_minute.to_string();
            return Err(options.invalid("requests_per_minute", &expected, &found));
        }
        Ok(Self {
            tenant: Arc::clone(&tenant.id),
            cloud: cloud.name,
            management_api: host(
                "management_api",
                &given.management_api,
                cloud.management_api,
            )?,
            graph_api: host("graph_api", &given.graph_api, cloud.graph_api)?,
            exchange_api: host("exchange_api", &given.exchange_api, cloud.exchange_api)?,
            audience: audience("audience", &given.audience, cloud.management_api)?,
            graph_audience: audience("graph_audience", &given.graph_audience, cloud.graph_api)?,
            exchange_audience: audience(
                "exchange_audience",
                &given.exchange_audience,
                cloud.exchange_api,
            )?,
            has_graph_audit_queries: cloud.has_graph_audit_queries,
            publisher: publisher.trim().to_owned(),
            requests_per_minute: given.requests_per_minute,
            app: Arc::new(app(tenant, cloud, given)?),
        })
    }
}

/// Who asks for the tenant's tokens.
fn app(tenant: &Tenant, cloud: &Cloud, given: TenantOptions) -> Result<App> {
    let options = &tenant.options;
    let authority = given.authority.as_deref().unwrap_or(cloud.authority);
    let authority = origin(options, "authority", authority)?;
    let token_version = token_version(options, &given.token_version)?;
    let app = |credential| App {
        tenant: Arc::clone(&tenant.id),
        authority: authority.clone(),
        token_version,
        credential,
    };
    let vaults = Vaults::of(options, cloud.vault_domain, given.key_vault, &app)?;
    let credential = Credential::of(
        options,
        "",
        Given {
            client_id: given.client_id,
            client_secret: given.client_secret,
            certificate: given.certificate,
            federated_token: given.federated_token,
            managed_identity: given.managed_identity,
        },
        Some(&vaults),
    )?;
    Ok(app(credential))
}

/// The older connector could sign in as a person; this program cannot, and says what to do instead.
fn refuse_people(options: &Options, given: &TenantOptions) -> Result<()> {
    for (key, given) in [("username", &given.username), ("password", &given.password)] {
        if given.is_some() {
            return Err(options.problem(
                key,
                "signing in as a person is not supported: this program runs unattended, and a person's sign-in ends \
                 with multifactor authentication; register an app, grant it application permissions (ActivityFeed.Read \
                 of the Office 365 Management APIs) with admin consent, and give client_id and one of client_secret, \
                 certificate, federated_token and managed_identity",
            ));
        }
    }
    Ok(())
}

fn cloud(options: &Options, name: &str) -> Result<&'static Cloud> {
    CLOUDS
        .iter()
        .find(|cloud| cloud.name == name)
        .ok_or_else(|| {
            let valid = CLOUDS.iter().map(|cloud| cloud.name);
            options.unknown_value("cloud", "a cloud", name, valid)
        })
}

fn token_version(options: &Options, name: &str) -> Result<TokenVersion> {
    match name {
        "v1" => Ok(TokenVersion::V1),
        "v2" => Ok(TokenVersion::V2),
        _ => {
            let valid = ["v1", "v2"].into_iter();
            Err(options.unknown_value("token_version", "a version", name, valid))
        }
    }
}

/// A URL of only scheme, host and port: what tokens are compared with before they leave.
pub(super) fn origin(options: &Options, key: &str, given: &str) -> Result<Url> {
    let expected =
        "a URL such as https://manage.office.com, with a scheme and a host and nothing else";
    // What is given is not shown, here and below: it may hold a password.
    let url = Url::parse(given.trim())
        .map_err(|_| options.invalid(key, expected, "something that is no URL"))?;
    let bare = url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && url.has_host();
    if !bare {
        return Err(options.invalid(key, expected, "more than that, or no host"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(url.host_str().unwrap_or_default()) => Ok(url),
        scheme => Err(options.invalid(key, "https (or a loopback address)", scheme)),
    }
}

/// What tokens are for, bare. Spaces, a slash or `/.default` at the end are what people paste; tokens for such an audience
/// would be refused later with a message that helps nobody.
fn bare_audience(options: &Options, key: &str, given: &str) -> Result<String> {
    let given = given.trim();
    let bare = given.strip_suffix("/.default").unwrap_or(given);
    let bare = bare.trim_end_matches('/');
    if bare.is_empty() || bare.contains(char::is_whitespace) {
        let expected = "an audience such as https://manage.office.com";
        return Err(options.invalid(key, expected, &format!("{given:?}")));
    }
    Ok(bare.to_owned())
}

#[cfg(test)]
mod tests;
