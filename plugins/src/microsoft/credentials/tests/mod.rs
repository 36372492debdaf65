mod certificates;
mod options;
mod simulated;

use std::path::{Path, PathBuf};

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Tenant};

use super::*;
use crate::microsoft::cloud::Access;
use crate::microsoft::testing::TENANT;

const APP: &str = "9a1b0000-0000-0000-0000-000000000001";

/// One of the certificates and keys that the tests have.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/certificates")
        .join(name)
}

fn fixture_text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

/// A tenant with these options.
fn access(text: &str) -> Result<Access> {
    Access::of(&Tenant {
        name: "contoso".into(),
        id: TENANT.into(),
        tags: Vec::new(),
        options: Options::from_toml("tenants.contoso", text),
    })
}
