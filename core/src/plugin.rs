//! All that a plugin author reads: the three kinds of plugin, what they are given, and the registry.
//!
//! The engine owns every loop: it decides when a source lists and what it fetches, retries with back-off, batches,
//! moves cursors, stores dead letters, counts, and stops. A plugin owns one protocol and holds no acknowledgement
//! handle: what it does not confirm has not happened.

mod finding;
mod registry;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::config::{Options, Tenant};
use crate::error::{Error, Result};
use crate::event::AuditEvent;
use crate::http;
use crate::journal::{Changes, Position, Store};
use crate::metrics::Meter;

pub use self::finding::{Finding, Severity};
pub use self::registry::Registry;
pub use crate::engine::backfill::Spans;
pub use crate::engine::intake::{Intake, UnitWriter};
pub use crate::engine::retry::wait as wait_after;

/// When a source wants to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once.
    Now,
    /// After this time, for there is more to list than could be listed now: a single run goes on, and loses patience
    /// unless something gets further, or the peer is at work ([`Intake::peer_is_at_work`]).
    Soon(Duration),
    /// After this time, for what is new then.
    After(Duration),
    /// Never, unless a fetch calls for it ([`UnitWriter::list_again`]): there is no more.
    Done,
}

/// Which part of the journal a unit's events go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LaneKind {
    /// What the tenant does now. Delivered before catch-up.
    Live,
    /// A backlog or a backfill.
    CatchUp,
}

/// Something to fetch as a whole: a content blob, a page of records.
///
/// The engine keeps it, fetches it, retries it on its own until it expires, and counts it as lost if it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its name at the source, unique within this source and tenant.
    pub id: Arc<str>,
    /// The content type, or what the source has in its place.
    pub content_type: Arc<str>,
    /// Where to fetch it (a URL, a query), as the source understands it.
    pub locator: String,
    /// When it became available at the source.
    pub created: DateTime<Utc>,
    /// When the source will no longer have it.
    pub expires: DateTime<Utc>,
    /// Live events, or catch-up.
    pub lane: LaneKind,
}

/// A time that a source could not list and never will: nobody knows what was in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The content type.
    pub content_type: Arc<str>,
    /// Where it begins.
    pub from: DateTime<Utc>,
    /// Where it ends; not part of it.
    pub to: DateTime<Utc>,
    /// Why, and what can be done.
    pub reason: String,
}

/// How far a source is with one content type, so that coverage can tell which hours may still get more.
///
/// Each moment is listed when it has passed, and again some time later, for what showed up in it late. The last pass
/// settles it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The content type.
    pub content_type: Arc<str>,
    /// What became available before this is not collected.
    pub since: DateTime<Utc>,
    /// The passes in the order in which they come; the first, without a lag, is the first listing.
    pub passes: Vec<Pass>,
    /// How long the source can list what became available. Longer after it, what was not listed is gone.
    pub kept: Duration,
}

/// One of the times that each moment is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// How long after a moment it comes.
    pub lag: Duration,
    /// Everything before this was listed by it, to the last page.
    pub to: DateTime<Utc>,
}

/// What a source has found out by listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// What there is to fetch. Units that are known are left as they are.
    pub units: Vec<Unit>,
    /// The times that the checkpoint passes without their having been listed: they are on record, and counted.
    pub gaps: Vec<Gap>,
    /// How far it is with the content types that were listed.
    pub reach: Vec<Reach>,
}

/// One way to collect one tenant's events. One instance a tenant.
#[async_trait]
pub trait Source: Send + Sync {
    /// Finds out what there is to fetch and registers it with [`Intake::register`], together with the checkpoint; or
    /// with [`Intake::register_listing`], to say also how far it is ([`Reach`]): without that no hour counts as settled.
    /// Lists up to [`Intake::lists_until`]. Called again after the time that it returns; an error is retried as its kind says.
    async fn list(&self, intake: &Intake) -> Result<Next>;

    /// Fetches one unit and writes its body to `out`. The unit counts as fetched once this has returned `Ok` and the
    /// engine has committed its last batch; until then it is fetched again.
    async fn fetch(&self, unit: &Unit, out: &mut UnitWriter) -> Result<()>;

