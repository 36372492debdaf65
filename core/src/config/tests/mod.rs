//! Whole configurations: what they mean, and the exact messages about bad ones.

mod environment;
mod options;
mod tenant_files;

use std::path::Path;

use super::{Config, Size, Span, Start};
use crate::error::{Kind, Result};

const GOOD: &str = r#"
[tenants.contoso]
id = "8F1C7F4E-6F3A-4C39-9D3B-2C1F0E9A7B55"
tags = ["emea"]
client_id = "app"

[tenants.fabrikam]
id = "00000000-6f3a-4c39-9d3b-2c1f0e9a7b55"

[sources.activity]
type = "management_activity"

[filters.flows]
type = "operation"

[sinks.archive]
type = "file"
tenants = ["tag:emea"]
filters = ["flows"]
path = "archive"

[sinks.archive.per_tenant.contoso]
path = "contoso"
"#;

/// The problems with the good configuration once `text` has taken the place of `line`.
fn problems(line: &str, text: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    let text = GOOD.replacen(line, text, 1);
    match Config::from_toml(&text, Path::new("")) {
        Ok(_) => "no problem".to_owned(),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Config);
            error.to_string()
        }
    }
}

#[test]
fn defaults_and_selections() -> Result<()> {
    let config = Config::from_toml(GOOD, Path::new("/etc/x"))?;
    assert_eq!(config.journal.path, Path::new("/etc/x/data/journal"));
    assert_eq!(config.journal.max_size, Size::gib(10));
    assert_eq!(config.journal.orphan_grace, Span::seconds(604_800));
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9477");
    assert!(config.admin.enabled);
    assert_eq!(config.limits.parallel_fetches.get(), 16);
    assert_eq!(config.limits.parallel_fetches_per_tenant.get(), 4);
    let [contoso, fabrikam] = &*config.tenants else {
        return Err(crate::Error::bug("two tenants"));
    };
    assert_eq!(&*contoso.id, "8f1c7f4e-6f3a-4c39-9d3b-2c1f0e9a7b55");
    let source = &config.sources[0];
    assert_eq!(source.kind, "management_activity");
    assert_eq!(
        source.tenants,
        [contoso.name.clone(), fabrikam.name.clone()]
    );
    let sink = &config.sinks[0];
    assert_eq!(sink.tenants, std::slice::from_ref(&contoso.name));
    assert_eq!(sink.sources, ["activity".into()]);
    assert_eq!(sink.filters, ["flows".into()]);
    assert!(sink.required);
    assert_eq!(sink.start, Start::Oldest);
    assert_eq!(sink.batch_events.get(), 5000);
    assert_eq!(sink.batch_size, Size::mib(4));
    assert_eq!(sink.timeout, Span::seconds(300));
    assert_eq!(
        config.warnings,
        ["sources.activity: no sink takes the events of fabrikam"]
    );
    Ok(())
}

#[test]
fn an_admin_listener_that_others_can_reach_is_told() -> Result<()> {
    for (listen, told) in [
        ("127.0.0.1:9477", 0),
        ("[::1]:9477", 0),
        ("0.0.0.0:9477", 1),
        ("[::]:9477", 1),
        ("192.0.2.7:9477", 1),
    ] {
        let text = format!("{GOOD}\n[admin]\nlisten = \"{listen}\"\n");
        let config = Config::from_toml(&text, Path::new(""))?;
        let about = config.warnings.iter().filter(|w| w.contains(listen));
        assert_eq!(about.count(), told, "{listen}");
        let text = text.replace("listen =", "enabled = false\nlisten =");
        let config = Config::from_toml(&text, Path::new(""))?;
        assert!(!config.warnings.iter().any(|w| w.contains(listen)));
    }
    Ok(())
}

#[test]
fn a_webhook_listener_that_others_can_reach_is_told() -> Result<()> {
    for (listen, told) in [("127.0.0.1:9478", 0), ("0.0.0.0:9478", 1)] {
        let text = format!(
            "{GOOD}\n[webhooks]\nlisten = \"{listen}\"\npublic_url = \"https://hooks.example.com\"\n"
        );
        let config = Config::from_toml(&text, Path::new(""))?;
        let about = config.warnings.iter().filter(|w| w.contains(listen));
        assert_eq!(about.count(), told, "{listen}");
    }
    let text = format!("{GOOD}\n[webhooks]\nlisten = \"127.0.0.1:80\"\n");
    let config = Config::from_toml(&text, Path::new(""))?;
    let about = config
        .warnings
        .iter()
        .find(|w| w.contains("webhooks.listen"));
    assert!(about.is_some_and(|w| w.contains("without webhooks.public_url")));
    Ok(())
}

