//! The time without a subscription: Microsoft keeps no content then, so it is put on record.
//!
//! A subscription that is found not to be enabled is noted in the checkpoint before a start is asked for. The note goes
//! when the time without one is on record, or when Microsoft's answer shows that there was no such time. So whatever
//! becomes of the request, its answer and this process, what is missed is not missed in silence.

use audit_exporter_core::{Error, Result};

use super::super::ledger::{Ledger, PERHAPS_UNSUBSCRIBED};
use super::super::window::Progress;
use super::Lister;

impl Lister {
    /// The subscription is not enabled, and no start is asked for now.
    pub(super) async fn found_absent(&self, content_type: &str, ledger: &Ledger<'_>) -> Result<()> {
        if !ledger.progress(content_type).await.is_absence_new() {
            return Ok(());
        }
        let change = Progress::found_absent;
        ledger.register(content_type, Vec::new(), change).await?;
        Ok(())
    }

    /// The subscription is enabled. If it was not when that was last seen, it was started by a request whose answer was
    /// lost, or by somebody else.
    pub(super) async fn found_enabled(
        &self,
        content_type: &str,
        ledger: &Ledger<'_>,
    ) -> Result<()> {
        let progress = ledger.progress(content_type).await;
        if !progress.is_absent() {
            return Ok(());
        }
        if !progress.was_listed() {
            // It may have started long ago: what goes out of reach before it is listed is missed, not what never was.
            let change = Progress::was_enabled;
            ledger.register(content_type, Vec::new(), change).await?;
            return Ok(());
        }
        self.subscribed(content_type, ledger, PERHAPS_UNSUBSCRIBED)
            .await
    }

    /// A subscription started. What became available between the last listing and now was not kept, for this `reason`.
    pub(super) async fn subscribed(
        &self,
        content_type: &str,
        ledger: &Ledger<'_>,
        reason: &'static str,
    ) -> Result<()> {
        let now = self.client.now();
        let missed = ledger.progress(content_type).await.unsubscribed(now);
        let missed = missed.map(|window| (window, reason));
        let note = |progress: &mut Progress| progress.subscribed(now);
        ledger
            .register_with_gaps(content_type, Vec::new(), missed.into_iter().collect(), note)
            .await
            .map(drop)
    }
}

/// Whether a start that failed is known not to have been done: the service said so. Who hears nothing, hears a gateway, or
/// hears of an internal error does not know.
pub(super) fn is_refused(error: &Error) -> bool {
    let code = error.code().unwrap_or_default();
    let by_service = code.starts_with("AF") && !code.starts_with("AF5");
    by_service || (code.starts_with("HTTP 4") && code != "HTTP 408")
}
