//! Subscriptions: one for each application and content type of a tenant (reference, "Start a
//! subscription", "Stop a subscription", "List current subscriptions").

use std::{collections::HashMap, sync::Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    answer::ApiError, catalogue::Blob, config::Config, content_type::ContentType, state::lock,
};

/// Whether content flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Enabled,
    Stopped,
    /// By "a tenant admin" or "a service admin".
    Disabled(&'static str),
}

/// A webhook (reference, "Start a subscription": webhook).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Webhook {
    pub(crate) status: &'static str,
    pub(crate) address: String,
    #[serde(rename = "authId")]
    pub(crate) auth_id: Option<String>,
    pub(crate) expiration: Option<String>,
    #[serde(skip)]
    pub(crate) failures: u32,
}

#[derive(Debug, Clone)]
struct Subscription {
    status: Status,
    /// When it was first started; nothing for those that existed before the simulator.
    since: Option<DateTime<Utc>>,
    last_start: Option<DateTime<Utc>>,
    stopped: Option<DateTime<Utc>>,
    /// What became available between a stop and the next start is out of reach for good.
    gaps: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    webhook: Option<Webhook>,
}

/// The part of a tenant's content that a subscription shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    not_before: Option<DateTime<Utc>>,
    gaps: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

impl View {
    /// Whether the blob is shown at this moment.
    pub(crate) fn shows(&self, blob: &Blob, now: DateTime<Utc>) -> bool {
        blob.visible_at <= now
            && self.not_before.is_none_or(|start| blob.created >= start)
            && !self
                .gaps
                .iter()
                .any(|(from, to)| *from <= blob.visible_at && blob.visible_at < *to)
    }
}

/// What a start does to the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Nothing: a start without a body leaves it as it is.
    Keep,
    /// Takes it away.
    Remove,
    /// Puts this one in its place.
    Set(Webhook),
}

/// What a start asks for.
#[derive(Debug, Default, Deserialize)]
struct StartBody {
    webhook: Option<WebhookBody>,
}

/// The webhook that a start asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookBody {
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) auth_id: Option<String>,
    #[serde(default)]
    pub(crate) expiration: Option<String>,
}

impl WebhookBody {
    /// Reads the body of a start; an empty one asks for nothing.
    pub(crate) fn parse(body: &[u8]) -> Result<Option<Self>, ApiError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        serde_json::from_slice::<StartBody>(body)
            .map(|body| body.webhook)
            .map_err(|_| ApiError::wrong_type("webhook", "object"))
    }

    /// Checks the expiration: in the future, or none (`AF20002`, `AF20003`).
    pub(crate) fn check(&self, now: DateTime<Utc>) -> Result<(), ApiError> {
        let Some(text) = self.expiration.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        match crate::listing::parse_time(text) {
            None => Err(ApiError::wrong_type("expiration", "datetime")),
            Some(time) if time <= now => Err(ApiError::new(
                "AF20003",
                format!("Expiration {text} provided is set to past date and time."),
            )),
            Some(_) => Ok(()),
        }
    }
}

/// All subscriptions of a tenant.
#[derive(Default)]
pub(crate) struct Subscriptions(Mutex<HashMap<(String, ContentType), Subscription>>);

fn key(app: &str, content_type: ContentType) -> (String, ContentType) {
    (app.to_ascii_lowercase(), content_type)
}

impl Subscriptions {
    /// Enables every content type for an application, as if it had always been.
    pub(crate) fn enable_all(&self, app: &str) {
        let mut all = lock(&self.0);
        for content_type in ContentType::ALL {
            let subscription = Subscription {
                status: Status::Enabled,
                since: None,
                last_start: None,
                stopped: None,
                gaps: Vec::new(),
                webhook: None,
            };
            all.insert(key(app, content_type), subscription);
        }
    }

    /// Starts a subscription, or changes its webhook: to another, to none, or not at all.
    pub(crate) fn start(
        &self,
        config: &Config,
        app: &str,
        content_type: ContentType,
        hook: Hook,
        now: DateTime<Utc>,
    ) -> Result<Value, ApiError> {
        let mut all = lock(&self.0);
        let subscription = all.entry(key(app, content_type)).or_insert(Subscription {
            status: Status::Stopped,
            since: Some(now),
            last_start: None,
            stopped: None,
            gaps: Vec::new(),
            webhook: None,
        });
        let cool_down = TimeDelta::seconds(config.start_cool_down_seconds as i64);
        if subscription
            .last_start
            .is_some_and(|last| now < last + cool_down)
        {
            return Err(ApiError::new(
                "AF429",
                "Too many requests. Method=StartSubscription",
            ));
        }
        let wanted = match hook {
            Hook::Keep => subscription.webhook.clone(),
            Hook::Remove => None,
            Hook::Set(webhook) => Some(webhook),
        };
        let unchanged = wanted == subscription.webhook;
        if subscription.status == Status::Enabled && unchanged {
            return Err(ApiError::new(
                "AF20024",
                "The subscription is already enabled. No property change.",
            ));
        }
        if let Some(stopped) = subscription.stopped.take() {
            subscription.gaps.push((stopped, now));
        }
        subscription.status = Status::Enabled;
        subscription.last_start = Some(now);
        subscription.webhook = wanted;
        Ok(
            json!({"contentType": content_type.name(), "status": "enabled", "webhook": subscription.webhook}),
        )
    }