    /// For `reconcile`: from now on lists what it has of these stretches of event time (more of other times does no harm)
    /// and nothing of its usual work, and changes nothing at the peer that outlives the answer. Called before the first
    /// listing, with a journal that holds nothing else. Default: refuses.
    async fn survey(&self, _intake: &Intake, _spans: &Spans) -> Result<()> {
        Err(Error::config(
            "this kind of source cannot be asked for a single day",
        ))
    }

    /// Collects stretches of event time beside what it lists by itself, in the catch-up lane: notes them with its
    /// checkpoint before it returns, and lets its listings do the rest. What is known is dropped as a repeat. Called
    /// between two listings. Default: refuses.
    async fn backfill(&self, _intake: &Intake, _spans: &Spans) -> Result<()> {
        Err(Error::config(
            "this kind of source cannot search by the time of events",
        ))
    }

    /// Whether a request to [`Context::webhook`] comes from whom it should, by its headers alone, before its body is read.
    /// Secrets are compared by [`same_secret`](crate::config::same_secret). Default: nobody is expected.
    fn expects(&self, _headers: &HeaderMap) -> bool {
        false
    }

    /// What such a request says. Returns at once, and asks nobody. It is a hint and no more: whatever it says, only
    /// [`Source::list`] finds units and moves the checkpoint, so that a request that is forged, repeated or lost cannot
    /// make a unit or lose one.
    fn notified(&self, _headers: &HeaderMap, _body: &[u8]) -> Heard {
        Heard::Nothing
    }

    /// For `check`: tries credentials and permissions without changing anything, and says what it found.
    async fn check(&self) -> Vec<Finding>;
}

/// What a source has understood of a request to its webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// There may be something new: it wants to list soon. What comes in a burst is one listing, seconds later. A source
    /// that waits because it failed is not woken, unless it is merely unavailable ([`Error::unavailable`]) and got
    /// further before it failed: what else it collects goes on.
    News,
    /// It is understood, and there is nothing to list for it.
    Nothing,
    /// It cannot be read.
    Unreadable,
}

/// Lets an event pass, changes it, or drops it. Cheap and synchronous.
pub trait Filter: Send + Sync {
    /// `None` drops the event for this sink.
    fn apply(&self, event: AuditEvent) -> Option<AuditEvent>;
}

/// Events that travel to a sink together, all of one tenant, in journal order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where they lie in the journal. Of several deliveries that one batch of the journal makes, because it is larger
    /// than the sink's limits, all but the last say the position before it ([`Sink::holds_positions`]).
    ///
    /// None for what does not come in the journal's order: dead letters that come again, and archives. It is
    /// delivered whatever position the far side holds, and leaves that as it is.
    pub position: Option<Position>,
    /// The events that passed the sink's filters; never empty. Shared, so that a sink can give them to another thread.
    pub events: Arc<Vec<AuditEvent>>,
}

impl Batch {
    /// The sum of the records' bytes.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.events.iter().map(|event| event.raw().len()).sum()
    }
}

/// What a sink wants to have back after a restart: a file's length, an offset. Opaque to the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt(String);

impl Receipt {
    /// A receipt that holds `value`.
    pub fn of(value: &impl Serialize) -> Result<Self> {
        serde_json::to_string(value)
            .map(Self)
            .map_err(|error| Error::bug("a receipt cannot be written as JSON").with_cause(error))
    }

    /// The value that [`Receipt::of`] was given.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.0).map_err(|error| {
            Error::config("the sink's last receipt was written by another kind of sink")
                .with_cause(error)
        })
    }

    /// A receipt as the journal stores it.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The form that the journal stores.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An event that the far side will never accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The event's index in the batch.
    pub index: usize,
    /// Why, in the far side's own words and code.
    pub reason: String,
}

/// The answer to a delivery: everything that is not rejected is durable at the far side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Stored with the cursor, given back at the next start.
    pub receipt: Option<Receipt>,
    /// Events that go to the dead letters.
    pub rejected: Vec<Rejected>,
    /// What changes in the sink's own store, in the transaction that moves its cursor: either all of it happened or
    /// none.
    pub changes: Changes,
}

/// How far the tenants of a sink are, for what it does by the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing(BTreeMap<Arc<str>, DateTime<Utc>>);

impl Standing {
    /// That of these tenants, by their ids.
    #[must_use]
    pub fn of(tenants: impl IntoIterator<Item = (Arc<str>, DateTime<Utc>)>) -> Self {
        Self(tenants.into_iter().collect())
    }

