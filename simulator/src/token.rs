//! The token endpoint of Microsoft Entra: client credentials with a secret or an assertion, on both versions
//! (authentication reference, "Client credentials with secret", "Certificate assertion" and "Error response").

use std::{collections::HashMap, sync::atomic::Ordering};

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use crate::{
    answer::Answer,
    assertion,
    attempts::Verdict,
    chance::{Chance, mix, part},
    config::AppConfig,
    faults::Failure,
    jwt::Claims,
    state::{State, Tenant},
};

/// Which of the two endpoints was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// `/oauth2/token`: takes `resource`, answers numbers as strings.
    V1,
    /// `/oauth2/v2.0/token`: takes `scope`, answers numbers as numbers.
    V2,
}

/// An error of the token endpoint.
pub(crate) struct Refusal {
    number: u64,
    error: &'static str,
    text: String,
}

pub(crate) fn refuse(number: u64, error: &'static str, text: impl Into<String>) -> Refusal {
    Refusal {
        number,
        error,
        text: text.into(),
    }
}

/// Answers a token request.
pub(crate) fn token(
    state: &State,
    tenant: &str,
    version: Version,
    headers: &HeaderMap,
    body: &[u8],
) -> Answer {
    let form: HashMap<String, String> = url::form_urlencoded::parse(body).into_owned().collect();
    if let Some(answer) = fault(state, tenant) {
        return answer;
    }
    match grant(state, tenant, version, headers, form) {
        Ok(answer) => answer,
        Err(refusal) => refusal.answer(state),
    }
}

fn fault(state: &State, tenant: &str) -> Option<Answer> {
    let faults = state.faults();
    let tokens = &faults.tokens;
    if tokens.throttled <= 0.0 && tokens.unavailable <= 0.0 {
        return None;
    }
    let key = mix(&[part("token"), part(tenant)]);
    let draw = |chance: &mut Chance| {
        let failure = match chance.unit() {
            share if share < tokens.throttled => Some(Failure::Throttled429),
            share if share < tokens.throttled + tokens.unavailable => Some(Failure::Unavailable),
            _ => None,
        };
        Verdict {
            failure,
            wait_millis: 0,
        }
    };
    let (status, number, text) = match state
        .attempts
        .next(&faults, state.config.seed, key, draw)
        .failure?
    {
        Failure::Throttled429 => (
            StatusCode::TOO_MANY_REQUESTS,
            90_055,
            "The server has terminated the request due to excessive request rate.",
        ),
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            90_033,
            "A transient error has occurred. Please try again.",
        ),
    };
    let mut answer = refuse(number, "temporarily_unavailable", text).answer(state);
    answer.status = status;
    if let Some(seconds) = tokens.retry_after_seconds {
        answer = answer.with(header::RETRY_AFTER, &seconds.to_string());
    }
    Some(answer)
}

fn grant(
    state: &State,
    tenant_name: &str,
    version: Version,
    headers: &HeaderMap,
    mut form: HashMap<String, String>,
) -> Result<Answer, Refusal> {
    let tenant = find_tenant(state, tenant_name)?;
    if let Some((id, secret)) = basic(headers) {
        form.entry("client_id".to_owned()).or_insert(id);
        form.entry("client_secret".to_owned()).or_insert(secret);
    }
    match parameter(&form, "grant_type")? {
        "client_credentials" => {}
        other => {
            let text = format!("The app requested an unsupported grant type '{other}'.");
            return Err(refuse(70_003, "unsupported_grant_type", text));
        }
    }
    let client = parameter(&form, "client_id")?;
    if tenant.config.other_cloud {
        return Err(refuse(
            900_382,
            "invalid_request",
            "Confidential Client is not supported in Cross Cloud request.",
        ));
    }
    let app = tenant.apps.iter().find(|app| app.client_id.eq_ignore_ascii_case(client)).ok_or_else(|| {
        refuse(
            700_016,
            "unauthorized_client",
            format!(
                "Application with identifier '{client}' was not found in the directory '{}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.",
                tenant.config.domain
            ),
        )
    })?;
    let endpoint = match version {
        Version::V1 => format!("{}/{tenant_name}/oauth2/token", state.url),
        Version::V2 => format!("{}/{tenant_name}/oauth2/v2.0/token", state.url),
    };
    let means = prove(state, tenant, app, &endpoint, &form)?;
    let resource = match version {
        Version::V1 => parameter(&form, "resource")?,
        Version::V2 => scope(&form)?,
    };
    if !state.issues_for(resource) {
        return Err(refuse(
            500_011,
            "invalid_resource",
            format!(
                "The resource principal named {resource} was not found in the tenant named {}. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.",
                tenant.config.domain
            ),
        ));
    }
    let claims = claims(state, tenant, app, resource, means);
    Ok(answer(state, &claims, version))
}

fn find_tenant<'s>(state: &'s State, name: &str) -> Result<&'s Tenant, Refusal> {
    if ["common", "organizations", "consumers"].contains(&name) {
        let text = format!(
            "Application is not configured as a multi-tenant application. Usage of the /{name} endpoint is not supported for such apps created after '10/15/2018'. Use a tenant-specific endpoint or configure the application to be multi-tenant."
        );
        return Err(refuse(50_194, "invalid_request", text));
    }
    state.tenant_named(name).ok_or_else(|| {
        if Uuid::parse_str(name).is_ok() || name.contains('.') {
            let text = format!("Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.");
            refuse(90_002, "invalid_request", text)
        } else {
            let text = format!("Specified tenant identifier '{name}' is neither a valid DNS name, nor a valid external domain.");
            refuse(900_023, "invalid_request", text)
        }
    })
}

