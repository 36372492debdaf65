//! What a plugin gets to see, and the exact messages about it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::config::{Options, Secret, Span};
use crate::error::Result;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Splunk {
    url: String,
    index: Option<String>,
    token: Option<Secret>,
    linger: Option<Span>,
    #[serde(default)]
    tls: Tls,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    ca_file: Option<PathBuf>,
    ports: Option<Vec<u16>>,
}

fn parse(text: &str) -> Result<Splunk> {
    Options::from_toml("sinks.splunk", text).parse()
}

fn problem<T>(result: Result<T>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "no problem".to_owned())
}

#[test]
fn our_keys_are_not_the_plugins() {
    let text = "type = \"splunk_hec\"\nrequired = false\nurl = \"u\"";
    assert_eq!(problem(parse(text)), "no problem");
}

#[test]
fn each_problem_says_where_and_what() {
    for (text, expected) in [
        ("", "sinks.splunk.url: required, but not set"),
        (
            "url = \"u\"\nindx = \"main\"",
            "sinks.splunk.indx: unknown key; did you mean \"index\"?",
        ),
        (
            "url = \"u\"\nrequird = true",
            "sinks.splunk.requird: unknown key; did you mean \"required\"?",
        ),
        (
            "url = \"u\"\ntls.ca = \"x\"",
            "sinks.splunk.tls.ca: unknown key; valid keys: \"ca_file\", \"ports\"",
        ),
        (
            "url = \"u\"\ntls.ports = [1, 65536]",
            "sinks.splunk.tls.ports[1]: expected a whole number from 0 to 65535, found 65536",
        ),
        (
            "url = \"u\"\ntls = \"hunter2\"",
            "sinks.splunk.tls: expected a table, found text",
        ),
        (
            "url = \"u\"\nlinger = \"soon\"",
            "sinks.splunk.linger: expected a time span such as \"30s\" or \"7d\", found \"soon\"",
        ),
        (
            "url = [",
            "sinks.splunk: line 1, column 8: invalid array, expected `]`",
        ),
    ] {
        assert_eq!(problem(parse(text)), expected, "for {text}");
    }
}

const PER_TENANT_TOML: &str = r#"
    url = "u"
    index = "main"
    token = { env = "TOKEN" }
    [per_tenant.contoso]
    index = "contoso"
    token = { file = "contoso.token" }
    [per_tenant.fabrikam]
    required = false
    [per_tenant.woodgrove]
    indx = "woodgrove"
"#;

#[test]
fn a_tenants_options_replace_whole_keys() -> Result<()> {
    let options = Options::from_toml("sinks.splunk", PER_TENANT_TOML);
    let base: Splunk = options.parse_base()?;
    assert_eq!(base.index.as_deref(), Some("main"));
    let contoso: Splunk = options.parse_for("contoso")?;
    assert_eq!(contoso.url, "u");
    assert_eq!(contoso.index.as_deref(), Some("contoso"));
    let token = contoso.token.map(|token| token.describe());
    assert_eq!(token.as_deref(), Some("file contoso.token"));
    assert_eq!(options.parse_for::<Splunk>("other")?, base);
    assert_eq!(
        options
            .overridden_tenants()?
            .into_iter()
            .collect::<Vec<_>>(),
        ["contoso", "fabrikam", "woodgrove"]
    );
    Ok(())
}

#[test]
fn problems_with_a_tenants_options_name_the_tenant() -> Result<()> {
    let options = Options::from_toml("sinks.splunk", PER_TENANT_TOML);
    assert_eq!(
        problem(options.parse_for::<Splunk>("fabrikam")),
        "sinks.splunk.per_tenant.fabrikam.required: cannot differ by tenant"
    );
    assert_eq!(
        problem(options.parse_for::<Splunk>("woodgrove")),
        "sinks.splunk.per_tenant.woodgrove.indx: unknown key; did you mean \"index\"?"
    );
    let contoso = options.for_tenant("contoso")?;
    assert_eq!(
        contoso
            .invalid("index", "another", "\"contoso\"")
            .to_string(),
        "sinks.splunk.per_tenant.contoso.index: expected another, found \"contoso\""
    );
    assert_eq!(
        contoso.invalid("url", "another", "\"u\"").to_string(),
        "sinks.splunk.url: expected another, found \"u\""
    );
    Ok(())
}

/// Otherwise one tenant's events would go to the destination of all.
#[test]
fn a_type_that_reads_no_options_per_tenant_refuses_them() {
    let options = Options::from_toml("sinks.splunk", PER_TENANT_TOML);
    assert_eq!(
        problem(options.parse::<Splunk>()),
        "sinks.splunk.per_tenant: this type has no options per tenant"
    );
}

#[test]
fn unknown_values_name_the_nearest() {
    let options = Options::from_toml("sinks.splunk", "type = \"splnk\"");
    let types = ["file", "splunk"];
    assert_eq!(
        options
            .unknown_value("type", "a sink type", "splnk", types.into_iter())
            .to_string(),
        "sinks.splunk.type: expected a sink type, found \"splnk\"; did you mean \"splunk\"?"
    );
    assert_eq!(
        options
            .unknown_value("type", "a sink type", "kafka", types.into_iter())
            .to_string(),
        "sinks.splunk.type: expected a sink type, found \"kafka\"; valid: \"file\", \"splunk\""
    );
}

#[test]
fn debug_shows_no_values() {
    let options = Options::from_toml("sinks.splunk", "token = \"hunter2\"");
    assert_eq!(format!("{options:?}"), "Options(sinks.splunk)");
}
