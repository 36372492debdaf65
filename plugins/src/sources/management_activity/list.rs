//! Finding out what content there is.
//!
//! The content types are listed side by side, each with its own subscription, windows and troubles, so that one that
//! fails holds up no other. Within a content type the newest window comes first, then the backlog, oldest first. Pages
//! are registered as they come; the checkpoint passes a window only with its last page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit_exporter_core::plugin::Next;
use audit_exporter_core::{Error, Kind, Result};
use chrono::TimeDelta;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::config::Settings;
use super::ledger::{GONE, Ledger, UNSUBSCRIBED, UNSWEPT, Unlisted};
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
    /// The journal knows what is collected.
    is_declared: AtomicBool,
    subscriptions_seen: Mutex<Option<Instant>>,
    standings: Mutex<BTreeMap<&'static str, Standing>>,
}

/// What is known of a content type besides its progress.
#[derive(Clone, Debug, Default)]
struct Standing {
    enabled: bool,
    failures: u32,
    rests_until: Option<Instant>,
    /// It was listed, when others were refused, and is not due before this.
    fresh_until: Option<Instant>,
    /// Why it was not listed when that was last tried.
    trouble: Option<Trouble>,
}

/// What is told at each poll while a content type is not listed.
#[derive(Clone, Debug)]
struct Trouble {
    severity: u8,
    message: String,
    code: Option<String>,
}

impl Trouble {
    fn of(content_type: &str, error: &Error) -> Self {
        Self {
            severity: severity(error.kind()),
            message: format!("{content_type}: {error}"),
            code: error.code().map(str::to_owned),
        }
    }

    /// It is one content type's alone: the engine does not slow down the others.
    fn into_error(self, next: Duration) -> Error {
        let error = Error::unavailable(self.message).with_retry_after(Some(next));
        match self.code {
            Some(code) => error.with_code(code),
            None => error,
        }
    }
}

impl Lister {
    pub(super) fn new(client: Arc<Client>, settings: Settings) -> Self {
        Self {
            client,
            settings,
            is_declared: AtomicBool::new(false),
            subscriptions_seen: Mutex::default(),
            standings: Mutex::default(),
        }
    }

