//! `check`: what is wrong, where, and what to do about it, without changing anything.

use audit_exporter_core::plugin::Finding;

use super::RETIRED;
use super::client::Client;
use super::exchange::Exchange;
use crate::http::text::first_sentence;
use crate::microsoft::check;
use crate::microsoft::cloud::Access;
use crate::microsoft::explain::AUDITING_IS_OFF;

/// The permission, which is the first of two grants.
const PERMISSION: &str = "Exchange.ManageAsApp";

/// Tries everything that searching needs; stops where the next step would only fail too.
pub(super) async fn check(client: &Client) -> Vec<Finding> {
    let host = client.host();
    match client {
        Client::Exchange(exchange) => app(exchange).await,
        Client::Legacy(legacy) => {
            let tried = match legacy.probe().await {
                Ok(()) => Finding::ok(format!("{host}: the account can search the audit log")),
                Err(error) => Finding::problem(format!("{host}: {error}")),
            };
            vec![Finding::warning(RETIRED), tried]
        }
    }
}

async fn app(exchange: &Exchange) -> Vec<Finding> {
    let (access, host) = (exchange.access(), exchange.api().host());
    let mut findings = check::tenant(access, exchange.api().tokens()).await;
    findings.extend(cloud(access));
    let token = match exchange.api().tokens().get().await {
        Ok(token) => token,
        Err(error) => {
            findings.push(Finding::problem(format!("no token: {error}")));
            return findings;
        }
    };
    // The first grant shows in the token, the second only when something is asked.
    match token.claims() {
        Some(claims) if !claims.has_role(PERMISSION) => {
            findings.push(Finding::problem(format!(
                "the app lacks the application permission {PERMISSION} of Office 365 Exchange Online (HTTP 401); add it in \
                 the app registration, under APIs my organization uses, and grant admin consent"
            )));
            return findings;
        }
        Some(claims) => {
            let roles = first_sentence(&claims.roles.join(", "));
            findings.push(Finding::ok(format!(
                "a token for Exchange Online of tenant {} (cloud {}) was issued with {roles}",
                access.tenant, access.cloud
            )));
        }
        None => findings.push(Finding::warning(
            "a token was issued, but its permissions cannot be read",
        )),
    }
    findings.push(match exchange.is_auditing().await {
        Ok(Some(true)) => Finding::ok(format!(
            "{host}: the app has a role that reads the audit log, and auditing is on"
        )),
        Ok(Some(false)) => Finding::problem(format!("{host}: {}", AUDITING_IS_OFF.text())),
        Ok(None) => Finding::warning(format!(
            "{host}: the app may not ask whether auditing is on (Get-AdminAuditLogConfig); see that it is, in Microsoft Purview"
        )),
        Err(error) => Finding::problem(format!("{host}: {error}")),
    });
    findings
}

/// What is known of a cloud before anything is asked.
fn cloud(access: &Access) -> Option<Finding> {
    let known = match access.cloud {
        "gcc_high" | "dod" => {
            "Microsoft documents signing in as an app for Security & Compliance PowerShell alone in this cloud; if \
             Exchange Online refuses the app, use the source management_activity"
        }
        "china" => {
            "in this cloud Search-UnifiedAuditLog exists, but returns nothing; use the source management_activity"
        }
        _ => return None,
    };
    Some(Finding::warning(format!("cloud {}: {known}", access.cloud)))
}
