//! What happens in one run of the model, all of it decided before it begins.
//!
//! Times are in milliseconds since the model's start, by Microsoft's clock.

use std::sync::Arc;

/// Milliseconds since the model's start.
pub(crate) type Millis = i64;

pub(crate) const SECOND: Millis = 1_000;
pub(crate) const MINUTE: Millis = 60 * SECOND;
pub(crate) const HOUR: Millis = 60 * MINUTE;
pub(crate) const DAY: Millis = 24 * HOUR;

/// Whole hours: the model's start lies on one, and so do the hours of coverage.
pub(crate) const START: &str = "2026-03-02T00:00:00Z";

/// A history: what Microsoft has and does, and what becomes of the exporter and its sinks.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// What it was made from; also steers what does not matter enough to be written down, such as latencies.
    pub(crate) seed: u64,
    /// The tenants' content types: one list a tenant.
    pub(crate) tenants: Vec<Vec<&'static str>>,
    pub(crate) blobs: Vec<Blob>,
    /// What single calls suffer.
    pub(crate) faults: Vec<Fault>,
    /// From when to when Microsoft answers nothing of use.
    pub(crate) outages: Vec<(Millis, Millis)>,
    /// The runs of the exporter that end; a last one follows, which is left in peace.
    pub(crate) lives: Vec<Life>,
    pub(crate) sinks: Vec<FarSide>,
    /// How far back its first listing begins.
    pub(crate) back: Millis,
    /// When the exporter is first started.
    pub(crate) begin: Millis,
    /// How often it lists.
    pub(crate) poll: Millis,
    /// How far the exporter's clock is ahead of Microsoft's.
    pub(crate) skew: Millis,
    /// Entries of a page of a listing.
    pub(crate) page: usize,
    /// Whether a blob is committed in several batches.
    pub(crate) small_batches: bool,
    /// When every pass that was due is over.
    pub(crate) span: Millis,
}

/// A content blob.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) tenant: usize,
    pub(crate) content_type: &'static str,
    /// Its `contentCreated`, by which it is listed.
    pub(crate) created: Millis,
    /// From when it is listed at all.
    pub(crate) visible: Millis,
    /// Its `contentExpiration`.
    pub(crate) expires: Millis,
    pub(crate) trouble: Trouble,
    /// Whether each listing names it twice.
    pub(crate) listed_twice: bool,
    pub(crate) gzip: bool,
    pub(crate) records: Vec<Event>,
}

impl Blob {
    /// Whether it can never be had.
    pub(crate) fn is_doomed(&self) -> bool {
        matches!(self.trouble, Trouble::UntilExpiry | Trouble::ForEver)
    }
}

/// How the fetches of a blob go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// The first ones fail.
    Fails(u32),
    /// All fail, until Microsoft says that it has expired.
    UntilExpiry,
    /// All fail, and Microsoft never says that it has expired.
    ForEver,
}

/// An event, as often as it occurs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) raw: String,
    /// Tenant, Id, `CreationTime` and operation; none for an event that only its place tells from others.
    pub(crate) identity: Option<(usize, String, Millis, &'static str)>,
    pub(crate) operation: &'static str,
    /// Its hour in coverage, in hours since 1970; -1 if it has no readable time.
    pub(crate) hour: i64,
    /// A sink that is picky never accepts it.
    pub(crate) poison: bool,
}

/// Shared by all the places at which the event occurs.
pub(crate) type Event = Arc<Record>;

/// What the exporter asks of Microsoft, or of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Token,
    Subscriptions,
    Start,
    Page,
    Fetch,
    Deliver,
}

/// What one call suffers.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    /// Which one, from 0.
    pub(crate) nth: usize,
    pub(crate) what: What,
}

/// How an answer is not what was hoped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// 503 without an explanation.
    Unavailable,
    /// A gateway's page of HTML.
    Gateway,
    /// `AF50000`.
    Internal,
    /// `AF429` as 403, in single quotes.
    Throttled403,
    /// `AF429` as 429, with or without `Retry-After` in seconds.
    Throttled429(Option<u32>),
    /// 401, as if the token were no good.
    Unauthorized,
    /// No connection.
    Unreachable,
    /// No answer.
    Silence,
    /// The body breaks off.
    CutOff,
    /// The body ends early, as if it were whole.
    Truncated,
    /// A next page that is no longer valid.
    StalePage,
}

/// One run of the exporter that ends.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// It ends after this time at the latest.
    pub(crate) up: Millis,
    pub(crate) end: End,
    /// Then nothing runs for so long.
    pub(crate) down: Millis,
}

/// How a run ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// By a signal: sources stop, sinks deliver what there is.
    Graceful,
    /// Everything under way is abandoned when its time is over.
    Crash,
    /// The same, but in the middle of the `nth` call of this kind and so many `turns` of the runtime later.
    CrashAt {
        call: Call,
        nth: usize,
        turns: usize,
    },
}

/// A sink's far side.
#[derive(Clone, Debug)]
pub(crate) struct FarSide {
    pub(crate) name: &'static str,
    pub(crate) place: Place,
    /// The one tenant that it takes.
    pub(crate) tenant: Option<usize>,
    /// The operation that its filter drops.
    pub(crate) without: Option<&'static str>,
    /// Whether it refuses poison.
    pub(crate) picky: bool,
    pub(crate) batch_events: usize,
    /// What single deliveries suffer.
    pub(crate) fates: Vec<(usize, Fate)>,
    /// From when to when it takes nothing.
    pub(crate) down: Option<(Millis, Millis)>,
}

impl FarSide {
    /// Whether an event of `tenant` is meant for it.
    pub(crate) fn takes(&self, tenant: usize) -> bool {
        self.tenant.is_none_or(|only| only == tenant)
    }
}

/// How a far side keeps its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not at all: a delivery whose answer was lost comes again.
    None,
    /// It goes back to the length that the last receipt tells, as a file does.
    Receipt,
    /// It stores the position with the events, as a log does.
    Position,
}

/// What one delivery suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is taken.
    Fail,
    /// The first half is taken, then it breaks off.
    Half,
    /// All is taken, but the answer is lost.
    LoseAnswer,
    /// Takes its time, in seconds; longer than the sink's timeout is the same as a lost answer.
    Slow(u32),
    /// The whole batch is refused for good.
    RefuseAll,
}
