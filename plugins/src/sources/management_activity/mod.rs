//! The Office 365 Management Activity API: the complete way to collect a tenant's audit log.
//!
//! Two steps. Listing finds content blobs by the time at which they became available, in windows, page after page, and
//! registers each. Fetching reads one blob, a JSON array of records. What it promises:
//!
//! - The checkpoint never passes a window that was not listed to its last page.
//! - Each poll lists from half an hour before the last, and each hour is listed again up to 6 d 12 h later (`relist_after`),
//!   so that content that shows up late is found.
//! - One content type that fails holds up no other; a throttled tenant stops at once.
//! - A [webhook], if there is one, only says sooner what there is to list.
//! - The token goes to the tenant's own Management API and nowhere else.

mod body;
mod check;
mod client;
mod config;
mod ledger;
mod list;
mod listing;
mod webhook;
mod window;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use audit_exporter_core::plugin::{
    Context, Finding, Heard, Intake, Next, Source, Unit, UnitWriter,
};
use audit_exporter_core::{Error, Kind, Result};
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use self::client::Client;
use self::config::Settings;
use self::ledger::Ledger;
use self::list::Lister;
use self::webhook::{Message, Webhook};
use crate::microsoft::cloud::Access;
use crate::microsoft::errors;

/// One tenant's audit log by the Management Activity API.
struct ManagementActivity {
    client: Arc<Client>,
    settings: Settings,
    lister: Lister,
    webhook: Option<Arc<Webhook>>,
    absences: Absences,
}

/// Builds the source for the one tenant of `context`.
#[allow(clippy::needless_pass_by_value)] // The registry's signature.
pub(crate) fn build(context: Context) -> Result<Box<dyn Source>> {
    Ok(Box::new(ManagementActivity::new(&context)?))
}

impl ManagementActivity {
    fn new(context: &Context) -> Result<Self> {
        let tenant = context.tenant()?;
        let settings = Settings::of(&context.options, &tenant.name)?;
        let access = Access::of(tenant)?;
        let auth_id = settings.webhook_auth_id.clone();
        let webhook = auth_id.map(|auth_id| Webhook::new(context, &access, auth_id));
        let webhook = webhook.transpose()?.map(Arc::new);
        let client = Arc::new(Client::new(context, access));
        Ok(Self {
            lister: Lister::new(Arc::clone(&client), settings.clone(), webhook.clone()),
            client,
            webhook,
            settings,
            absences: Absences::default(),
        })
    }
}

#[async_trait]
impl Source for ManagementActivity {
    async fn list(&self, intake: &Intake) -> Result<Next> {
        let ledger = Ledger::open(intake, &self.settings).await?;
        self.lister.list(&ledger).await
    }

    async fn survey(
        &self,
        intake: &Intake,
        spans: &audit_exporter_core::plugin::Spans,
    ) -> Result<()> {
        // What happened then may have become available at any time since.
        let Some(from) = spans.iter().map(|(from, _)| *from).min() else {
            return Ok(());
        };
        let oldest = self.client.now() - window::LISTABLE;
        if from < oldest {
            return Err(Error::config(format!(
                "the Management Activity API lists seven days, from {} UTC on; what became available before is not to \
                 be had by it any more",
                oldest.format("%Y-%m-%d %H:%M")
            )));
        }
        self.client.only_read();
        let ledger = Ledger::open(intake, &self.settings).await?;
        ledger.begin_at(from).await
    }

    async fn fetch(&self, unit: &Unit, out: &mut UnitWriter) -> Result<()> {
        if unit.locator == listing::NOWHERE {
            return Err(Error::lost(
                "the service listed content without saying where it is",
            ));
        }
        let response = self
            .client
            .content(unit)
            .await
            .map_err(|error| judge(error, || self.absences.may_pass(&unit.id)))?;
        body::copy(response, out).await
    }

    fn expects(&self, headers: &HeaderMap) -> bool {
        let webhook = self.webhook.as_ref();
        webhook.is_some_and(|webhook| webhook.expects(headers))
    }

    fn notified(&self, headers: &HeaderMap, body: &[u8]) -> Heard {
        let webhook = self.webhook.as_ref();
        match webhook.and_then(|webhook| webhook.read(headers, body)) {
            Some(Message::Content(content_types)) if self.lister.has_news(&content_types) => {
                Heard::News
            }
            Some(Message::Content(_) | Message::Validation) => Heard::Nothing,
            None => Heard::Unreadable,
        }
    }

    async fn check(&self) -> Vec<Finding> {
        check::check(&self.client, &self.settings, self.webhook.as_deref()).await
    }
}

/// The blobs that the API says it does not know, though it has listed them: since when, in this process.
#[derive(Default)]
struct Absences(Mutex<HashMap<Arc<str>, Instant>>);

impl Absences {
    /// What was listed late, or long ago, may not have reached the server that was asked.
    const SETTLING: Duration = Duration::from_hours(1);

    /// Whether it is too early to believe it of this blob.
    fn may_pass(&self, unit: &Arc<str>) -> bool {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.retain(|_, since| since.elapsed() < 2 * Self::SETTLING);
        let first = since.entry(Arc::clone(unit)).or_insert_with(Instant::now);
        first.elapsed() < Self::SETTLING
    }
}

/// What a refusal of one blob means. The tenant's own troubles show when it is listed; one blob does not stop it.
fn judge(error: Error, may_pass: impl FnOnce() -> bool) -> Error {
    let code = error.code().unwrap_or_default();
    let is_settling = code == errors::UNKNOWN_CONTENT && may_pass();
    let is_alone = error.kind() == Kind::Auth && (code.starts_with("AF") || code == "HTTP 403");
    if !(is_settling || is_alone) {
        return error;
    }
    Error::unavailable(error.to_string())
        .with_code(code)
        .with_retry_after(error.retry_after())
}

#[cfg(test)]
mod tests;
