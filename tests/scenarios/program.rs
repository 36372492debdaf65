//! The program as users start it, and the simulated tenants that it collects from.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use audit_exporter_core::journal::Status;
use audit_exporter_simulator::{Config, Generated, Records, Simulator, TenantConfig};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How long a machine that is busy with other tests may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// What the simulator's applications have for a secret.
pub(crate) const SECRET: &str = "the-simulators-own-secret";

/// A simulated tenant with the ids that a configuration in `config/` names.
pub(crate) fn tenant(id: &str, client_id: &str) -> TenantConfig {
    TenantConfig {
        id: id.to_owned(),
        domain: format!("{}.onmicrosoft.com", &id[id.len() - 4..]),
        client_id: client_id.to_owned(),
        client_secret: SECRET.to_owned(),
        records: Records::Generated(Generated {
            events: 2_000,
            events_per_blob: 100,
            huge_records: 0.0,
            ..Generated::default()
        }),
        ..TenantConfig::default()
    }
}

/// A Microsoft 365 with these tenants. It takes tokens for the clouds' own audiences and for no other.
pub(crate) async fn microsoft(tenants: Vec<TenantConfig>) -> Simulator {
    let audiences = [
        "https://manage.office.com",
        "https://manage-gcc.office.com",
        "https://manage.office365.us",
        "https://outlook.office365.com",
        "https://graph.microsoft.com",
    ];
    Simulator::start(Config {
        tenants,
        audiences: audiences.map(str::to_owned).to_vec(),
        ..Config::default()
    })
    .await
    .unwrap()
}

/// A copy of a configuration of `config/` in a folder of its own, and the variables that make it a test.
pub(crate) struct Setup {
    pub(crate) folder: tempfile::TempDir,
    file: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Setup {
    /// Copies `config/NAME`. The sink `everything` is added by the environment alone: it shows what was collected.
    pub(crate) fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(name);
        let file = folder.path().join(name);
        std::fs::copy(shipped, &file).unwrap();
        let setup = Self {
            folder,
            file,
            variables: BTreeMap::new(),
        };
        setup
            .with("ADMIN__LISTEN", "127.0.0.1:0")
            .with("JOURNAL__PATH", "journal")
            .with("SINKS__EVERYTHING__TYPE", "file")
            .with("SINKS__EVERYTHING__PATH", "everything/{tenant}.ndjson")
    }

