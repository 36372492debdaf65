//! What delivery to a Splunk HTTP Event Collector costs, next to the least that any client pays.
//!
//! `cargo bench --bench hec` starts the simulator's collector in a process of its own and sends it the same events in
//! turns, with as many requests at once:
//!
//! - **bare client**: bodies of the same envelopes, made and compressed before the clock starts, posted by the same HTTP
//!   library; each answer is read and its status looked at. It promises nothing;
//! - **`splunk_hec`**: the sink, in deliveries as the engine hands them over: it checks each record, makes the envelopes,
//!   compresses, posts, and reads what Splunk says about each request.
//!
//! CPU time is this process's, all threads.

#![allow(clippy::print_stdout)] // The table is the point.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Options;
use audit_exporter_core::event::{AuditEvent, Origin};
use audit_exporter_core::http;
use audit_exporter_core::journal::Store;
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::plugin::{Batch, Context, Sink};
use audit_exporter_simulator::HecToken;
use bytes::Bytes;
use clap::Parser;
use flate2::write::GzEncoder;
use futures::{StreamExt as _, TryStreamExt as _};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The sink's own default.
const PARALLEL: usize = 4;
const REQUEST_BYTES: usize = 900_000;
/// What the engine hands over at once.
const DELIVERY_BYTES: usize = 4 << 20;

/// Measures the sink against a bare client.
#[derive(Debug, Parser)]
struct Args {
    /// Events
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    events: usize,
    /// Turns
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// The simulator. Killed when dropped.
struct Collector {
    child: Child,
    url: String,
    /// Open, for it says more.
    _said: BufReader<ChildStdout>,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let collector = Collector::start(folder.path())?;
    let events: Vec<AuditEvent> = (0..args.events).map(event).collect();
    let raw_bytes: usize = events.iter().map(|event| event.raw().len()).sum();
    println!(
        "{} events, {:.1} MB raw",
        events.len(),
        raw_bytes as f64 / 1e6
    );
    println!(
        "{:<14}{:>9}{:>12}{:>10}{:>12}",
        "", "wall s", "events/s", "MB/s", "µs CPU/ev"
    );
    let bodies = bodies(&events)?;
    let sink = sink(&collector.url)?;
    for _ in 0..args.runs {
        let measured = measure(post(&collector.url, &bodies)).await?;
        line("bare client", measured, events.len(), raw_bytes);
        let measured = measure(deliver(&*sink, &events)).await?;
        line("splunk_hec", measured, events.len(), raw_bytes);
    }
    let wanted = 2 * args.runs * events.len();
    let indexed = collector.indexed().await?;
    if indexed != wanted as u64 {
        return Err(format!("{wanted} events were sent, {indexed} indexed").into());
    }
    Ok(())
}

/// An event of the size and shape of a mailbox's, no two alike.
fn event(number: usize) -> AuditEvent {
    let random: u128 = rand::random();
    let record = format!(
        r#"{{"CreationTime":"2026-03-01T{:02}:{:02}:{:02}","Id":"{random:032x}","Operation":"MailItemsAccessed","OrganizationId":"7f3c9a52-1d0b-4c8e-9b61-2f5a8e0c4d17","RecordType":50,"ResultStatus":"Succeeded","UserKey":"10032000{number:08x}","UserType":0,"Version":1,"Workload":"Exchange","UserId":"user{}@contoso.onmicrosoft.com","ClientIPAddress":"198.51.{}.{}","ClientInfoString":"Client=MSExchangeRPC","ExternalAccess":false,"InternalLogonType":0,"LogonType":0,"MailboxGuid":"{random:032x}","SessionId":"{number:032x}","OperationProperties":[{{"Name":"MailAccessType","Value":"Bind"}},{{"Name":"IsThrottled","Value":"False"}}],"Folders":[{{"FolderItems":[{{"InternetMessageId":"<{random:x}.{number}@contoso.onmicrosoft.com>","SizeInBytes":{}}}],"Id":"{random:064x}","Path":"\\Inbox"}}],"OperationCount":1}}"#,
        number / 3600 % 24,
        number / 60 % 60,
        number % 60,
        number % 500,
        number / 256 % 256,
        number % 256,
        number * 37 % 90_000,
    );
    let origin = Origin {
        tenant: "7f3c9a52-1d0b-4c8e-9b61-2f5a8e0c4d17".into(),
        tenant_name: "contoso".into(),
        source: "activity".into(),
        content_type: "Audit.Exchange".into(),
        unit: "blob".into(),
    };
    AuditEvent::new(record.into(), Arc::new(origin))
}

fn sink(url: &str) -> Outcome<Box<dyn Sink>> {
    let options = format!(
        "urls = [\"{url}\"]\ntoken = \"{}\"",
        HecToken::default().token
    );
    let context = Context {
        name: "splunk".into(),
        options: Options::from_toml("sinks.splunk", &options),
        tenants: Arc::new([]),
        http: http::Client::new()?,
        meter: Meter::default(),
        clock: Clock::system(),
        store: Store::in_memory(),
        replay: None,
        webhook: None,
    };
    Ok(audit_exporter_plugins::registry().build_sink("splunk_hec", context)?)
}

async fn deliver(sink: &dyn Sink, events: &[AuditEvent]) -> Outcome<()> {
    let mut rest = events;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |event: &&AuditEvent| {
            bytes += event.raw().len();
            bytes <= DELIVERY_BYTES
        };
        let (batch, behind) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        let events = batch.to_vec();
        let delivered = sink
            .deliver(&Batch {
                position: None,
                events: events.into(),
            })
            .await?;
        if !delivered.rejected.is_empty() {
            return Err("the collector refuses events".into());
        }
        rest = behind;
    }
    Ok(())
}

