//! `demo`: the whole pipeline on a simulated tenant, in this process, and the proof that nothing is missing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
use crate::terminal::{
    LogFormat, Progress, complain, log, newest_warning, number, say, say_coloured, warn_of_listener,
};
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
    warn_of_listener("the metrics of the demo", args.listen);
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

    let started = Instant::now();
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
    let (ledger, events) = (simulator.ledger(), folder.join("events"));
    let proof = tokio::task::spawn_blocking(move || Proof::of(ledger, &events))
        .await
        .map_err(|error| Error::bug("the comparison broke off").with_cause(error))??;
    simulator.stop().await;
    proof.tell(&status, complete, took);
    say("\nLook at it:");
    for (name, what) in [
        ("events/", "every event, byte for byte"),
        ("power-platform/", "flows and app launches only, normalized"),
        ("config.toml", "the configuration"),
    ] {
        let path = folder.join(name);
        if path.exists() {
            say(format!("  {}/{name:<15}   {what}", folder.display()));
        }
    }
    say(
        "\nYour own tenant: config/first-try.toml is a start, and `audit-exporter check --config FILE` says what it \
         needs.",
    );
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

/// How long nothing may move before the demo says why.
const STUCK: Duration = Duration::from_secs(10);

/// Waits until everything that is listed is fetched and delivered. Says so if nothing moves any more.
async fn until_settled(engine: &Engine, progress: &Progress) -> Result<()> {
    let mut changes = engine.changes();
    let mut moved = (Figures::default(), Instant::now());
    loop {
        changes.mark_unchanged();
        let status = engine.status().await?;
        let figures = Figures::of(&status);
        progress.show(figures.line());
        if figures != moved.0 {
            moved = (figures, Instant::now());
        } else if moved.1.elapsed() > STUCK {
            let why = newest_warning().unwrap_or_else(|| "no error is known".to_owned());
            complain(&Error::unavailable(format!(
                "nothing has moved for {} seconds: {why}",
                STUCK.as_secs()
            )));
            moved.1 = Instant::now();
        }
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
    /// Reads every file below `events`, a line at a time.
    fn of(ledger: impl Iterator<Item = simulator::Entry>, events: &Path) -> Result<Self> {
        let mut expected: HashMap<[u8; 32], i64> = HashMap::new();
        let mut occurrences = 0;
        for entry in ledger {
            occurrences += 1;
            if entry.repeats.is_none() {
                *expected.entry(digest(&entry.sha256)?).or_default() += 1;
            }
        }
        let wanted = expected.values().sum::<i64>() as usize;
        let (mut found, mut foreign) = (0, 0);
        for file in files_below(events)? {
            for line in BufReader::new(File::open(file)?).split(b'\n') {
                found += 1;
                let hash: [u8; 32] = Sha256::digest(line?).into();
                match expected.get_mut(&hash) {
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

    fn tell(&self, status: &Status, complete: bool, took: Duration) {
        let figures = Figures::of(status);
        let (colour, verdict) = match (complete, self.holds()) {
            (false, _) => ("33", "Broken off"),
            (true, true) => ("32", "Complete"),
            (true, false) => ("31", "NOT COMPLETE"),
        };
        say("");
        say_coloured(
            colour,
            verdict,
            &format!(" after {:.1} s", took.as_secs_f64()),
        );
        if !complete {
            say(
                "  A run would go on from here, and nothing that is missing now would be missing then.",
            );
        }
        say(format!(
            "  {} records served in {} content blobs, {} of them repeats that must not arrive",
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

/// The hash that a ledger writes in hexadecimal digits.
fn digest(text: &str) -> Result<[u8; 32]> {
    let mut digest = [0; 32];
    let wrong = || Error::bug("the ledger holds no SHA-256");
    if text.len() != 2 * digest.len() {
        return Err(wrong());
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        let digits = text.get(2 * at..2 * at + 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|error| wrong().with_cause(error))?;
    }
    Ok(digest)
}

/// Every file below a folder; none if there is no such folder yet.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        for entry in entries {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_that_is_stopped_before_its_first_delivery_has_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let proof = Proof::of(std::iter::empty(), &folder.path().join("events")).unwrap();
        assert_eq!((proof.found, proof.missing), (0, 0));
        assert!(proof.holds());
    }

    #[test]
    fn a_proof_counts_what_is_missing_there_twice_and_foreign() {
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("events/contoso");
        std::fs::create_dir_all(&events).unwrap();
        std::fs::write(events.join("a.ndjson"), "one\ntwo\ntwo\nalien\n").unwrap();
        let entry = |record: &str| simulator::Entry {
            tenant: String::new(),
            content_type: String::new(),
            blob: String::new(),
            index: 0,
            id: None,
            sha256: Sha256::digest(record)
                .iter()
                .flat_map(|byte| [byte >> 4, byte & 15])
                .filter_map(|digit| char::from_digit(digit.into(), 16))
                .collect(),
            repeats: None,
            visible_at: chrono::DateTime::UNIX_EPOCH,
        };
        let ledger = ["one", "two", "three"].map(entry);
        let proof = Proof::of(ledger.into_iter(), folder.path()).unwrap();
        let Proof {
            missing,
            twice,
            foreign,
            found,
            ..
        } = proof;
        assert_eq!((missing, twice, foreign, found), (1, 1, 1, 4));
    }
}
