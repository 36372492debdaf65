//! How the search behaves, and what goes wrong with it.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// Search-UnifiedAuditLog, by both of its services.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchConfig {
    /// What `ResultCount` says.
    pub result_count: ResultCount,
    /// What a session does that has shown its last row.
    pub after_the_end: AfterTheEnd,
    /// Share of the rows that a `ReturnLargeSet` session shows twice.
    pub duplicates: f64,
    /// Rows that a `ReturnLargeSet` session shows at most.
    pub large_set_rows: usize,
    /// Rows that a `ReturnNextPreviewPage` session shows at most.
    pub preview_rows: usize,
    /// Rows that a session shows at most in which both commands were used.
    pub mixed_rows: usize,
    /// Rows that the older service returns at most in one answer, whatever `ResultSize` says.
    pub legacy_rows_per_answer: usize,
    /// How long a session is kept.
    pub session_minutes: u32,
    /// How far back events are kept.
    pub retention_days: u32,
    /// Requests of a tenant in a minute, of which the answers' headers tell what is left; absent = no limit, no
    /// headers.
    pub requests_per_minute: Option<u32>,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            result_count: ResultCount::default(),
            after_the_end: AfterTheEnd::default(),
            duplicates: 0.01,
            large_set_rows: 50_000,
            preview_rows: 5_000,
            mixed_rows: 10_000,
            legacy_rows_per_answer: 400,
            session_minutes: 30,
            retention_days: 180,
            requests_per_minute: None,
        }
    }
}

/// What `ResultCount` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultCount {
    /// All rows of the session.
    #[default]
    Session,
    /// The rows of the answer, as was seen since April 2026.
    Page,
    /// The `ResultSize` that was asked for, the same defect seen by others.
    ResultSize,
}

/// What a session does that has shown its last row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AfterTheEnd {
    /// It answers without rows.
    #[default]
    Empty,
    /// It begins from its first row.
    StartsOver,
}

/// The account that reads a tenant's audit log with a password, and what the tenant grants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditReader {
    /// The account's name, before the `@` and the tenant's domain.
    pub name: String,
    /// Its password.
    pub password: String,
    /// Whether it has to confirm a sign-in: then its password alone is refused.
    pub mfa: bool,
    /// Whether it has the Exchange role *View-Only Audit Logs*.
    pub role: bool,
}

impl Default for AuditReader {
    fn default() -> Self {
        Self {
            name: "auditor".to_owned(),
            password: "simulator-password".to_owned(),
            mfa: false,
            role: true,
        }
    }
}

/// Faults of the search, as probabilities for each request. After `Faults::most_in_a_row` of them a search of the same
/// time goes well to its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchFaults {
    /// 429.
    pub throttled: f64,
    /// 503 with a gateway's HTML page.
    pub unavailable: f64,
    /// 500 with "A server side error has occurred …".
    pub server_error: f64,
    /// 401 although the token or the password is good.
    pub unauthorized: f64,
    /// 302 to another host.
    pub redirect: f64,
    /// The body ends early, cleanly: valid HTTP, broken JSON.
    pub cut_body: f64,
    /// 200 without rows, and a warning that says that the task was canceled.
    pub warning_empty: f64,
    /// 200 with half of the rows, and such a warning.
    pub warning_partial: f64,
    /// 200 with `ResultIndex` -1 and `ResultCount` 0: the session has failed.
    pub failed_session: f64,
    /// A page is passed over.
    pub missing_page: f64,
    /// A row is not on its page.
    pub missing_row: f64,
    /// A page comes that came before.
    pub repeated_page: f64,
    /// Half of the page, and a next link that leads nowhere.
    pub truncated: f64,
}

impl SearchFaults {
    /// Each fault at a few percent; a quarter of all answers fail.
    #[must_use]
    pub fn all() -> Self {
        Self {
            throttled: 0.02,
            unavailable: 0.02,
            server_error: 0.02,
            unauthorized: 0.02,
            redirect: 0.02,
            cut_body: 0.02,
            warning_empty: 0.02,
            warning_partial: 0.02,
            failed_session: 0.02,
            missing_page: 0.02,
            missing_row: 0.02,
            repeated_page: 0.02,
            truncated: 0.02,
        }
    }

    /// Draws how an answer fails, if it does.
    pub(super) fn draw(&self, chance: &mut Chance) -> Option<SearchFailure> {
        let share = chance.unit();
        let mut reached = 0.0;
        let choices = [
            (self.throttled, SearchFailure::Throttled),
            (self.unavailable, SearchFailure::Unavailable),
            (self.server_error, SearchFailure::ServerError),
            (self.unauthorized, SearchFailure::Unauthorized),
            (self.redirect, SearchFailure::Redirect),
            (self.cut_body, SearchFailure::CutBody),
            (self.warning_empty, SearchFailure::WarningEmpty),
            (self.warning_partial, SearchFailure::WarningPartial),
            (self.failed_session, SearchFailure::FailedSession),
            (self.missing_page, SearchFailure::MissingPage),
            (self.missing_row, SearchFailure::MissingRow),
            (self.repeated_page, SearchFailure::RepeatedPage),
            (self.truncated, SearchFailure::Truncated),
        ];
        choices.into_iter().find_map(|(probability, failure)| {
            reached += probability;
            (share < reached).then_some(failure)
        })
    }
}

/// One way for an answer to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum SearchFailure {
    Throttled,
    Unavailable,
    ServerError,
    Unauthorized,
    Redirect,
    CutBody,
    WarningEmpty,
    WarningPartial,
    FailedSession,
    MissingPage,
    MissingRow,
    RepeatedPage,
    Truncated,
}

impl SearchFailure {
    /// The name under which it is counted.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::ServerError => "server_error",
            Self::Unauthorized => "unauthorized",
            Self::Redirect => "redirect",
            Self::CutBody => "cut_body",
            Self::WarningEmpty => "warning_empty",
            Self::WarningPartial => "warning_partial",
            Self::FailedSession => "failed_session",
            Self::MissingPage => "missing_page",
            Self::MissingRow => "missing_row",
            Self::RepeatedPage => "repeated_page",
            Self::Truncated => "truncated",
        }
    }
}
