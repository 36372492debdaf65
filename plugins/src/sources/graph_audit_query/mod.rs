//! Microsoft Graph's audit log queries: what the tenant's whole audit log holds of a time, searched for by Microsoft.
//!
//! Listing creates a query for each slice of event time that is due ([`super::slices`]), looks now and then how far it
//! is, and registers its records as a unit when it has succeeded. Fetching reads them, page by page. What it promises:
//!
//! - A query's name is on record before the query is created, and its id before it is looked at: a restart goes on with
//!   it, and no answer that was lost makes a second one.
//! - A query that says it is cut off is never taken for whole: its time is searched in halves.
//! - Readings of the same query were seen to differ, so it is read until a reading brings nothing new.
//! - Records become what the Management Activity API gives, so that an event by both is known as one.
//! - The token goes to the tenant's own Graph host and nowhere else.

mod check;
mod checkpoint;
mod client;
mod config;
mod errors;
mod fetch;
mod list;
mod record;

use std::sync::Arc;

use async_trait::async_trait;
use audit_exporter_core::Result;
use audit_exporter_core::plugin::{
    Context, Finding, Intake, Next, Source, Spans, Unit, UnitWriter,
};

use self::client::Client;
use self::config::Settings;
use self::fetch::Fetcher;
use self::list::Lister;
use crate::microsoft::cloud::Access;

/// What stands in the place of a content type: the service has none.
const CONTENT_TYPE: &str = "AuditLogQuery";

/// One tenant's audit log by Graph queries.
struct GraphAuditQuery {
    client: Arc<Client>,
    settings: Settings,
    lister: Lister,
    fetcher: Arc<Fetcher>,
}

/// Builds the source for the one tenant of `context`.
#[allow(clippy::needless_pass_by_value)] // The registry's signature.
pub(crate) fn build(context: Context) -> Result<Box<dyn Source>> {
    Ok(Box::new(GraphAuditQuery::new(&context)?))
}

impl GraphAuditQuery {
    fn new(context: &Context) -> Result<Self> {
        let tenant = context.tenant()?;
        let settings = Settings::of(&context.options, &tenant.name)?;
        let client = Arc::new(Client::new(context, Access::of(tenant)?));
        let fetcher = Arc::new(Fetcher::new(Arc::clone(&client), settings.read_twice));
        Ok(Self {
            lister: Lister::new(Arc::clone(&client), Arc::clone(&fetcher), settings.clone()),
            client,
            settings,
            fetcher,
        })
    }
}

#[async_trait]
impl Source for GraphAuditQuery {
    async fn list(&self, intake: &Intake) -> Result<Next> {
        self.lister.list(intake).await
    }

    async fn fetch(&self, unit: &Unit, out: &mut UnitWriter) -> Result<()> {
        self.fetcher.fetch(unit, out).await
    }

    async fn backfill(&self, intake: &Intake, spans: &Spans) -> Result<()> {
        self.lister.backfill(intake, spans).await
    }

    async fn check(&self) -> Vec<Finding> {
        check::check(&self.client, &self.settings).await
    }
}

#[cfg(test)]
mod tests;
