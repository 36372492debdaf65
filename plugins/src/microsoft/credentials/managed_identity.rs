//! The identity that Azure gives to a machine or an app: tokens come from an endpoint beside it, without any proof
//! (reference: auth.md §5).

use std::net::{Ipv4Addr, Ipv6Addr};

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Secret};
use audit_exporter_core::{Error, Kind, Result, http};
use reqwest::{Method, RequestBuilder};
use secrecy::ExposeSecret;
use serde::Deserialize;
use url::{Host, Url};

use super::grant::{ANSWER_CAP, Answer, Grant};
use crate::http::body::read_capped;
use crate::http::headers;
use crate::http::is_loopback;
use crate::http::text::first_sentence;
use crate::microsoft::explain::{self, Service};
use crate::microsoft::refusal::{Refusal, refusal};

/// The endpoint of a virtual machine, and of most else that is none of the below.
const IMDS: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const IMDS_VERSION: &str = "2018-02-01";
/// What App Service, Functions and Container Apps set.
const APP_SERVICE_ENDPOINT: &str = "IDENTITY_ENDPOINT";
const APP_SERVICE_HEADER: &str = "IDENTITY_HEADER";
const APP_SERVICE_VERSION: &str = "2019-08-01";

/// The options as they stand in the configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IdentityOptions {
    client_id: Option<String>,
    object_id: Option<String>,
    resource_id: Option<String>,
    endpoint: Option<String>,
    header: Option<Secret>,
}

/// An identity of this machine.
#[derive(Clone, Debug)]
pub(crate) struct ManagedIdentity {
    endpoint: Url,
    /// What App Service wants to see; a virtual machine has none.
    header: Option<Secret>,
    /// Which identity, by one of its three names; without it, the machine's own.
    who: Option<Who>,
}

#[derive(Clone, Debug)]
enum Who {
    Client(String),
    Object(String),
    Resource(String),
}

impl ManagedIdentity {
    /// The identity of the options at `key`. Where its endpoint is stands in the environment, unless the options say so.
    pub(super) fn of(
        options: &Options,
        key: &str,
        given: IdentityOptions,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let who = match (given.client_id, given.object_id, given.resource_id) {
            (None, None, None) => None,
            (Some(id), None, None) => Some(Who::Client(id)),
            (None, Some(id), None) => Some(Who::Object(id)),
            (None, None, Some(id)) => Some(Who::Resource(id)),
            _ => {
                let expected = "at most one of client_id, object_id and resource_id";
                return Err(options.invalid(key, expected, "more"));
            }
        };
        let from_environment = given.endpoint.is_none();
        let app_service = variable(APP_SERVICE_ENDPOINT).zip(variable(APP_SERVICE_HEADER));
        let (endpoint, header) = match (given.endpoint, app_service) {
            (Some(endpoint), _) => (endpoint, given.header),
            (None, Some((endpoint, header))) => (endpoint, Some(Secret::literal(header))),
            (None, None) => (IMDS.to_owned(), given.header),
        };
        let endpoint = Url::parse(endpoint.trim())
            .ok()
            .filter(is_beside_us)
            .ok_or_else(|| {
                let expected = "a URL on this machine or its link, or with https";
                if from_environment {
                    let problem =
                        format!("environment variable {APP_SERVICE_ENDPOINT}: expected {expected}");
                    options.problem(key, &problem)
                } else {
                    options.invalid(&format!("{key}.endpoint"), expected, "something else")
                }
            })?;
        Ok(Self {
            endpoint,
            header,
            who,
        })
    }

    /// Its endpoint's host, for messages.
    pub(crate) fn host(&self) -> &str {
        self.endpoint.authority()
    }

    /// What it is, for messages.
    pub(crate) fn describe(&self) -> String {
        let who = match &self.who {
            None => "this machine's own identity".to_owned(),
            Some(Who::Client(id)) => format!("the identity with client ID {id}"),
            Some(Who::Object(id)) => format!("the identity with object ID {id}"),
            Some(Who::Resource(id)) => format!("the identity {id}"),
        };
        let kind = match self.header {
            Some(_) => "App Service",
            None => "the instance metadata service",
        };
        format!("{who}, by {kind} at {}", self.host())
    }