    /// Stops a subscription.
    pub(crate) fn stop(
        &self,
        app: &str,
        content_type: ContentType,
        now: DateTime<Utc>,
    ) -> Result<(), ApiError> {
        let mut all = lock(&self.0);
        match all.get_mut(&key(app, content_type)) {
            Some(subscription) if subscription.status != Status::Stopped => {
                subscription.status = Status::Stopped;
                subscription.stopped = Some(now);
                subscription.webhook = None;
                Ok(())
            }
            _ => Err(none()),
        }
    }

    /// The application's subscriptions as the API lists them.
    pub(crate) fn list(&self, app: &str, omit_status: bool, now: DateTime<Utc>) -> Value {
        let all = lock(&self.0);
        let rows = ContentType::ALL.into_iter().filter_map(|content_type| {
            let subscription = all.get(&key(app, content_type))?;
            let status = match subscription.status {
                Status::Stopped => return None,
                Status::Enabled => "enabled",
                Status::Disabled(_) => "disabled",
            };
            let webhook = subscription.webhook.clone().map(|mut webhook| {
                let expired = webhook
                    .expiration
                    .as_deref()
                    .and_then(crate::listing::parse_time);
                if expired.is_some_and(|at| at <= now) {
                    webhook.status = "expired";
                }
                webhook
            });
            if omit_status && webhook.is_none() && status == "enabled" {
                return Some(json!({"contentType": content_type.name(), "webhook": null}));
            }
            Some(json!({"contentType": content_type.name(), "status": status, "webhook": webhook}))
        });
        rows.collect()
    }

    /// What the subscription shows, if it is enabled (`AF20022`, `AF20023`).
    pub(crate) fn view(
        &self,
        app: &str,
        content_type: ContentType,
        config: &Config,
    ) -> Result<View, ApiError> {
        let all = lock(&self.0);
        let subscription = all.get(&key(app, content_type)).ok_or_else(none)?;
        match subscription.status {
            Status::Stopped => Err(none()),
            Status::Disabled(by) => Err(ApiError::new(
                "AF20023",
                format!("The subscription was disabled by {by}."),
            )),
            Status::Enabled => Ok(View {
                not_before: subscription
                    .since
                    .zip(config.backfill_hours)
                    .map(|(since, hours)| since - TimeDelta::hours(i64::from(hours))),
                gaps: subscription.gaps.clone(),
            }),
        }
    }

    /// Disables every subscription to a content type, as an administrator does.
    pub(crate) fn disable(&self, content_type: ContentType, by_service: bool) -> usize {
        let by = if by_service {
            "a service admin"
        } else {
            "a tenant admin"
        };
        let mut disabled = 0;
        for ((_, it), subscription) in lock(&self.0).iter_mut() {
            if *it == content_type && subscription.status == Status::Enabled {
                subscription.status = Status::Disabled(by);
                disabled += 1;
            }
        }
        disabled
    }

    /// The webhooks that are enabled and not expired, with their application and content type.
    pub(crate) fn webhooks(&self, now: DateTime<Utc>) -> Vec<(String, ContentType, Webhook)> {
        let all = lock(&self.0);
        let live = all.iter().filter(|(_, it)| it.status == Status::Enabled);
        live.filter_map(|((app, content_type), subscription)| {
            let webhook = subscription
                .webhook
                .as_ref()
                .filter(|it| it.status == "enabled")?;
            let expires = webhook
                .expiration
                .as_deref()
                .and_then(crate::listing::parse_time);
            expires
                .is_none_or(|at| at > now)
                .then(|| (app.clone(), *content_type, webhook.clone()))
        })
        .collect()
    }

    /// Counts a notification; too many failures in a row disable the webhook, not the subscription.
    pub(crate) fn notified(
        &self,
        app: &str,
        content_type: ContentType,
        well: bool,
        most_failures: u32,
    ) {
        if let Some(webhook) = lock(&self.0)
            .get_mut(&key(app, content_type))
            .and_then(|it| it.webhook.as_mut())
        {
            webhook.failures = if well { 0 } else { webhook.failures + 1 };
            if webhook.failures >= most_failures {
                webhook.status = "disabled";
            }
        }
    }
}

fn none() -> ApiError {
    ApiError::new(
        "AF20022",
        "No subscription found for the specified content type.",
    )
}