    /// Lists every content type that is due, once. Fails as long as one of them is not listed, whether it was due or
    /// rests: a source is only well that lists everything.
    pub(super) async fn list(&self, ledger: &Ledger<'_>) -> Result<Next> {
        let began = Instant::now();
        let until = began + self.settings.poll_interval;
        if !self.is_declared.load(Ordering::Relaxed) {
            ledger.declare(self.client.now()).await?;
            self.is_declared.store(true, Ordering::Relaxed);
        }
        self.see_subscriptions().await?;
        let throttled = &CancellationToken::new();
        let mut listings: FuturesUnordered<_> = self
            .due(began)
            .map(|content_type| async move {
                let listing = self.list_type(content_type, ledger, until, throttled);
                (content_type, listing.await)
            })
            .collect();
        let (mut listed, mut more, mut failures) = (0, false, Vec::new());
        let mut refusal = None;
        while let Some((content_type, outcome)) = listings.next().await {
            match outcome {
                // Broken off.
                Ok(_) if throttled.is_cancelled() => {}
                Ok(backlog) => {
                    listed += 1;
                    more |= backlog;
                    self.listed(content_type, (!backlog).then_some(until));
                }
                Err(error) if error.kind() == Kind::Throttled => {
                    throttled.cancel();
                    refusal.get_or_insert_with(|| error.context(content_type));
                }
                Err(error) => failures.push((content_type, error)),
            }
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if listed > 0 {
            for (content_type, error) in failures.drain(..) {
                self.rest(content_type, &error);
            }
        }
        let worst = failures
            .into_iter()
            .map(|(content_type, error)| error.context(content_type))
            .max_by_key(|error| severity(error.kind()));
        if let Some(error) = worst {
            return Err(error);
        }
        let next = self.next_poll(until);
        let next = next.saturating_duration_since(Instant::now());
        match self.trouble() {
            Some(trouble) => Err(trouble.into_error(if more { Duration::ZERO } else { next })),
            None if more => Ok(Next::Now),
            None => Ok(Next::After(next)),
        }
    }

    /// A content type that fails while others do not is left out for a while.
    fn rest(&self, content_type: &'static str, error: &Error) {
        let interval = self.settings.poll_interval;
        let mut is_new = false;
        self.with_standing(content_type, |standing| {
            is_new = standing.trouble.is_none();
            standing.failures = standing.failures.saturating_add(1);
            let rest = interval.saturating_mul(1 << standing.failures.min(10)) / 2;
            let rest = rest.min(LONGEST_REST);
            let rest = rest.max(error.retry_after().unwrap_or_default());
            standing.rests_until = Some(Instant::now() + rest);
            standing.trouble = Some(Trouble::of(content_type, error));
        });
        if is_new {
            tracing::warn!(content_type, %error, "the content type cannot be listed; the others go on");
        }
    }

    /// It was listed. If the tenant is throttled now, the next try is for the others.
    fn listed(&self, content_type: &'static str, fresh_until: Option<Instant>) {
        let mut was_in_trouble = false;
        self.with_standing(content_type, |standing| {
            was_in_trouble = standing.trouble.take().is_some();
            standing.failures = 0;
            standing.rests_until = None;
            standing.fresh_until = fresh_until;
        });
        if was_in_trouble {
            tracing::info!(content_type, "the content type is listed again");
        }
    }

    /// The worst of what keeps content types from being listed.
    fn trouble(&self) -> Option<Trouble> {
        let content_types = self.settings.content_types.iter();
        content_types
            .filter_map(|content_type| self.standing(content_type).trouble)
            .max_by_key(|trouble| trouble.severity)
    }

    /// When the first of what was listed is due again, `until` at the latest: all had their turn.
    fn next_poll(&self, until: Instant) -> Instant {
        let mut next = until;
        for content_type in &self.settings.content_types {
            self.with_standing(content_type, |standing| {
                next = standing
                    .fresh_until
                    .take()
                    .map_or(next, |due| next.min(due));
            });
        }
        next
    }

    /// The content types that neither rest nor were listed before the tenant was throttled.
    fn due(&self, now: Instant) -> impl Iterator<Item = &'static str> {
        self.settings
            .content_types
            .iter()
            .copied()
            .filter(move |content_type| {
                let standing = self.standing(content_type);
                let due = standing.rests_until.max(standing.fresh_until);
                due.is_none_or(|due| due <= now)
            })
    }

    fn standing(&self, content_type: &str) -> Standing {
        let standings = self
            .standings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        standings.get(content_type).cloned().unwrap_or_default()
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

    /// Lists one content type. Returns whether a backlog is left. Stops when the tenant is `throttled`; but a start
    /// that is under way ends first, or its note in the checkpoint would stand for one that was never sent.
    async fn list_type(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
        until: Instant,
        throttled: &CancellationToken,
    ) -> Result<bool> {
        let mut started = false;
        if !self.standing(content_type).enabled {
            started = self.start(content_type, ledger).await?;
        }
        loop {
            let listing = self.list_windows(content_type, ledger, until);
            let Some(listed) = throttled.run_until_cancelled(listing).await else {
                return Ok(true);
            };
            let error = match listed {
                Ok(more) => {
                    self.with_standing(content_type, |standing| standing.enabled = true);
                    return Ok(more);
                }
                Err(error) if !is_unsubscribed(&error) => return Err(error),
                Err(error) => error,
            };
            if self.standing(content_type).enabled {
                tracing::warn!(content_type, %error, "the subscription has ended");
            }
            self.with_standing(content_type, |standing| standing.enabled = false);
            // Without a subscription nothing is collected. If it starts, that shows at once; if not, it is a failure.
            if started || !self.start(content_type, ledger).await? {
                return Err(error);
            }
            started = true;
        }
    }

    /// Asks for the subscription to start, unless that was done minutes ago. Returns whether it was asked.
    async fn start(&self, content_type: &'static str, ledger: &Ledger<'_>) -> Result<bool> {
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
            return Ok(false);
        }
        // Noted first: the wait holds across a crash.
        let note = |progress: &mut Progress| progress.start_requested = Some(now);
        ledger.register(content_type, Vec::new(), note).await?;
        match self.client.start(content_type).await {
            Ok(is_new) => {
                if is_new {
                    self.subscribed(content_type, ledger).await?;
                }
                Ok(true)
            }
            Err(error) => {
                // It may have started all the same: the list of subscriptions is looked at before the next request.
                let forget = |progress: &mut Progress| progress.start_requested = before;
                ledger.register(content_type, Vec::new(), forget).await?;
                Err(error.context("start of the subscription"))
            }
        }
    }

