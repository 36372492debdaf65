//! Where a tenant lives, and with which credentials it is read (reference: management-activity-api.md §1, auth.md §1).

use std::net::IpAddr;
use std::sync::Arc;

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Secret, Tenant};
use audit_exporter_core::event::is_guid;
use serde::Deserialize;
use url::{Host, Url};

/// What a national cloud has in its own place.
struct Cloud {
    name: &'static str,
    authority: &'static str,
    management_api: &'static str,
    graph_api: &'static str,
    exchange_api: &'static str,
    /// Microsoft's page of the API says where it is not (reference: graph-audit-queries.md §1).
    has_graph_audit_queries: bool,
}

const CLOUDS: [Cloud; 5] = [
    Cloud {
        name: "commercial",
        authority: "https://login.microsoftonline.com",
        management_api: "https://manage.office.com",
        graph_api: "https://graph.microsoft.com",
        exchange_api: "https://outlook.office365.com",
        has_graph_audit_queries: true,
    },
    Cloud {
        name: "gcc",
        authority: "https://login.microsoftonline.com",
        management_api: "https://manage-gcc.office.com",
        graph_api: "https://graph.microsoft.com",
        exchange_api: "https://outlook.office365.com",
        has_graph_audit_queries: true,
    },
    Cloud {
        name: "gcc_high",
        authority: "https://login.microsoftonline.us",
        management_api: "https://manage.office365.us",
        graph_api: "https://graph.microsoft.us",
        exchange_api: "https://outlook.office365.us",
        has_graph_audit_queries: false,
    },
    Cloud {
        name: "dod",
        authority: "https://login.microsoftonline.us",
        management_api: "https://manage.protection.apps.mil",
        graph_api: "https://dod-graph.microsoft.us",
        exchange_api: "https://webmail.apps.mil",
        has_graph_audit_queries: false,
    },
    // Known from its users only; Microsoft's reference does not list it.
    Cloud {
        name: "china",
        authority: "https://login.partner.microsoftonline.cn",
        management_api: "https://manage.office365.cn",
        graph_api: "https://microsoftgraph.chinacloudapi.cn",
        exchange_api: "https://partner.outlook.cn",
        has_graph_audit_queries: false,
    },
];

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
    client_id: String,
    client_secret: Secret,
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
    /// Where tokens are asked for: scheme and host.
    pub(crate) authority: Url,
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
    /// Whether the cloud offers Graph audit queries; false in GCC High, DoD and China.
    pub(crate) has_graph_audit_queries: bool,
    /// The app's id.
    pub(crate) client_id: String,
    /// The app's secret.
    pub(crate) client_secret: Secret,
    /// The throttling bucket: the tenant that wrote the client.
    pub(crate) publisher: String,
    /// The pace of requests to the Management API.
    pub(crate) requests_per_minute: u32,
    /// Which token endpoint.
    pub(crate) token_version: TokenVersion,
}

