//! Codes of the Office 365 Management Activity API (reference: management-activity-api.md §9), and HTTP statuses.

use audit_exporter_core::Kind::{Auth, Config, Lost, Throttled, Unavailable};

use super::Loss::{Delayed, Gone, NotOffered, NotRecorded, Nothing, Waiting};
use super::Row;
use crate::microsoft::errors::{
    ALREADY_ENABLED, AUDITING_OFF, BAD_WINDOW, MISSING_PERMISSION, NO_SUBSCRIPTION, STALE_PAGE,
    SUBSCRIPTION_DISABLED, UNKNOWN_CONTENT,
};

/// An error that can only come from a defect here is still retried: it must not stop a tenant for good.
const REPORT: &str = "this is a defect of the exporter; please report it with this message";

/// An answer without a code of its own (reference: §9.3).
pub(crate) const AUDITING_IS_OFF: Row = Row::new(
    &[AUDITING_OFF],
    Auth,
    "auditing is off for this tenant, or was switched on less than an hour ago, or the tenant has no plan with \
     unified auditing",
    "switch it on in Microsoft Purview (Audit, \"Start recording user and admin activity\") or by \
     Set-AdminAuditLogConfig -UnifiedAuditLogIngestionEnabled $true",
    NotRecorded,
);

/// A 401 without a code.
pub(crate) const TOKEN_IS_REFUSED: Row = Row::new(
    &["HTTP 401"],
    Auth,
    "the service does not accept the token",
    "check the tenant's cloud and audience",
    Waiting,
);

/// A 403 without a code.
pub(crate) const ACCESS_IS_REFUSED: Row = Row::new(
    &["HTTP 403"],
    Auth,
    "access is refused",
    "check that the app has the application permission ActivityFeed.Read with admin consent",
    Waiting,
);

pub(super) const ROWS: &[Row] = &[
    Row::new(
        &[MISSING_PERMISSION],
        Auth,
        "the app lacks the application permission ActivityFeed.Read of the Office 365 Management APIs",
        "add it in the app registration and grant admin consent",
        Waiting,
    ),
    Row::new(
        &["AF20001"],
        Unavailable,
        "a request parameter is missing",
        REPORT,
        Waiting,
    ),
    Row::new(
        &["AF20002"],
        Unavailable,
        "a request parameter has the wrong type",
        REPORT,
        Waiting,
    ),
    Row::new(
        &["AF20003"],
        Unavailable,
        "a webhook's expiration is in the past",
        REPORT,
        Nothing,
    ),
    Row::new(
        &["AF20010"],
        Auth,
        "the token belongs to another tenant than the one asked for",
        "check the tenant's id, authority and credentials",
        Waiting,
    ),
    Row::new(
        &["AF20011"],
        Auth,
        "Microsoft 365 does not know the tenant, or it was deleted",
        "check the tenant's id and cloud, and that it has Microsoft 365",
        Waiting,
    ),
    Row::new(
        &["AF20012"],
        Auth,
        "the tenant is set up incorrectly in the service",
        "ask Microsoft's support; the exporter keeps trying",
        Waiting,
    ),
    Row::new(
        &["AF20013"],
        Config,
        "the tenant's id is not a GUID",
        "give the directory (tenant) ID, not a domain name",
        Waiting,
    ),
    Row::new(
        &["AF20020"],
        Config,
        "the content type is not valid here",
        "remove it from content_types; not every cloud offers all five",
        Nothing,
    ),
    Row::new(
        &["AF20021"],
        Unavailable,
        "a webhook could not be validated",
        "its address must begin with https and answer 200; until then content is found by listing alone",
        Nothing,
    ),
    Row::new(
        &[NO_SUBSCRIPTION],
        Unavailable,
        "the subscription is not started",
        "it is started by start_subscriptions = true",
        NotOffered,
    ),
    Row::new(
        &[SUBSCRIPTION_DISABLED],
        Unavailable,
        "the subscription is disabled",
        "an administrator did it; it is restarted by start_subscriptions = true",
        NotOffered,
    ),
    Row::new(
        &[ALREADY_ENABLED],
        Unavailable,
        "the subscription is enabled already",
        "",
        Nothing,
    ),
    Row::new(
        &BAD_WINDOW,
        Unavailable,
        "the time window is not accepted: its end must come after its start, within 24 hours, and its start at most 7 \
         days ago",
        "check this machine's clock",
        Delayed,
    ),
    Row::new(
        &[STALE_PAGE],
        Unavailable,
        "the next page is no longer valid",
        "",
        Delayed,
    ),
    Row::new(
        &[UNKNOWN_CONTENT],
        Lost,
        "the content blob does not exist",
        "",
        Gone,
    ),
    Row::new(&["AF20051"], Lost, "the content blob has expired", "", Gone),
    Row::new(
        &["AF20052"],
        Lost,
        "the content blob's id is not valid",
        "",
        Gone,
    ),
    Row::new(
        &["AF20053"],
        Unavailable,
        "more than one language was asked for",
        REPORT,
        Nothing,
    ),
    Row::new(
        &["AF20054"],
        Unavailable,
        "the language asked for is not valid",
        REPORT,
        Nothing,
    ),
    Row::new(
        &["AF429"],
        Throttled,
        "too many requests",
        "look for other programs that read this tenant, and set publisher_identifier if you collect for others",
        Delayed,
    ),
    Row::new(
        &["AF50000", "AF50005", "AF50006"],
        Unavailable,
        "the service has an internal error",
        "",
        Delayed,
    ),
    AUDITING_IS_OFF,
    TOKEN_IS_REFUSED,
    ACCESS_IS_REFUSED,
];

/// What a status says without a code.
pub(super) const STATUS_ROWS: &[Row] = &[
    Row::new(
        &["HTTP 400", "HTTP 404", "HTTP 405", "HTTP 410"],
        Unavailable,
        "the request was refused without a code",
        "if it stays so, check that authority, management_api, graph_api and exchange_api name the cloud's own hosts",
        Waiting,
    ),
    Row::new(
        &["HTTP 407"],
        Unavailable,
        "a proxy on the way wants a password",
        "check HTTPS_PROXY and NO_PROXY",
        Waiting,
    ),
    Row::new(&["HTTP 429"], Throttled, "too many requests", "", Delayed),
    Row::new(
        &["HTTP 408", "HTTP 500", "HTTP 502", "HTTP 503", "HTTP 504"],
        Unavailable,
        "the service, or a gateway before it, has an outage",
        "",
        Delayed,
    ),
];
