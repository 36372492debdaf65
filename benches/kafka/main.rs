//! What the sink `kafka` costs beside librdkafka's own producer, with the same records to the same brokers.
//!
//! `cargo bench --bench kafka` sends to librdkafka's own cluster in this process; `-- --brokers HOST:PORT` to real
//! brokers, whose topics it leaves behind. In each turn, one after the other:
//!
//! - **librdkafka**: an idempotent producer with the sink's settings, that is given one record after the other and never
//!   waits but for room in its queue. It promises as much as the sink's producer does, and knows no batches;
//! - **sink**: the sink, batch after batch, as the engine calls it: each is confirmed before the next begins;
//! - **transactions**: the same with `transactional`.
//!
//! CPU time is this process's: with the cluster inside it, the cluster's too.

#![allow(clippy::print_stdout)] // The table is the point.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Options;
use audit_exporter_core::event::{AuditEvent, Origin};
use audit_exporter_core::http;
use audit_exporter_core::journal::{Position, Store};
use audit_exporter_core::metrics::Meter;
use audit_exporter_core::plugin::{Batch, Context};
use bytes::Bytes;
use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// As many as librdkafka's cluster can hold without forgetting much: it keeps 5 MiB of each.
const PARTITIONS: i32 = 12;
/// About an audit record's size.
const RECORD_BYTES: usize = 1_400;
/// Longer than any turn.
const PATIENCE: Duration = Duration::from_mins(10);

/// Measures the sink `kafka` against librdkafka.
#[derive(Debug, Parser)]
struct Args {
    /// Events of a turn
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    events: usize,
    /// Events of a delivery
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    batch: usize,
    /// Turns
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Real brokers, without TLS [default: librdkafka's own cluster]
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let args = Args::parse();
    let events = events(args.events);
    let cluster = MockCluster::new(1)?;
    // This cluster has no means to be asked for topics.
    cluster.create_topic("audit-exporter-positions", 1, 1)?;
    let brokers = args
        .brokers
        .clone()
        .unwrap_or_else(|| cluster.bootstrap_servers());
    println!(
        "{} events of {RECORD_BYTES} bytes, {} to a delivery",
        args.events, args.batch
    );
    println!(
        "{:<14}{:>9}{:>12}{:>8}{:>12}",
        "", "wall s", "events/s", "MB/s", "µs CPU/ev"
    );
    let mut rows: [Vec<Figures>; 3] = Default::default();
    for turn in 0..args.runs {
        for (row, name) in NAMES.iter().enumerate() {
            let topic = format!("bench-{}-{turn}-{name}", std::process::id());
            if args.brokers.is_none() {
                cluster.create_topic(&topic, PARTITIONS, 1)?;
            }
            let began = Figures::now()?;
            match *name {
                "librdkafka" => bare(&brokers, &topic, &events)?,
                name => {
                    sink(
                        &brokers,
                        &topic,
                        &events,
                        args.batch,
                        name == "transactions",
                    )
                    .await?;
                }
            }
            let figures = Figures::now()?.since(&began);
            figures.print(name, args.events);
            rows[row].push(figures);
        }
    }
    println!("median of {}", args.runs);
    for (name, row) in NAMES.iter().zip(&mut rows) {
        row.sort_by_key(|figures| figures.wall);
        row[row.len() / 2].print(name, args.events);
    }
    Ok(())
}

const NAMES: [&str; 3] = ["librdkafka", "sink", "transactions"];

/// Records that differ as real ones do: half of the bytes are the same in all.
fn events(count: usize) -> Vec<AuditEvent> {
    let origin = Arc::new(Origin {
        tenant: "11111111-1111-1111-1111-111111111111".into(),
        tenant_name: "contoso".into(),
        source: "activity".into(),
        content_type: "Audit.General".into(),
        unit: "blob".into(),
    });
    let record = |n: usize| {
        let mut noise = String::new();
        for part in 0..20 {
            noise.extend(format!("{:016x}", hash(n * 20 + part)).chars());
        }
        let head = format!(
            r#"{{"CreationTime":"2026-03-01T07:59:59","Id":"{n:036}","Operation":"CreateFlow","RecordType":30,"UserId":"lee@contoso.com","Workload":"MicrosoftFlow","Noise":"{noise}","Same":""#
        );
        let same = "SharePoint, Response, Office 365 Outlook; "
            .repeat(40)
            .chars()
            .take(RECORD_BYTES - head.len() - 2)
            .collect::<String>();
        AuditEvent::new(
            Bytes::from(format!("{head}{same}\"}}")),
            Arc::clone(&origin),
        )
    };
    (0..count).map(record).collect()
}

fn hash(n: usize) -> u64 {
    (n as u64 + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(31)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// librdkafka alone: settings and keys as the sink has them.
fn bare(brokers: &str, topic: &str, events: &[AuditEvent]) -> Outcome<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "zstd")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.kbytes", "16384")
        .set_log_level(RDKafkaLogLevel::Error)
        .create()?;
    for event in events {
        let key = event.id().unwrap_or_default();
        let mut record = BaseRecord::to(topic).key(&*key).payload(&event.raw()[..]);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            producer.poll(Duration::from_millis(10));
            record = back;
        }
        producer.poll(Duration::ZERO);
    }
    Ok(producer.flush(PATIENCE)?)
}

