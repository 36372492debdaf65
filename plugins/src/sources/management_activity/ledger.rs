//! The checkpoint while content types are being listed side by side.
//!
//! Every change goes to the journal first, together with the units that it stands for, and counts here afterwards. A
//! listing that is dropped in between leaves this copy behind the journal's, never ahead of it.

use std::collections::BTreeMap;

use audit_exporter_core::Result;
use audit_exporter_core::plugin::{Gap, Intake, Listing, Unit};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::config::Settings;
use super::window::{Progress, Window};

/// Why there is a gap, and what can be done.
pub(super) const GONE: &str = "content of this time cannot be listed any more, it is older than seven days; `audit-exporter \
    backfill` brings it in by a source that searches";
/// The same, for what showed up late.
pub(super) const UNSWEPT: &str = "content that showed up late in this time was not looked for before it was older than \
    seven days, because nothing ran then; what was there earlier is collected";
/// The same, for what Microsoft did not keep.
pub(super) const UNSUBSCRIBED: &str = "there was no subscription, so Microsoft kept no content; `audit-exporter \
    backfill` brings the events in by a source that searches";
/// The same, when it is not sure that Microsoft did not.
pub(super) const PERHAPS_UNSUBSCRIBED: &str = "Microsoft said that there was no subscription, and later that there is one; \
    since when, no answer tells, so it may have kept no content of this time, or all of it; \
    `audit-exporter backfill` brings the events in by a source that searches";

/// A window that will not be listed, and why.
pub(super) type Unlisted = (Window, &'static str);

/// How far the source is: one entry a content type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    #[serde(default)]
    content_types: BTreeMap<String, Progress>,
}

/// The checkpoint, and the way to change it.
pub(super) struct Ledger<'a> {
    intake: &'a Intake,
    settings: &'a Settings,
    checkpoint: Mutex<Checkpoint>,
}

impl<'a> Ledger<'a> {
    /// Begins from the checkpoint that the journal holds.
    pub(super) async fn open(intake: &'a Intake, settings: &'a Settings) -> Result<Self> {
        let checkpoint = intake.checkpoint().await?.unwrap_or_default();
        Ok(Self {
            intake,
            settings,
            checkpoint: Mutex::new(checkpoint),
        })
    }

    /// Says which content types are collected, listed yet or not: none of them may be taken for settled because it could
    /// not be listed. Where the first listing begins is on record from now on, whenever it succeeds.
    pub(super) async fn declare(&self, now: DateTime<Utc>) -> Result<()> {
        let mut checkpoint = self.checkpoint.lock().await;
        let (mut next, mut is_first, mut all) = (checkpoint.clone(), false, Vec::new());
        for content_type in &self.settings.content_types {
            let progress = next.content_types.entry((*content_type).to_owned());
            let progress = progress.or_default();
            is_first |= progress.tries(now);
            all.push(progress.reach(content_type, now, &self.settings.schedule));
        }
        if is_first {
            self.intake.register(Vec::new(), Some(&next)).await?;
            *checkpoint = next;
        }
        self.intake.collects(all).await
    }

    /// Puts on record that all content types are listed from `from` on.
    pub(super) async fn begin_at(&self, from: DateTime<Utc>) -> Result<()> {
        let mut checkpoint = self.checkpoint.lock().await;
        for content_type in &self.settings.content_types {
            let progress = Progress::listed_to(from);
            let all = &mut checkpoint.content_types;
            all.insert((*content_type).to_owned(), progress);
        }
        self.intake.register(Vec::new(), Some(&*checkpoint)).await?;
        Ok(())
    }

    /// Up to when is listed at `now`: in a single run, up to when it began.
    pub(super) fn lists_until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.intake.lists_until(now)
    }

    /// How far a content type is.
    pub(super) async fn progress(&self, content_type: &str) -> Progress {
        let checkpoint = self.checkpoint.lock().await;
        checkpoint
            .content_types
            .get(content_type)
            .cloned()
            .unwrap_or_default()
    }

    /// Why each part of a window that cannot be listed any more is missed.
    pub(super) async fn out_of_reach(&self, content_type: &str, window: Window) -> Vec<Unlisted> {
        let never = self.progress(content_type).await.never_listed(window);
        let mut listed = vec![window];
        for part in &never {
            listed = listed.iter().flat_map(|rest| rest.without(*part)).collect();
        }
        let never = never.into_iter().map(|part| (part, GONE));
        never
            .chain(listed.into_iter().map(|part| (part, UNSWEPT)))
            .collect()
    }

    /// Hands over what was listed, together with the change to the content type's progress. Returns how many units
    /// were new.
    pub(super) async fn register(
        &self,
        content_type: &str,
        units: Vec<Unit>,
        change: impl FnOnce(&mut Progress) + Send,
    ) -> Result<usize> {
        self.register_with_gaps(content_type, units, Vec::new(), change)
            .await
    }

    /// The same, with the windows that the change passes without their having been listed. They are on record with it.
    pub(super) async fn register_with_gaps(
        &self,
        content_type: &str,
        units: Vec<Unit>,
        gone: Vec<Unlisted>,
        change: impl FnOnce(&mut Progress) + Send,
    ) -> Result<usize> {
        let gap = |(window, reason): &Unlisted| Gap {
            content_type: content_type.into(),
            from: window.from,
            to: window.to,
            reason: (*reason).to_owned(),
        };
        let gaps = gone.iter().map(gap).collect();
        // Held while the journal writes: it must not get an older checkpoint after a newer one.
        let mut checkpoint = self.checkpoint.lock().await;
        let mut next = checkpoint.clone();
        let progress = next
            .content_types
            .entry(content_type.to_owned())
            .or_default();
        change(progress);
        // Before it was listed, or its subscription started, it is where it was declared to be.
        let reach = progress.known_reach(content_type, &self.settings.schedule);
        let listing = Listing {
            units,
            gaps,
            reach: reach.into_iter().collect(),
        };
        let new = self.intake.register_listing(listing, Some(&next)).await?;
        *checkpoint = next;
        for (window, reason) in gone {
            tracing::error!(content_type, from = %window.from, to = %window.to, "not listed: {reason}");
        }
        Ok(new)
    }

    /// Hands over units of a window that is not listed to its last page: the checkpoint stays as it is.
    pub(super) async fn register_part(&self, units: Vec<Unit>) -> Result<usize> {
        self.intake.register(units, None::<&Checkpoint>).await
    }
}
