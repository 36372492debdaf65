//! What the whole way of an event costs: simulated tenant → journal → file, next to the least that any client pays.
//!
//! `cargo bench --bench pipeline` serves a tenant by `audit-exporter simulate`, in a process of its own, and then runs,
//! one after the other and each as a fresh process:
//!
//! - **audit-exporter**: `audit-exporter run` as a user runs it, with its journal, into plain NDJSON files;
//! - **floor**: a minimal client ([`floor`]) that lists, downloads, inflates and cuts the same blobs with the same
//!   libraries, reads two fields of each record and writes the records to a file. It promises nothing;
//! - **curl**: `curl --compressed --parallel` of the same addresses, thrown away.
//!
//! CPU time and peak memory are what the kernel accounts to the process when it ends: all threads, user and system.
//! Runs take turns, so that another load of the machine meets all of them; ratios are taken within a turn.

#![allow(clippy::print_stdout)] // The table is the point.

mod floor;
mod peer;
mod process;
mod table;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;

use peer::{Peer, Truth};
use process::Usage;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Downloads at once, for all who download: the program's default for one tenant.
const PARALLEL: usize = 4;

/// Measures the pipeline against its floor.
#[derive(Debug, Parser)]
struct Args {
    /// Events of the simulated tenant
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    events: u64,
    /// A second round, with ten times the events
    #[arg(long)]
    large: bool,
    /// Turns
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Events in a content blob
    #[arg(long, value_name = "N", default_value_t = 100)]
    events_per_blob: u32,
    /// Where to put the journal and the files [default: a temporary folder]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the floor for the peer in this file
    #[arg(long, hide = true, value_name = "FILE")]
    floor: Option<PathBuf>,
}

fn main() -> Outcome<()> {
    let args = Args::parse();
    // One thread: what is handed to others has to be woken for.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if let Some(peer) = &args.floor {
        return runtime.block_on(floor::run(peer));
    }
    runtime.block_on(async {
        round(&args, args.events).await?;
        if args.large {
            round(&args, args.events * 10).await?;
        }
        Ok(())
    })
}

async fn round(args: &Args, events: u64) -> Outcome<()> {
    let scratch = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let folder = scratch.path();
    let peer = Peer::start(folder, events, args.events_per_blob)?;
    let truth = peer.truth().await?;
    println!(
        "\n{} events in {} blobs, {:.1} MB raw, {:.1} MB compressed; {} CPUs",
        truth.occurrences,
        truth.blobs,
        truth.raw_bytes as f64 / 1e6,
        truth.compressed_bytes as f64 / 1e6,
        std::thread::available_parallelism()?
    );
    table::head();
    let mut turns = Vec::with_capacity(args.runs);
    for _ in 0..args.runs {
        let turn = Turn {
            floor: floor(&peer, &truth, folder)?,
            curl: curl(&peer, &truth, folder).await?,
            exporter: exporter(&peer, &truth, folder).await?,
        };
        table::turn(&turn);
        turns.push(turn);
    }
    table::medians(&turns);
    Ok(())
}

/// One run of each.
struct Turn {
    floor: Usage,
    curl: Option<Usage>,
    exporter: Usage,
}

fn floor(peer: &Peer, truth: &Truth, folder: &Path) -> Outcome<Usage> {
    let out = folder.join("floor.ndjson");
    let order = folder.join("floor.json");
    std::fs::write(&order, serde_json::to_vec(&peer.order(&out))?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--floor").arg(&order);
    let mut usage = process::start(&mut command, peer.process_id())?.wait()?;
    complete("the floor", std::slice::from_ref(&out), truth.occurrences)?;
    usage.measure(std::slice::from_ref(&out), truth.occurrences)?;
    std::fs::remove_file(out)?;
    Ok(usage)
}

async fn curl(peer: &Peer, truth: &Truth, folder: &Path) -> Outcome<Option<Usage>> {
    if Command::new("curl").arg("--version").output().is_err() {
        return Ok(None);
    }
    let config = folder.join("curl.conf");
    std::fs::write(&config, peer.curl_config().await?)?;
    let mut command = Command::new("curl");
    command
        .args(["--no-progress-meter", "--fail", "--compressed"])
        .args(["--parallel", "--parallel-max", &PARALLEL.to_string()])
        .arg("--config")
        .arg(&config);
    let mut usage = process::start(&mut command, peer.process_id())?.wait()?;
    usage.events = truth.occurrences;
    usage.bytes = truth.raw_bytes;
    Ok(Some(usage))
}

async fn exporter(peer: &Peer, truth: &Truth, folder: &Path) -> Outcome<Usage> {
    let home = folder.join("exporter");
    std::fs::create_dir(&home)?;
    let config = home.join("config.toml");
    std::fs::write(&config, peer.exporter_config())?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_audit-exporter"));
    command
        .arg("run")
        .arg("--config")
        .arg(&config)
        .stderr(std::fs::File::create(home.join("log"))?);
    let process = process::start(&mut command, peer.process_id())?;
    let mut usage = peer
        .wait_for_delivery(process, &home.join("journal"), truth.unique)
        .await?;
    let files = files(&home.join("events"))?;
    complete("audit-exporter", &files, truth.unique)?;
    usage.measure(&files, truth.unique)?;
    std::fs::remove_dir_all(home)?;
    Ok(usage)
}

fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?;
    Ok(entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?)
}

/// A figure of a run that lost events would mean nothing.
fn complete(who: &str, files: &[PathBuf], expected: u64) -> Outcome<()> {
    let mut lines = 0;
    for path in files {
        lines += process::count_lines(path)?;
    }
    if lines == expected {
        return Ok(());
    }
    Err(format!("{who} wrote {lines} events, but the tenant has {expected}").into())
}
