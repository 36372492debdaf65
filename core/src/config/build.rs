//! From tables to the checked configuration. Problems are collected, so that one run of `check` shows them all.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::keys::{self, FilterKeys, Journal, Limits, SinkKeys, SourceKeys, TenantKeys, Webhooks};
use super::select::Names;
use super::units::Size;
use super::{Config, Filter, Options, Sink, Source, Tenant, message, warnings};
use crate::error::{Error, Result};

/// Long enough for people, short enough for file names that are made of several.
const MAX_NAME: usize = 64;

/// The problems found so far.
#[derive(Default)]
pub(super) struct Problems(Vec<String>);

impl Problems {
    pub(super) fn add(&mut self, error: &Error) {
        let text = error.to_string();
        if !self.0.contains(&text) {
            self.0.push(text);
        }
    }

    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add(&error)).ok()
    }
}

/// The configuration in `root`, or all of `problems` and those found here.
pub(super) fn build(root: &Options, mut problems: Problems) -> Result<Config> {
    for key in root.names() {
        if !keys::SECTIONS.contains(&key.as_str()) {
            let hint = message::hint(&key, keys::SECTIONS, "valid keys");
            problems.add(&root.problem(&key, &format!("unknown key{hint}")));
        }
    }
    let journal = section(root, "journal", &mut problems, check_journal);
    let admin = section(root, "admin", &mut problems, |_, _, _| ());
    let webhooks = section(root, "webhooks", &mut problems, |_: &mut Webhooks, _, _| ());
    let limits = section(root, "limits", &mut problems, check_limits);
    let tenants = tenants(root, &mut problems);
    let sources = sources(root, &tenants, &mut problems);
    let filters = filters(root, &mut problems);
    let sinks = sinks(
        root,
        [&tenants.names, &sources.names, &filters.names],
        &mut problems,
    );
    if !problems.0.is_empty() {
        return Err(Error::config(problems.0.join("\n")));
    }
    let (Some(journal), Some(admin), Some(webhooks), Some(limits)) =
        (journal, admin, webhooks, limits)
    else {
        return Err(Error::bug(
            "a table is missing, and nothing is wrong with it",
        ));
    };
    let mut config = Config {
        journal,
        admin,
        webhooks,
        limits,
        tenants: tenants.found.into(),
        sources: sources.found,
        filters: filters.found,
        sinks,
        warnings: Vec::new(),
    };
    config.warnings = warnings::find(&config);
    Ok(config)
}

/// A table of the engine's.
fn section<T: DeserializeOwned>(
    root: &Options,
    name: &str,
    problems: &mut Problems,
    check: impl FnOnce(&mut T, &Options, &mut Problems),
) -> Option<T> {
    let options = problems.keep(root.child(name, &[]))?;
    let mut table = problems.keep(options.parse())?;
    check(&mut table, &options, problems);
    Some(table)
}

fn check_journal(journal: &mut Journal, options: &Options, problems: &mut Problems) {
    at_least_one_byte("max_size", journal.max_size, options, problems);
    journal.path = options.resolve_path(&journal.path);
}

fn check_limits(limits: &mut Limits, options: &Options, problems: &mut Problems) {
    for (key, size) in [
        ("intake_memory", limits.intake_memory),
        ("batch_size", limits.batch_size),
        ("record_size", limits.record_size),
        ("blob_size", limits.blob_size),
    ] {
        at_least_one_byte(key, size, options, problems);
    }
    // A record or batch that does not fit would wait for memory for ever.
    for (key, size) in [
        ("batch_size", limits.batch_size),
        ("record_size", limits.record_size),
    ] {
        if size > limits.intake_memory {
            let most = format!("at most limits.intake_memory ({})", limits.intake_memory);
            problems.add(&options.invalid(key, &most, &size.to_string()));
        }
    }
}

