//! `check`: what is wrong, where, and what to do about it, without changing anything.

use audit_exporter_core::plugin::Finding;
use chrono::TimeDelta;

use super::client::{Client, Notification, Subscription};
use super::config::Settings;
use super::webhook::{State, Webhook};
use super::window::Window;
use crate::http::text::first_sentence;
use crate::microsoft::claims::Claims;
use crate::microsoft::explain::{self, Service};
use crate::microsoft::{check, errors};

/// The permission without which nothing can be read.
const READ: &str = "ActivityFeed.Read";
/// The permission for matched values in DLP events.
const READ_DLP: &str = "ActivityFeed.ReadDlp";
/// The content type that it is for.
const DLP: &str = "DLP.All";

/// Notifications are judged by those of the content of so long: what failed earlier may be mended.
const JUDGED: TimeDelta = TimeDelta::hours(2);

/// Tries everything that collecting needs, from the outside in; stops where the next step would only fail too.
pub(super) async fn check(
    client: &Client,
    settings: &Settings,
    webhook: Option<&Webhook>,
) -> Vec<Finding> {
    let access = client.access();
    let mut findings = check::tenant(access, client.api().tokens()).await;
    let token = match client.api().tokens().get().await {
        Ok(token) => token,
        Err(error) => {
            findings.push(Finding::problem(format!("no token: {error}")));
            return findings;
        }
    };
    findings.extend(permissions(client, settings, token.claims()));
    let host = client.api().host();
    match client.subscriptions().await {
        Ok(found) => {
            findings.extend(subscriptions(settings, &found));
            findings.extend(content(client, settings, &found).await);
            if let Some(webhook) = webhook {
                findings.extend(webhooks(client, settings, &found, webhook).await);
            }
        }
        Err(error) => findings.push(Finding::problem(format!("{host}: {error}"))),
    }
    findings.extend(check::clock(client.api().skew(), host));
    findings
}

/// What the token says about tenant, audience and permissions.
fn permissions(client: &Client, settings: &Settings, claims: Option<&Claims>) -> Vec<Finding> {
    let access = client.access();
    let Some(claims) = claims else {
        return vec![Finding::warning(
            "a token was issued, but its permissions cannot be read",
        )];
    };
    let mut findings = check::token(access, &access.audience, claims);
    if claims.has_role(READ) {
        let roles = first_sentence(&claims.roles.join(", "));
        findings.push(Finding::ok(format!(
            "{} issued a token for tenant {} (cloud {}) with {roles}",
            client.api().tokens().issuer().host(),
            access.tenant,
            access.cloud
        )));
    } else {
        findings.push(Finding::problem(format!(
            "{}; add it in the app registration and grant admin consent",
            state(errors::MISSING_PERMISSION)
        )));
    }
    if settings.content_types.contains(&DLP) && !claims.has_role(READ_DLP) {
        findings.push(Finding::warning(format!(
            "without the application permission {READ_DLP}, {DLP} comes without the values that matched; grant it only \
             if you need them"
        )));
    }
    findings
}

/// What a code of the API means, and the code.
fn state(code: &str) -> String {
    let row = explain::find(Service::ManagementActivity, code);
    row.map_or_else(
        || code.to_owned(),
        |row| format!("{} ({code})", row.meaning),
    )
}

/// The state of each content type's subscription.
fn subscriptions(settings: &Settings, found: &[Subscription]) -> Vec<Finding> {
    let finding = |content_type: &&'static str| {
        let subscription = found
            .iter()
            .find(|subscription| subscription.content_type() == Some(*content_type));
        let state = match subscription {
            Some(subscription) if subscription.is_enabled() => {
                return Finding::ok(format!("{content_type}: the subscription is enabled"));
            }
            Some(_) => state(errors::SUBSCRIPTION_DISABLED),
            None => state(errors::NO_SUBSCRIPTION),
        };
        if settings.start_subscriptions {
            Finding::warning(format!("{content_type}: {state}; a run will start it"))
        } else {
            Finding::problem(format!(
                "{content_type}: {state}, so Microsoft keeps no content; set start_subscriptions = true, or start it \
                 yourself"
            ))
        }
    };
    settings.content_types.iter().map(finding).collect()
}

