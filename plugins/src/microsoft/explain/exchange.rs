//! Answers of Exchange Online to a search of the audit log (reference: search-unified-audit-log.md, A, B.1 and B.2).

use audit_exporter_core::Kind::{Auth, Config, Throttled};

use super::Loss::{Delayed, Waiting};
use super::Row;

/// As an app. It needs two grants: without the first the answer is 401, without the second 403.
pub(super) const ROWS: &[Row] = &[
    Row::new(
        &["HTTP 401"],
        Auth,
        "the app lacks the application permission Exchange.ManageAsApp of Office 365 Exchange Online, or the token is \
         for another cloud",
        "add it in the app registration (APIs my organization uses) and grant admin consent; check the tenant's cloud and \
         exchange_audience",
        Waiting,
    ),
    Row::new(
        &["HTTP 403"],
        Auth,
        "the app may sign in to Exchange Online, but has no role that searches the audit log",
        "give its service principal View-Only Audit Logs (New-ServicePrincipal, then Add-RoleGroupMember), or a directory \
         role such as Compliance Administrator or Global Reader under Roles and administrators",
        Waiting,
    ),
    Row::new(
        &["AmbiguousParameterSetException"],
        Config,
        "Search-UnifiedAuditLog does not know one of its parameters",
        "check the source's filters",
        Waiting,
    ),
    Row::new(
        &["HTTP 429"],
        Throttled,
        "too many requests to Exchange Online",
        "look for other programs that search this tenant",
        Delayed,
    ),
];

/// As a user with a password.
pub(super) const BASIC_ROWS: &[Row] = &[
    Row::new(
        &["HTTP 401"],
        Auth,
        "the account's name or password is refused: Microsoft has retired Basic authentication for Exchange Online, and \
         it never works for an account with multifactor authentication",
        "search as an app instead: the application permission Exchange.ManageAsApp, and the role View-Only Audit Logs for \
         its service principal",
        Waiting,
    ),
    Row::new(
        &["HTTP 403"],
        Auth,
        "the account may not search the audit log",
        "give it the Exchange role View-Only Audit Logs",
        Waiting,
    ),
    Row::new(
        &["HTTP 429"],
        Throttled,
        "too many requests to Exchange Online",
        "look for other programs that search this tenant",
        Delayed,
    ),
];