fn at_least_one_byte(key: &str, size: Size, options: &Options, problems: &mut Problems) {
    if size == Size(0) {
        problems.add(&options.invalid(key, "more than nothing", &size.to_string()));
    }
}

/// The instances of one kind.
struct Instances<T> {
    /// Those in order.
    found: Vec<T>,
    /// All names, also of those with problems.
    names: Names,
}

/// The tables below `section`, with names that can be labels and parts of file names.
fn tables(
    root: &Options,
    section: &str,
    problems: &mut Problems,
) -> Vec<(Arc<str>, Option<Options>)> {
    let Some(all) = problems.keep(root.child(section, &[])) else {
        return Vec::new();
    };
    let mut tables = Vec::new();
    for name in all.names() {
        let options = if name_is_valid(&name) {
            let common = keys::common(&format!("{section}.{name}"));
            problems.keep(all.child(&name, common))
        } else {
            problems.add(&all.problem_at(&[&name], &bad_name()));
            None
        };
        tables.push((name.into(), options));
    }
    tables
}

fn name_is_valid(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(valid)
}

fn bad_name() -> String {
    format!("expected a name of 1 to {MAX_NAME} of the characters a-z, A-Z, 0-9, _ and -")
}

/// The instances below `section`: `K` are our keys of each, and `make` checks them.
fn each<K: DeserializeOwned, T>(
    root: &Options,
    section: &str,
    problems: &mut Problems,
    mut make: impl FnMut(Arc<str>, K, Options, &mut Problems) -> Option<T>,
) -> Instances<T> {
    let mut found = Vec::new();
    let mut names = Names::default();
    for (name, options) in tables(root, section, problems) {
        let instance = options.and_then(|options| {
            let keys = problems.keep(options.parse_common())?;
            make(Arc::clone(&name), keys, options, problems)
        });
        names.complete &= instance.is_some();
        names.declared.insert(name);
        found.extend(instance);
    }
    Instances { found, names }
}

/// Without a tenant, a source or a sink there is nothing to do.
fn at_least_one<T>(
    instances: &Instances<T>,
    root: &Options,
    section: &str,
    problems: &mut Problems,
) {
    if instances.names.declared.is_empty() {
        problems.add(&root.problem(section, &format!("expected at least one [{section}.NAME]")));
    }
}

fn tenants(root: &Options, problems: &mut Problems) -> Instances<Tenant> {
    let make = |name, keys: TenantKeys, options: Options, problems: &mut Problems| {
        let mut tags = keys.tags.iter().enumerate();
        if let Some((index, tag)) = tags.find(|(_, tag)| !name_is_valid(tag)) {
            let problem = format!("{}, found {tag:?}", bad_name());
            problems.add(&options.problem(&format!("tags[{index}]"), &problem));
            return None;
        }
        let Some(id) = guid(&keys.id) else {
            let expected =
                "the tenant's id, a GUID such as \"8f1c7f4e-6f3a-4c39-9d3b-2c1f0e9a7b55\"";
            problems.add(&options.invalid("id", expected, &format!("{:?}", keys.id)));
            return None;
        };
        Some(Tenant {
            name,
            id,
            tags: keys.tags,
            options,
        })
    };
    let mut tenants = each(root, "tenants", problems, make);
    at_least_one(&tenants, root, "tenants", problems);
    for (index, tenant) in tenants.found.iter().enumerate() {
        if let Some(other) = tenants.found[..index]
            .iter()
            .find(|other| other.id == tenant.id)
        {
            let problem = format!("tenants.{} has the same id", other.name);
            problems.add(&tenant.options.problem("id", &problem));
        }
        for tag in &tenant.tags {
            tenants.names.tag(tag, &tenant.name);
        }
    }
    tenants
}

/// The usual form alone: `uuid` reads others too, which would not be equal as text.
fn guid(text: &str) -> Option<Arc<str>> {
    let id = uuid::Uuid::try_parse(text).ok()?.to_string();
    id.eq_ignore_ascii_case(text).then(|| id.into())
}

