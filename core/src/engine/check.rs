//! `check`: tries everything that `run` needs, changes nothing, says what is missing.

use std::sync::Arc;

use futures::StreamExt;

use super::build::Builder;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http;
use crate::journal::{Status, Store};
use crate::metrics::Meter;
use crate::plugin::{Finding, Registry, Severity, Sink, Source};

/// Tenants that are tried at once.
const PARALLEL: usize = 8;

/// What was found about one part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The part: `source activity, tenant contoso`.
    pub part: String,
    /// What was found, in order.
    pub findings: Vec<Finding>,
}

impl Section {
    /// The worst of its findings.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.findings
            .iter()
            .map(|finding| finding.severity)
            .max()
            .unwrap_or(Severity::Ok)
    }
}

/// Checks a configuration whose keys are right already. An error means that a plugin refuses its options.
pub async fn check(config: &Config, registry: &Registry) -> Result<Vec<Section>> {
    let clock = Clock::system();
    let builder = Builder {
        config,
        registry,
        clock: &clock,
        http: &http::Client::new()?,
        store: &|_| Store::in_memory(),
        meter: &|_, _| Meter::default(),
        replay: None,
    };
    let mut problems = Vec::new();
    let mut sources: Vec<(String, Box<dyn Source>)> = Vec::new();
    for source in &config.sources {
        for tenant in source.tenants.iter().filter_map(|name| config.tenant(name)) {
            let part = format!("source {}, tenant {}", source.name, tenant.name);
            match builder.source(source, tenant) {
                Ok(built) => sources.push((part, built)),
                Err(error) => problems.push(error),
            }
        }
    }
    problems.extend(builder.filters().err());
    let mut sinks: Vec<(String, Box<dyn Sink>)> = Vec::new();
    for sink in &config.sinks {
        match builder.sink(sink) {
            Ok(built) => sinks.push((format!("sink {}", sink.name), built)),
            Err(error) => problems.push(error),
        }
    }
    if !problems.is_empty() {
        return Err(joined(&problems));
    }
    let mut sections = vec![journal(config)];
    let tried = futures::stream::iter(sources)
        .map(async |(part, source)| Section {
            part,
            findings: source.check().await,
        })
        .buffered(PARALLEL);
    sections.extend(tried.collect::<Vec<_>>().await);
    for (part, sink) in sinks {
        let mut findings = sink.check().await;
        if findings.is_empty() {
            findings.push(Finding::ok("its options are right"));
        }
        sections.push(Section { part, findings });
    }
    Ok(sections)
}

/// Several problems as one error, a line each, without repetitions.
fn joined(problems: &[Error]) -> Error {
    let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.dedup();
    Error::config(lines.join("\n"))
}

fn journal(config: &Config) -> Section {
    let path = &config.journal.path;
    let mut findings: Vec<Finding> = config
        .warnings
        .iter()
        .map(|warning| Finding::warning(warning.clone()))
        .collect();
    match writable(path) {
        Ok(()) => findings.push(Finding::ok(format!("{} can be written", path.display()))),
        Err(error) => findings.push(Finding::problem(format!(
            "journal.path {} cannot be written: {error}; give this user write permission, or another path",
            path.display()
        ))),
    }
    if let Ok(status) = Status::read(path) {
        let mut orphans: Vec<Arc<str>> = Vec::new();
        for sink in &status.sinks {
            let configured = config.sinks.iter().any(|known| *known.name == *sink.sink);
            if !configured && !orphans.iter().any(|known| **known == *sink.sink) {
                orphans.push(sink.sink.as_str().into());
            }
        }
        findings.extend(orphans.iter().map(|sink| {
            Finding::warning(format!(
                "sink {sink} is no longer configured but its cursor still holds data; \
                 `audit-exporter sinks forget {sink}` frees it, `renamed_from = \"{sink}\"` gives it to another sink"
            ))
        }));
    }
    Section {
        part: "journal".to_owned(),
        findings,
    }
}

/// Whether the folder, or the nearest one above it that exists, can be written.
fn writable(path: &std::path::Path) -> std::io::Result<()> {
    // What a relative path begins from has an empty name.
    let existing = path
        .ancestors()
        .map(|folder| {
            if folder.as_os_str().is_empty() {
                std::path::Path::new(".")
            } else {
                folder
            }
        })
        .find(|folder| folder.exists())
        .unwrap_or(path);
    if !existing.is_dir() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::NotADirectory,
            "it is not a folder",
        ));
    }
    Ok(rustix::fs::access(
        existing,
        rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
    )?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::writable;

    #[test]
    fn a_relative_path_begins_in_the_working_folder() {
        assert!(writable(Path::new("no-such-folder/journal")).is_ok());
        assert!(writable(Path::new("Cargo.toml/journal")).is_err());
    }
}