    /// All that became available at the tenant's sources before this moment was listed, fetched and delivered to the
    /// sink; what shows up late is not known of. `None` if that cannot be said: something waits to be delivered, or a
    /// source has not listed yet.
    #[must_use]
    pub fn complete_to(&self, tenant: &str) -> Option<DateTime<Utc>> {
        self.0.get(tenant).copied()
    }
}

/// What a sink has done by the clock.
#[derive(Debug, Default)]
pub struct Tick {
    /// What changes in its store.
    pub changes: Changes,
    /// When it wants to be asked again; `None` is never.
    pub next: Option<DateTime<Utc>>,
    /// What could not be done, while the rest goes on.
    pub trouble: Trouble,
}

/// What a sink could not do by the clock and tries again by itself, at a time of its own ([`wait_after`]): the rest does
/// not wait for it. The sink is not up until there is none.
#[derive(Debug, Default)]
pub enum Trouble {
    /// All is well.
    #[default]
    None,
    /// What failed before waits to be tried again.
    Waits,
    /// This has failed now. It is counted and logged as an error of the tick; one that ends the sink ends it.
    Failed(Error),
}

/// What a sink answers to an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// As the plugin and its command agree.
    pub text: String,
    /// What changes in its store.
    pub changes: Changes,
}

/// One destination. One worker calls it, one call at a time.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Asked once at start, with the last receipt: brings the far side back to what the receipt says, or reports
    /// what the far side itself holds. What lies between a cursor and such a position counts as delivered and is not
    /// delivered again; so a far side that refuses events of a batch must not store that batch's position. A position
    /// of another journal, or beyond this journal's head, is refused loudly. Default: nothing to do, nothing known.
    async fn recover(&self, _last: Option<&Receipt>) -> Result<Vec<Position>> {
        Ok(Vec::new())
    }

    /// Whether the far side holds positions. Then each batch of the journal comes whole, even if it is larger than the
    /// sink's limits: there is no position within one. Default: no.
    fn holds_positions(&self) -> bool {
        false
    }

    /// Delivers a batch. `Ok` only when every event that is not rejected is durable at the far side. After an error,
    /// or when dropped in mid-call, the same batch comes again, perhaps with more events behind it.
    async fn deliver(&self, batch: &Batch) -> Result<Delivered>;

    /// Does what is due by the clock rather than by an event, a little at a time: between two calls events are
    /// delivered. Called at start, and then at the time that it asks for. After an error it comes again, with a growing
    /// wait, and deliveries go on meanwhile; where only a part has failed, [`Tick::trouble`] lets the others be in time.
    /// Default: nothing, ever.
    async fn tick(&self, _standing: &Standing) -> Result<Tick> {
        Ok(Tick::default())
    }

    /// Does what an operator asks of this sink alone. Not tried again after an error. Default: refuses.
    async fn command(&self, _request: &str) -> Result<Answer> {
        Err(Error::config("this kind of sink takes no commands"))
    }

    /// For `check`: whether the destination can be reached and written.
    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// What a plugin is given when it is built.
#[derive(Clone)]
pub struct Context {
    /// The instance's name in the configuration.
    pub name: Arc<str>,
    /// The instance's own part of the configuration.
    pub options: Options,
    /// The tenants that it serves: one for a source, the selected ones for a sink.
    pub tenants: Arc<[Tenant]>,
    /// The shared HTTP client: follows no redirect by itself, has time-outs.
    pub http: http::Client,
    /// Counters for requests and waits.
    pub meter: Meter,
    /// The time.
    pub clock: Clock,
    /// A small durable store of the instance's own.
    pub store: Store,
    /// For a sink that gets an archive beside the process that collects: a word of its own. A destination that two
    /// processes must not write at once is another one then, with this word in its name.
    pub replay: Option<Arc<str>>,
    /// For a source: the address at which requests from outside reach [`Source::notified`]; `None` if the configuration
    /// has no `webhooks.public_url`.
    pub webhook: Option<Url>,
}

impl Context {
    /// The tenant that a source serves.
    pub fn tenant(&self) -> Result<&Tenant> {
        match &*self.tenants {
            [tenant] => Ok(tenant),
            tenants => {
                let count = tenants.len();
                Err(Error::bug(format!(
                    "a source serves one tenant, not {count}"
                )))
            }
        }
    }
}
