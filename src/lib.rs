//! The command line, for this program and for programs with plugins of their own: give [`main`] a registry that
//! holds them, and every command knows them (`examples/custom_sink.rs`).

mod allocator;
mod backfill;
mod check;
mod coverage;
mod dead_letters;
mod demo;
mod digest;
mod explain;
#[cfg(feature = "failpoints")]
mod failpoints;
mod journal;
mod moment;
mod once;
mod reconcile;
mod reload;
mod replay;
mod run;
mod simulate;
mod sinks;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

use audit_exporter_core::config::{Config, Tenant};
use audit_exporter_core::plugin::Registry;
use audit_exporter_core::{Error, Kind};
use clap::{Parser, Subcommand};

/// Exit codes, as documented in docs/operations.md.
mod exit {
    /// It worked.
    pub(crate) const OK: u8 = 0;
    /// It failed at run time.
    pub(crate) const FAILED: u8 = 1;
    /// The command line cannot be read, as clap has it.
    pub(crate) const USAGE: u8 = 2;
    /// Only a person can mend it: the configuration, a credential, a permission, what was asked for (`EX_CONFIG`).
    pub(crate) const CONFIG: u8 = 78;
}

/// What a person who asks for help may want to do first.
const FIRST_STEPS: &str = "\
First steps:
  audit-exporter demo                  see it work; needs nothing
  audit-exporter check --config FILE   what your own tenant still needs
  audit-exporter run --config FILE     collect and deliver

Exit codes: 0 it worked, 1 it failed, 2 the command line cannot be read, 78 the configuration, a credential, a
permission or what was asked for is wrong.
The README, config/ and docs/ of the repository tell the rest.";

/// Streams Microsoft 365 unified audit events to where they are needed: complete, once, and accounted for.
#[derive(Debug, Parser)]
#[command(name = "audit-exporter", version, max_term_width = 100, after_help = FIRST_STEPS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collect and deliver until stopped
    Run(run::Args),
    /// Try the configuration: options, credentials, permissions, destinations. Changes nothing
    Check(ConfigArgs),
    /// Say what an error code of Microsoft's means, what mends it, and whether anything is lost meanwhile
    Explain(explain::Args),
    /// See it work on a simulated tenant, and prove that nothing is missing. Needs no configuration
    Demo(demo::Args),
    /// Serve a simulated Microsoft 365 on loopback
    Simulate(simulate::Args),
    /// Let the running process read its configuration anew. What does not change goes on untouched
    Reload(ConfigArgs),
    /// Show what is known of each day: settled, open, at risk, or lost. Exit code 1 if a person should look
    Coverage(coverage::Args),
    /// Show how far the sinks are, and let go of those that are gone
    Sinks(sinks::Args),
    /// Say whether the journal is whole, and mend one that is damaged
    Journal(journal::Args),
    /// Show the records that were refused for good, hand them over again, or drop them
    DeadLetters(dead_letters::Args),
    /// Deliver the events of NDJSON archives to a sink
    Replay(replay::Args),
    /// Bring in what is missing of an earlier time, by a source that searches by event time
    Backfill(backfill::Args),
    /// Compare what each source holds of a day, and name what only one has or the journal never had. Exit code 1 if
    /// anything is missing
    Reconcile(reconcile::Args),
    /// Look at the mails of an email digest, or send one
    Digest(digest::Args),
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "AUDIT_EXPORTER_CONFIG")]
    config: PathBuf,
}

impl ConfigArgs {
    /// Reads the file and the environment.
    fn load(&self) -> audit_exporter_core::Result<Config> {
        if self.config.exists() {
            return Config::load(&self.config);
        }
        Err(Error::config(format!(
            "there is no file {}; the repository's config/ has some to start from, and `audit-exporter demo` needs none",
            self.config.display()
        )))
    }
}

/// There is no sink of this name in the configuration.
fn no_sink(config: &Config, name: &str) -> Error {
    let known: Vec<&str> = config.sinks.iter().map(|sink| &*sink.name).collect();
    Error::config(format!(
        "the configuration has no sink {name}; it has {}",
        known.join(", ")
    ))
}

/// The tenant of this name or id.
fn tenant<'a>(config: &'a Config, name: &str) -> audit_exporter_core::Result<&'a Tenant> {
    let mut tenants = config.tenants.iter();
    let found = tenants.find(|tenant| [&*tenant.name, &*tenant.id].contains(&name));
    found.ok_or_else(|| {
        let names: Vec<&str> = config.tenants.iter().map(|one| &*one.name).collect();
        Error::config(format!(
            "the configuration has no tenant {name}; it has {}",
            names.join(", ")
        ))
    })
}

/// Runs the command line of this process with the plugins in `registry`.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // Whoever calls it has no further use for the registry.
pub fn main(registry: Registry) -> ExitCode {
    allocator::tame();
    #[cfg(feature = "failpoints")]
    failpoints::arm();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::complain(&Error::unavailable("threads cannot be started").with_cause(error));
            return exit::FAILED.into();
        }
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args, &registry).await,
            Command::Check(args) => check::run(&args, &registry).await,
            Command::Explain(args) => Ok(explain::run(&args)),
            Command::Demo(args) => demo::run(args, &registry).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Reload(args) => reload::run(&args).await,
            Command::Coverage(args) => coverage::run(&args),
            Command::Sinks(args) => sinks::run(args).await,
            Command::Journal(args) => journal::run(&args),
            Command::Replay(args) => replay::run(args, &registry).await,
            Command::Backfill(args) => backfill::run(args, &registry).await,
            Command::Reconcile(args) => reconcile::run(args, &registry).await,
            Command::Digest(args) => digest::run(args, &registry).await,
            Command::DeadLetters(args) => dead_letters::run(args, &registry).await,
        }
    });
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            terminal::complain(&error);
            match error.kind() {
                Kind::Config | Kind::Auth => exit::CONFIG.into(),
                _ => exit::FAILED.into(),
            }
        }
    }
}

/// A command's way of ending.
type Outcome = audit_exporter_core::Result<u8>;

/// Returns when the user (Ctrl-C) or the service manager (SIGTERM) asks to stop.
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}
