//! What `check` says of a tenant's cloud, credential and tokens, before a source asks its own API.

use audit_exporter_core::event::is_guid;
use audit_exporter_core::plugin::Finding;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret;
use url::Url;

use super::claims::Claims;
use super::cloud::Access;
use super::credentials::{Certificate, Credential, Proven, Subject};
use super::http::NOTABLE_SKEW;
use super::token::Tokens;
use crate::http::text::first_sentence;

/// How long before its end a certificate is spoken of: time enough to make a new one and register it.
const ENDS_SOON: TimeDelta = TimeDelta::days(30);

/// What proves the app, where tokens come from and go, and where the app is consented to.
pub(crate) async fn tenant(access: &Access, tokens: &Tokens) -> Vec<Finding> {
    let mut findings = credential(tokens).await;
    findings.push(hosts(access, tokens.issuer().host()));
    findings.push(consent(access));
    findings
}

/// The hosts that see a token, and what the cloud does without.
fn hosts(access: &Access, authority: &str) -> Finding {
    let [management, graph, exchange] = [
        (&access.management_api, &access.audience),
        (&access.graph_api, &access.graph_audience),
        (&access.exchange_api, &access.exchange_audience),
    ]
    .map(|(api, audience)| target(api, audience));
    let lacks = if access.has_graph_audit_queries {
        ""
    } else {
        "; this cloud has no Graph audit queries"
    };
    Finding::ok(format!(
        "cloud {}: tokens are asked for at {authority}, and go to {management}, {graph} and {exchange} alone{lacks}",
        access.cloud
    ))
}

/// An API's host, and what its tokens are for if that is another.
fn target(api: &Url, audience: &str) -> String {
    let host = api.authority();
    match audience.strip_prefix("https://") {
        Some(bare) if bare == host => host.to_owned(),
        _ => format!("{host} (for {})", first_sentence(audience)),
    }
}

/// What is known of the credential without using it. What cannot be read shows when a token is asked for.
async fn credential(tokens: &Tokens) -> Vec<Finding> {
    let issuer = tokens.issuer();
    let (client_id, proof) = match &issuer.app().credential {
        Credential::App { client_id, proof } => (client_id, proof),
        Credential::ManagedIdentity(identity) => {
            return vec![Finding::ok(format!(
                "managed identity: {}",
                identity.describe()
            ))];
        }
    };
    let mut findings = Vec::new();
    match issuer.prove(proof).await {
        Ok(Proven::Secret(secret)) if is_guid(secret.expose_secret().trim()) => {
            findings.push(Finding::warning(
                "client_secret looks like a GUID: that is the secret's ID; give the secret's value, which the app \
                 registration shows once, when the secret is made",
            ));
        }
        Ok(Proven::Certificate(found)) => findings.push(certificate(&found, issuer.now())),
        Ok(Proven::Federated(token)) => {
            findings.extend(Subject::of(&token).map(|subject| federated(&subject, issuer.now())));
        }
        Ok(Proven::Secret(_)) | Err(_) => {}
    }
    if !is_guid(client_id) {
        findings.push(Finding::warning(
            "client_id is not a GUID; give the application (client) ID of the app registration",
        ));
    }
    findings
}

fn certificate(certificate: &Certificate, now: DateTime<Utc>) -> Finding {
    let ends = certificate.ends();
    let day = ends.format("%Y-%m-%d");
    let what = format!(
        "certificate {} (thumbprint {})",
        first_sentence(certificate.subject()),
        certificate.shown_thumbprint()
    );
    if ends <= now {
        Finding::problem(format!(
            "{what} has expired on {day}; make a new one and add it to the app registration (Certificates & secrets)"
        ))
    } else if ends <= now + ENDS_SOON {
        Finding::warning(format!(
            "{what} expires on {day}; make a new one and add it to the app registration (Certificates & secrets)"
        ))
    } else {
        Finding::ok(format!("{what} is valid until {day}"))
    }
}

fn federated(subject: &Subject, now: DateTime<Utc>) -> Finding {
    let what = format!(
        "federated token with issuer {}, subject {} and audience {}",
        first_sentence(&subject.iss),
        first_sentence(&subject.sub),
        first_sentence(&subject.audience()),
    );
    if subject.exp <= now.timestamp() {
        let problem = "has expired: whatever writes its file has stopped doing so";
        Finding::problem(format!("{what} {problem}"))
    } else {
        Finding::ok(what)
    }
}

/// How an administrator of the tenant grants the app's permissions.
fn consent(access: &Access) -> Finding {
    let Some(client_id) = access.app.credential.client_id() else {
        return Finding::ok(
            "a managed identity has no page for consent: an administrator assigns it the app roles, by \
             New-MgServicePrincipalAppRoleAssignment",
        );
    };
    let mut url = access.app.authority.clone();
    url.set_path(&format!("/{}/adminconsent", access.tenant));
    url.query_pairs_mut().append_pair("client_id", client_id);
    Finding::ok(format!(
        "an administrator of the tenant consents to the app at {url}"
    ))
}

/// What a token for `audience` says about its tenant and its audience, if that is not what was asked for.
pub(crate) fn token(access: &Access, audience: &str, claims: &Claims) -> Vec<Finding> {
    let mut findings = Vec::new();
    let tid = claims.tid.as_deref();
    if let Some(tid) = tid.filter(|tid| !tid.eq_ignore_ascii_case(&access.tenant)) {
        findings.push(Finding::problem(format!(
            "the token is for tenant {}, not for {}; check the tenant's id",
            first_sentence(tid),
            access.tenant
        )));
    }
    if let Some(aud) = claims.aud.as_deref()
        && aud.trim_end_matches('/') != audience
        && !is_guid(aud)
    {
        findings.push(Finding::warning(format!(
            "the token is for {}, not for {audience}; check cloud and audience",
            first_sentence(aud),
        )));
    }
    findings
}

/// Whether this machine's clock is off, if that of `host` is ahead of it by `skew`.
pub(crate) fn clock(skew: TimeDelta, host: &str) -> Option<Finding> {
    let minutes = skew.num_minutes().abs();
    let side = if skew > TimeDelta::zero() {
        "behind"
    } else {
        "ahead of"
    };
    (skew.abs() > NOTABLE_SKEW).then(|| {
        Finding::warning(format!(
            "this machine's clock is {minutes} min {side} that of {host}; set it, or tokens may be refused"
        ))
    })
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
