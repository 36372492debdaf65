//! `demo`: the whole pipeline on a simulated tenant, in this process, and the proof that nothing is missing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Config;
use audit_exporter_core::engine::Engine;
use audit_exporter_core::journal::Status;
use audit_exporter_core::plugin::Registry;
use audit_exporter_core::{Error, Result};
use audit_exporter_simulator as simulator;
use sha2::{Digest, Sha256};
use simulator::{AnswerFaults, Faults, Generated, RecordFaults, Records, Simulator, TenantConfig};

use crate::run::Figures;
use crate::terminal::{LogFormat, Progress, log, number, paint, say};
use crate::{Outcome, asked_to_stop, exit};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Events of the simulated tenant
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    events: u64,
    /// Events follow from this number
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Put everything into this folder, which must be new [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Keep running when all is delivered, so that the metrics can be looked at
    #[arg(long)]
    stay: bool,
    /// Where the metrics are served [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: std::net::SocketAddr,
}

pub(crate) async fn run(args: Args, registry: &Registry) -> Outcome {
    let progress = log(LogFormat::Auto, "error", true);
    let folder = folder(args.folder.as_deref())?;
    let simulated = TenantConfig {
        records: Records::Generated(Generated {
            events: args.events,
            events_per_blob: 100,
            ..Generated::default()
        }),
        ..TenantConfig::default()
    };
    let simulator = Simulator::start(simulator::Config {
        seed: args.seed,
        tenants: vec![simulated.clone()],
        faults: faults(),
        ..simulator::Config::default()
    })
    .await
    .map_err(|error| Error::unavailable("the simulator cannot be started").with_cause(error))?;
    let text = configuration(&simulated, simulator.url(), args.listen);
    std::fs::write(folder.join("config.toml"), &text)?;
    say(format!(
        "A simulated tenant has {} events of the last week. They are collected as Microsoft serves them: repeated, \
         out of order, with outages.",
        number(args.events)
    ));

    let started = std::time::Instant::now();
    let config = Config::from_toml(&text, &folder)?;
    let engine = Engine::start(&config, registry, Clock::system()).await?;
    if let Some(address) = engine.admin() {
        say(format!("Metrics: http://{address}/metrics"));
    }
    let complete = tokio::select! {
        result = until_settled(&engine, &progress) => { result?; true }
        () = asked_to_stop() => false,
    };
    let took = started.elapsed();
    if complete && args.stay {
        progress.clear();
        say(format!(
            "All is delivered after {:.1} s; Ctrl-C ends the demo.",
            took.as_secs_f64()
        ));
        asked_to_stop().await;
    }
    let status = engine.shutdown(Duration::from_secs(20)).await?;
    progress.clear();
    let proof = Proof::of(simulator.ledger(), &folder.join("events"))?;
    simulator.stop().await;
    if !complete {
        say(
            "\nBroken off. What was delivered so far is in the folder below; a run would go on from there.",
        );
    }
    proof.tell(&status, took);
    let folder = folder.display();
    say(format!(
        "\nLook at it:\n  {folder}/events/           every event, byte for byte\n  \
         {folder}/power-platform/   flows and app launches only, normalized\n  \
         {folder}/config.toml       the configuration\n\n\
         Your own tenant: config/first-try.toml is a start, and `audit-exporter check --config FILE` says what it needs."
    ));
    Ok(if complete && !proof.holds() {
        exit::FAILED
    } else {
        exit::OK
    })
}

fn folder(wish: Option<&Path>) -> Result<PathBuf> {
    match wish {
        None => Ok(tempfile::Builder::new()
            .prefix("audit-exporter-demo-")
            .tempdir()?
            .keep()),
        Some(folder) => {
            std::fs::create_dir(folder).map_err(|error| {
                Error::config(format!(
                    "{} cannot be made; name a folder that does not exist yet",
                    folder.display()
                ))
                .with_cause(error)
            })?;
            Ok(folder.canonicalize()?)
        }
    }
}

/// What goes wrong in the demo: the everyday, not the worst.
fn faults() -> Faults {
    Faults {
        blobs: AnswerFaults {
            internal_error: 0.01,
            bad_gateway: 0.01,
            reset: 0.01,
            cut_gzip: 0.01,
            ..AnswerFaults::default()
        },
        records: RecordFaults {
            duplicate_in_blob: 0.02,
            duplicate_in_other_blob: 0.05,
            redelivered_blob: 0.02,
            ..RecordFaults::default()
        },
        ..Faults::default()
    }
}

