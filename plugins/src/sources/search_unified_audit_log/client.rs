//! The search by whichever service it is asked.

use std::sync::Arc;
use std::time::Duration;

use audit_exporter_core::Result;
use audit_exporter_core::plugin::Context;
use audit_exporter_core::sizes::size;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::config::{Settings, Transport};
use super::exchange::Exchange;
use super::legacy::Legacy;
use super::pace::Window;
use crate::microsoft::cloud::Access;

/// Rows that a session of either command shows at most (reference: search-unified-audit-log.md, C).
const LARGE_SET: u64 = 50_000;
const PREVIEW: u64 = 5_000;

/// One page to ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'q> {
    /// The time of the events.
    pub(super) window: Window,
    /// The session that goes on.
    pub(super) session: &'q str,
    /// Rows on a page.
    pub(super) size: usize,
    /// The operations to find; none is all.
    pub(super) operations: &'q [String],
    /// The users to find; none is all.
    pub(super) users: &'q [String],
}

/// One tenant's search.
pub(super) enum Client {
    /// By Exchange Online.
    Exchange(Box<Exchange>),
    /// By the older REST service.
    Legacy(Box<Legacy>),
}

impl Client {
    /// The client that the options name.
    pub(super) fn new(context: &Context, access: Access, settings: &Settings) -> Self {
        match &settings.transport {
            Transport::ExchangeOnline { high_completeness } => {
                let pace = settings.requests_per_minute;
                let access = Arc::new(access);
                let exchange = Exchange::new(context, access, *high_completeness, pace);
                Self::Exchange(Box::new(exchange))
            }
            Transport::Rest { username, password } => {
                let account = (username.clone(), password.clone());
                let pace = settings.requests_per_minute;
                let legacy = Legacy::new(context, access.exchange_api, account, pace);
                Self::Legacy(Box::new(legacy))
            }
        }
    }

    /// The service's host, for messages.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Exchange(exchange) => exchange.api().host(),
            Self::Legacy(legacy) => legacy.host(),
        }
    }

    /// The time by the service's clock, as far as it is known.
    pub(super) fn now(&self) -> DateTime<Utc> {
        match self {
            Self::Exchange(exchange) => exchange.api().now(),
            Self::Legacy(legacy) => legacy.now(),
        }
    }

    /// Rows that a session shows at most.
    pub(super) fn ceiling(&self) -> u64 {
        match self {
            Self::Exchange(_) => size("LARGE_SET_ROWS", LARGE_SET),
            Self::Legacy(_) => PREVIEW,
        }
    }

    /// Operations that one search can name: the older service takes one, as far as is known.
    pub(super) fn most_operations(&self) -> usize {
        match self {
            Self::Exchange(_) => usize::MAX,
            Self::Legacy(_) => 1,
        }
    }

    /// Fails if the tenant cannot be searched, or has nothing to search because auditing is off.
    pub(super) async fn probe(&self) -> Result<()> {
        match self {
            Self::Exchange(exchange) => exchange.probe().await,
            Self::Legacy(legacy) => legacy.probe().await,
        }
    }

    /// The next page of a session.
    pub(super) async fn page(&self, query: Query<'_>) -> Result<Bytes> {
        match self {
            Self::Exchange(exchange) => exchange.search(query).await,
            Self::Legacy(legacy) => legacy.search(query).await,
        }
    }

    /// How long the service asks to be left alone, because its limit of this minute is used up.
    pub(super) fn rest(&self) -> Duration {
        match self {
            Self::Exchange(exchange) => exchange.rest(),
            Self::Legacy(_) => Duration::ZERO,
        }
    }
}
