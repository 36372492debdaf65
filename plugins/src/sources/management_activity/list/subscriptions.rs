//! Subscriptions and their webhooks: Microsoft keeps content only where there is a subscription, and tells of it where that
//! has a webhook.
//!
//! A webhook is never worth a subscription: one that Microsoft refuses is told once as a warning, and is tried again an
//! hour later. Nor does it hide that a subscription had ended: where content was listed before, it comes after the start.

use std::sync::PoisonError;
use std::time::Duration;

use audit_exporter_core::{Error, Kind, Result};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use url::Url;

use super::super::client::Subscription;
use super::super::ledger::{Ledger, UNSUBSCRIBED};
use super::super::webhook::{self, State, Webhook};
use super::super::window::Progress;
use super::Lister;
use super::absence::is_refused;
use crate::microsoft::errors;

/// After a start request that was accepted, none for the same content type before this (reference: management-activity-api.md §3.1).
const START_COOL_DOWN: TimeDelta = TimeDelta::minutes(15);
/// Subscriptions are looked at this often while all are enabled; somebody may have stopped one. A webhook that failed is
/// tried again after the same time.
const SUBSCRIPTIONS_EVERY: Duration = Duration::from_hours(1);

/// What the webhook of an enabled subscription needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// To be set: it is missing, another, or about to end.
    Set,
    /// To be taken away: it was set by options that are no more.
    Remove,
}

