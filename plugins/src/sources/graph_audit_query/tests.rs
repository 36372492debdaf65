//! The source against the simulator, which knows the protocol and nothing of this source, with a real journal behind it.

mod faults;
mod limits;
mod restarts;
mod whole;

use std::collections::{BTreeMap, HashSet};

use audit_exporter_core::Kind;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::Tenant;
use audit_exporter_core::coverage::{Question, TenantCoverage};
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::plugin::{Finding, Severity};
use audit_exporter_simulator::{
    Config, Faults, Generated, GraphAuditConfig, GraphAuditFaults, Records, Simulator, TenantConfig,
};
use chrono::TimeDelta;

use super::checkpoint::Checkpoint;
use super::*;
use crate::microsoft::testing;
use crate::sources::bench::{self, Filled};

/// Everything that the simulator makes up, at most ten days old.
const ALL: &str = "start = \"12d\"\npoll_interval = \"10ms\"\n";

/// A source, the service that it asks, and the journal that it fills.
struct Bench {
    simulator: Simulator,
    source: GraphAuditQuery,
    to: Filled,
    options: String,
}

fn source_of(tenant: Tenant, options: &str) -> GraphAuditQuery {
    GraphAuditQuery::new(&testing::context(tenant, options, Clock::system())).unwrap()
}

/// One tenant with so many events, each with an Id and a time.
fn events(count: u64) -> Config {
    let records = Records::Generated(Generated {
        events: count,
        oddities: 0.0,
        huge_records: 0.0,
        ..Generated::default()
    });
    Config {
        tenants: vec![TenantConfig {
            records,
            ..TenantConfig::default()
        }],
        ..Config::default()
    }
}

impl Bench {
    async fn new(config: Config, options: &str) -> Self {
        Self::with_tenant(config, options, "").await
    }

    async fn with_tenant(config: Config, options: &str, more: &str) -> Self {
        let simulator = Simulator::start(config).await.unwrap();
        // All events have settled.
        simulator.control().advance(TimeDelta::hours(1));
        let tenant = bench::tenant_of(&simulator, "graph_api", more);
        Self {
            simulator,
            source: source_of(tenant.clone(), options),
            to: Filled::of(tenant).await,
            options: options.to_owned(),
        }
    }

    async fn list(&self) -> Result<Next> {
        self.source.list(&self.to.intake).await
    }

    /// What a restart leaves: the journal.
    fn restart(&mut self) {
        self.source = source_of(self.to.intake.tenant().clone(), &self.options);
    }

    async fn due(&self) -> Vec<Unit> {
        self.to.due().await
    }

    async fn fetch(&self, unit: &Unit) -> Result<()> {
        self.to.fetch(&self.source, unit).await
    }

    async fn journaled(&self) -> Vec<AuditEvent> {
        self.to.events().await
    }

    async fn checkpoint(&self) -> Checkpoint {
        self.to
            .intake
            .checkpoint()
            .await
            .unwrap()
            .unwrap_or_default()
    }

    /// How many slices are not finished.
    async fn open(&self) -> usize {
        self.checkpoint().await.plan.open().count()
    }

    /// Lists and fetches until nothing waits, with some seconds between and a restart now and then. Returns the kinds of
    /// the failures.
    async fn collect(&mut self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        for round in 0..2000 {
            if round % 5 == 0 {
                self.restart();
            }
            let mut listed = false;
            match self.list().await {
                Ok(_) => listed = true,
                Err(error) => *kinds.entry(error.kind().as_str()).or_default() += 1,
            }
            for unit in self.due().await {
                if let Err(error) = self.fetch(&unit).await {
                    *kinds.entry(error.kind().as_str()).or_default() += 1;
                }
            }
            if listed && self.open().await == 0 && self.due().await.is_empty() {
                return kinds;
            }
            self.simulator.control().advance(TimeDelta::seconds(20));
        }
        panic!("not done after 2000 rounds: {kinds:?}");
    }

    async fn coverage(&self) -> TenantCoverage {
        let question = Question::usual(self.source.client.now());
        let mut coverage = self.to.journal.coverage(question).await.unwrap();
        coverage.tenants.remove(0)
    }

    /// Every record that the tenant has is in the journal once, byte by byte as the Management Activity API has it, and
    /// no other.
    async fn assert_whole(&self) {
        let mut counts = BTreeMap::<String, (usize, usize)>::new();
        for event in self.journaled().await {
            counts.entry(bench::hash(event.raw())).or_default().0 += 1;
        }
        for entry in self.simulator.ledger().filter(|it| it.repeats.is_none()) {
            counts.entry(entry.sha256).or_default().1 += 1;
        }
        let count = |wrong: &dyn Fn(usize, usize) -> bool| {
            counts
                .values()
                .filter(|(held, shown)| wrong(*held, *shown))
                .count()
        };
        let missing = count(&|held, shown| held < shown);
        let repeated = count(&|held, shown| held > shown);
        assert_eq!((missing, repeated), (0, 0), "of {}", counts.len());
        let stats = self.simulator.stats();
        assert_eq!((stats.foreign_requests, stats.foreign_tokens), (0, 0));
    }
}
