//! Finding out what content there is.
//!
//! The content types are listed side by side, each with its own subscription, windows and troubles, so that one that
//! fails holds up no other. Within a content type the newest window comes first, then the backlog, oldest first. Pages
//! are registered as they come; the checkpoint passes a window only with its last page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit_exporter_core::plugin::Next;
use audit_exporter_core::{Error, Kind, Result};
use chrono::TimeDelta;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::client::Client;
use super::config::Settings;
use super::ledger::Ledger;
use super::listing;
use super::window::{Progress, Window};
use crate::microsoft::errors;

/// After a start request that was accepted, none for the same content type before this (reference: management-activity-api.md §3.1).
const START_COOL_DOWN: TimeDelta = TimeDelta::minutes(15);
/// Subscriptions are looked at this often while all are enabled; somebody may have stopped one.
const SUBSCRIPTIONS_EVERY: Duration = Duration::from_hours(1);
/// The longest time that a content type that fails alone is left out.
const LONGEST_REST: Duration = Duration::from_mins(15);
/// A window is begun anew this often when the service takes back its pages or its limits.
const MOST_RESTARTS: i32 = 2;
/// How much later a window begins that the service says is too old.
const RECLAMP: TimeDelta = TimeDelta::minutes(30);
/// No window has more pages, short of a service that goes round in circles.
const MOST_PAGES: usize = 100_000;

/// Lists a tenant's content.
pub(super) struct Lister {
    client: Arc<Client>,
    settings: Settings,
    subscriptions_seen: Mutex<Option<Instant>>,
    standings: Mutex<BTreeMap<&'static str, Standing>>,
}

/// What is known of a content type besides its progress.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    enabled: bool,
    failures: u32,
    rests_until: Option<Instant>,
}

impl Lister {
    pub(super) fn new(client: Arc<Client>, settings: Settings) -> Self {
        Self {
            client,
            settings,
            subscriptions_seen: Mutex::default(),
            standings: Mutex::default(),
        }
    }

    /// Lists every content type that is due, once.
    pub(super) async fn list(&self, ledger: &Ledger<'_>) -> Result<Next> {
        let began = Instant::now();
        let until = began + self.settings.poll_interval;
        self.see_subscriptions().await?;
        let mut listings: FuturesUnordered<_> = self
            .due(began)
            .map(|content_type| async move {
                (
                    content_type,
                    self.list_type(content_type, ledger, until).await,
                )
            })
            .collect();
        let (mut listed, mut more, mut failures) = (0, false, Vec::new());
        while let Some((content_type, outcome)) = listings.next().await {
            match outcome {
                Ok(backlog) => {
                    listed += 1;
                    more |= backlog;
                    self.with_standing(content_type, |standing| {
                        standing.failures = 0;
                        standing.rests_until = None;
                    });
                }
                Err(error) if error.kind() == Kind::Throttled => {
                    return Err(error.context(content_type));
                }
                Err(error) => failures.push((content_type, error)),
            }
        }
        self.judge(failures, listed > 0)?;
        Ok(if more {
            Next::Now
        } else {
            Next::After(until.saturating_duration_since(Instant::now()))
        })
    }

    /// The most severe failure. If only some content types fail, they are left out for a while, and the engine is not
    /// told to stop or to slow down the others.
    fn judge(&self, failures: Vec<(&'static str, Error)>, some_succeed: bool) -> Result<()> {
        if some_succeed {
            for (content_type, _) in &failures {
                self.rest(content_type);
            }
        }
        let worst = failures
            .into_iter()
            .map(|(content_type, error)| error.context(content_type))
            .max_by_key(|error| severity(error.kind()));
        match worst {
            None => Ok(()),
            Some(error) if some_succeed => {
                let code = error.code().map(str::to_owned);
                let alone = Error::unavailable(error.to_string());
                Err(match code {
                    Some(code) => alone.with_code(code),
                    None => alone,
                })
            }
            Some(error) => Err(error),
        }
    }

    fn rest(&self, content_type: &'static str) {
        let interval = self.settings.poll_interval;
        self.with_standing(content_type, |standing| {
            standing.failures = standing.failures.saturating_add(1);
            let rest = interval.saturating_mul(1 << standing.failures.min(10)) / 2;
            standing.rests_until = Some(Instant::now() + rest.min(LONGEST_REST));
        });
    }

    /// The content types that do not rest.
    fn due(&self, now: Instant) -> impl Iterator<Item = &'static str> {
        self.settings
            .content_types
            .iter()
            .copied()
            .filter(move |content_type| {
                let standing = self.standing(content_type);
                standing.rests_until.is_none_or(|until| until <= now)
            })
    }

    fn standing(&self, content_type: &str) -> Standing {
        let standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        standings.get(content_type).copied().unwrap_or_default()
    }

    fn with_standing(&self, content_type: &'static str, change: impl FnOnce(&mut Standing)) {
        let mut standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(standings.entry(content_type).or_default());
    }