/// The sink, as the engine calls it.
async fn sink(
    brokers: &str,
    topic: &str,
    events: &[AuditEvent],
    batch: usize,
    transactional: bool,
) -> Outcome<()> {
    let options = format!(
        "brokers = [\"{brokers}\"]\ntopic = \"{topic}\"\ntransactional = {transactional}\n"
    );
    let store = Store::in_memory();
    let journal = Arc::clone(store.journal());
    let context = Context {
        name: "kafka".into(),
        options: Options::from_toml("sinks.kafka", &options),
        tenants: Arc::new([]),
        http: http::Client::new()?,
        meter: Meter::default(),
        clock: Clock::system(),
        store,
        replay: None,
        webhook: None,
    };
    let sink = audit_exporter_plugins::registry().build_sink("kafka", context)?;
    sink.recover(None).await?;
    for (seq, events) in (1..).zip(events.chunks(batch)) {
        let position = Some(Position {
            journal: Arc::clone(&journal),
            lane: 1,
            first: seq,
            last: seq,
        });
        let events = Arc::new(events.to_vec());
        let delivered = sink.deliver(&Batch { position, events }).await?;
        if !delivered.rejected.is_empty() {
            return Err(format!("{} events were refused", delivered.rejected.len()).into());
        }
    }
    Ok(())
}

/// Time on the wall and of this process's threads.
#[derive(Clone, Copy)]
struct Figures {
    wall: Duration,
    cpu: Duration,
}

impl Figures {
    fn now() -> Outcome<Self> {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // The name in brackets may hold anything. Behind it, user and system time are the 12th and 13th field (proc(5)).
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(str::parse::<u64>).sum::<Result<_, _>>()?;
        Ok(Self {
            wall: START.get_or_init(Instant::now).elapsed(),
            // Linux counts in hundredths of a second on every architecture.
            cpu: Duration::from_millis(ticks * 10),
        })
    }

    fn since(self, began: &Self) -> Self {
        Self {
            wall: self.wall.saturating_sub(began.wall),
            cpu: self.cpu.saturating_sub(began.cpu),
        }
    }

    fn print(&self, name: &str, events: usize) {
        let (wall, events) = (self.wall.as_secs_f64(), events as f64);
        println!(
            "{name:<14}{wall:>9.2}{:>12.0}{:>8.0}{:>12.2}",
            events / wall,
            events * RECORD_BYTES as f64 / 1e6 / wall,
            self.cpu.as_secs_f64() * 1e6 / events,
        );
    }
}