/// Whether content can be listed, shown by one page of the last hour.
async fn content(client: &Client, settings: &Settings, found: &[Subscription]) -> Option<Finding> {
    let content_type = *settings.content_types.iter().find(|content_type| {
        found
            .iter()
            .any(|found| found.content_type() == Some(**content_type) && found.is_enabled())
    })?;
    let now = client.now();
    let hour = Window {
        from: now - TimeDelta::hours(1),
        to: now,
    };
    Some(
        match client.page(client.listing(content_type, hour)).await {
            Ok(_) => Finding::ok(format!("{content_type}: content can be listed")),
            Err(error) => {
                Finding::problem(format!("{content_type}: content cannot be listed: {error}"))
            }
        },
    )
}

/// Whether Microsoft can tell of content: the address as it looks from here, and each subscription's webhook.
async fn webhooks(
    client: &Client,
    settings: &Settings,
    found: &[Subscription],
    webhook: &Webhook,
) -> Vec<Finding> {
    let address = webhook.address();
    let mut findings = vec![match webhook.probe().await {
        Ok(()) => Finding::ok(format!(
            "webhook: {address} answers as Microsoft wants it to"
        )),
        Err(error) => Finding::warning(format!(
            "webhook: {address} does not answer as Microsoft wants it to, seen from here: {error}; see that `run` is \
             running and that the proxy passes this path on to webhooks.listen. Content is found by polling meanwhile"
        )),
    }];
    for content_type in &settings.content_types {
        let subscription = found
            .iter()
            .find(|found| found.content_type() == Some(*content_type) && found.is_enabled());
        // Without a subscription there is nothing to tell of, and that was said.
        let Some(subscription) = subscription else {
            continue;
        };
        let state = webhook.state(subscription.webhook(), client.now());
        let told = told(&state);
        findings.push(match state {
            State::Working(_) | State::Ending(_) => notified(client, content_type, &told).await,
            _ => Finding::warning(format!("{content_type}: {told}; a run sets it")),
        });
    }
    findings
}

/// How a webhook stands.
fn told(state: &State) -> String {
    match state {
        State::Working(Some(ends)) | State::Ending(ends) => {
            format!("the webhook is enabled until {}, and renewed before", ends.format("%Y-%m-%d"))
        }
        State::Working(None) => "the webhook is enabled".to_owned(),
        State::Missing => "there is no webhook yet".to_owned(),
        State::Elsewhere(host) => {
            format!("the webhook leads to another address, at {}", first_sentence(host))
        }
        State::OtherAuthId => "the webhook has another webhook_auth_id".to_owned(),
        State::Disabled => "Microsoft has disabled the webhook, for its notifications failed; see that its address is \
                            reached from outside"
            .to_owned(),
        State::Expired => "the webhook has expired".to_owned(),
    }
}

/// Whether the last notification of a content type arrived, and if not, why; `told` is how its webhook stands.
async fn notified(client: &Client, content_type: &str, told: &str) -> Finding {
    let to = client.now();
    let from = to - JUDGED;
    let sent = match client
        .notifications(content_type, Window { from, to })
        .await
    {
        Ok(sent) => sent,
        Err(error) => {
            return Finding::warning(format!(
                "{content_type}: {told}; whether its notifications arrive cannot be asked: {error}"
            ));
        }
    };
    let last = sent.iter().max_by_key(|one| one.sent());
    let Some((last, failure)) = last.and_then(|last| Some((last, last.failure()?))) else {
        return Finding::ok(format!("{content_type}: {told}"));
    };
    let failed = sent.iter().filter_map(Notification::failure).count();
    Finding::warning(format!(
        "{content_type}: the webhook is enabled, but {failed} of the {} notifications of the last two hours failed, the \
         last at {}: \"{}\"; see that its address is reached from outside, or Microsoft disables it",
        sent.len(),
        first_sentence(last.sent()),
        first_sentence(failure)
    ))
}
