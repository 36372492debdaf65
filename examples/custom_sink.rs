//! A sink of your own, as a whole program: everything that `audit-exporter` has, and the type `app_usage` beside it.
//!
//! ```toml
//! [filters.launches]
//! type = "operation"
//! include = ["LaunchPowerApp"]
//!
//! [sinks.usage]
//! type = "app_usage"
//! path = "app-usage.json"
//! filters = ["launches"]
//! ```
//!
//! It keeps one JSON file with what a dashboard of Power Apps wants to know: launches of each app, who launched it,
//! and when last. Each launch counts exactly once, whenever the program is killed. docs/writing-a-plugin.md walks
//! through it. Run it with `cargo run --example custom_sink -- run --config FILE`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use async_trait::async_trait;
use audit_exporter_core::event::AuditEvent;
use audit_exporter_core::journal::Position;
use audit_exporter_core::plugin::{
    Batch, Context, Delivered, Finding, Receipt, Registry, Rejected, Sink,
};
use audit_exporter_core::{Error, Result};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

fn main() -> ExitCode {
    audit_exporter::main(registry())
}

/// Every plugin that ships with `audit-exporter`, and ours.
pub(crate) fn registry() -> Registry {
    audit_exporter_plugins::registry().sink("app_usage", build)
}

/// The sink's options: its table in the configuration, less the keys that every sink has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The file that is kept up to date.
    path: PathBuf,
    /// Whether it names the users.
    #[serde(default = "yes")]
    users: bool,
}

fn yes() -> bool {
    true
}

/// What is known about one app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Usage {
    launches: u64,
    last_launch: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    users: BTreeSet<String>,
}

/// The file's contents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    /// Counts the deliveries that are in it.
    delivery: u64,
    apps: BTreeMap<String, Usage>,
    /// What the last delivery changed, as it was before: `null` where there was nothing.
    undo: BTreeMap<String, Option<Usage>>,
}

struct AppUsage {
    path: PathBuf,
    users: bool,
    /// What the file holds. `None` until `recover` has read it.
    contents: Mutex<Option<Contents>>,
}

/// Builds the sink. Everything that can be wrong with its options is an error here, before anything starts.
#[allow(clippy::needless_pass_by_value)] // The registry's signature.
fn build(context: Context) -> Result<Box<dyn Sink>> {
    let config: Config = context.options.parse()?;
    Ok(Box::new(AppUsage {
        path: context.options.resolve_path(&config.path),
        users: config.users,
        contents: Mutex::new(None),
    }))
}

#[async_trait]
impl Sink for AppUsage {
    /// The receipt says how many deliveries the journal knows of. The file may hold one more: the program was killed
    /// after it wrote the file and before the journal noted it. That one comes again, so it is undone.
    async fn recover(&self, last: Option<&Receipt>) -> Result<Vec<Position>> {
        let noted: u64 = last.map(Receipt::parse).transpose()?.unwrap_or(0);
        let mut contents = self.blocking(read).await?.unwrap_or_default();
        if contents.delivery == noted + 1 {
            contents.undo();
        }
        if contents.delivery != noted {
            return Err(Error::config(format!(
                "{} holds {} deliveries, the journal knows of {noted}: it belongs to another journal; move it away",
                self.path.display(),
                contents.delivery
            )));
        }
        *self.contents.lock().await = Some(contents);
        Ok(Vec::new())
    }

    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let mut held = self.contents.lock().await;
        let before = held
            .as_ref()
            .ok_or_else(|| Error::bug("a delivery came before the sink was recovered"))?;
        let (next, rejected) = before.with(&batch.events, self.users);
        let receipt = Receipt::of(&next.delivery)?;
        let text = serde_json::to_vec_pretty(&next)
            .map_err(|error| Error::bug("the file's contents are no JSON").with_cause(error))?;
        self.blocking(move |path| replace(path, &text)).await?;
        // Only now: after an error, or if we are dropped before, the same batch comes again and starts from `before`.
        *held = Some(next);
        Ok(Delivered {
            receipt: Some(receipt),
            rejected,
            ..Delivered::default()
        })
    }

    async fn check(&self) -> Vec<Finding> {
        match self.blocking(read).await {
            Ok(Some(found)) => vec![Finding::ok(format!(
                "{} knows {} apps",
                self.path.display(),
                found.apps.len()
            ))],
            Ok(None) => vec![Finding::ok(format!("{} will be made", self.path.display()))],
            Err(error) => vec![Finding::problem(error.to_string())],
        }
    }
}

impl AppUsage {
    /// Disks may be slow: no file is touched on the runtime's own threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || work(&path))
            .await
            .map_err(|error| Error::bug("work on the file broke off").with_cause(error))?
    }
}

impl Contents {
    /// The contents after one more delivery, and the events that it cannot count.
    fn with(&self, events: &[AuditEvent], users: bool) -> (Self, Vec<Rejected>) {
        let mut next = Self {
            delivery: self.delivery + 1,
            apps: self.apps.clone(),
            undo: BTreeMap::new(),
        };
        let mut rejected = Vec::new();
        for (index, event) in events.iter().enumerate() {
            let Some(app) = app_of(event) else {
                // Goes to the dead letters: kept and counted, and nothing else waits for it.
                let reason = "the record names no app".to_owned();
                rejected.push(Rejected { index, reason });
                continue;
            };
            if !next.undo.contains_key(&app) {
                next.undo.insert(app.clone(), self.apps.get(&app).cloned());
            }
            let usage = next.apps.entry(app).or_default();
            usage.launches += 1;
            usage.last_launch = usage.last_launch.max(event.created());
            if let Some(user) = event.user_id().filter(|_| users) {
                usage.users.insert(user.into_owned());
            }
        }
        (next, rejected)
    }

    fn undo(&mut self) {
        self.delivery -= 1;
        for (app, before) in std::mem::take(&mut self.undo) {
            match before {
                Some(usage) => self.apps.insert(app, usage),
                None => self.apps.remove(&app),
            };
        }
    }
}

/// The app's id, from either schema of a launch: a field of its own, or one of many properties.
fn app_of(event: &AuditEvent) -> Option<String> {
    #[derive(Deserialize)]
    struct Launch {
        #[serde(rename = "AppName")]
        app: Option<String>,
        #[serde(rename = "PropertyCollection", default)]
        properties: Vec<Property>,
    }
    #[derive(Deserialize)]
    struct Property {
        #[serde(rename = "Name")]
        name: String,
        #[serde(rename = "Value")]
        value: String,
    }
    let launch: Launch = serde_json::from_slice(event.raw()).ok()?;
    let of_property = |property: Property| {
        (property.name == "powerplatform.analytics.resource.power_app.id").then_some(property.value)
    };
    launch
        .app
        .or_else(|| launch.properties.into_iter().find_map(of_property))
}

fn read(path: &Path) -> Result<Option<Contents>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            Error::config(format!(
                "{} is not what this sink writes; move it away",
                path.display()
            ))
            .with_cause(error)
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::from(error)),
    }
}

/// Puts `text` in the file's place, at once and durably: a reader sees the old contents or the new, never half.
fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600) // It names people.
        .open(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    Ok(File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?)
}
