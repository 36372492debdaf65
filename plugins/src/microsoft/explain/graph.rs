//! Codes of Microsoft Graph (reference: graph-audit-queries.md §7).

use audit_exporter_core::Kind::{Auth, Config, Throttled, Unavailable};

use super::Loss::{Delayed, Waiting};
use super::Row;

pub(super) const ROWS: &[Row] = &[
    Row::new(
        &["InvalidAuthenticationToken"],
        Auth,
        "Microsoft Graph does not accept the token",
        "check the tenant's cloud and graph_audience",
        Waiting,
    ),
    Row::new(
        &["Forbidden", "Authorization_RequestDenied"],
        Auth,
        "the app lacks the application permission AuditLogsQuery.Read.All of Microsoft Graph",
        "add it in the app registration and grant admin consent",
        Waiting,
    ),
    Row::new(
        &["UnknownError"],
        Unavailable,
        "with HTTP 404 the tenant is not served by this version of the audit queries; with HTTP 403 the app lacks a \
         permission",
        "after a 404 the beta version is asked without being told; for a 403 add AuditLogsQuery.Read.All in the app \
         registration and grant admin consent",
        Waiting,
    ),
    Row::new(
        &["BadRequest", "invalidRequest"],
        Config,
        "Graph does not take the query",
        "check the source's filters: its record types, operations, users and addresses",
        Waiting,
    ),
    Row::new(
        &["TooManyRequests"],
        Throttled,
        "too many requests, or too many audit queries: all programs and people that search a tenant's audit log share \
         about 200 queries a day and 50 at once",
        "look for others that search this tenant",
        Delayed,
    ),
    Row::new(
        &["ErrorAccessDenied"],
        Auth,
        "the app may not send mails as this mailbox",
        "grant it the application permission Mail.Send of Microsoft Graph, with admin consent, and let an access policy \
         include the mailbox",
        Delayed,
    ),
    Row::new(
        &["ErrorInvalidUser"],
        Config,
        "there is no such mailbox in the tenant",
        "check graph.sender and its tenant",
        Delayed,
    ),
    Row::new(
        &["RequestEntityTooLarge"],
        Config,
        "the mail is too large: Graph takes 4 MB",
        "lower attachment_size or max_rows",
        Delayed,
    ),
];
