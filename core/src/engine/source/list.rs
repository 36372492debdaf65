//! The listings of one source, one after the other.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tracing::Instrument as _;

use super::Runner;
use crate::engine::gate::Gate;
use crate::engine::once::listings::{Place, Stage};
use crate::engine::retry;
use crate::error::{Error, Kind};
use crate::plugin::Next;

/// What became of the latest listings.
#[derive(Default)]
struct Row {
    /// Failures in a row.
    failures: u32,
    /// Those that the back-off grows with.
    attempt: u32,
    told: Trouble,
}

/// What the journal was last told about listing.
#[derive(Default, PartialEq, Eq)]
enum Trouble {
    #[default]
    Unknown,
    None,
    Of(String),
}

impl Runner {
    /// Lists as often as the source wants to.
    pub(super) async fn list(&self, gate: &Gate) {
        let mut place = self.listings.place();
        let mut row = Row::default();
        // It lists because of news, and need not list everything.
        let mut is_early = false;
        loop {
            gate.wait().await;
            place.begins();
            let before = self.intake.progress();
            // What it was told before, this listing finds.
            self.hook.clear();
            self.intake.forget_recall();
            let listed = self.source.list(&self.intake).instrument(self.span());
            let listed = AssertUnwindSafe(listed)
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| Err(retry::panicked(&*panic)));
            place.is_at(if self.intake.take_peer_at_work() {
                Stage::Awaits
            } else {
                Stage::Lists
            });
            let next = match listed {
                Ok(next) => next,
                Err(error) => {
                    let progressed = self.intake.progress() > before;
                    let (wait, works) = self.failed(&mut row, &error, progressed, gate).await;
                    is_early = self.rest(wait, works).await;
                    continue;
                }
            };
            self.listed(&mut row, is_early, gate).await;
            is_early = match next {
                Next::Now => {
                    place.has_listed_a_part();
                    tokio::task::yield_now().await;
                    false
                }
                Next::Soon(wait) => self.rest(wait, true).await,
                Next::After(wait) if !self.once => self.rest(wait, true).await,
                Next::After(_) | Next::Done => {
                    self.ended(&mut place).await;
                    false
                }
            };
        }
    }

    /// There is nothing left to list. Returns when a fetch finds out that there is.
    async fn ended(&self, place: &mut Place) {
        // Nobody is to wait for what will not be done.
        self.asked.lock().await.close();
        place.is_at(Stage::Ended);
        self.intake.recalled().await;
    }

    /// A listing came to its end.
    async fn listed(&self, row: &mut Row, is_early: bool, gate: &Gate) {
        let [component, name, tenant] = self.labels();
        gate.success();
        if row.failures > 0 {
            tracing::info!(source = name, tenant, "listing works again");
        }
        (row.attempt, row.failures) = (0, 0);
        self.tell_trouble(&mut row.told, None).await;
        let up = &self.metrics.up;
        up.with_label_values(&[component, name, tenant]).set(1);
        if !is_early {
            let now = self.clock.now().timestamp_millis() as f64 / 1000.0;
            let last = self.metrics.last_listing.with_label_values(&[tenant, name]);
            last.set(now);
        }
    }

    /// A listing failed: counts it and tells of it. Returns how long to wait, and whether news may end that early.
    async fn failed(
        &self,
        row: &mut Row,
        error: &Error,
        progressed: bool,
        gate: &Gate,
    ) -> (Duration, bool) {
        let labels = self.labels();
        row.failures += 1;
        if progressed {
            gate.success();
        }
        // What gets further before it fails is not down, and a wait that was asked for is no reason for longer ones:
        // neither is part of the row that the back-off grows with.
        row.attempt = if progressed || error.retry_after().is_some() {
            1
        } else {
            row.attempt + 1
        };
        self.metrics.up.with_label_values(&labels).set(0);
        self.note("listing failed", error, row.failures);
        self.tell_trouble(&mut row.told, Some(error)).await;
        self.metrics.retries.with_label_values(&labels).inc();
        if matches!(error.kind(), Kind::Throttled | Kind::Auth | Kind::Config) {
            gate.pause(error);
        }
        if error.kind() == Kind::Bug && row.attempt == 1 {
            let [_, name, tenant] = labels;
            tracing::error!(source = name, tenant, "{error}; please report it");
        }
        // One part of the source may wait for better times while another has news.
        let works = progressed && error.kind() == Kind::Unavailable;
        (retry::wait(error, row.attempt), works)
    }

    /// Notes in the journal, where coverage finds it, why nothing can be listed, or that it can: once, not each time.
    async fn tell_trouble(&self, told: &mut Trouble, error: Option<&Error>) {
        let now = error.map_or(Trouble::None, |error| Trouble::Of(error.to_string()));
        if *told == now {
            return;
        }
        let noted = self.intake.journal().trouble(self.intake.stream(), error);
        match noted.await {
            Ok(()) => *told = now,
            Err(error) => self.note("the trouble cannot be noted", &error, 2),
        }
    }
}
