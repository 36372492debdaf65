//! The Management Activity API's operations (reference: management-activity-api.md §3 to §6).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit_exporter_core::plugin::{Context, Unit};
use audit_exporter_core::{Error, Result};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::Response;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use url::Url;

use super::config::known;
use super::webhook::Listed;
use super::window::Window;
use crate::http::body::read_capped;
use crate::microsoft::cloud::Access;
use crate::microsoft::errors;
use crate::microsoft::http::{Api, Call};

/// No page of a listing is larger, short of a fault.
const PAGE_CAP: usize = 64 * 1024 * 1024;
/// The other answers are small.
const SMALL_CAP: usize = 1024 * 1024;
/// No hours have more pages of notifications, short of a service that goes round in circles.
const MOST_NOTIFICATION_PAGES: usize = 1_000;
/// The parameter that selects the throttling bucket. Addresses that the service hands out come without it.
const PUBLISHER: &str = "PublisherIdentifier";

/// One tenant's Management Activity API.
pub(super) struct Client {
    api: Api,
    access: Arc<Access>,
    only_reads: AtomicBool,
}

/// A page of a listing.
pub(super) struct Page {
    /// A JSON array.
    pub(super) body: Bytes,
    /// Where the next one is.
    pub(super) next: Option<Url>,
}

/// What `subscriptions/list` says of one content type.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Subscription {
    #[serde(rename = "contentType", default)]
    content_type: String,
    /// Sometimes left out for one that is enabled.
    #[serde(default)]
    status: Option<String>,
    #[serde(default, deserialize_with = "Listed::lenient")]
    webhook: Option<Listed>,
}

/// An attempt of Microsoft's to tell the webhook of content.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Notification {
    /// `success`, or what failed.
    notification_status: String,
    notification_sent: String,
}

impl Notification {
    /// When it was sent, as the service writes it.
    pub(super) fn sent(&self) -> &str {
        &self.notification_sent
    }

    /// Why it failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        let status = self.notification_status.trim();
        (!status.eq_ignore_ascii_case("success")).then_some(status)
    }
}

impl Subscription {
    /// The content type in the reference's spelling.
    pub(super) fn content_type(&self) -> Option<&'static str> {
        known(&self.content_type)
    }

    /// Its webhook.
    pub(super) fn webhook(&self) -> Option<&Listed> {
        self.webhook.as_ref()
    }

    /// Whether content of it can be listed.
    pub(super) fn is_enabled(&self) -> bool {
        self.status
            .as_ref()
            .is_none_or(|status| status.eq_ignore_ascii_case("enabled"))
    }
}

impl Client {
    /// A client for the tenant of `access`.
    pub(super) fn new(context: &Context, access: Access) -> Self {
        let access = Arc::new(access);
        let there = (&access.management_api, &*access.audience);
        let api = Api::of(context, &access, there, access.requests_per_minute);
        Self {
            api,
            access,
            only_reads: AtomicBool::new(false),
        }
    }

    /// From now on no subscription is started and no webhook is set.
    pub(super) fn only_read(&self) {
        self.only_reads.store(true, Ordering::Relaxed);
    }

    /// Whether it is a mere look.
    pub(super) fn only_reads(&self) -> bool {
        self.only_reads.load(Ordering::Relaxed)
    }

    /// The HTTP layer below.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// How the tenant is read.
    pub(super) fn access(&self) -> &Access {
        &self.access
    }

