//! The source against a peer that speaks the protocol, with a real journal behind it.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use audit_exporter_core::clock::Clock;
use audit_exporter_core::engine::intake::IntakeLimits;
use audit_exporter_core::journal::{Closer, Journal, Limits, SinkSpec, Start};
use audit_exporter_core::metrics::Metrics;
use audit_exporter_core::plugin::{LaneKind, Severity};
use base64::Engine as _;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::microsoft::testing::{self, Peer, Reply, SECRET, Seen, TENANT};

mod checking;
mod fetching;
mod listing;

/// A source and the journal that it fills.
struct Bench {
    source: ManagementActivity,
    intake: Intake,
    journal: Journal,
    options: String,
    _closer: Closer,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new(peer: &Peer, options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::new().unwrap();
        let (journal, closer) = Journal::open(
            dir.path(),
            Limits::default(),
            Clock::system(),
            metrics.clone(),
        )
        .unwrap();
        let tenant = testing::tenant(&peer.url, "");
        let sink = SinkSpec {
            name: "all".into(),
            renamed_from: None,
            required: true,
            start: Start::Oldest,
            tenants: vec![TENANT.into()],
        };
        let tenants = vec![(TENANT.into(), "contoso".into())];
        journal.attach(vec![sink], tenants).await.unwrap();
        let limits = IntakeLimits::default();
        let intake = Intake::open(journal.clone(), metrics, limits, tenant, "audit".into())
            .await
            .unwrap();
        Self {
            source: source(peer, options),
            intake,
            journal,
            options: options.to_owned(),
            _closer: closer,
            _dir: dir,
        }
    }

    async fn list(&self) -> Result<Next> {
        self.source.list(&self.intake).await
    }

    /// What a restart leaves: the journal.
    fn restart(&mut self, peer: &Peer) {
        self.source = source(peer, &self.options);
    }

    /// The ids of all units that wait.
    async fn pending(&self) -> Vec<String> {
        let stream = self.journal.stream("audit", TENANT).await.unwrap();
        let mut ids = Vec::new();
        for kind in [LaneKind::Live, LaneKind::CatchUp] {
            let due = self
                .journal
                .due(&stream, kind, HashSet::new(), 10_000)
                .await;
            ids.extend(
                due.unwrap()
                    .0
                    .into_iter()
                    .map(|due| due.unit.id.to_string()),
            );
        }
        ids.sort();
        ids
    }

    async fn fetch(&self, unit: &Unit) -> Result<()> {
        let mut out = self.intake.writer(unit);
        self.source.fetch(unit, &mut out).await?;
        out.finish().await
    }

    /// The number of batches and of events in the live lane.
    async fn journaled(&self) -> (usize, usize) {
        let lane = self.journal.lane(TENANT, LaneKind::Live).unwrap();
        let (mut batches, mut events, mut after) = (0, 0, 0);
        loop {
            let read = self.journal.read(lane, after, 1000, 1 << 20).await.unwrap();
            let Some(last) = read.last() else {
                return (batches, events);
            };
            after = last.seq;
            batches += read.len();
            events += read.iter().map(|batch| batch.events.len()).sum::<usize>();
        }
    }
}

fn source(peer: &Peer, options: &str) -> ManagementActivity {
    let tenant = testing::tenant(&peer.url, "");
    ManagementActivity::new(&testing::context(tenant, options, Clock::system())).unwrap()
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