#[test]
fn a_webhooks_address_ends_with_its_source_and_tenant() -> Result<()> {
    for (public, address) in [
        (
            "https://hooks.example.com",
            "https://hooks.example.com/activity/contoso",
        ),
        (
            "https://h.example:8443/a/b/",
            "https://h.example:8443/a/b/activity/contoso",
        ),
        (
            "http://127.0.0.1:9478/a",
            "http://127.0.0.1:9478/a/activity/contoso",
        ),
    ] {
        let text = format!("{GOOD}\n[webhooks]\npublic_url = \"{public}\"\n");
        let webhooks = Config::from_toml(&text, Path::new(""))?.webhooks;
        let found = webhooks.address("activity", "contoso");
        assert_eq!(found.map(String::from).as_deref(), Some(address));
    }
    Ok(())
}

#[test]
fn filters_keep_their_order() -> Result<()> {
    let text = GOOD.replace(
        "[filters.flows]",
        "[filters.a]\ntype = \"sample\"\n[filters.flows]",
    );
    let text = text.replace("[\"flows\"]", "[\"flows\", \"a\"]");
    let config = Config::from_toml(&text, Path::new(""))?;
    assert_eq!(config.sinks[0].filters, ["flows".into(), "a".into()]);
    Ok(())
}

/// Checks each row: this line, replaced by that text, gives this message.
fn check(rows: &[(&str, &str, &str)]) {
    for (line, text, expected) in rows {
        assert_eq!(problems(line, text), *expected, "for {text}");
    }
}

const FIRST: &str = "\n[tenants.contoso]";
const LAST: &str = "path = \"archive\"";

#[test]
fn bad_toml_is_told_with_its_place_but_not_its_text() {
    check(&[
        (
            LAST,
            "path = \"hunter2",
            "config.toml: line 20, column 16: invalid basic string",
        ),
        (
            LAST,
            "path = \"a\"\npath = \"hunter2\"",
            "config.toml: line 21, column 1: duplicate key `path` in table `sinks.archive`",
        ),
    ]);
}

#[test]
fn problems_with_the_engines_tables() {
    for (table, expected) in [
        (
            "[journal]\nmax_siz = \"1GB\"",
            "journal.max_siz: unknown key; did you mean \"max_size\"?",
        ),
        (
            "[journal]\ncolour = \"1GB\"",
            "journal.colour: unknown key; valid keys: \"path\", \"max_size\", \"orphan_grace\"",
        ),
        (
            "[journal]\nmax_size = 60",
            "journal.max_size: expected a size such as \"64MiB\" or \"10GB\", found 60",
        ),
        (
            "[journal]\nmax_size = \"0B\"",
            "journal.max_size: expected more than nothing, found 0B",
        ),
        (
            "[journal]\norphan_grace = 60",
            "journal.orphan_grace: expected a time span such as \"30s\" or \"7d\", found 60",
        ),
        (
            "[journal]\norphan_grace = \"5 parsecs\"",
            "journal.orphan_grace: expected a time span such as \"30s\" or \"7d\", found \"5 parsecs\"",
        ),
        ("journal = \"x\"", "journal: expected a table, found text"),
        (
            "[admin]\nlisten = \"localhost\"",
            "admin.listen: expected an address and port such as \"127.0.0.1:9477\", found \"localhost\"",
        ),
        (
            "[admin]\nhosts = [\"audit.example:9477\"]",
            "admin.hosts: expected a host name such as \"audit.example.com\", without a port, found \"audit.example:9477\"",
        ),
        (
            "[webhooks]\npublic_url = \"http://hooks.example.com\"",
            "webhooks.public_url: expected an address such as \"https://hooks.example.com/audit\", found something else",
        ),
        (
            "[webhooks]\npublic_url = \"https://user:hunter2@hooks.example.com\"",
            "webhooks.public_url: expected an address such as \"https://hooks.example.com/audit\", found something else",
        ),
        (
            "[admin]\nenabled = \"maybe\"",
            "admin.enabled: expected true or false, found \"maybe\"",
        ),
        (
            "[limits]\nparallel_fetches = 0",
            "limits.parallel_fetches: expected a whole number of at least 1, found 0",
        ),
        (
            "[limits]\nparallel_fetches = [1]",
            "limits.parallel_fetches: expected a whole number of at least 1, found a list",
        ),
        (
            "[limits]\nrecord_size = \"33MiB\"",
            "limits.record_size: expected at most limits.intake_memory (32MiB), found 33MiB",
        ),
        ("[sink.a]", "sink: unknown key; did you mean \"sinks\"?"),
    ] {
        let text = format!("{table}{FIRST}");
        assert_eq!(problems(FIRST, &text), format!("config.toml: {expected}"));
    }
}