fn sources(
    root: &Options,
    tenants: &Instances<Tenant>,
    problems: &mut Problems,
) -> Instances<Source> {
    let make = |name, keys: SourceKeys, options: Options, problems: &mut Problems| {
        let tenants = tenants
            .names
            .select("tenants", keys.tenants.as_deref(), &options, problems);
        check_overrides(&options, tenants.as_deref(), problems);
        Some(Source {
            name,
            kind: keys.kind,
            tenants: tenants?,
            options,
        })
    };
    let sources = each(root, "sources", problems, make);
    at_least_one(&sources, root, "sources", problems);
    sources
}

fn filters(root: &Options, problems: &mut Problems) -> Instances<Filter> {
    each(
        root,
        "filters",
        problems,
        |name, keys: FilterKeys, options, _| {
            Some(Filter {
                name,
                kind: keys.kind,
                options,
            })
        },
    )
}

fn sinks(
    root: &Options,
    [tenants, sources, filters]: [&Names; 3],
    problems: &mut Problems,
) -> Vec<Sink> {
    let make = |name, keys: SinkKeys, options: Options, problems: &mut Problems| {
        let tenants = tenants.select("tenants", keys.tenants.as_deref(), &options, problems);
        let sources = sources.select("sources", keys.sources.as_deref(), &options, problems);
        let filters = filters.in_order("filters", &keys.filters, &options, problems);
        check_overrides(&options, tenants.as_deref(), problems);
        at_least_one_byte("batch_size", keys.batch_size, &options, problems);
        if keys.timeout.0.is_zero() {
            problems.add(&options.invalid("timeout", "more than nothing", "0s"));
        }
        Some(Sink {
            name,
            kind: keys.kind,
            tenants: tenants?,
            sources: sources?,
            filters,
            required: keys.required,
            start: keys.start,
            renamed_from: keys.renamed_from.map(Arc::from),
            batch_events: keys.batch_events,
            batch_size: keys.batch_size,
            timeout: keys.timeout,
            options,
        })
    };
    let sinks = each(root, "sinks", problems, make);
    at_least_one(&sinks, root, "sinks", problems);
    check_renames(&sinks, problems);
    sinks.found
}

/// The cursors of one name go to one sink.
fn check_renames(sinks: &Instances<Sink>, problems: &mut Problems) {
    for (index, sink) in sinks.found.iter().enumerate() {
        let Some(old) = &sink.renamed_from else {
            continue;
        };
        let earlier = sinks.found[..index]
            .iter()
            .find(|other| other.renamed_from.as_ref() == Some(old));
        if !name_is_valid(old) {
            let problem = format!("{}, found {old:?}", bad_name());
            problems.add(&sink.options.problem("renamed_from", &problem));
        } else if sinks.names.declared.contains(old) {
            let problem = format!("sinks.{old} is still configured");
            problems.add(&sink.options.problem("renamed_from", &problem));
        } else if let Some(other) = earlier {
            let problem = format!("sinks.{} already takes over {old:?}", other.name);
            problems.add(&sink.options.problem("renamed_from", &problem));
        }
    }
}

/// Overrides of a tenant that does not come here are a misspelled name, and another's destination perhaps.
fn check_overrides(options: &Options, tenants: Option<&[Arc<str>]>, problems: &mut Problems) {
    let Some(per_tenant) = problems.keep(options.child("per_tenant", &[])) else {
        return;
    };
    for name in per_tenant.names() {
        problems.keep(per_tenant.child(&name, &[]));
        let Some(tenants) = tenants else {
            continue;
        };
        if !tenants.iter().any(|tenant| **tenant == *name) {
            let valid: Vec<_> = tenants.iter().map(AsRef::as_ref).collect();
            let hint = message::hint(&name, &valid, "selected");
            let problem = format!("not one of the selected tenants{hint}");
            problems.add(&per_tenant.problem_at(&[&name], &problem));
        }
    }
}
