//! The source against the simulator, which knows the protocol and nothing of this source, with a real journal behind it.

use std::collections::{BTreeMap, HashSet};

use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_simulator::{
    AuditReader, Config, Entry, Faults, Generated, Records, Simulator, TenantConfig,
};

use super::*;
use crate::microsoft::testing;
use crate::sources::bench::{self, Filled};

mod collecting;
mod refusing;

/// Times as short as tests need them: what is older than a minute or two is searched at once, all of it.
const SHORT: &str =
    "slice = \"1m\"\nsettle = \"0s\"\nstart = \"12d\"\nrequests_per_minute = 10000\n";

/// A source, the simulator that it searches, and the journal that it fills.
struct Bench {
    simulator: Simulator,
    source: SearchUnifiedAuditLog,
    to: Filled,
    options: String,
}

/// Which service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Exchange,
    Rest,
}

impl Way {
    const BOTH: [Self; 2] = [Self::Exchange, Self::Rest];

    fn options(self) -> String {
        match self {
            Self::Exchange => SHORT.to_owned(),
            Self::Rest => {
                let (tenant, reader) = (TenantConfig::default(), AuditReader::default());
                format!(
                    "{SHORT}transport = \"rest\"\nusername = \"{}@{}\"\npassword = \"{}\"\n",
                    reader.name, tenant.domain, reader.password
                )
            }
        }
    }

    /// The name under which the simulator counts its requests.
    fn counted(self) -> &'static str {
        match self {
            Self::Exchange => "invoke_command",
            Self::Rest => "legacy_search",
        }
    }
}

fn tenant_of(simulator: &Simulator) -> Tenant {
    bench::tenant_of(simulator, "exchange_api", "")
}

fn source_of(tenant: Tenant, options: &str) -> SearchUnifiedAuditLog {
    SearchUnifiedAuditLog::new(&testing::context(tenant, options, Clock::system())).unwrap()
}

impl Bench {
    async fn new(config: Config, options: &str) -> Self {
        let simulator = Simulator::start(config).await.unwrap();
        let tenant = tenant_of(&simulator);
        Self {
            simulator,
            source: source_of(tenant.clone(), options),
            to: Filled::of(tenant).await,
            options: options.to_owned(),
        }
    }

    /// What a restart leaves: the journal.
    fn restart(&mut self) {
        self.source = source_of(self.to.intake.tenant().clone(), &self.options);
    }

    async fn list(&self) -> Result<Next> {
        self.source.list(&self.to.intake).await
    }

    async fn due(&self) -> Vec<Unit> {
        self.to.due().await
    }

    async fn fetch(&self, unit: &Unit) -> Result<()> {
        self.to.fetch(&self.source, unit).await
    }

    /// Lists and fetches until nothing waits; failures are tried again at once. Returns the kinds that were met.
    async fn collect(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        let mut note = |error: &Error| *kinds.entry(error.kind().as_str()).or_default() += 1;
        let mut listed = false;
        for _ in 0..1000 {
            if !listed {
                match self.list().await {
                    Ok(_) => listed = true,
                    Err(error) => note(&error),
                }
            }
            let due = self.due().await;
            if listed && due.is_empty() {
                return kinds;
            }
            for unit in due {
                if let Err(error) = self.fetch(&unit).await {
                    note(&error);
                }
            }
        }
        panic!("not done after 1000 rounds: {kinds:?}");
    }

    /// The hashes of the records that the journal holds, with how often it does.
    async fn journaled(&self) -> BTreeMap<String, usize> {
        let mut held = BTreeMap::new();
        for event in self.to.events().await {
            *held.entry(bench::hash(event.raw())).or_default() += 1;
        }
        held
    }

    /// Every record that the tenant shows and `wanted` takes is in the journal, and no other; each that can be told from
    /// others, once.
    async fn assert_holds(&self, wanted: impl Fn(&Entry) -> bool) {
        let held = self.journaled().await;
        let ledger = self.simulator.ledger().filter(wanted);
        let entries: BTreeMap<String, Option<String>> =
            ledger.map(|entry| (entry.sha256, entry.id)).collect();
        assert!(!entries.is_empty(), "the tenant has nothing to test with");
        let missing = entries.keys().filter(|hash| !held.contains_key(*hash));
        assert_eq!(missing.count(), 0, "missing of {}", entries.len());
        for (hash, count) in held {
            let id = entries.get(&hash).expect("a record that nobody has");
            assert!(count == 1 || id.is_none(), "{id:?} came {count} times");
        }
    }

    async fn assert_whole(&self) {
        self.assert_holds(|_| true).await;
    }

    fn requests(&self, way: Way) -> u64 {
        let stats = self.simulator.stats();
        stats
            .requests
            .get(way.counted())
            .map_or(0, |outcomes| outcomes.values().sum())
    }
}

/// One tenant with so many events, all of which can be told from others.
fn events(count: u64) -> Config {
    let generated = Generated {
        events: count,
        oddities: 0.0,
        ..Generated::default()
    };
    Config {
        tenants: vec![TenantConfig {
            records: Records::Generated(generated),
            ..TenantConfig::default()
        }],
        ..Config::default()
    }
}