    /// A token for `audience`.
    pub(super) async fn ask(
        &self,
        http: &http::Client,
        audience: &str,
        clock: &Clock,
    ) -> Result<Grant, Refusal> {
        let host = self.host();
        let unreachable = |error: Error| {
            Refusal::unavailable(format!(
                "{host}: {error}; only a machine or an app of Azure with an identity has this endpoint"
            ))
        };
        let request = self.request(http, audience)?;
        let response = http.send(request).await.map_err(unreachable)?;
        let status = response.status().as_u16();
        let retry_after = headers::retry_after(response.headers(), clock.now());
        let body = read_capped(response, ANSWER_CAP)
            .await
            .map_err(unreachable)?;
        if status != 200 {
            let mut refusal = self.refusal(status, &body);
            refusal.retry_after = refusal.retry_after.or(retry_after);
            return Err(refusal);
        }
        Ok(Answer::read(&body, host)?.grant(clock))
    }

    fn request(&self, http: &http::Client, audience: &str) -> Result<RequestBuilder, Refusal> {
        let is_app_service = self.header.is_some();
        let version = if is_app_service {
            APP_SERVICE_VERSION
        } else {
            IMDS_VERSION
        };
        let who = self.who.as_ref().map(|who| match who {
            Who::Client(id) => ("client_id", id),
            Who::Object(id) => ("object_id", id),
            Who::Resource(id) if is_app_service => ("mi_res_id", id),
            Who::Resource(id) => ("msi_res_id", id),
        });
        let mut url = self.endpoint.clone();
        url.query_pairs_mut()
            .append_pair("api-version", version)
            .append_pair("resource", audience)
            .extend_pairs(who);
        let request = http.request(Method::GET, url);
        let Some(header) = &self.header else {
            return Ok(request.header("Metadata", "true"));
        };
        let header = header.read().map_err(|error| {
            let problem = format!("managed_identity.header cannot be read: {error}");
            Refusal::without_code(Kind::Auth, problem)
        })?;
        let mut header =
            reqwest::header::HeaderValue::from_str(header.expose_secret()).map_err(|_| {
                let problem = "managed_identity.header is not what a header can hold".to_owned();
                Refusal::without_code(Kind::Auth, problem)
            })?;
        header.set_sensitive(true);
        Ok(request.header("X-IDENTITY-HEADER", header))
    }

    /// Reference: auth.md §5.1.
    fn refusal(&self, status: u16, body: &[u8]) -> Refusal {
        let host = self.host();
        let said: Said = serde_json::from_slice(body).unwrap_or_default();
        if said.error_description.contains("AADSTS") {
            return refusal(host, status, body, None);
        }
        let row = explain::find(Service::ManagedIdentity, &said.error);
        let kind = match (status, row) {
            (429, _) => Kind::Throttled,
            (404 | 410 | 500.., _) => Kind::Unavailable,
            (_, Some(row)) => row.kind,
            _ => Kind::Auth,
        };
        let reason = match (status, row) {
            (404 | 410, _) => format!("HTTP {status}: it is being updated, for up to 70 s"),
            (_, Some(row)) => format!("{}: {}", said.error, row.text()),
            _ => format!("HTTP {status} {}", first_sentence(&said.error)),
        };
        let words = match first_sentence(&said.error_description) {
            words if words.is_empty() => words,
            words => format!(" (\"{words}\")"),
        };
        Refusal {
            code: row.map(|_| said.error),
            ..Refusal::without_code(
                kind,
                format!(
                    "{host} refused the managed identity's token request: {}{words}",
                    reason.trim_end()
                ),
            )
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    error: String,
    error_description: String,
}

/// Such endpoints speak plain HTTP to this machine alone.
fn is_beside_us(url: &Url) -> bool {
    let link_local = match url.host() {
        Some(Host::Ipv4(address)) => Ipv4Addr::is_link_local(&address),
        Some(Host::Ipv6(address)) => Ipv6Addr::is_unicast_link_local(&address),
        _ => false,
    };
    url.scheme() == "https"
        || (url.scheme() == "http"
            && (link_local || is_loopback(url.host_str().unwrap_or_default())))
}
