//! The operations on audit log queries (reference: graph-audit-queries.md §1, §3, §5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit_exporter_core::plugin::Context;
use audit_exporter_core::{Error, Result};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use url::Url;

use super::config::Filters;
use super::errors::{self, NOT_FOUND};
use crate::http::body::read_capped;
use crate::microsoft::cloud::Access;
use crate::microsoft::http::{Api, Call};
use crate::sources::slices::Slice;

/// No page is larger, short of a fault. One that is makes the time be searched in halves.
const PAGE_CAP: usize = 32 * 1024 * 1024;
/// Records asked for a page: what other clients use.
const PAGE_RECORDS: &str = "200";
/// The pages of a list of queries end, short of a service that goes round in circles.
const MOST_PAGES: usize = 1_000;
/// Graph's own limit is a matter of all tenants together; this only keeps one from a burst.
const REQUESTS_PER_MINUTE: u32 = 600;
/// Whether the ends of the time that is asked for belong to it is not documented. A second more in front is asked for,
/// so that nothing between two slices is left out if neither does.
const MARGIN: TimeDelta = TimeDelta::seconds(1);
/// Microsoft's limit of records in a query that does not say its own.
const USUAL_LIMIT: i64 = 1_000_000;

/// One tenant's audit log queries.
pub(super) struct Client {
    api: Api,
    access: Arc<Access>,
    beta: AtomicBool,
}

/// A query as Graph tells of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Query {
    /// Its id.
    pub(super) id: String,
    /// What we called it.
    pub(super) display_name: Option<String>,
    status: Option<String>,
    approximate_returned_record_count: Option<i64>,
    is_record_count_limit_exceeded: Option<bool>,
    record_count_limit: Option<i64>,
}

/// How far a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It waits or runs; so does one whose status is not known here.
    UnderWay,
    /// Its records can be read.
    Succeeded,
    /// It has ended without records.
    Failed,
}

impl Query {
    /// How far it is.
    pub(super) fn status(&self) -> Status {
        match self.lower_status().as_str() {
            "succeeded" => Status::Succeeded,
            "failed" | "cancelled" => Status::Failed,
            _ => Status::UnderWay,
        }
    }

    /// How a query came to nothing, in words of ours.
    pub(super) fn end(&self) -> &'static str {
        match self.lower_status().as_str() {
            "failed" => "failed",
            "cancelled" => "was cancelled",
            _ => "has run for more than a day",
        }
    }

    fn lower_status(&self) -> String {
        let status = self.status.as_deref().unwrap_or_default();
        status.to_ascii_lowercase()
    }

    /// Whether it lacks records because there are too many.
    pub(super) fn is_cut_off(&self) -> bool {
        let limit = self.record_count_limit.filter(|limit| *limit > 0);
        self.is_record_count_limit_exceeded == Some(true)
            || self.approximate_returned_record_count >= Some(limit.unwrap_or(USUAL_LIMIT))
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    value: Vec<Query>,
    #[serde(rename = "@odata.nextLink", default)]
    next: Option<String>,
}

impl Client {
    /// A client for the tenant of `access`.
    pub(super) fn new(context: &Context, access: Access) -> Self {
        let access = Arc::new(access);
        let there = (&access.graph_api, &*access.graph_audience);
        let api = Api::of(context, &access, there, REQUESTS_PER_MINUTE);
        Self {
            api: api.judged_by(errors::refusal),
            access,
            beta: AtomicBool::new(false),
        }
    }