    /// Sets a key of the configuration by its environment variable.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.variables
            .insert(format!("AUDIT_EXPORTER_{key}"), value.to_owned());
        self
    }

    /// Sets another environment variable.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Lets a tenant live at the simulator.
    pub(crate) fn at(self, tenant: &str, microsoft: &Simulator) -> Self {
        let key = |key| format!("TENANTS__{}__{key}", tenant.to_uppercase());
        self.with(&key("AUTHORITY"), microsoft.url())
            .with(&key("MANAGEMENT_API"), microsoft.url())
            .with(&key("GRAPH_API"), microsoft.url())
    }

    /// Puts the simulator's secret where the configuration looks for it.
    pub(crate) fn secret_file(self, path: &str) -> Self {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{SECRET}\n")).unwrap();
        self
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The command with this configuration.
    pub(crate) fn command(&self, command: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_audit-exporter"));
        program
            .args(command)
            .arg("--config")
            .arg(&self.file)
            .envs(&self.variables);
        program
    }

    /// Takes back the variables of a table.
    pub(crate) fn without(mut self, table: &str) -> Self {
        let prefix = format!("AUDIT_EXPORTER_{table}__");
        self.variables.retain(|name, _| !name.starts_with(&prefix));
        self
    }

    /// Runs `check` with one variable more.
    pub(crate) fn check_with(&self, name: &str, value: &str) -> (Option<i32>, String) {
        checked(self.command(&["check"]).env(name, value))
    }

    /// Runs `check`; gives its exit code and what it said.
    pub(crate) fn check(&self) -> (Option<i32>, String) {
        checked(&mut self.command(&["check"]))
    }

    /// Runs until all that the tenants have is delivered everywhere, then stops as a service manager does. Gives what
    /// was written to standard output.
    pub(crate) async fn run(&self, wanted: usize) -> Vec<String> {
        self.run_until(|setup| setup.is_settled(wanted)).await
    }

    /// Runs until something is so, then stops as a service manager does.
    pub(crate) async fn run_until(&self, is_done: impl Fn(&Self) -> bool) -> Vec<String> {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut run = Run(self
            .command(&["run"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap());
        let out = std::io::BufReader::new(run.0.stdout.take().unwrap());
        let reader = std::thread::spawn(move || out.lines().map(Result::unwrap).collect());
        let begun = Instant::now();
        while !is_done(self) {
            let ended = run.0.try_wait().unwrap();
            let waits = ended.is_none() && begun.elapsed() < PATIENCE;
            assert!(waits, "in vain ({ended:?}):\n{}", self.log());
            // Another process: there is nothing to wait for but time.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let pid = rustix::process::Pid::from_child(&run.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = run.0.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
        reader.join().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Whether `wanted` blobs are fetched and every sink has passed all of them.
    pub(crate) fn is_settled(&self, wanted: usize) -> bool {
        let Ok(status) = Status::read(&self.path("journal")) else {
            return false;
        };
        let fetched: i64 = status.tenants.iter().map(|tenant| tenant.fetched).sum();
        assert!(fetched as usize <= wanted, "more than the tenants have");
        fetched as usize == wanted
            && !status.sinks.is_empty()
            && status
                .sinks
                .iter()
                .all(|sink| sink.pending == 0 && sink.balances())
    }
}

fn checked(check: &mut Command) -> (Option<i32>, String) {
    let done = check.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout) + &text(done.stderr))
}

/// Ends with the test, whatever happens.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The content blobs that the simulator has, of the types that `wanted` accepts.
pub(crate) fn blobs(microsoft: &Simulator, wanted: impl Fn(&str, &str) -> bool) -> usize {
    let blobs: BTreeSet<String> = microsoft
        .ledger()
        .filter(|entry| wanted(&entry.tenant, &entry.content_type))
        .map(|entry| entry.blob)
        .collect();
    blobs.len()
}

/// The hashes of the records that must arrive of one tenant: repeats once.
pub(crate) fn expected(microsoft: &Simulator, wanted: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut hashes: Vec<String> = microsoft
        .ledger()
        .filter(|entry| entry.repeats.is_none() && wanted(&entry.tenant, &entry.content_type))
        .map(|entry| entry.sha256)
        .collect();
    hashes.sort_unstable();
    hashes
}

/// The hashes of lines.
pub(crate) fn hashes<'a>(lines: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let hex = |line: &String| -> String {
        let digit = |value: u8| char::from_digit(u32::from(value), 16);
        let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
        let digest = Sha256::digest(line.as_bytes());
        digest.iter().flat_map(digits).flatten().collect()
    };
    let mut hashes: Vec<String> = lines.into_iter().map(hex).collect();
    hashes.sort_unstable();
    hashes
}

/// The lines of a file; none if it does not exist.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Every file below a folder, with its name relative to it.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(below).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                names.push(name.to_str().unwrap().to_owned());
            }
        }
    }
    names.sort_unstable();
    names
}

/// The raw records of these lines whose member `key` is a text that `fits`, as the records stand.
pub(crate) fn with<'a>(
    lines: &'a [String],
    key: &str,
    fits: impl Fn(&str) -> bool,
) -> Vec<&'a String> {
    let has = |line: &&String| {
        serde_json::from_str::<Value>(line)
            .ok()
            .and_then(|record| record[key].as_str().map(&fits))
            .unwrap_or(false)
    };
    lines.iter().filter(has).collect()
}

/// The records inside normalized lines.
pub(crate) fn raw_of(lines: &[String]) -> Vec<String> {
    let raw = |line: &String| {
        // `raw` is the last member, and stands there byte for byte.
        let (_, raw) = line.split_once("\"raw\":").unwrap();
        raw.strip_suffix('}').unwrap().to_owned()
    };
    lines.iter().map(raw).collect()
}
