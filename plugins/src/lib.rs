//! The plugins of `audit-exporter`.

mod microsoft;
mod sources;

use audit_exporter_core::plugin::Registry;

/// Every plugin that ships with `audit-exporter`. Add yours to it in a `main` of your own.
#[must_use]
pub fn registry() -> Registry {
    Registry::default().source("management_activity", sources::management_activity::build)
}