    /// The time by the service's clock.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.api.now()
    }

    /// Operation 3: which subscriptions there are. The first thing that is asked, so it also settles the time.
    pub(super) async fn subscriptions(&self) -> Result<Vec<Subscription>> {
        let subscriptions = self.subscriptions_once().await?;
        if self.api.doubts_the_time() {
            return self.subscriptions_once().await;
        }
        Ok(subscriptions)
    }

    async fn subscriptions_once(&self) -> Result<Vec<Subscription>> {
        let url = self.url("subscriptions/list", &[]);
        let answer = self.api.send("subscriptions", Call::Get, url).await?;
        let body = read_capped(answer, SMALL_CAP).await?;
        serde_json::from_slice(&body)
            .map_err(|_| Error::unavailable("the list of subscriptions is not readable"))
    }

    /// Operation 1: starts a subscription, or changes its webhook if there is a `body`. One that is enabled already, as it
    /// should be, is a success (reference: §3.1). Returns whether it was not.
    pub(super) async fn start(&self, content_type: &str, body: Option<&str>) -> Result<bool> {
        if self.only_reads() {
            return Err(Error::auth(
                "there is no enabled subscription, so Microsoft keeps no content; a mere look starts none, `run` does",
            )
            .with_code(errors::NO_SUBSCRIPTION));
        }
        let url = self.url("subscriptions/start", &[("contentType", content_type)]);
        let none = HeaderMap::new();
        let call = body.map_or(Call::Post, |body| Call::PostJson(body, &none));
        match self.api.send("start", call, url).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(errors::ALREADY_ENABLED) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Operation 6: the notifications that were sent of a window's content, to the last page.
    pub(super) async fn notifications(
        &self,
        content_type: &str,
        window: Window,
    ) -> Result<Vec<Notification>> {
        let mut url = self.windowed("subscriptions/notifications", content_type, window);
        let mut sent: Vec<Notification> = Vec::new();
        for _ in 0..MOST_NOTIFICATION_PAGES {
            let page = self.page_of("notifications", url).await?;
            let rows: Vec<Notification> = serde_json::from_slice(&page.body)
                .map_err(|_| Error::unavailable("the list of notifications is not readable"))?;
            sent.extend(rows);
            let Some(next) = page.next else {
                return Ok(sent);
            };
            url = next;
        }
        let message =
            format!("the list of notifications has more than {MOST_NOTIFICATION_PAGES} pages");
        Err(Error::unavailable(message))
    }

    /// Operation 4: where the first page of a window's listing is.
    pub(super) fn listing(&self, content_type: &str, window: Window) -> Url {
        self.windowed("subscriptions/content", content_type, window)
    }

    fn windowed(&self, operation: &str, content_type: &str, window: Window) -> Url {
        // The API takes no zone; it means UTC.
        let time = |time: DateTime<Utc>| {
            let text = time.to_rfc3339_opts(SecondsFormat::Secs, true);
            text.trim_end_matches('Z').to_owned()
        };
        let (from, to) = (time(window.from), time(window.to));
        let parameters = [
            ("contentType", content_type),
            ("startTime", &from),
            ("endTime", &to),
        ];
        self.url(operation, &parameters)
    }

    /// Reads one page of a listing.
    pub(super) async fn page(&self, url: Url) -> Result<Page> {
        self.page_of("list", url).await
    }

    async fn page_of(&self, operation: &'static str, url: Url) -> Result<Page> {
        let answer = self.api.send(operation, Call::Get, url.clone()).await?;
        let next = match answer.headers().get("nextpageuri") {
            // A proxy may have emptied what was absent. Text that is no address is another matter: it is refused.
            Some(value) if value.as_bytes().trim_ascii().is_empty() => None,
            Some(value) => Some(self.handed_out(value.to_str().unwrap_or("\u{fffd}"))?),
            None => None,
        };
        if next.as_ref() == Some(&url) {
            return Err(Error::unavailable(
                "a page of the listing names itself as the next",
            ));
        }
        let body = read_capped(answer, PAGE_CAP).await?;
        Ok(Page { body, next })
    }

    /// Operation 5: opens a content blob. Its body is still to be read.
    ///
    /// An address at another host does not get the token: the tenant's own API is asked for the blob by its id.
    pub(super) async fn content(&self, unit: &Unit) -> Result<Response> {
        let url = match self.handed_out(&unit.locator) {
            Ok(url) => url,
            Err(error) => {
                tracing::debug!(unit = %unit.id, %error, "the blob is fetched by its id");
                self.handed_out(&self.content_uri(&unit.id))?
            }
        };
        self.api.send("fetch", Call::GetCompressed, url).await
    }

    /// Where a blob is by its id.
    pub(super) fn content_uri(&self, id: &str) -> String {
        format!("{}audit/{id}", self.root())
    }

    fn root(&self) -> String {
        let (origin, tenant) = (&self.access.management_api, &self.access.tenant);
        format!("{origin}api/v1.0/{tenant}/activity/feed/")
    }

    fn url(&self, operation: &str, parameters: &[(&str, &str)]) -> Url {
        let mut url = self.access.management_api.clone();
        url.set_path(&format!(
            "api/v1.0/{}/activity/feed/{operation}",
            self.access.tenant
        ));
        url.query_pairs_mut()
            .extend_pairs(parameters)
            .append_pair(PUBLISHER, &self.access.publisher);
        url
    }

    /// An address from the service, as it stands, with the publisher's identifier. Refused if it leads elsewhere.
    fn handed_out(&self, uri: &str) -> Result<Url> {
        let mut url = Url::parse(uri.trim())
            .map_err(|_| Error::unavailable("the service handed out an address that is no URL"))?;
        self.api.pin(&url)?;
        url.set_fragment(None);
        if !url
            .query_pairs()
            .any(|(key, _)| key.eq_ignore_ascii_case(PUBLISHER))
        {
            // Not by `query_pairs_mut`: that would write the rest of the query anew.
            let own = format!("{PUBLISHER}={}", self.access.publisher);
            let query = match url.query() {
                None | Some("") => own,
                Some(query) => format!("{query}&{own}"),
            };
            url.set_query(Some(&query));
        }
        Ok(url)
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
