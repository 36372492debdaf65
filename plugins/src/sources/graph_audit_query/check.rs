//! `check`: what is wrong, where, and what to do about it, without creating a query.

use audit_exporter_core::plugin::Finding;

use super::client::Client;
use super::config::Settings;
use super::errors::PERMISSION;
use crate::http::text::first_sentence;
use crate::microsoft::check;
use crate::microsoft::claims::Claims;

/// What the permissions for the records of one service each begin with.
const OF_ONE_SERVICE: &str = "AuditLogsQuery-";

/// Tries everything that collecting needs, from the outside in; stops where the next step would only fail too.
pub(super) async fn check(client: &Client, settings: &Settings) -> Vec<Finding> {
    if let Some(error) = client.unserved() {
        return vec![Finding::problem(error.to_string())];
    }
    let mut findings = check::tenant(client.access(), client.api().tokens()).await;
    let token = match client.api().tokens().get().await {
        Ok(token) => token,
        Err(error) => {
            findings.push(Finding::problem(format!("no token: {error}")));
            return findings;
        }
    };
    findings.push(permissions(client, token.claims()));
    let host = client.api().host();
    match client.queries().await {
        Ok(_) => findings.push(Finding::ok(format!(
            "{host} shows the tenant's audit log queries (by {})",
            if client.is_beta() {
                "beta, for v1.0 does not serve it"
            } else {
                "v1.0"
            }
        ))),
        Err(error) => findings.push(Finding::problem(format!("{host}: {error}"))),
    }
    findings.push(Finding::ok(format!(
        "searching takes {} queries a day; daily_queries allows {}, Microsoft grants a tenant 200 or more, which searches \
         in Purview share",
        settings.schedule.searches_a_day(),
        settings.daily_queries
    )));
    findings.extend(check::clock(client.api().skew(), host));
    findings
}

/// What the token says about permissions.
fn permissions(client: &Client, claims: Option<&Claims>) -> Finding {
    let access = client.access();
    let Some(claims) = claims else {
        return Finding::warning("a token was issued, but its permissions cannot be read");
    };
    let roles = first_sentence(&claims.roles.join(", "));
    if claims.has_role(PERMISSION) {
        return Finding::ok(format!(
            "a token for tenant {} (cloud {}) was issued with {roles}",
            access.tenant, access.cloud
        ));
    }
    if claims
        .roles
        .iter()
        .any(|role| role.starts_with(OF_ONE_SERVICE))
    {
        return Finding::warning(format!(
            "the app has permissions for the audit records of some services alone ({roles}); the others' are not \
             collected, and nothing says so; grant it {PERMISSION} of Microsoft Graph for all"
        ));
    }
    Finding::problem(format!(
        "the app lacks the application permission {PERMISSION} of Microsoft Graph; add it in the app registration and \
         grant admin consent"
    ))
}
