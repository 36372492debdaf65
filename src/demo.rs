//! `demo`: the whole pipeline on a simulated tenant, in this process, and the proof that nothing is missing.

mod proof;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Config;
use audit_exporter_core::engine::Engine;
use audit_exporter_core::plugin::Registry;
use audit_exporter_core::{Error, Result};
use audit_exporter_simulator as simulator;
use proof::Proof;
use simulator::{AnswerFaults, Faults, Generated, RecordFaults, Records, Simulator, TenantConfig};

use crate::run::Figures;
use crate::terminal::{
    LogFormat, Progress, complain, log, newest_warning, number, say, warn_of_listener,
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
            .permissions(Permissions::from_mode(0o700))
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
