//! The endpoints of managed identities, which give tokens to whoever runs beside them: the instance metadata service of
//! a virtual machine, and App Service's (authentication reference, "Managed identity").

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Body,
    extract::{RawQuery, State as Shared},
    http::{HeaderMap, Response, StatusCode},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    answer::Answer,
    attempts::Verdict,
    chance::{mix, part},
    config::AppConfig,
    faults::Failure,
    jwt,
    server::send,
    state::{State, Tenant},
    token,
};

/// An identity that a machine has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedIdentity {
    /// Its client id, which its tokens carry.
    pub client_id: String,
    /// Its object id.
    #[serde(default)]
    pub object_id: String,
    /// Its resource id, such as `/subscriptions/…/userAssignedIdentities/NAME`.
    #[serde(default)]
    pub resource_id: String,
    /// Whether it is the machine's own, which is meant when none is named.
    #[serde(default)]
    pub system: bool,
    /// Application permissions in its tokens.
    #[serde(default)]
    pub roles: Vec<String>,
}

struct Refusal {
    status: StatusCode,
    error: &'static str,
    text: &'static str,
}

const fn refuse(status: StatusCode, error: &'static str, text: &'static str) -> Refusal {
    Refusal {
        status,
        error,
        text,
    }
}

/// `GET /metadata/identity/oauth2/token`.
pub(crate) async fn metadata(
    Shared(state): Shared<Arc<State>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let query = pairs(query.as_deref());
    let granted = in_order(&headers).and_then(|()| {
        grant(
            &state,
            &query,
            "2018-02-01",
            &["client_id", "object_id", "msi_res_id"],
        )
    });
    let answer = granted.map(|(claims, _)| {
        let life = claims.exp - claims.iat;
        json!({
            "access_token": state.signer.sign(&claims),
            "refresh_token": "",
            "expires_in": life.to_string(),
            "expires_on": claims.exp.to_string(),
            "not_before": claims.nbf.to_string(),
            "resource": claims.aud,
            "token_type": "Bearer",
        })
    });
    finish(&state, answer)
}

/// `GET /msi/token`.
pub(crate) async fn app_service(
    Shared(state): Shared<Arc<State>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let query = pairs(query.as_deref());
    let known = headers
        .get("x-identity-header")
        .is_some_and(|value| value.as_bytes() == state.config.identity_header.as_bytes());
    let names = ["client_id", "principal_id", "object_id", "mi_res_id"];
    let granted = if known {
        grant(&state, &query, "2019-08-01", &names)
    } else {
        Err(refuse(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "The X-IDENTITY-HEADER is missing or wrong.",
        ))
    };
    let answer = granted.map(|(claims, client_id)| {
        json!({
            "access_token": state.signer.sign(&claims),
            "client_id": client_id,
            "expires_on": claims.exp.to_string(),
            "not_before": claims.nbf.to_string(),
            "resource": claims.aud,
            "token_type": "Bearer",
        })
    });
    finish(&state, answer)
}

fn pairs(query: Option<&str>) -> HashMap<String, String> {
    url::form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}

fn in_order(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_plain = headers.get("metadata").is_some_and(|value| value == "true")
        && !headers.contains_key("x-forwarded-for");
    if is_plain {
        return Ok(());
    }
    Err(refuse(
        StatusCode::BAD_REQUEST,
        "bad_request_102",
        "Required metadata header not specified",
    ))
}

/// The claims of a token for the identity that is named by one of `names`, or for the machine's own.
fn grant(
    state: &State,
    query: &HashMap<String, String>,
    version: &str,
    names: &[&str],
) -> Result<(jwt::Claims, String), Refusal> {
    if state.identity_is_updating() {
        return Err(refuse(
            StatusCode::GONE,
            "gone",
            "The endpoint is being updated.",
        ));
    }
    if query.get("api-version").map(String::as_str) != Some(version) {
        let text = "The api-version is missing or not supported.";
        return Err(refuse(StatusCode::BAD_REQUEST, "invalid_request", text));
    }
    let resource = query
        .get("resource")
        .filter(|resource| state.issues_for(resource))
        .ok_or_else(|| {
            let text = "AADSTS500011: The resource principal was not found in the tenant.";
            refuse(StatusCode::BAD_REQUEST, "invalid_resource", text)
        })?;
    let wanted = names
        .iter()
        .find_map(|name| Some((*name, query.get(*name)?.as_str())));
    let is_meant = |identity: &&ManagedIdentity| match wanted {
        None => identity.system,
        Some(("client_id", id)) => identity.client_id.eq_ignore_ascii_case(id),
        Some(("object_id" | "principal_id", id)) => identity.object_id.eq_ignore_ascii_case(id),
        Some((_, id)) => identity.resource_id.eq_ignore_ascii_case(id),
    };
    let (tenant, identity): (&Tenant, _) = state
        .tenants
        .iter()
        .find_map(|tenant| {
            let found = tenant.config.identities.iter().find(is_meant)?;
            Some((tenant, found))
        })
        .ok_or_else(|| {
            refuse(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "Identity not found",
            )
        })?;
    let app = AppConfig {
        client_id: identity.client_id.clone(),
        client_secret: String::new(),
        roles: identity.roles.clone(),
    };
    let claims = token::claims(state, tenant, &app, resource, "2");
    Ok((claims, app.client_id))
}

fn finish(state: &State, answer: Result<serde_json::Value, Refusal>) -> Response<Body> {
    let answer = match answer {
        Ok(body) => Answer::json(StatusCode::OK, body.to_string()),
        Err(refusal) => {
            let body = json!({"error": refusal.error, "error_description": refusal.text});
            Answer::json(refusal.status, body.to_string())
        }
    };
    state.counts.request("identity", &answer.outcome);
    send(state, answer)
}

impl State {
    fn identity_is_updating(&self) -> bool {
        let share = self.faults().tokens.identity_updating;
        self.fails("identity", share)
    }

    /// Whether the next answer of `what` fails, with the probability `share`.
    pub(crate) fn fails(&self, what: &str, share: f64) -> bool {
        let verdict = self.attempts.next(
            &self.faults(),
            self.config.seed,
            mix(&[part(what)]),
            |chance| Verdict {
                failure: chance.hit(share).then_some(Failure::Unavailable),
                wait_millis: 0,
            },
        );
        verdict.failure.is_some()
    }
}