fn configuration(tenant: &TenantConfig, url: &str, listen: std::net::SocketAddr) -> String {
    format!(
        r#"# What `audit-exporter demo` ran with. The addresses are those of its simulated Microsoft 365, which is gone.
[journal]
path = "journal"

[admin]
listen = "{listen}"

[tenants.contoso]
id = "{id}"
client_id = "{client}"
client_secret = "{secret}"   # of a real tenant: {{ env = "…" }} or {{ file = "…" }}
authority = "{url}"
management_api = "{url}"

[sources.activity]
type = "management_activity"

[filters.power-platform]
type = "operation"
include = ["CreateFlow", "EditFlow", "DeleteFlow", "LaunchPowerApp"]

[sinks.everything]
type = "file"
path = "events/{{tenant}}/{{content_type}}.ndjson"

[sinks.power-platform]
type = "file"
path = "power-platform/{{tenant}}.ndjson"
format = "normalized"
filters = ["power-platform"]
"#,
        id = tenant.id,
        client = tenant.client_id,
        secret = tenant.client_secret,
    )
}

/// How long the demo waits for a sign before it looks for itself.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Waits until everything that is listed is fetched and delivered.
async fn until_settled(engine: &Engine, progress: &Progress) -> Result<()> {
    let mut changes = engine.changes();
    loop {
        changes.mark_unchanged();
        let status = engine.status().await?;
        let figures = Figures::of(&status);
        progress.show(figures.line());
        if engine.listed() && figures.waiting == 0 && figures.pending == 0 {
            return Ok(());
        }
        // That a listing has ended is no change of the journal, so look again soon in any case.
        if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await {
            return Ok(());
        }
    }
}

/// The comparison of the files with the simulator's own ledger.
struct Proof {
    occurrences: usize,
    expected: usize,
    found: usize,
    missing: usize,
    twice: usize,
    foreign: usize,
}

impl Proof {
    fn of(ledger: impl Iterator<Item = simulator::Entry>, events: &Path) -> Result<Self> {
        let mut expected: HashMap<String, i64> = HashMap::new();
        let mut occurrences = 0;
        for entry in ledger {
            occurrences += 1;
            if entry.repeats.is_none() {
                *expected.entry(entry.sha256).or_default() += 1;
            }
        }
        let wanted = expected.values().sum::<i64>() as usize;
        let (mut found, mut foreign) = (0, 0);
        for file in files_below(events)? {
            for line in std::fs::read(file)?
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                found += 1;
                match expected.get_mut(&hex(&Sha256::digest(line))) {
                    Some(left) => *left -= 1,
                    None => foreign += 1,
                }
            }
        }
        let missing = expected.values().filter(|left| **left > 0).sum::<i64>() as usize;
        let twice = expected
            .values()
            .filter(|left| **left < 0)
            .map(|left| -left)
            .sum::<i64>() as usize;
        Ok(Self {
            occurrences,
            expected: wanted,
            found,
            missing,
            twice,
            foreign,
        })
    }

    fn holds(&self) -> bool {
        self.missing + self.twice + self.foreign == 0
    }

    fn tell(&self, status: &Status, took: Duration) {
        let figures = Figures::of(status);
        let verdict = if self.holds() {
            paint("32", "Complete")
        } else {
            paint("31", "NOT COMPLETE")
        };
        say(format!("\n{verdict} after {:.1} s", took.as_secs_f64()));
        say(format!(
            "  {} records served in {} content blobs, {} of them repeats by design",
            number(self.occurrences as u64),
            number(figures.fetched),
            number((self.occurrences - self.expected) as u64)
        ));
        say(format!(
            "  {} expected, {} in the files: {} missing, {} twice, {} foreign (by SHA-256 of every record)",
            number(self.expected as u64),
            number(self.found as u64),
            self.missing,
            self.twice,
            self.foreign
        ));
        for sink in &status.sinks {
            say(format!(
                "  sink {}: {} delivered, {} filtered, {} dead letters",
                sink.sink,
                number(sink.delivered),
                number(sink.filtered),
                number(sink.dead)
            ));
        }
        if figures.lost > 0 {
            say(format!("  {} content blobs LOST", number(figures.lost)));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16);
    let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(digits).flatten().collect()
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    Ok(files)
}