fn parameter<'f>(form: &'f HashMap<String, String>, name: &str) -> Result<&'f str, Refusal> {
    form.get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| {
            let text = format!("The request body must contain the following parameter: '{name}'.");
            refuse(900_144, "invalid_request", text)
        })
}

/// HTTP Basic: id and secret, each form-encoded first (RFC 6749, 2.3.1).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let plain = |text: &str| {
        let pair = format!("v={text}");
        url::form_urlencoded::parse(pair.as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    };
    Some((plain(id)?, plain(secret)?))
}

/// Whether the application proves itself, and by what (`appidacr`): a secret, or an assertion.
fn prove(
    state: &State,
    tenant: &Tenant,
    app: &AppConfig,
    endpoint: &str,
    form: &HashMap<String, String>,
) -> Result<&'static str, Refusal> {
    if let Some(given) = form.get("client_assertion") {
        if app.client_id != tenant.config.client_id {
            let text = "The certificate with identifier used to sign the client assertion is not registered on application.";
            return Err(refuse(700_027, "invalid_client", text));
        }
        return assertion::check(state, tenant, endpoint, form, given).map(|()| "2");
    }
    match form.get("client_secret") {
        Some(secret) if *secret == app.client_secret => Ok("1"),
        Some(_) => Err(refuse(
            7_000_215,
            "invalid_client",
            format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{}'.",
                app.client_id
            ),
        )),
        None => Err(refuse(
            7_000_218,
            "invalid_client",
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        )),
    }
}

/// The resource of a v2 scope: exactly one, ending in `/.default`.
fn scope(form: &HashMap<String, String>) -> Result<&str, Refusal> {
    if form.contains_key("resource") {
        return Err(refuse(
            901_002,
            "invalid_request",
            "The 'resource' request parameter is not supported.",
        ));
    }
    let scope = parameter(form, "scope")?;
    scope.strip_suffix("/.default").filter(|resource| !resource.contains(' ')).ok_or_else(|| {
        let text = format!("The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid.");
        refuse(70_011, "invalid_scope", text)
    })
}

/// What a new token says: `means` is what the application has proved itself by.
pub(crate) fn claims(
    state: &State,
    tenant: &Tenant,
    app: &AppConfig,
    resource: &str,
    means: &str,
) -> Claims {
    state.counts.tokens_issued.fetch_add(1, Ordering::Relaxed);
    let now = state.clock.now().timestamp();
    let lifetime = state.faults().tokens.lifetime_seconds as i64;
    let service = Uuid::from_u64_pair(part(&app.client_id), part(&tenant.config.id)).to_string();
    Claims {
        aud: resource.to_owned(),
        iss: format!("https://sts.windows.net/{}/", tenant.id),
        iat: now,
        // Entra dates tokens back by five minutes, against clocks that are slow.
        nbf: now - 300,
        exp: now + lifetime,
        appid: app.client_id.clone(),
        appidacr: means.to_owned(),
        idp: format!("https://sts.windows.net/{}/", tenant.id),
        oid: service.clone(),
        roles: app.roles.clone(),
        sub: service,
        tid: tenant.id.to_string(),
        uti: Uuid::new_v4().simple().to_string(),
        ver: "1.0".to_owned(),
    }
}

fn answer(state: &State, claims: &Claims, version: Version) -> Answer {
    let lifetime = claims.exp - claims.iat;
    let token = state.signer.sign(claims);
    let body = match version {
        Version::V1 => json!({
            "token_type": "Bearer",
            "expires_in": lifetime.to_string(),
            "ext_expires_in": lifetime.to_string(),
            "expires_on": claims.exp.to_string(),
            "not_before": claims.nbf.to_string(),
            "resource": claims.aud,
            "access_token": token,
        }),
        Version::V2 => json!({
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        }),
    };
    no_store(Answer::json(StatusCode::OK, body.to_string()))
}

fn no_store(answer: Answer) -> Answer {
    answer.with(header::CACHE_CONTROL, "no-store, no-cache")
}

impl Refusal {
    fn answer(self, state: &State) -> Answer {
        let (trace, correlation) = (Uuid::new_v4(), Uuid::new_v4());
        let time: DateTime<Utc> = state.clock.now();
        let time = time.format("%Y-%m-%d %H:%M:%SZ");
        let body = json!({
            "error": self.error,
            "error_description": format!(
                "AADSTS{}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}",
                self.number, self.text
            ),
            "error_codes": [self.number],
            "timestamp": time.to_string(),
            "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
            "error_uri": format!("{}/error?code={}", state.url, self.number),
        });
        let status = if self.error == "invalid_client" {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::BAD_REQUEST
        };
        let mut answer = no_store(Answer::json(status, body.to_string())).with(
            HeaderName::from_static("x-ms-request-id"),
            &trace.to_string(),
        );
        answer.outcome = format!("AADSTS{}", self.number);
        answer
    }
}
