//! `simulate`: a Microsoft 365 on loopback, to try a configuration or a sink against.

use std::net::SocketAddr;
use std::path::PathBuf;

use audit_exporter_core::{Error, Result};
use audit_exporter_simulator::{
    Config, Faults, Folder, Generated, HecToken, Records, Simulator, TenantConfig,
};
use figment::Figment;
use figment::providers::{Format, Toml};

use crate::terminal::{LogFormat, log, say, warn_of_listener};
use crate::{Outcome, asked_to_stop, exit};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file with the simulator's configuration; the options below change what it says
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen [default: a free port of 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Tenants to simulate
    #[arg(long, value_name = "N", conflicts_with = "config")]
    tenants: Option<u16>,
    /// Events that each tenant has at the start
    #[arg(long, value_name = "N", conflicts_with = "records")]
    events: Option<u64>,
    /// Events that appear each second after the start, in each tenant
    #[arg(long, value_name = "RATE", conflicts_with = "records")]
    live: Option<f64>,
    /// Serve the records of this folder: every *.ndjson below it, one record a line
    #[arg(long, value_name = "FOLDER")]
    records: Option<PathBuf>,
    /// Everything that is made up follows from this number
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Let everything go wrong that can: throttling, outages, broken bodies, late and repeated content
    #[arg(long)]
    faults: bool,
    /// Compress all content before the first request, for benchmarks
    #[arg(long)]
    prepare: bool,
}

pub(crate) async fn run(args: Args) -> Outcome {
    let _progress = log(LogFormat::Auto, "warn", false);
    let config = args.configuration()?;
    warn_of_listener("the simulator and its controls", config.listen);
    let (tenants, tokens) = (config.tenants.clone(), config.hec.tokens.clone());
    let simulator = Simulator::start(config)
        .await
        .map_err(|error| Error::config("the simulator cannot be started").with_cause(error))?;
    say(format!(
        "A simulated Microsoft 365 listens at {}",
        simulator.url()
    ));
    say("Collect from it with this in a configuration (the secret is the simulator's own):\n");
    for (number, tenant) in (1..).zip(&tenants) {
        say(format!(
            "[tenants.simulated{number}]\nid = \"{}\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\n\
             authority = \"{url}\"\nmanagement_api = \"{url}\"\ngraph_api = \"{url}\"\nexchange_api = \"{url}\"\n",
            tenant.id,
            tenant.client_id,
            tenant.client_secret,
            url = simulator.url()
        ));
    }
    if let Some(HecToken { token, .. }) = tokens.first() {
        say(format!(
            "A simulated Splunk takes events there too, and shows them at {url}/hec/events:\n\n\
             [sinks.simulated]\ntype = \"splunk_hec\"\nurls = [\"{url}\"]\ntoken = \"{token}\"\n",
            url = simulator.url()
        ));
    }
    say(format!(
        "Every record that it serves: {}/ledger   requests: {0}/stats",
        simulator.url()
    ));
    say("Ctrl-C stops it.");
    asked_to_stop().await;
    simulator.stop().await;
    Ok(exit::OK)
}

impl Args {
    fn configuration(&self) -> Result<Config> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => Figment::from(Toml::file_exact(path))
                .extract()
                .map_err(|error| {
                    Error::config(format!(
                        "{} is no configuration of the simulator",
                        path.display()
                    ))
                    .with_cause(error)
                })?,
        };
        config.seed = self.seed.unwrap_or(config.seed);
        config.prepare |= self.prepare;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        if let Some(count) = self.tenants {
            config.tenants = (0..count).map(tenant).collect();
        }
        for tenant in &mut config.tenants {
            if let Some(folder) = &self.records {
                tenant.records = Records::Folder(Folder::new(folder));
            } else if self.events.is_some() || self.live.is_some() {
                let generated = match &tenant.records {
                    Records::Generated(generated) => generated.clone(),
                    Records::Folder(_) | Records::Explicit(_) => Generated::default(),
                };
                tenant.records = Records::Generated(Generated {
                    events: self.events.unwrap_or(generated.events),
                    live_events_per_second: self.live.unwrap_or(generated.live_events_per_second),
                    ..generated
                });
            }
        }
        if self.faults {
            let late_within_seconds = config.faults.records.late_within_seconds;
            config.faults = Faults::all(config.seed);
            config.faults.records.late_within_seconds = late_within_seconds;
        }
        Ok(config)
    }
}

/// The `number`th of several simulated tenants.
fn tenant(number: u16) -> TenantConfig {
    let first = TenantConfig::default();
    TenantConfig {
        id: format!("{}{number:04x}", &first.id[..first.id.len() - 4]),
        domain: format!("tenant{number}.onmicrosoft.com"),
        ..first
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn tenants_of_a_file_are_not_replaced_in_silence() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["simulate"], args].concat());
        let error = parse(&["--config", "f.toml", "--tenants", "2"]).unwrap_err();
        assert!(error.to_string().contains("cannot be used with"), "{error}");
        assert!(parse(&["--tenants", "65536"]).is_err());
        assert!(parse(&["--tenants", "2"]).is_ok());
    }

    #[test]
    fn every_tenant_has_an_id_of_its_own_that_is_a_guid() {
        let length = TenantConfig::default().id.len();
        for number in [0, 1, 0xfff, u16::MAX] {
            let id = tenant(number).id;
            assert_eq!(id.len(), length);
            assert!(id.ends_with(&format!("{number:04x}")), "{id}");
        }
    }
}