    /// A subscription started. What became available between the last listing and now was not kept.
    async fn subscribed(&self, content_type: &'static str, ledger: &Ledger<'_>) -> Result<()> {
        tracing::info!(content_type, "the subscription was asked to start");
        let now = self.client.now();
        let missed = ledger.progress(content_type).await.unsubscribed(now);
        let missed = missed.map(|window| (window, UNSUBSCRIBED));
        let note = |progress: &mut Progress| progress.subscribed(now);
        ledger
            .register_with_gaps(content_type, Vec::new(), missed.into_iter().collect(), note)
            .await
            .map(drop)
    }

    async fn list_windows(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
        until: Instant,
    ) -> Result<bool> {
        let progress = ledger.progress(content_type).await;
        let plan = progress.plan(self.client.now(), &self.settings.schedule);
        let done = |progress: &mut Progress| progress.newest_listed(&plan);
        let gone = plan.gone.map(|window| (window, GONE));
        let unswept = plan.unswept.map(|window| (window, UNSWEPT));
        let missed = gone.into_iter().chain(unswept).collect();
        self.walk(content_type, ledger, plan.newest, missed, &done)
            .await?;
        let mut settled = false;
        loop {
            let Some(window) = ledger.progress(content_type).await.oldest_unlisted() else {
                return Ok(false);
            };
            if Instant::now() >= until {
                return Ok(true);
            }
            let done = |progress: &mut Progress| progress.settled(window);
            match self
                .walk(content_type, ledger, window, Vec::new(), &done)
                .await
            {
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

    /// Lists a window to its last page, as much of it as the API still lists. The rest, and what was `missed` before it,
    /// goes on record together with the checkpoint that passes it.
    async fn walk(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
        window: Window,
        missed: Vec<Unlisted>,
        done: &(impl Fn(&mut Progress) + Send + Sync),
    ) -> Result<()> {
        let mut restarts = 0;
        let mut margin = TimeDelta::zero();
        loop {
            let (kept, gone) = window.clamp(self.client.now() + margin);
            let gone = match gone {
                Some(gone) => ledger.out_of_reach(content_type, gone).await,
                None => Vec::new(),
            };
            let gone: Vec<_> = missed.iter().copied().chain(gone).collect();
            let walked = match kept {
                Some(kept) => self.pages(content_type, ledger, kept, gone, done).await,
                None => ledger
                    .register_with_gaps(content_type, Vec::new(), gone, done)
                    .await
                    .map(drop),
            };
            let Err(error) = walked else {
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
        gone: Vec<Unlisted>,
        done: &(impl Fn(&mut Progress) + Send + Sync),
    ) -> Result<()> {
        let name: Arc<str> = content_type.into();
        let mut url = self.client.listing(content_type, window);
        let (mut found, mut new) = (0, 0);
        for _ in 0..MOST_PAGES {
            let page = self.client.page(url).await?;
            fail::fail_point!("source::page");
            let uri_of = |id: &str| self.client.content_uri(id);
            let units = listing::units(&page.body, &name, self.client.now(), uri_of)?;
            found += units.len();
            let Some(next) = page.next else {
                new += ledger
                    .register_with_gaps(content_type, units, gone, done)
                    .await?;
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

fn is_unsubscribed(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(errors::NO_SUBSCRIPTION | errors::SUBSCRIPTION_DISABLED)
    )
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