#[test]
fn problems_with_tenants() {
    let id = "id = \"8F1C7F4E-6F3A-4C39-9D3B-2C1F0E9A7B55\"";
    check(&[
        (
            FIRST,
            "[tenants.\"a b\"]\n[tenants.contoso]",
            "config.toml: tenants.\"a b\": expected a name of 1 to 64 of the characters a-z, A-Z, 0-9, _ and -",
        ),
        (
            id,
            "id = \"contoso.com\"",
            "config.toml: tenants.contoso.id: expected the tenant's id, \
             a GUID such as \"8f1c7f4e-6f3a-4c39-9d3b-2c1f0e9a7b55\", found \"contoso.com\"",
        ),
        (
            id,
            "id = \"00000000-6f3a-4c39-9d3b-2c1f0e9a7b55\"",
            "config.toml: tenants.fabrikam.id: tenants.contoso has the same id",
        ),
        (
            id,
            "",
            "config.toml: tenants.contoso.id: required, but not set",
        ),
        (
            "\"emea\"",
            "\"emea\", \"a,b\"",
            "config.toml: tenants.contoso.tags[1]: \
             expected a name of 1 to 64 of the characters a-z, A-Z, 0-9, _ and -, found \"a,b\"",
        ),
    ]);
}

#[test]
fn problems_with_selections() {
    check(&[
        (
            "\"tag:emea\"",
            "\"contosso\"",
            "config.toml: sinks.archive.tenants[0]: \
             expected the name of a tenant or tag, found \"contosso\"; did you mean \"contoso\"?",
        ),
        (
            "\"tag:emea\"",
            "\"contoso\", \"tag:emae\"",
            "config.toml: sinks.archive.tenants[1]: \
             expected the name of a tenant or tag, found \"tag:emae\"; did you mean \"tag:emea\"?",
        ),
        (
            "\"tag:emea\"",
            "",
            "config.toml: sinks.archive.tenants: \
             expected at least one tenant (leave the key out for all), found an empty list",
        ),
        (
            "[\"tag:emea\"]",
            "\"contoso\"",
            "config.toml: sinks.archive.tenants: expected a list, found text",
        ),
        (
            "\"tag:emea\"",
            "5",
            "config.toml: sinks.archive.tenants[0]: expected text, found 5",
        ),
        (
            LAST,
            "sources = [\"audit_queries\"]",
            "config.toml: sinks.archive.sources[0]: \
             expected the name of a source, found \"audit_queries\"; valid: \"activity\"",
        ),
        (
            "[\"flows\"]",
            "[\"flow\"]",
            "config.toml: sinks.archive.filters[0]: \
             expected the name of a filter, found \"flow\"; did you mean \"flows\"?",
        ),
        (
            "per_tenant.contoso",
            "per_tenant.contosso",
            "config.toml: sinks.archive.per_tenant.contosso: \
             not one of the selected tenants; did you mean \"contoso\"?",
        ),
        (
            "per_tenant.contoso",
            "per_tenant.fabrikam",
            "config.toml: sinks.archive.per_tenant.fabrikam: \
             not one of the selected tenants; selected: \"contoso\"",
        ),
        (
            "[sinks.archive.per_tenant.contoso]\npath",
            "[sinks.archive.per_tenant]\ncontoso",
            "config.toml: sinks.archive.per_tenant.contoso: expected a table, found text",
        ),
    ]);
}