    /// The HTTP layer below.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// How the tenant is read.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// The time by the service's clock, in whole seconds.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let now = self.api.now();
        DateTime::from_timestamp(now.timestamp(), 0).unwrap_or(now)
    }

    /// Whether the tenant is served by `/beta` alone.
    pub(super) fn is_beta(&self) -> bool {
        self.beta.load(Ordering::Relaxed)
    }

    /// Asks `/beta` from now on, or `/v1.0`.
    pub(super) fn set_beta(&self, beta: bool) {
        self.beta.store(beta, Ordering::Relaxed);
    }

    /// An error for a cloud without audit queries (reference: §1).
    pub(super) fn unserved(&self) -> Option<Error> {
        let cloud = self.access.cloud;
        (!self.access.has_graph_audit_queries).then(|| {
            Error::config(format!(
                "Microsoft offers no audit log queries by Graph in the cloud {cloud}; take the tenant out of this source, \
                 and collect it by management_activity"
            ))
        })
    }

    /// Creates a query for a slice of time and returns it.
    pub(super) async fn create(
        &self,
        name: &str,
        slice: Slice,
        filters: &Filters,
    ) -> Result<Query> {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let mut body = json!(filters);
        if let Some(fields) = body.as_object_mut() {
            fields.extend([
                (
                    "@odata.type".to_owned(),
                    json!("#microsoft.graph.security.auditLogQuery"),
                ),
                ("displayName".to_owned(), json!(name)),
                (
                    "filterStartDateTime".to_owned(),
                    json!(time(slice.from - MARGIN)),
                ),
                ("filterEndDateTime".to_owned(), json!(time(slice.to))),
            ]);
        }
        let (body, headers) = (body.to_string(), HeaderMap::new());
        let call = Call::PostJson(&body, &headers);
        let answer = self.api.send("create_query", call, self.url(&[])).await?;
        let query: Query = read(answer).await?;
        if query.id.is_empty() {
            return Err(Error::unavailable("Graph created a query without an id"));
        }
        Ok(query)
    }

    /// Looks how far a query is.
    pub(super) async fn query(&self, id: &str) -> Result<Query> {
        read(self.api.send("query", Call::Get, self.url(&[id])).await?).await
    }

    /// All queries that Graph knows of this tenant. Finds out whether `/v1.0` serves it.
    pub(super) async fn queries(&self) -> Result<Vec<Query>> {
        let mut found = Vec::new();
        let mut url = self.url(&[]);
        for _ in 0..MOST_PAGES {
            let answer = match self.api.send("queries", Call::Get, url).await {
                Err(error) if error.code() == Some(NOT_FOUND) && !self.is_beta() => {
                    self.set_beta(true);
                    url = self.url(&[]);
                    continue;
                }
                answer => answer?,
            };
            let page: List = read(answer).await?;
            found.extend(page.value);
            match page.next {
                Some(next) => url = self.handed_out(&next, "")?,
                None => return Ok(found),
            }
        }
        let message = format!("the list of queries has more than {MOST_PAGES} pages");
        Err(Error::unavailable(message))
    }

    /// Where the first page of a query's records is.
    pub(super) fn records(&self, id: &str) -> Url {
        let mut url = self.url(&[id, "records"]);
        url.query_pairs_mut().append_pair("$top", PAGE_RECORDS);
        url
    }

    /// Reads one page of records.
    pub(super) async fn page(&self, url: Url) -> Result<Bytes> {
        read_capped(self.api.send("records", Call::Get, url).await?, PAGE_CAP).await
    }

    /// An address from the service, as it stands. Refused if it leads elsewhere than to the queries of this tenant, or
    /// to another query than `id`.
    pub(super) fn handed_out(&self, address: &str, id: &str) -> Result<Url> {
        let url = Url::parse(address)
            .map_err(|_| Error::unavailable("the service handed out an address that is no URL"))?;
        self.api.pin(&url)?;
        let path = url.path();
        let is_ours = ["v1.0", "beta"]
            .iter()
            .any(|version| path.starts_with(&format!("/{version}/security/auditLog/queries")));
        if is_ours && path.contains(id) {
            return Ok(url);
        }
        Err(Error::unavailable(
            "an address elsewhere than at the query's own records was handed out; it is not followed",
        ))
    }

    fn url(&self, rest: &[&str]) -> Url {
        let mut url = self.access.graph_api.clone();
        let version = if self.is_beta() { "beta" } else { "v1.0" };
        let base = [version, "security", "auditLog", "queries"];
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(base).extend(rest);
        }
        url
    }
}

async fn read<T: DeserializeOwned>(answer: Response) -> Result<T> {
    let body = read_capped(answer, PAGE_CAP).await?;
    serde_json::from_slice(&body).map_err(|_| Error::unavailable("Graph's answer is not readable"))
}
