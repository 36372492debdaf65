//! The source against a peer that speaks the protocol, with a real journal behind it.

use std::io::Write as _;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Tenant;
use audit_exporter_core::plugin::{LaneKind, Severity};
use base64::Engine as _;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::bench::Filled;
use chrono::{TimeDelta, Utc};

use super::*;
use crate::microsoft::testing::{self, Peer, Reply, SECRET, Seen, TENANT};

mod absence;
mod checking;
mod fetching;
mod listing;
mod simulated;
mod subscribing;
mod webhook;

/// Where the source is reached: nobody listens there.
const HOOK: &str = "http://127.0.0.1:9/audit/contoso";

/// A source and the journal that it fills.
struct Bench {
    source: ManagementActivity,
    filled: Filled,
    options: String,
}

impl Bench {
    async fn new(peer: &Peer, options: &str) -> Self {
        Self::of(testing::tenant(&peer.url, ""), options).await
    }

    async fn of(tenant: Tenant, options: &str) -> Self {
        Self {
            source: source_of(tenant.clone(), options),
            filled: Filled::of(tenant).await,
            options: options.to_owned(),
        }
    }

    async fn list(&self) -> Result<Next> {
        self.source.list(&self.filled.intake).await
    }

    /// What a restart leaves: the journal.
    fn restart(&mut self) {
        let tenant = self.filled.intake.tenant().clone();
        self.source = source_of(tenant, &self.options);
    }

    /// The ids of all units that wait.
    async fn pending(&self) -> Vec<String> {
        let due = self.filled.due().await;
        let mut ids: Vec<_> = due.iter().map(|unit| unit.id.to_string()).collect();
        ids.sort();
        ids
    }

    async fn fetch(&self, unit: &Unit) -> Result<()> {
        self.filled.fetch(&self.source, unit).await
    }
}

fn source(peer: &Peer, options: &str) -> ManagementActivity {
    source_of(testing::tenant(&peer.url, ""), options)
}

fn source_of(tenant: Tenant, options: &str) -> ManagementActivity {
    ManagementActivity::new(&context_of(tenant, options)).unwrap()
}

/// As the engine gives it where the configuration says how this program is reached.
fn context_of(tenant: Tenant, options: &str) -> Context {
    Context {
        webhook: Some(url::Url::parse(HOOK).unwrap()),
        ..testing::context(tenant, options, Clock::system())
    }
}

/// A tenant: tokens, and subscriptions that are all enabled, unless `answer` says otherwise.
async fn tenant(answer: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Peer {
    Peer::start(move |seen, _| {
        answer(seen).unwrap_or_else(|| {
            if seen.is_token_request() {
                Reply::token("token", "3600")
            } else if seen.target.contains("/subscriptions/list") {
                let entry = |name| format!(r#"{{"contentType":"{name}","status":"enabled"}}"#);
                let entries = config::CONTENT_TYPES.map(entry).join(",");
                Reply::ok(format!("[{entries}]"))
            } else {
                Reply::ok("[]")
            }
        })
    })
    .await
}

/// A tenant that answers all but requests for tokens, so many minutes ahead of the machine's clock.
async fn tenant_ahead<S: Send + Sync + 'static>(
    service: &Arc<S>,
    minutes: fn(&S) -> i64,
    answer: fn(&S, &Seen) -> Reply,
) -> Peer {
    let service = Arc::clone(service);
    tenant(move |seen| {
        if seen.is_token_request() {
            return None;
        }
        let date = Utc::now() + TimeDelta::minutes(minutes(&service));
        let date = date.format("%a, %d %b %Y %H:%M:%S GMT");
        Some(answer(&service, seen).with("date", date.to_string()))
    })
    .await
}

/// A listing of one blob, made just now.
fn blob(peer_host: &str, id: &str) -> String {
    let created = Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    format!(
        r#"{{"contentId":"{id}","contentUri":"http://{peer_host}/api/v1.0/{TENANT}/activity/feed/audit/{id}","contentCreated":"{created}"}}"#
    )
}

fn host(seen: &Seen) -> &str {
    seen.headers["host"].to_str().unwrap()
}

/// A parameter of a call, as it stands in its address.
fn parameter(target: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(&format!("http://h{target}")).unwrap();
    let found = url
        .query_pairs()
        .find(|(key, _)| key == name)?
        .1
        .into_owned();
    Some(found)
}

/// How long ago a listing begins, in minutes.
fn begins_ago(target: &str) -> i64 {
    let from = parameter(target, "startTime").unwrap();
    let from: chrono::NaiveDateTime = from.parse().unwrap();
    (Utc::now() - from.and_utc()).num_minutes()
}