#[test]
fn problems_with_sinks() {
    for (text, expected) in [
        (
            "start = \"newest\"",
            "start: expected \"oldest\" or \"now\", found \"newest\"",
        ),
        (
            "start = \"oldst\"",
            "start: expected \"oldest\" or \"now\", found \"oldst\"; did you mean \"oldest\"?",
        ),
        (
            "required = \"perhaps\"",
            "required: expected true or false, found \"perhaps\"",
        ),
        (
            "timeout = \"0s\"",
            "timeout: expected more than nothing, found 0s",
        ),
        (
            "batch_events = 0",
            "batch_events: expected a whole number of at least 1, found 0",
        ),
        (
            "renamed_from = \"archive\"",
            "renamed_from: sinks.archive is still configured",
        ),
        (
            "renamed_from = \"../x\"",
            "renamed_from: expected a name of 1 to 64 of the characters a-z, A-Z, 0-9, _ and -, found \"../x\"",
        ),
    ] {
        let expected = format!("config.toml: sinks.archive.{expected}");
        assert_eq!(problems(LAST, text), expected);
    }
    check(&[
        (
            "type = \"file\"",
            "",
            "config.toml: sinks.archive.type: required, but not set",
        ),
        (
            FIRST,
            "[sinks.a]\ntype = \"file\"\nrenamed_from = \"x\"\n\
             [sinks.b]\ntype = \"file\"\nrenamed_from = \"x\"\n[tenants.contoso]",
            "config.toml: sinks.b.renamed_from: sinks.a already takes over \"x\"",
        ),
    ]);
}

#[test]
fn there_must_be_something_to_do_and_all_problems_are_told_at_once() {
    let message =
        Config::from_toml("[journal]\npath = 5", Path::new("")).map_err(|e| e.to_string());
    assert_eq!(
        message.err().as_deref(),
        Some(
            "config.toml: journal.path: expected text, found 5\n\
             config.toml: tenants: expected at least one [tenants.NAME]\n\
             config.toml: sources: expected at least one [sources.NAME]\n\
             config.toml: sinks: expected at least one [sinks.NAME]"
        )
    );
}

#[test]
fn a_missing_file_is_told_by_its_name() {
    let error = Config::load(Path::new("/nowhere/audit.toml")).map(|_| ());
    let text = error.map_err(|error| error.to_string()).err();
    assert_eq!(
        text.as_deref(),
        Some("/nowhere/audit.toml: cannot be read: No such file or directory (os error 2)")
    );
}

#[test]
fn the_engines_keys_are_those_of_its_tables() {
    for (table, keys) in super::keys::ENGINE {
        let text = format!("[{table}]\ncolour = 1{FIRST}");
        let valid: Vec<_> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        let message = problems(FIRST, &text);
        let listed = message.split("valid keys: ").nth(1).unwrap_or_default();
        let mut listed: Vec<_> = listed.split(", ").map(str::to_owned).collect();
        let mut valid = valid;
        listed.sort();
        valid.sort();
        assert_eq!(listed, valid);
    }
}

/// The documentation and the program must not disagree.
#[test]
fn the_documented_example_and_defaults_are_true() -> Result<()> {
    let text = include_str!("../../../../docs/configuration.md");
    let example = text
        .split("```")
        .find_map(|part| part.strip_prefix("toml\n"));
    let config = Config::from_toml(example.unwrap_or_default(), Path::new(""))?;
    assert_eq!(config.warnings, Vec::<String>::new());

    for (table, keys) in super::keys::ENGINE {
        let heading = format!("## `[{table}]`");
        let section = text.split(&heading).nth(1).unwrap_or_default();
        let section = section.split("\n## ").next().unwrap_or_default();
        let mut documented = format!("[{table}]\n");
        let mut rows = 0;
        for row in section.lines().filter_map(|row| row.strip_prefix("| `")) {
            if let [key, default, ..] = row.split(" | ").collect::<Vec<_>>()[..] {
                let key = key.trim_end_matches('`');
                if default != "none" {
                    documented.extend([key, " = ", default.trim_matches('`'), "\n"]);
                }
                rows += 1;
            }
        }
        assert_eq!(rows, keys.len(), "{table}");
        let same = Config::from_toml(&format!("{documented}{GOOD}"), Path::new(""))?;
        assert_eq!(same.journal, config.journal);
        assert_eq!(same.admin, config.admin);
        assert_eq!(same.webhooks, config.webhooks);
        assert_eq!(same.limits, config.limits);
    }
    Ok(())
}
