//! The simulated tenant, in a process of its own.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use audit_exporter_simulator::TenantConfig;

use crate::floor::{Client, Order};
use crate::process::{self, Measured, Usage};
use crate::{Outcome, PARALLEL};

/// Compressed content that the simulator may keep, so that nothing is made while it is measured.
const CACHE_BYTES: u64 = 8 << 30;
/// How often the program is asked whether it is done: seldom enough not to be what is measured.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// A running simulator. Killed when dropped.
pub(crate) struct Peer {
    child: Child,
    url: String,
    tenant: TenantConfig,
}

/// What the tenant holds, by the simulator's own account.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Records in all blobs.
    pub(crate) occurrences: u64,
    /// Those of them that repeat no other.
    pub(crate) unique: u64,
    pub(crate) blobs: usize,
    /// Of all blobs, inflated.
    pub(crate) raw_bytes: u64,
    /// Of all blobs, as sent.
    pub(crate) compressed_bytes: u64,
}

impl Peer {
    /// Starts it and waits until all content is compressed and served.
    pub(crate) fn start(folder: &Path, events: u64, events_per_blob: u32) -> Outcome<Self> {
        let config = folder.join("simulator.toml");
        std::fs::write(
            &config,
            format!(
                "cache_bytes = {CACHE_BYTES}\nprepare = true\n[[tenants]]\nsubscribed = true\n\
                 [tenants.records.generated]\nevents = {events}\nevents_per_blob = {events_per_blob}\n"
            ),
        )?;
        let child = Command::new(env!("CARGO_BIN_EXE_audit-exporter"))
            .arg("simulate")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.join("simulator.log"))?)
            .spawn()?;
        let mut peer = Self {
            child,
            url: String::new(),
            tenant: TenantConfig::default(),
        };
        let said = peer.child.stdout.take().ok_or("the simulator is mute")?;
        for line in BufReader::new(said).lines() {
            let line = line?;
            if let Some((_, url)) = line.split_once("listens at ") {
                url.clone_into(&mut peer.url);
            }
            if line.starts_with("Ctrl-C") {
                return Ok(peer);
            }
        }
        Err("the simulator ended before it was ready".into())
    }

    /// The simulator's process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// What a minimal client needs to know.
    pub(crate) fn order(&self, out: &Path) -> Order {
        Order {
            url: self.url.clone(),
            tenant: self.tenant.id.clone(),
            client_id: self.tenant.client_id.clone(),
            client_secret: self.tenant.client_secret.clone(),
            out: out.to_owned(),
        }
    }

    /// Asks the simulator's ledger, and reads everything once.
    pub(crate) async fn truth(&self) -> Outcome<Truth> {
        let client = Client::new(&self.order(Path::new(""))).await?;
        let mut truth = Truth::default();
        let mut rest = Vec::new();
        let mut ledger = client.get(&format!("{}/ledger", self.url)).await?;
        while let Some(chunk) = ledger.chunk().await? {
            rest.extend_from_slice(&chunk);
            let end = rest.iter().rposition(|byte| *byte == b'\n');
            let end = end.map_or(0, |at| at + 1);
            for line in rest[..end].split_inclusive(|byte| *byte == b'\n') {
                let entry: Entry<'_> = serde_json::from_slice(line)?;
                truth.occurrences += 1;
                truth.unique += u64::from(entry.repeats.is_none());
            }
            rest.drain(..end);
        }
        let (mut compressed, mut raw) = (Vec::new(), Vec::new());
        for uri in client.list().await? {
            client.blob(&uri, &mut compressed, &mut raw).await?;
            truth.blobs += 1;
            truth.compressed_bytes += compressed.len() as u64;
            truth.raw_bytes += raw.len() as u64;
        }
        Ok(truth)
    }

    /// Options for curl that download everything.
    pub(crate) async fn curl_config(&self) -> Outcome<String> {
        let client = Client::new(&self.order(Path::new(""))).await?;
        let mut config = format!("header = \"Authorization: {}\"\n", client.bearer());
        for uri in client.list().await? {
            writeln!(config, "url = \"{uri}\"\noutput = \"/dev/null\"")?;
        }
        Ok(config)
    }

    /// A configuration of the program: everything as by default, but no limit to requests.
    pub(crate) fn exporter_config(&self) -> String {
        format!(
            "[journal]\npath = \"journal\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [limits]\nparallel_fetches_per_tenant = {PARALLEL}\n\
             [tenants.bench]\nid = \"{}\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n\
             authority = \"{url}\"\nmanagement_api = \"{url}\"\nrequests_per_minute = 100000\n\
             [sources.activity]\ntype = \"management_activity\"\n\
             [sinks.archive]\ntype = \"file\"\npath = \"events/{{content_type}}.ndjson\"\n",
            self.tenant.id,
            self.tenant.client_id,
            self.tenant.client_secret,
            url = self.url
        )
    }

    /// Waits until the program says that it has delivered `events`, and stops it.
    pub(crate) async fn wait_for_delivery(
        &self,
        mut process: Measured,
        journal: &Path,
        events: u64,
    ) -> Outcome<Usage> {
        let http = reqwest::Client::new();
        loop {
            tokio::time::sleep(ASK_EVERY).await;
            if !process.runs()? {
                return Err("audit-exporter ended by itself".into());
            }
            let Ok(address) = std::fs::read_to_string(journal.join("control.address")) else {
                continue;
            };
            let url = format!("http://{}/metrics", address.trim());
            let mut answer = http.get(url).send().await?;
            let mut metrics = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                metrics.extend_from_slice(&chunk);
            }
            let metrics = String::from_utf8(metrics)?;
            let delivered = metrics
                .lines()
                .filter(|line| line.starts_with("audit_exporter_events_delivered_total{"))
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
            if delivered.sum::<u64>() >= events {
                return process.stop();
            }
        }
    }
}

/// The part of a ledger's line that counts.
#[derive(serde::Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    repeats: Option<&'a serde_json::value::RawValue>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        process::kill(&mut self.child);
    }
}
