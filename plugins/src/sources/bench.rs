//! What a source under test is between: the simulator's tenant, and a journal that it fills.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use audit_exporter_core::Result;
use audit_exporter_core::clock::Clock;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::engine::intake::IntakeLimits;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::journal::{Closer, Journal, Limits, SinkSpec, Start};
use audit_exporter_core::metrics::Metrics;
use audit_exporter_core::plugin::{Intake, LaneKind, Source, Unit};
use audit_exporter_simulator::{Simulator, TenantConfig};
use sha2::{Digest as _, Sha256};

/// The simulator's first tenant, as the configuration has it: `api` is the option that names the API.
pub(super) fn tenant_of(simulator: &Simulator, api: &str, more: &str) -> Tenant {
    let simulated = TenantConfig::default();
    let text = format!(
        "client_id = \"{}\"\nclient_secret = \"{}\"\nauthority = \"{url}\"\n{api} = \"{url}\"\n{more}",
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

/// A journal of one tenant, with a sink that never delivers, and the way into it.
pub(super) struct Filled {
    pub(super) intake: Intake,
    pub(super) journal: Journal,
    pub(super) metrics: Metrics,
    _closer: Closer,
    _dir: tempfile::TempDir,
}

impl Filled {
    /// By the source `audit` of this tenant.
    pub(super) async fn of(tenant: Tenant) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::new().unwrap();
        let (clock, limits) = (Clock::system(), Limits::default());
        let (journal, closer) = Journal::open(dir.path(), limits, clock, metrics.clone()).unwrap();
        let sink = SinkSpec {
            name: "all".into(),
            renamed_from: None,
            required: true,
            start: Start::Oldest,
            tenants: vec![Arc::clone(&tenant.id)],
        };
        let tenants = vec![(Arc::clone(&tenant.id), Arc::clone(&tenant.name))];
        journal.attach(vec![sink], tenants).await.unwrap();
        Self {
            intake: intake(&journal, &metrics, tenant).await,
            journal,
            metrics,
            _closer: closer,
            _dir: dir,
        }
    }

    /// What the start of a single run leaves of what was before: the journal.
    pub(super) async fn begin_single_run(&mut self) {
        let tenant = self.intake.tenant().clone();
        self.intake = intake(&self.journal, &self.metrics, tenant).await;
        self.intake.ends_where_it_begins();
    }

    /// All units that wait.
    pub(super) async fn due(&self) -> Vec<Unit> {
        let tenant = &self.intake.tenant().id;
        let stream = self.journal.stream("audit", tenant).await.unwrap();
        let mut units = Vec::new();
        for kind in [LaneKind::Live, LaneKind::CatchUp] {
            let due = self.journal.due(&stream, kind, HashSet::new(), 10_000);
            units.extend(due.await.unwrap().0.into_iter().map(|due| due.unit));
        }
        units
    }

    /// Fetches a unit as the engine does, once.
    pub(super) async fn fetch(&self, source: &impl Source, unit: &Unit) -> Result<()> {
        let mut out = self.intake.writer(unit);
        source.fetch(unit, &mut out).await?;
        out.finish().await
    }

    /// All that is journaled.
    pub(super) async fn events(&self) -> Vec<AuditEvent> {
        let mut events = Vec::new();
        for kind in [LaneKind::Live, LaneKind::CatchUp] {
            events.extend(self.journaled(kind).await.into_iter().flatten());
        }
        events
    }

    /// What the journal holds of a lane, batch by batch.
    pub(super) async fn journaled(&self, kind: LaneKind) -> Vec<Vec<AuditEvent>> {
        let lane = self.journal.lane(&self.intake.tenant().id, kind).unwrap();
        let (mut batches, mut after) = (Vec::new(), 0);
        loop {
            let read = self.journal.read(lane, after, 1000, 1 << 20).await.unwrap();
            let Some(last) = read.last() else {
                return batches;
            };
            after = last.seq;
            batches.extend(read.iter().map(|batch| batch.events.to_vec()));
        }
    }
}

async fn intake(journal: &Journal, metrics: &Metrics, tenant: Tenant) -> Intake {
    let (limits, source) = (IntakeLimits::default(), "audit".into());
    let intake = Intake::open(journal.clone(), metrics.clone(), limits, tenant, source);
    intake.await.unwrap()
}

/// The hash of a record, as the simulator's ledger has it.
pub(super) fn hash(record: &[u8]) -> String {
    Sha256::digest(record)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}