/// The requests that the sink makes, compressed.
fn bodies(events: &[AuditEvent]) -> Outcome<Vec<Bytes>> {
    let (mut bodies, mut plain) = (Vec::new(), Vec::new());
    for (number, event) in (1..).zip(events) {
        let time = event.created().map_or(0, |time| time.timestamp());
        write!(
            plain,
            r#"{{"time":{time},"host":"contoso","source":"audit-exporter","sourcetype":"o365:management:activity","event":"#
        )?;
        plain.extend_from_slice(event.raw());
        plain.extend_from_slice(b"}\n");
        if plain.len() + 2048 > REQUEST_BYTES || number == events.len() {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&plain)?;
            bodies.push(encoder.finish()?.into());
            plain.clear();
        }
    }
    Ok(bodies)
}

async fn post(url: &str, bodies: &[Bytes]) -> Outcome<()> {
    let client = http::client()?;
    let token = format!("Splunk {}", HecToken::default().token);
    let one = |body: &Bytes| {
        let request = client
            .post(format!("{url}/services/collector/event"))
            .header("Authorization", &token)
            .header("Content-Encoding", "gzip")
            .body(body.clone());
        async move {
            let mut answer = request.send().await?.error_for_status()?;
            while answer.chunk().await?.is_some() {}
            Ok::<_, reqwest::Error>(())
        }
    };
    let sending = futures::stream::iter(bodies).map(one);
    Ok(sending.buffer_unordered(PARALLEL).try_collect().await?)
}

async fn measure(work: impl Future<Output = Outcome<()>>) -> Outcome<(Duration, Duration)> {
    let (begun, before) = (Instant::now(), cpu_time()?);
    work.await?;
    Ok((begun.elapsed(), cpu_time()?.saturating_sub(before)))
}

/// CPU time of this process so far; Linux counts in hundredths of a second on every architecture.
fn cpu_time() -> Outcome<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn line(name: &str, (wall, cpu): (Duration, Duration), events: usize, raw_bytes: usize) {
    let seconds = wall.as_secs_f64();
    println!(
        "{name:<14}{seconds:>9.2}{:>12.0}{:>10.0}{:>12.2}",
        events as f64 / seconds,
        raw_bytes as f64 / 1e6 / seconds,
        cpu.as_secs_f64() * 1e6 / events as f64
    );
}

impl Collector {
    fn start(folder: &std::path::Path) -> Outcome<Self> {
        let config = folder.join("simulator.toml");
        std::fs::write(&config, "[hec]\nkeep = false\n")?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_audit-exporter"))
            .arg("simulate")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().ok_or("the simulator is mute")?;
        let (mut said, mut first) = (BufReader::new(said), String::new());
        said.read_line(&mut first)?;
        let url = first
            .trim()
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        Ok(Self {
            child,
            url,
            _said: said,
        })
    }

    async fn indexed(&self) -> Outcome<u64> {
        let mut answer = http::client()?
            .get(format!("{}/stats", self.url))
            .send()
            .await?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        let stats: serde_json::Value = serde_json::from_slice(&body)?;
        Ok(stats["hec_events"].as_u64().unwrap_or_default())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
