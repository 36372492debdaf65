//! The simulated Microsoft 365, and the judgement of what became of its records.

use std::path::{Path, PathBuf};
use std::process::Command;

use audit_exporter_simulator::{Config, Simulator, TenantConfig};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::http;

/// A simulator with threads of its own.
pub(crate) struct Microsoft {
    simulator: Simulator,
    tenants: Vec<TenantConfig>,
    // Dropped after the simulator that it runs.
    _runtime: Runtime,
}

impl Microsoft {
    pub(crate) fn start(config: Config) -> Self {
        let runtime = Runtime::new().unwrap();
        let tenants = config.tenants.clone();
        let simulator = runtime.block_on(Simulator::start(config)).unwrap();
        Self {
            simulator,
            tenants,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.simulator.url()
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.simulator.address()
    }

    /// Host and port, as messages name them.
    pub(crate) fn host(&self) -> String {
        self.simulator.address().to_string()
    }

    /// What the configuration says of tenant number `index`, under its name.
    pub(crate) fn tenant(&self, index: usize, name: &str, more: &str) -> String {
        let tenant = &self.tenants[index];
        format!(
            "[tenants.{name}]\nid = \"{}\"\nclient_id = \"{}\"\nclient_secret = \"{}\"\nauthority = \"{url}\"\n\
             management_api = \"{url}\"\n{more}\n",
            tenant.id,
            tenant.client_id,
            tenant.client_secret,
            url = self.url()
        )
    }

    pub(crate) fn id(&self, index: usize) -> &str {
        &self.tenants[index].id
    }

    /// `GET /stats`.
    pub(crate) fn stats(&self) -> Value {
        let stats = http::get(self.simulator.address(), "/stats").unwrap();
        serde_json::from_str(&stats).unwrap()
    }

    /// Blobs that exist, listed yet or not.
    pub(crate) fn blobs(&self) -> u64 {
        self.stats()["blobs"].as_u64().unwrap()
    }

    /// `POST /control/…`.
    pub(crate) fn control(&self, action: &str, body: &Value) -> Value {
        http::post(
            self.simulator.address(),
            &format!("/control/{action}"),
            body,
        )
    }

    /// Fails unless `folder` holds, byte for byte and once, every record that repeats no other, and nothing else.
    /// With a tenant, only its records. Returns the figures.
    pub(crate) fn judge(&self, folder: &Path, tenant: Option<&str>) -> String {
        let (holds, told) = self.compare(folder, tenant);
        assert!(holds, "{told}");
        println!("{}: {}", folder.display(), told.trim());
        told
    }

    /// Whether that is so, and the figures.
    pub(crate) fn compare(&self, folder: &Path, tenant: Option<&str>) -> (bool, String) {
        let ledger = folder.with_extension("ledger");
        std::fs::write(
            &ledger,
            http::get(self.simulator.address(), "/ledger").unwrap(),
        )
        .unwrap();
        let mut compare = Command::new("python3");
        compare.arg(repository().join("tests/compare_ledger.py"));
        compare.arg(&ledger).arg(folder);
        if let Some(tenant) = tenant {
            compare.args(["--tenant", tenant]);
        }
        let compared = compare.output().unwrap_or_else(|error| {
            panic!("python3 cannot be run ({error}): install Python 3, which compares what arrives with what was served")
        });
        let told = String::from_utf8_lossy(&compared.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&compared.stderr).into_owned();
        (compared.status.success(), told + &complaints)
    }
}

/// Where the project lies.
fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
