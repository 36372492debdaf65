//! The source against the simulator, which knows the protocol and nothing of this source, with a real journal behind it.

mod faults;
mod limits;
mod restarts;
mod whole;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use audit_exporter_core::Kind;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::coverage::{Question, TenantCoverage};
use audit_exporter_core::engine::intake::IntakeLimits;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::journal::{Closer, Journal, Limits, SinkSpec, Start};
use audit_exporter_core::metrics::Metrics;
use audit_exporter_core::plugin::{Finding, LaneKind, Severity};
use audit_exporter_simulator::{
    Config, Faults, Generated, GraphAuditConfig, GraphAuditFaults, Records, Simulator, TenantConfig,
};
use chrono::TimeDelta;
use sha2::{Digest as _, Sha256};

use super::checkpoint::Checkpoint;
use super::*;
use crate::microsoft::testing;

/// Everything that the simulator makes up, at most ten days old.
const ALL: &str = "start = \"12d\"\npoll_interval = \"10ms\"\n";

/// A source, the service that it asks, and the journal that it fills.
struct Bench {
    simulator: Simulator,
    source: GraphAuditQuery,
    intake: Intake,
    journal: Journal,
    options: String,
    _closer: Closer,
    _dir: tempfile::TempDir,
}

fn source_of(tenant: Tenant, options: &str) -> GraphAuditQuery {
    GraphAuditQuery::new(&testing::context(tenant, options, Clock::system())).unwrap()
}

/// The simulator's one tenant, as the configuration has it.
fn tenant_of(simulator: &Simulator, more: &str) -> Tenant {
    let simulated = TenantConfig::default();
    let text = format!(
        "client_id = \"{}\"\nclient_secret = \"{}\"\nauthority = \"{url}\"\ngraph_api = \"{url}\"\n{more}",
        simulated.client_id,
        simulated.client_secret,
        url = simulator.url()
    );
    Tenant {
        name: "contoso".into(),
        id: simulated.id.into(),
        tags: Vec::new(),
        options: Options::from_toml("tenants.contoso", &text),
    }
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
        let tenant = tenant_of(&simulator, more);
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::new().unwrap();
        let limits = Limits::default();
        let (journal, closer) =
            Journal::open(dir.path(), limits, Clock::system(), metrics.clone()).unwrap();
        let id = Arc::clone(&tenant.id);
        let sink = SinkSpec {
            name: "all".into(),
            renamed_from: None,
            required: true,
            start: Start::Oldest,
            tenants: vec![Arc::clone(&id)],
        };
        let tenants = vec![(id, "contoso".into())];
        journal.attach(vec![sink], tenants).await.unwrap();
        let source = source_of(tenant.clone(), options);
        let (to, limits) = (journal.clone(), IntakeLimits::default());
        let intake = Intake::open(to, metrics, limits, tenant, "audit".into()).await;
        Self {
            simulator,
            source,
            intake: intake.unwrap(),
            journal,
            options: options.to_owned(),
            _closer: closer,
            _dir: dir,
        }
    }

    async fn list(&self) -> Result<Next> {
        self.source.list(&self.intake).await
    }

    async fn fetch(&self, unit: &Unit) -> Result<()> {
        let mut out = self.intake.writer(unit);
        self.source.fetch(unit, &mut out).await?;
        out.finish().await
    }

    /// What a restart leaves: the journal.
    fn restart(&mut self) {
        self.source = source_of(self.intake.tenant().clone(), &self.options);
    }

    /// All units that wait.
    async fn due(&self) -> Vec<Unit> {
        let tenant = &self.intake.tenant().id;
        let stream = self.journal.stream("audit", tenant).await.unwrap();
        let mut units = Vec::new();
        for kind in [LaneKind::Live, LaneKind::CatchUp] {
            let due = self.journal.due(&stream, kind, HashSet::new(), 10_000);
            units.extend(due.await.unwrap().0.into_iter().map(|due| due.unit));
        }
        units
    }

    async fn checkpoint(&self) -> Checkpoint {
        self.intake.checkpoint().await.unwrap().unwrap_or_default()
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
        let mut coverage = self.journal.coverage(question).await.unwrap();
        coverage.tenants.remove(0)
    }

    async fn journaled(&self) -> Vec<AuditEvent> {
        let mut events = Vec::new();
        for kind in [LaneKind::Live, LaneKind::CatchUp] {
            let lane = self.journal.lane(&self.intake.tenant().id, kind).unwrap();
            let mut after = 0;
            loop {
                let read = self.journal.read(lane, after, 1000, 1 << 20).await.unwrap();
                let Some(last) = read.last() else { break };
                after = last.seq;
                events.extend(read.iter().flat_map(|batch| batch.events.to_vec()));
            }
        }
        events
    }

    /// Every record that the tenant has is in the journal once, byte by byte as the Management Activity API has it, and
    /// no other.
    async fn assert_whole(&self) {
        let mut counts = BTreeMap::<String, (usize, usize)>::new();
        for event in self.journaled().await {
            counts.entry(hash(event.raw())).or_default().0 += 1;
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

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}
