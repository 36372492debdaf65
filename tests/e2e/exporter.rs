//! The exporter's processes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::http;

/// What is not so by then, even on a busy machine, never will be. Two hundred thousand events take their time.
const PATIENCE: Duration = Duration::from_mins(5);

/// A folder with a configuration, where everything lies that the exporter writes.
pub(crate) struct Home(TempDir);

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running `audit-exporter run`. Killed when dropped.
pub(crate) struct Exporter<'a> {
    home: &'a Home,
    child: Child,
    log: PathBuf,
}

/// Asks again and again, until it is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        sleep(Duration::from_millis(20));
    }
}

impl Home {
    /// A new folder with this configuration, on top of a journal and a free port in it.
    pub(crate) fn new(config: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.configure(config);
        home
    }

    /// Replaces the configuration.
    pub(crate) fn configure(&self, config: &str) {
        let common = "[journal]\npath = \"journal\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
        self.configure_all(&format!("{common}{config}"));
    }

    /// Replaces the configuration, without adding anything.
    pub(crate) fn configure_all(&self, config: &str) {
        std::fs::write(self.path("config.toml"), config).unwrap();
    }

    /// A place in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The binary, for a command of its own, with nothing of this process' environment that it would read.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_audit-exporter"));
        command.args(words).arg("--config");
        command.arg(self.path("config.toml"));
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn ask(&self, words: &[&str]) -> Ended {
        let output = self.command(words).output().unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// `sinks status --json`, if there is a journal to read.
    pub(crate) fn status(&self) -> Option<Value> {
        let asked = self.ask(&["sinks", "status", "--json"]);
        (asked.code == 0).then(|| serde_json::from_str(&asked.stdout).unwrap())
    }

    /// Starts `run`.
    pub(crate) fn run(&self) -> Exporter<'_> {
        self.run_with(|_| {})
    }

    /// Starts `run`, with changes to its command line or environment.
    pub(crate) fn run_with(&self, change: impl FnOnce(&mut Command)) -> Exporter<'_> {
        // What an earlier process left behind would be taken for this one's address.
        drop(std::fs::remove_file(self.path("journal/control.address")));
        let log = self.path("run.log");
        let mut command = self.command(&["run"]);
        command.stdout(Stdio::null());
        command.stderr(
            File::options()
                .create(true)
                .append(true)
                .open(&log)
                .unwrap(),
        );
        change(&mut command);
        Exporter {
            home: self,
            child: command.spawn().unwrap(),
            log,
        }
    }
}

impl Exporter<'_> {
    /// Where its admin listener listens, once it does.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let text = std::fs::read_to_string(self.home.path("journal/control.address")).ok()?;
        text.parse().ok()
    }

    /// The text of `/metrics`; empty while nothing answers.
    pub(crate) fn metrics(&self) -> String {
        let answer = self.address().map(|address| http::get(address, "/metrics"));
        answer.and_then(Result::ok).unwrap_or_default()
    }

    /// The sum of a metric's series whose labels contain all of `labels`; nothing if there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> Option<f64> {
        sum(&self.metrics(), name, labels)
    }

    /// Everything that it (and its forerunners in this folder) logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log says `words`.
    pub(crate) fn await_log(&mut self, words: &str) {
        wait_until(words, || {
            let told = self.log().contains(words);
            assert!(told || self.is_running(), "it ended: {}", self.log());
            told
        });
    }

    /// Waits until so many blobs are listed and fetched and every sink has everything.
    pub(crate) fn await_drained(&mut self, blobs: u64) {
        wait_until("everything is delivered", || {
            assert!(self.is_running(), "it ended: {}", self.log());
            self.is_drained(blobs)
        });
    }

    fn is_drained(&self, blobs: u64) -> bool {
        let metrics = self.metrics();
        let waiting = ["units_pending", "sink_pending_events"]
            .iter()
            .filter_map(|name| sum(&metrics, name, &[]))
            .sum::<f64>();
        // The cheap question first: the other is a process of its own.
        if waiting > 0.0 || sum(&metrics, "last_listing_timestamp_seconds", &[]).is_none() {
            return false;
        }
        let Some(status) = self.home.status() else {
            return false;
        };
        let all = |part: &str, key: &str| -> u64 {
            let parts = status[part].as_array().unwrap().iter();
            parts.filter_map(|one| one[key].as_u64()).sum()
        };
        all("tenants", "listed") == blobs
            && all("tenants", "pending") == 0
            && all("sinks", "pending") == 0
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_until("it ends", || !self.is_running());
        self.child.wait().unwrap()
    }

    /// Asks it to stop, and checks that it does in good order.
    pub(crate) fn stop(mut self) -> String {
        self.signal("-TERM");
        let status = self.ended();
        assert!(status.success(), "{status}: {}", self.log());
        self.log()
    }
}

impl Drop for Exporter<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            println!("{}\n{:?}", last.join("\n"), self.home.status());
        }
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn sum(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let series = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("audit_exporter_"))
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter(|rest| labels.iter().all(|label| rest.contains(label)));
    let values = series.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}
