//! What can go wrong, and how often: every fault is a number in the configuration, drawn with the
//! seed, and can be changed while the simulator runs.
//!
//! A fault is drawn for one resource (a blob, a listing, a token endpoint) and one attempt, so the
//! order in which other requests arrive changes nothing. After [`Faults::most_in_a_row`] failures
//! in a row the resource answers well, which makes every fault here temporary but for
//! [`Faults::stuck_blobs`] and [`Faults::expired_blobs`].

use serde::{Deserialize, Serialize};

use crate::{chance::Chance, graph_audit::GraphAuditFaults, hec::HecFaults, search::SearchFaults};

/// All faults. The default has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Drawn with; the simulator's own seed when absent.
    pub seed: Option<u64>,
    /// After so many failures in a row a resource answers well; 0 = it may fail for ever.
    pub most_in_a_row: u32,
    /// `Retry-After` of throttled and unavailable answers of the API; none by default, as the
    /// service sends none (reference, "API throttling").
    pub retry_after_seconds: Option<u64>,
    /// Added to the `Date` header of every answer.
    pub date_skew_seconds: i64,
    /// Faults of the token endpoint.
    pub tokens: TokenFaults,
    /// Faults of starting, stopping and listing subscriptions.
    pub subscriptions: AnswerFaults,
    /// Faults of listing content.
    pub listing: AnswerFaults,
    /// Faults of fetching blobs.
    pub blobs: AnswerFaults,
    /// What a listing may hold that it should not.
    pub pages: PageFaults,
    /// What the records and blobs themselves may hold; concerns blobs made after it is set.
    pub records: RecordFaults,
    /// Faults of the HTTP Event Collector.
    pub hec: HecFaults,
    /// Faults of Search-UnifiedAuditLog.
    pub search: SearchFaults,
    /// Faults of audit log queries of Microsoft Graph.
    pub graph_audit: GraphAuditFaults,
    /// Share of blobs that answer `AF50000` until they expire. Their records are lost.
    pub stuck_blobs: f64,
    /// Share of blobs that expire between being listed and being fetched. Their records are lost.
    pub expired_blobs: f64,
}

/// Faults of the token endpoint, as probabilities for each request unless said otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenFaults {
    /// 429 with `Retry-After`.
    pub throttled: f64,
    /// 503 with `Retry-After`.
    pub unavailable: f64,
    /// `Retry-After` of both; absent = no such header.
    pub retry_after_seconds: Option<u64>,
    /// 410 of a managed identity's endpoint, which is being updated.
    pub identity_updating: f64,
    /// 503 of the key vault.
    pub vault_unavailable: f64,
    /// How long tokens last (`expires_in`); Entra's usual value is 3599.
    pub lifetime_seconds: u64,
    /// The API refuses a token so long after its issue, whatever the token says.
    pub refused_after_seconds: Option<u64>,
}

/// Faults of one kind of request, as probabilities for each request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerFaults {
    /// 403 with the single-quoted `AF429` of the reference.
    pub throttled_403: f64,
    /// 429 with `AF429` as JSON.
    pub throttled_429: f64,
    /// 500 with `AF50000`.
    pub internal_error: f64,
    /// 500 with `AF50000` that asks to come back in an hour.
    pub internal_error_in_an_hour: f64,
    /// 502 with a gateway's HTML page.
    pub bad_gateway: f64,
    /// 503 with a gateway's HTML page.
    pub unavailable: f64,
    /// 500 with an empty body.
    pub empty_500: f64,
    /// 401 although the token is good.
    pub unauthorized: f64,
    /// 302 to another host, which counts the tokens that reach it.
    pub redirect: f64,
    /// The connection is reset in mid-body.
    pub reset: f64,
    /// The body stops half-way and the connection stays open for a minute.
    pub stall: f64,
    /// The plain body ends early, cleanly: valid HTTP, broken JSON.
    pub cut_body: f64,
    /// The compressed body ends early, cleanly.
    pub cut_gzip: f64,
    /// What is asked for is done, and a gateway loses the answer: 504 with its HTML page.
    pub lost: f64,
    /// The answer waits for `slow_millis` first.
    pub slow: f64,
    /// How long a slow answer waits.
    pub slow_millis: u64,
}

/// Faults inside a listing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PageFaults {
    /// Probability of a page without entries that still names a next page.
    pub empty: f64,
    /// Probability for each entry to be there twice on its page.
    pub repeated_entry: f64,
    /// Share of blobs whose `contentUri` names a foreign host the first time they are listed.
    pub foreign_content_uri: f64,
}

/// Faults inside the records, as probabilities for each record or blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordFaults {
    /// A record is in its blob twice.
    pub duplicate_in_blob: f64,
    /// A blob also holds a record of an earlier blob.
    pub duplicate_in_other_blob: f64,
    /// A blob also holds a record with the Id, time and operation of another, but other bytes.
    pub variant: f64,
    /// A blob also holds a record with the Id of another, but another operation.
    pub two_operations: f64,
    /// A blob comes again under a new content id.
    pub redelivered_blob: f64,
    /// A blob is listed later than its `contentCreated` says.
    pub late_blob: f64,
    /// Late blobs appear within so many seconds of the start.
    pub late_within_seconds: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: None,
            most_in_a_row: 3,
            retry_after_seconds: None,
            date_skew_seconds: 0,
            tokens: TokenFaults::default(),
            subscriptions: AnswerFaults::default(),
            listing: AnswerFaults::default(),
            blobs: AnswerFaults::default(),
            pages: PageFaults::default(),
            records: RecordFaults::default(),
            hec: HecFaults::default(),
            search: SearchFaults::default(),
            graph_audit: GraphAuditFaults::default(),
            stuck_blobs: 0.0,
            expired_blobs: 0.0,
        }
    }
}