    /// Looks at the subscriptions when nothing is known of them, and now and then.
    async fn see_subscriptions(&self) -> Result<()> {
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
        for content_type in &self.settings.content_types {
            let enabled = subscriptions
                .iter()
                .any(|found| found.content_type() == Some(content_type) && found.is_enabled());
            self.with_standing(content_type, |standing| standing.enabled = enabled);
        }
        *self
            .subscriptions_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    /// Lists one content type. Returns whether a backlog is left.
    async fn list_type(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
        until: Instant,
    ) -> Result<bool> {
        if !self.standing(content_type).enabled {
            self.start(content_type, ledger).await?;
        }
        let unsubscribed = [errors::NO_SUBSCRIPTION, errors::SUBSCRIPTION_DISABLED];
        match self.list_windows(content_type, ledger, until).await {
            Err(error)
                if error
                    .code()
                    .is_some_and(|code| unsubscribed.contains(&code)) =>
            {
                if self.standing(content_type).enabled {
                    tracing::warn!(content_type, %error, "the subscription has ended");
                }
                self.with_standing(content_type, |standing| standing.enabled = false);
                self.start(content_type, ledger).await?;
                Ok(false)
            }
            Err(error) => Err(error),
            Ok(more) => {
                self.with_standing(content_type, |standing| standing.enabled = true);
                Ok(more)
            }
        }
    }

    /// Asks for the subscription to start, unless that was done minutes ago.
    async fn start(&self, content_type: &'static str, ledger: &Ledger<'_>) -> Result<()> {
        if !self.settings.start_subscriptions {
            return Err(Error::auth(
                "there is no enabled subscription, so Microsoft keeps no content; set start_subscriptions = true, or \
                 start it yourself",
            )
            .with_code(errors::NO_SUBSCRIPTION));
        }
        let now = self.client.now();
        let before = ledger.progress(content_type).await.start_requested;
        // The service's clock is read in whole seconds, so the request may seem to lie ahead. One that lies far ahead
        // was noted by a wrong clock.
        if before.is_some_and(|at| (now - at).abs() < START_COOL_DOWN) {
            return Ok(());
        }
        // Noted first: the wait holds across a crash.
        let note = |progress: &mut Progress| progress.start_requested = Some(now);
        ledger.register(content_type, Vec::new(), note).await?;
        match self.client.start(content_type).await {
            Ok(()) => {
                tracing::info!(content_type, "the subscription was asked to start");
                Ok(())
            }
            Err(error) => {
                // It may have started all the same: the list of subscriptions is looked at before the next request.
                let forget = |progress: &mut Progress| progress.start_requested = before;
                ledger.register(content_type, Vec::new(), forget).await?;
                Err(error.context("start of the subscription"))
            }
        }
    }

    async fn list_windows(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
        until: Instant,
    ) -> Result<bool> {
        let progress = ledger.progress(content_type).await;
        let plan = progress.plan(
            self.client.now(),
            self.settings.overlap,
            self.settings.start,
        );
        let done = |progress: &mut Progress| progress.newest_listed(&plan);
        self.walk(content_type, ledger, plan.newest, &done).await?;
        if let Some(gone) = plan.gone {
            report_gone(content_type, gone);
        }
        let mut settled = false;
        loop {
            let Some(window) = ledger.progress(content_type).await.oldest_unlisted() else {
                return Ok(false);
            };
            if Instant::now() >= until {
                return Ok(true);
            }
            let done = |progress: &mut Progress| progress.settled(window);
            match self.walk(content_type, ledger, window, &done).await {
                Ok(()) => settled = true,
                // A fault here and there in a long backlog is no reason to wait. The next call begins with this window,
                // and if it still fails, that call fails.
                Err(error) if settled && error.kind() == Kind::Unavailable => {
                    tracing::debug!(content_type, %error, "the backlog is gone on with");
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lists a window to its last page, as much of it as the API still lists.
    async fn walk(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
        window: Window,
        done: &(impl Fn(&mut Progress) + Send + Sync),
    ) -> Result<()> {
        let mut restarts = 0;
        let mut margin = TimeDelta::zero();
        loop {
            let (kept, gone) = window.clamp(self.client.now() + margin);
            let walked = match kept {
                Some(kept) => self.pages(content_type, ledger, kept, done).await,
                None => ledger
                    .register(content_type, Vec::new(), done)
                    .await
                    .map(drop),
            };
            let Err(error) = walked else {
                if let Some(gone) = gone {
                    report_gone(content_type, gone);
                }
                return Ok(());
            };
            let code = error.code().unwrap_or_default();
            let is_stale = code == errors::STALE_PAGE;
            let is_bad_window = errors::BAD_WINDOW.contains(&code);
            if restarts == MOST_RESTARTS || !(is_stale || is_bad_window) {
                return Err(error);
            }
            restarts += 1;
            if is_bad_window {
                margin += RECLAMP;
            }
        }
    }

    async fn pages(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
        window: Window,
        done: &(impl Fn(&mut Progress) + Send + Sync),
    ) -> Result<()> {
        let name: Arc<str> = content_type.into();
        let mut url = self.client.listing(content_type, window);
        let (mut found, mut new) = (0, 0);
        for _ in 0..MOST_PAGES {
            let page = self.client.page(url).await?;
            let uri_of = |id: &str| self.client.content_uri(id);
            let units = listing::units(&page.body, &name, self.client.now(), uri_of)?;
            found += units.len();
            let Some(next) = page.next else {
                new += ledger.register(content_type, units, done).await?;
                tracing::debug!(content_type, from = %window.from, to = %window.to, found, new, "listed");
                return Ok(());
            };
            if !units.is_empty() {
                new += ledger.register_part(units).await?;
            }
            url = next;
        }
        let message = format!("a listing has more than {MOST_PAGES} pages");
        Err(Error::unavailable(message))
    }
}

fn report_gone(content_type: &str, gone: Window) {
    tracing::error!(
        content_type,
        from = %gone.from,
        to = %gone.to,
        "content of this time cannot be listed any more: it is older than seven days; use a backfill"
    );
}

fn severity(kind: Kind) -> u8 {
    match kind {
        Kind::Config => 6,
        Kind::Bug => 5,
        Kind::Auth => 4,
        Kind::Throttled => 3,
        Kind::Unavailable => 2,
        Kind::Lost => 1,
        Kind::Rejected => 0,
    }
}