impl Access {
    /// Reads and checks a tenant's options.
    pub(crate) fn of(tenant: &Tenant) -> Result<Self> {
        let options = &tenant.options;
        let given: TenantOptions = options.parse()?;
        let cloud = cloud(options, &given.cloud)?;
        let authority = given.authority.as_deref().unwrap_or(cloud.authority);
        let management_api = given
            .management_api
            .as_deref()
            .unwrap_or(cloud.management_api);
        let graph_api = given.graph_api.as_deref().unwrap_or(cloud.graph_api);
        let exchange_api = given.exchange_api.as_deref().unwrap_or(cloud.exchange_api);
        let audience = |key: &str, given: Option<&str>, default: &str| {
            bare_audience(options, key, given.unwrap_or(default))
        };
        let publisher = given.publisher_identifier.as_deref().unwrap_or(&tenant.id);
        if !is_guid(publisher.trim()) {
            return Err(options.invalid("publisher_identifier", "a tenant's GUID", publisher));
        }
        if given.client_id.trim().is_empty() {
            return Err(options.invalid("client_id", "the app's client ID", "nothing"));
        }
        if !(1..=MOST_REQUESTS_PER_MINUTE).contains(&given.requests_per_minute) {
            let expected = format!("1 to {MOST_REQUESTS_PER_MINUTE}");
            let found = given.requests_per_minute.to_string();
            return Err(options.invalid("requests_per_minute", &expected, &found));
        }
        Ok(Self {
            tenant: Arc::clone(&tenant.id),
            cloud: cloud.name,
            authority: origin(options, "authority", authority)?,
            management_api: origin(options, "management_api", management_api)?,
            graph_api: origin(options, "graph_api", graph_api)?,
            exchange_api: origin(options, "exchange_api", exchange_api)?,
            audience: audience("audience", given.audience.as_deref(), cloud.management_api)?,
            graph_audience: audience(
                "graph_audience",
                given.graph_audience.as_deref(),
                cloud.graph_api,
            )?,
            exchange_audience: audience(
                "exchange_audience",
                given.exchange_audience.as_deref(),
                cloud.exchange_api,
            )?,
            has_graph_audit_queries: cloud.has_graph_audit_queries,
            client_id: given.client_id.trim().to_owned(),
            client_secret: given.client_secret,
            publisher: publisher.trim().to_owned(),
            requests_per_minute: given.requests_per_minute,
            token_version: token_version(options, &given.token_version)?,
        })
    }
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
fn origin(options: &Options, key: &str, given: &str) -> Result<Url> {
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
        "http" if is_loopback(&url) => Ok(url),
        scheme => Err(options.invalid(key, "https (or a loopback address)", scheme)),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
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
mod tests {
    use super::*;

    fn access(more: &str) -> Result<Access> {
        let text = format!("client_id = \"app\"\nclient_secret = \"hidden\"\n{more}");
        Access::of(&Tenant {
            name: "contoso".into(),
            id: "0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10".into(),
            tags: Vec::new(),
            options: Options::from_toml("tenants.contoso", &text),
        })
    }

    #[test]
    fn each_cloud_has_its_hosts() {
        let cases = [
            (
                "commercial",
                "https://login.microsoftonline.com/",
                "https://manage.office.com",
            ),
            (
                "gcc",
                "https://login.microsoftonline.com/",
                "https://manage-gcc.office.com",
            ),
            (
                "gcc_high",
                "https://login.microsoftonline.us/",
                "https://manage.office365.us",
            ),
            (
                "dod",
                "https://login.microsoftonline.us/",
                "https://manage.protection.apps.mil",
            ),
            (
                "china",
                "https://login.partner.microsoftonline.cn/",
                "https://manage.office365.cn",
            ),
        ];
        for (cloud, authority, audience) in cases {
            let access = access(&format!("cloud = \"{cloud}\"")).unwrap();
            assert_eq!(access.authority.as_str(), authority);
            assert_eq!(access.management_api.as_str(), format!("{audience}/"));
            assert_eq!(access.audience, audience);
            assert_eq!(access.publisher, "0b1cf0ad-1f43-4bdd-9a1b-2e8f6b1c7d10");
        }
    }

    #[test]
    fn an_audience_with_a_slash_or_spaces_is_understood() {
        for pasted in [
            "https://manage.office.com/",
            " https://manage.office.com ",
            "https://manage.office.com/.default",
            "https://manage.office.com//",
        ] {
            let access = access(&format!("audience = \"{pasted}\"")).unwrap();
            assert_eq!(access.audience, "https://manage.office.com");
        }
        assert!(access("audience = \"https://manage. office.com\"").is_err());
        assert!(access("audience = \" \"").is_err());
    }

    #[test]
    fn only_https_and_loopback_hosts_get_secrets_and_tokens() {
        for good in [
            "http://127.0.0.1:8080",
            "http://[::1]:1/",
            "http://localhost",
            "https://proxy.example:8443",
        ] {
            assert!(
                access(&format!("management_api = \"{good}\"")).is_ok(),
                "{good}"
            );
            assert!(access(&format!("authority = \"{good}\"")).is_ok(), "{good}");
        }
        for bad in [
            "http://manage.office.com",
            "http://localhost.evil.example",
            "ftp://127.0.0.1",
            "manage.office.com",
            "https://user:hunter2@manage.office.com",
            "https://user:hunter2@ho st/",
            "https://user:hunter2@[::1",
            "https://user:hunter2@host:99999",
            "user:hunter2@manage.office.com",
            "https://manage.office.com/api/v1.0",
            "https://manage.office.com/?a=b",
            "data:x",
        ] {
            let error = access(&format!("management_api = \"{bad}\"")).unwrap_err();
            assert!(error.to_string().contains("management_api"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn mistakes_in_the_options_are_named() {
        for (option, named) in [
            ("cloud = \"gcc-high\"", "cloud"),
            ("token_version = \"v3\"", "token_version"),
            ("requests_per_minute = 0", "requests_per_minute"),
            (
                "publisher_identifier = \"contoso.com\"",
                "publisher_identifier",
            ),
            ("clientid = \"x\"", "clientid"),
        ] {
            let error = access(option).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert!(!format!("{:?}", access("").unwrap()).contains("hidden"));
    }
}
