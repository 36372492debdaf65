//! Serves a tenant until it is stopped: `cargo run --example serve -- [CONFIG.json]`.
//!
//! The configuration is [`Config`] as JSON; without one, a tenant with a thousand events.

use std::io::Write;

use audit_exporter_simulator::{Config, Simulator};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let config: Config = match std::env::args().nth(1) {
        Some(path) => serde_json::from_slice(&std::fs::read(path)?)?,
        None => Config::default(),
    };
    let simulator = Simulator::start(config).await?;
    writeln!(std::io::stdout(), "{}", simulator.url())?;
    std::future::pending::<()>().await;
    Ok(())
}
