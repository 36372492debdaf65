//! Finding out what content there is.
//!
//! The content types are listed side by side, each with its own subscription, windows and troubles, so that one that
//! fails holds up no other. Within a content type the newest window comes first, then the backlog, oldest first. Pages
//! are registered as they come; the checkpoint passes a window only with its last page.
//!
//! What the webhook says of content types lists these at once and leaves the others to the poll that is due.

mod absence;
mod standing;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
use super::ledger::{GONE, Ledger, UNSWEPT, Unlisted};
use super::listing;
use super::webhook::Webhook;
use super::window::{Progress, Window};
use crate::microsoft::errors;
use standing::{Polls, Standing, Trouble, severity};
use subscriptions::is_unsubscribed;

/// The longest time that a content type that fails alone is left out.
const LONGEST_REST: Duration = Duration::from_mins(15);
/// The longest that it is, because the service asks for it.
const LONGEST_WISH: Duration = Duration::from_hours(1);
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
    webhook: Option<Arc<Webhook>>,
    polls: Mutex<Polls>,
    /// The journal knows what is collected.
    is_declared: AtomicBool,
    subscriptions_seen: Mutex<Option<Instant>>,
    standings: Mutex<BTreeMap<&'static str, Standing>>,
}

impl Lister {
    pub(super) fn new(
        client: Arc<Client>,
        settings: Settings,
        webhook: Option<Arc<Webhook>>,
    ) -> Self {
        Self {
            client,
            settings,
            webhook,
            polls: Mutex::default(),
            is_declared: AtomicBool::new(false),
            subscriptions_seen: Mutex::default(),
            standings: Mutex::default(),
        }
    }

    /// Notes that there is content of these types. Returns whether any of them is collected.
    pub(super) fn has_news(&self, content_types: &BTreeSet<&'static str>) -> bool {
        let mut news = content_types.clone();
        news.retain(|name| self.settings.content_types.contains(name));
        let any = !news.is_empty();
        self.polls().news.append(&mut news);
        any
    }

    fn polls(&self) -> MutexGuard<'_, Polls> {
        self.polls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists every content type that is due, once; before the next poll, those alone of which there is news. Fails as long
    /// as one of them is not listed, whether it was due or rests: a source is only well that lists everything.
    pub(super) async fn list(&self, ledger: &Ledger<'_>) -> Result<Next> {
        let began = Instant::now();
        let early = self.polls().take(began);
        let poll = began + self.settings.poll_interval;
        let until = early.as_ref().map_or(poll, |(_, due)| *due);
        if !self.is_declared.load(Ordering::Relaxed) {
            ledger.declare(self.client.now()).await?;
            self.is_declared.store(true, Ordering::Relaxed);
        }
        self.see_subscriptions(ledger).await?;
        let due = self
            .due(began)
            .filter(|name| early.as_ref().is_none_or(|(news, _)| news.contains(name)));
        let more = self.list_types(due, ledger, until).await?;
        let next = self.next_poll(until);
        self.polls().due = Some(next).filter(|_| !more);
        let next = next.saturating_duration_since(Instant::now());
        match self.trouble() {
            Some(trouble) => Err(trouble.into_error(if more { Duration::ZERO } else { next })),
            None if more => Ok(Next::Now),
            None => Ok(Next::After(next)),
        }
    }

    /// Lists these side by side until they are listed, or until the tenant is throttled. Those that fail rest, unless all
    /// do: then the worst failure is the tenant's. Returns whether a backlog is left.
    async fn list_types(
        &self,
        content_types: impl Iterator<Item = &'static str>,
        ledger: &Ledger<'_>,
        until: Instant,
    ) -> Result<bool> {
        let throttled = &CancellationToken::new();
        let mut listings: FuturesUnordered<_> = content_types
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
        worst.map_or(Ok(more), Err)
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
            let wish = error.retry_after().unwrap_or_default();
            let rest = rest.max(wish.min(LONGEST_WISH));
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
                    self.found_enabled(content_type, ledger).await?;
                    // What came between this listing and the webhook is not told of: it is listed once more.
                    return Ok(self.run_errand(content_type, ledger).await? || more);
                }
                Err(error) if !is_unsubscribed(&error) => return Err(error),
                Err(error) => error,
            };
            if self.standing(content_type).enabled {
                tracing::warn!(content_type, %error, "the subscription has ended");
            }
            self.with_standing(content_type, |standing| standing.enabled = false);
            // Without a subscription nothing is collected. If it starts, that shows at once; if not, it is a failure.
            if started {
                return Err(error);
            }
            if !self.start(content_type, ledger).await? {
                self.found_absent(content_type, ledger).await?;
                return Err(error);
            }
            started = true;
        }
    }

    async fn list_windows(
        &self,
        content_type: &'static str,
        ledger: &Ledger<'_>,
        until: Instant,
    ) -> Result<bool> {
        let progress = ledger.progress(content_type).await;
        let now = ledger.lists_until(self.client.now());
        let plan = progress.plan(now, &self.settings.schedule);
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