impl Lister {
    /// Looks at the subscriptions when nothing is known of them, and now and then.
    pub(super) async fn see_subscriptions(&self, ledger: &Ledger<'_>) -> Result<()> {
        let seen = *self
            .subscriptions_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let all_enabled = self
            .settings
            .content_types
            .iter()
            .all(|content_type| self.standing(content_type).enabled);
        if all_enabled && seen.is_some_and(|seen| seen.elapsed() < SUBSCRIPTIONS_EVERY) {
            return Ok(());
        }
        let subscriptions = match self.client.subscriptions().await {
            Ok(subscriptions) => subscriptions,
            Err(error) if seen.is_some() && error.kind() == Kind::Unavailable => {
                tracing::debug!(%error, "the subscriptions cannot be looked at; listing goes on");
                return Ok(());
            }
            Err(error) => return Err(error.context("subscriptions")),
        };
        if let Some(webhook) = &self.webhook {
            webhook.renew_auth_id();
        }
        for content_type in &self.settings.content_types {
            let mut named = subscriptions.iter();
            let found = named.find(|found| found.content_type() == Some(content_type));
            let enabled = found.filter(|found| found.is_enabled());
            if enabled.is_some() {
                self.found_enabled(content_type, ledger).await?;
            }
            let errand = match enabled {
                // A mere look changes no webhook, and so has nothing to tell of one.
                Some(found) if !self.client.only_reads() => {
                    self.errand(content_type, found, ledger).await
                }
                _ => None,
            };
            self.with_standing(content_type, |standing| {
                standing.enabled = enabled.is_some();
                standing.hook.errand = errand;
            });
        }
        *self
            .subscriptions_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    /// Asks for the subscription to start, unless that was done minutes ago. Returns whether it was asked.
    pub(super) async fn start(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
    ) -> Result<bool> {
        if !self.settings.start_subscriptions {
            self.found_absent(content_type, ledger).await?;
            return Err(Error::auth(
                "there is no enabled subscription, so Microsoft keeps no content; set start_subscriptions = true, or \
                 start it yourself",
            )
            .with_code(errors::NO_SUBSCRIPTION));
        }
        let now = self.client.now();
        let progress = ledger.progress(content_type).await;
        let (before, was_lost) = (progress.start_requested, progress.may_have_started());
        if is_too_soon(before, now) {
            return Ok(false);
        }
        self.note_start(content_type, ledger, now, Progress::start_is_asked)
            .await?;
        match self
            .start_once(content_type, progress.was_listed(), now)
            .await
        {
            Ok(is_new) => {
                if is_new {
                    tracing::info!(content_type, "the subscription was asked to start");
                    self.subscribed(content_type, ledger, UNSUBSCRIBED).await?;
                } else if was_lost {
                    // It is enabled by that start, or was all along.
                    self.found_enabled(content_type, ledger).await?;
                } else {
                    let change = Progress::was_enabled;
                    ledger.register(content_type, Vec::new(), change).await?;
                }
                Ok(true)
            }
            Err(error) => {
                // It may have started all the same: the list of subscriptions is looked at before the next request.
                let is_refused = is_refused(&error);
                let forget = |progress: &mut Progress| {
                    progress.start_requested = before;
                    if is_refused {
                        progress.start_is_refused(was_lost);
                    }
                };
                ledger.register(content_type, Vec::new(), forget).await?;
                Err(error.context("start of the subscription"))
            }
        }
    }

    /// Starts it with the webhook if there is to be one, and without if Microsoft does not take that: then nothing has
    /// started. Returns whether it was not enabled before.
    ///
    /// A webhook that was refused before comes after the subscription. So does every webhook where content was listed
    /// before: Microsoft accepts a start with a new one also from who is subscribed, and that would look like a gap.
    async fn start_once(
        &self,
        content_type: &'static str,
        was_listed: bool,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let Some(webhook) = &self.webhook else {
            return self.client.start(content_type, None).await;
        };
        let comes_later = was_listed || self.standing(content_type).hook.was_refused();
        if !comes_later && let Some(is_new) = self.start_with(webhook, content_type, now).await? {
            return Ok(is_new);
        }
        let is_new = self.client.start(content_type, None).await?;
        self.with_standing(content_type, |standing| {
            standing.hook.errand = Some(Errand::Set);
        });
        Ok(is_new)
    }

    /// `None` if Microsoft does not take the webhook: then nothing has started.
    async fn start_with(
        &self,
        webhook: &Webhook,
        content_type: &'static str,
        now: DateTime<Utc>,
    ) -> Result<Option<bool>> {
        let refusal = match webhook.start_body(now) {
            Ok(body) => match self.client.start(content_type, Some(&body)).await {
                Ok(is_new) => {
                    self.webhook_is_set(content_type);
                    return Ok(Some(is_new));
                }
                Err(error) if is_about_the_webhook(&error) => error,
                Err(error) => return Err(error),
            },
            Err(error) => error,
        };
        self.webhook_fails(content_type, &refusal);
        Ok(None)
    }

    /// Noted before the request is sent, with this `change`: the wait holds across a crash, and so does whose the webhook is.
    async fn note_start(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
        now: DateTime<Utc>,
        change: fn(&mut Progress),
    ) -> Result<()> {
        let address = self
            .webhook
            .as_ref()
            .map(|webhook| webhook.address().to_owned());
        let note = |progress: &mut Progress| {
            progress.start_requested = Some(now);
            progress.webhook = address.or(progress.webhook.take());
            change(progress);
        };
        ledger
            .register(content_type, Vec::new(), note)
            .await
            .map(drop)
    }

    /// What a subscription's webhook needs.
    async fn errand(
        &self,
        content_type: &'static str,
        found: &Subscription,
        ledger: &Ledger<'_>,
    ) -> Option<Errand> {
        let Some(webhook) = &self.webhook else {
            let ours = ledger.progress(content_type).await.webhook?;
            let ours = Url::parse(&ours).ok()?;
            // One that somebody else has set stays.
            return found.webhook()?.leads_to(&ours).then_some(Errand::Remove);
        };
        let state = webhook.state(found.webhook(), self.client.now());
        if let State::Working(_) = state {
            self.webhook_works(content_type);
            return None;
        }
        let mut is_new = false;
        self.with_standing(content_type, |standing| {
            is_new = standing.hook.finds(&state);
        });
        if is_new {
            tell(content_type, webhook.address(), &state);
        }
        Some(Errand::Set)
    }

    /// Sees to the webhook of a subscription that is enabled, if it needs that. Returns whether it was set. That it cannot
    /// be is no failure of the listing.
    pub(super) async fn run_errand(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
    ) -> Result<bool> {
        let hook = self.standing(content_type).hook;
        let Some(errand) = hook.errand.filter(|_| !hook.rests()) else {
            return Ok(false);
        };
        let now = self.client.now();
        let before = ledger.progress(content_type).await.start_requested;
        if is_too_soon(before, now) {
            return Ok(false);
        }
        self.with_standing(content_type, |standing| standing.hook.errand = None);
        self.note_start(content_type, ledger, now, |_| ()).await?;
        let body = match (errand, &self.webhook) {
            (Errand::Set, Some(webhook)) => webhook.start_body(now),
            _ => Ok(webhook::NONE.to_owned()),
        };
        let asked = match body {
            Ok(body) => self.client.start(content_type, Some(&body)).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(_) if errand == Errand::Set => {
                self.webhook_is_set(content_type);
                Ok(true)
            }
            Ok(_) => {
                tracing::info!(content_type, "the webhook is taken away");
                let forget = |progress: &mut Progress| progress.webhook = None;
                ledger.register(content_type, Vec::new(), forget).await?;
                Ok(false)
            }
            Err(error) => {
                let forget = |progress: &mut Progress| progress.start_requested = before;
                ledger.register(content_type, Vec::new(), forget).await?;
                self.webhook_fails(content_type, &error);
                Ok(false)
            }
        }
    }

    fn webhook_is_set(&self, content_type: &'static str) {
        tracing::info!(content_type, "the webhook is set");
        self.webhook_works(content_type);
    }

    fn webhook_works(&self, content_type: &'static str) {
        self.with_standing(content_type, |standing| standing.hook.works());
    }

    /// Told when it is new, and not at each try.
    fn webhook_fails(&self, content_type: &'static str, error: &Error) {
        let mut is_new = false;
        self.with_standing(content_type, |standing| {
            is_new = standing.hook.fails(error, SUBSCRIPTIONS_EVERY);
        });
        if is_new {
            tracing::warn!(
                content_type,
                "the webhook cannot be set or taken away, which is tried again in an hour; content is found by \
                 listing alone: {error}"
            );
        }
    }
}

/// Whether the last start was asked for minutes ago. The service's clock is read in whole seconds, so the request may seem
/// to lie ahead. One that lies far ahead was noted by a wrong clock.
fn is_too_soon(before: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    before.is_some_and(|at| (now - at).abs() < START_COOL_DOWN)
}

/// Tells what is wrong with a webhook that is to be set.
fn tell(content_type: &str, address: &str, state: &State) {
    match state {
        State::Working(_) | State::Missing | State::Ending(_) => {}
        State::Disabled => tracing::warn!(
            content_type,
            "Microsoft has disabled the webhook, for its notifications failed: see that {address} is reached from outside \
             and answers; it is set again, and content is found by listing meanwhile"
        ),
        State::Expired => {
            tracing::warn!(content_type, "the webhook has expired; it is set again");
        }
        State::OtherAuthId => {
            tracing::info!(content_type, "the webhook gets the new webhook_auth_id");
        }
        State::Elsewhere(host) => tracing::warn!(
            content_type,
            %host,
            "the subscription's webhook leads to another address; it is replaced"
        ),
    }
}

/// Whether a start may have been refused for its webhook, so that one without may work: `AF20021` above all, or for a
/// reason that the reference does not know. What is wrong with the tenant, the app, the token or the content type is of
/// another kind.
fn is_about_the_webhook(error: &Error) -> bool {
    let code = error.code().unwrap_or_default();
    let is_refusal = code.starts_with("AF2") || code.starts_with("HTTP 4");
    is_refusal && error.kind() == Kind::Unavailable && !is_unsubscribed(error)
}

/// Whether there is no enabled subscription.
pub(super) fn is_unsubscribed(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(errors::NO_SUBSCRIPTION | errors::SUBSCRIPTION_DISABLED)
    )
}