impl Default for TokenFaults {
    fn default() -> Self {
        Self {
            throttled: 0.0,
            unavailable: 0.0,
            retry_after_seconds: Some(1),
            identity_updating: 0.0,
            vault_unavailable: 0.0,
            lifetime_seconds: 3599,
            refused_after_seconds: None,
        }
    }
}

impl Default for RecordFaults {
    fn default() -> Self {
        Self {
            duplicate_in_blob: 0.0,
            duplicate_in_other_blob: 0.0,
            variant: 0.0,
            two_operations: 0.0,
            redelivered_blob: 0.0,
            late_blob: 0.0,
            late_within_seconds: 10,
        }
    }
}

impl Faults {
    /// Every fault at once, and nothing lost for good: whoever keeps asking gets every record.
    #[must_use]
    pub fn all(seed: u64) -> Self {
        let answers = AnswerFaults::all();
        Self {
            seed: Some(seed),
            tokens: TokenFaults {
                throttled: 0.1,
                unavailable: 0.1,
                ..TokenFaults::default()
            },
            subscriptions: answers.clone(),
            listing: answers.clone(),
            blobs: answers,
            pages: PageFaults {
                empty: 0.05,
                repeated_entry: 0.02,
                foreign_content_uri: 0.02,
            },
            records: RecordFaults {
                duplicate_in_blob: 0.02,
                duplicate_in_other_blob: 0.02,
                variant: 0.01,
                two_operations: 0.01,
                redelivered_blob: 0.05,
                late_blob: 0.05,
                late_within_seconds: 10,
            },
            hec: HecFaults::all(),
            search: SearchFaults::all(),
            graph_audit: GraphAuditFaults::all(),
            ..Self::default()
        }
    }
}

impl AnswerFaults {
    /// Each fault of an answer at a few percent; a third of all answers fail.
    #[must_use]
    pub fn all() -> Self {
        Self {
            throttled_403: 0.03,
            throttled_429: 0.03,
            internal_error: 0.03,
            internal_error_in_an_hour: 0.01,
            bad_gateway: 0.03,
            unavailable: 0.03,
            empty_500: 0.03,
            unauthorized: 0.03,
            redirect: 0.02,
            reset: 0.03,
            // A client can only wait for it; ask for it where that is the test.
            stall: 0.0,
            cut_body: 0.03,
            cut_gzip: 0.03,
            lost: 0.02,
            slow: 0.02,
            slow_millis: 200,
        }
    }

    /// Draws how an answer fails, if it does.
    pub(crate) fn draw(&self, chance: &mut Chance) -> Option<Failure> {
        let share = chance.unit();
        let mut reached = 0.0;
        let choices = [
            (self.throttled_403, Failure::Throttled403),
            (self.throttled_429, Failure::Throttled429),
            (self.internal_error, Failure::InternalError),
            (
                self.internal_error_in_an_hour,
                Failure::InternalErrorInAnHour,
            ),
            (self.bad_gateway, Failure::BadGateway),
            (self.unavailable, Failure::Unavailable),
            (self.empty_500, Failure::Empty500),
            (self.unauthorized, Failure::Unauthorized),
            (self.redirect, Failure::Redirect),
            (self.reset, Failure::Reset),
            (self.stall, Failure::Stall),
            (self.cut_body, Failure::CutBody),
            (self.cut_gzip, Failure::CutGzip),
            (self.lost, Failure::Lost),
        ];
        choices.into_iter().find_map(|(probability, failure)| {
            reached += probability;
            (share < reached).then_some(failure)
        })
    }
}

/// One way for an answer to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// 403 with the single-quoted `AF429` of the reference.
    #[serde(rename = "throttled_403")]
    Throttled403,
    /// 429 with `AF429` as JSON.
    #[serde(rename = "throttled_429")]
    Throttled429,
    /// 500 with `AF50000`.
    InternalError,
    /// 500 with `AF50000` that asks to come back in an hour.
    InternalErrorInAnHour,
    /// 502 with a gateway's HTML page.
    BadGateway,
    /// 503 with a gateway's HTML page.
    Unavailable,
    /// 500 with an empty body.
    #[serde(rename = "empty_500")]
    Empty500,
    /// 401 although the token is good.
    Unauthorized,
    /// 302 to another host.
    Redirect,
    /// The connection is reset in mid-body.
    Reset,
    /// The body stops half-way and the connection stays open for a minute.
    Stall,
    /// The plain body ends early, cleanly.
    CutBody,
    /// The compressed body ends early, cleanly.
    CutGzip,
    /// 504 with a gateway's HTML page, when all is done.
    Lost,
    /// 404 with a page that is not JSON.
    Missing,
}

/// How one blob answers, whatever the probabilities say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What goes wrong.
    pub failure: Failure,
    /// How many answers go wrong before all go well; absent = all of them, until the blob expires.
    #[serde(default)]
    pub times: Option<u32>,
}
