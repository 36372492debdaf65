//! Bad configurations and the exact messages about them.

use std::path::Path;

use super::Config;
use crate::error::Result;

const GOOD: &str = r#"
[tenants.contoso]
id = "8F1C7F4E-6f3a-4c39-9d3b-2c1f0e9a7b55"
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

#[test]
fn a_good_configuration() -> Result<()> {
    let config = Config::from_toml(GOOD, Path::new("/etc/x"))?;
    assert_eq!(config.journal.path, Path::new("/etc/x/data/journal"));
    assert_eq!(
        &*config.tenants[0].id,
        "8f1c7f4e-6f3a-4c39-9d3b-2c1f0e9a7b55"
    );
    assert_eq!(config.sinks[0].tenants, ["contoso".into()]);
    assert_eq!(
        config.warnings,
        ["sources.activity: no sink takes the events of fabrikam"]
    );
    Ok(())
}
