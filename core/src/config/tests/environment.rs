//! Variables over the file.

use std::path::Path;

use serde::Deserialize;

use super::GOOD;
use crate::config::Config;
use crate::error::Result;

/// The problems with the good configuration under these variables.
fn problems_under(environment: &[(&str, &str)]) -> String {
    match under(environment) {
        Ok(_) => "no problem".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn under(environment: &[(&str, &str)]) -> Result<Config> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment = environment.iter().map(own);
    Config::build(
        "config.toml",
        Path::new("/etc/x/config.toml"),
        GOOD,
        environment,
    )
}

#[test]
fn a_variable_is_blamed_for_its_value() {
    for (name, value, expected) in [
        (
            "JOURNAL__MAX_SIZE",
            "60",
            ": journal.max_size: expected a size such as \"64MiB\" or \"10GB\", found \"60\"",
        ),
        (
            "JOURNAL__MAX_SIZ",
            "60GB",
            ": journal.max_siz: unknown key; did you mean \"max_size\"?",
        ),
        (
            "JOURNALS__MAX_SIZE",
            "60GB",
            ": journals: unknown key; did you mean \"journal\"?",
        ),
        (
            "LIMITS__PARALLEL_FETCHES",
            "many",
            ": limits.parallel_fetches: expected a whole number of at least 1, found \"many\"",
        ),
        (
            "SINKS__ARCHIVE__TENANTS",
            "[contoso, fabrikan]",
            ": sinks.archive.tenants[1]: \
             expected the name of a tenant or tag, found \"fabrikan\"; did you mean \"fabrikam\"?",
        ),
        (
            "SINKS__ARCHIVE",
            "hunter2",
            ": sinks.archive: expected a table, found text",
        ),
        (
            "SINKS__ARCHVE__PATH",
            "a",
            ": sinks.archve.type: required, but not set",
        ),
        (
            "SINKS____PATH",
            "a",
            ": sinks.\"\": expected a name of 1 to 64 of the characters a-z, A-Z, 0-9, _ and -",
        ),
        (
            "JOURNAL_MAX_SIZE",
            "60GB",
            ": has no effect; did you mean AUDIT_EXPORTER_JOURNAL__MAX_SIZE?",
        ),
    ] {
        let name = format!("AUDIT_EXPORTER_{name}");
        let expected = format!("environment variable {name}{expected}");
        assert_eq!(problems_under(&[(&name, value)]), expected);
    }
}

#[test]
fn variables_cover_the_file() -> Result<()> {
    let config = under(&[
        ("AUDIT_EXPORTER_JOURNAL__PATH", "/var/journal"),
        ("AUDIT_EXPORTER_LIMITS__PARALLEL_FETCHES", "5"),
        ("AUDIT_EXPORTER_ADMIN__ENABLED", "false"),
        (
            "AUDIT_EXPORTER_SINKS__ARCHIVE__TENANTS",
            "[contoso, fabrikam]",
        ),
        ("AUDIT_EXPORTER_TENANTS__FABRIKAM__CLIENT_ID", "0123"),
        ("PATH", "/bin"),
    ])?;
    assert_eq!(config.journal.path, Path::new("/var/journal"));
    assert_eq!(config.limits.parallel_fetches.get(), 5);
    assert!(!config.admin.enabled);
    assert_eq!(config.sinks[0].tenants.len(), 2);
    let client: App = config.tenants[1].options.parse()?;
    assert_eq!(client.client_id, "0123", "digits keep their zeros");
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    client_id: String,
}

#[test]
fn what_kubernetes_sets_for_a_service_is_not_ours() {
    let service = [
        ("AUDIT_EXPORTER_SERVICE_HOST", "10.0.0.1"),
        ("AUDIT_EXPORTER_PORT_9477_TCP_ADDR", "10.0.0.1"),
        ("AUDIT_EXPORTER_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("AUDIT_EXPORTER_JOURNAL_PORT", "tcp://10.0.0.1:1"),
    ];
    assert_eq!(problems_under(&service), "no problem");
}

#[test]
fn variables_find_names_that_they_cannot_spell() -> Result<()> {
    let text = GOOD.replace("sinks.archive", "sinks.My-Archive");
    let variable = ("AUDIT_EXPORTER_SINKS__MY_ARCHIVE__REQUIRED", "no");
    let variable = [(variable.0.to_owned(), variable.1.to_owned())];
    let config = Config::build("c", Path::new("c"), &text, variable)?;
    assert_eq!(config.sinks.len(), 1);
    assert!(!config.sinks[0].required);
    Ok(())
}
