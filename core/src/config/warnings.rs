//! What is allowed, but loses or wastes something if it was not meant.

use super::{Config, Sink, Source, Webhooks};

/// The warnings about a configuration that is valid.
pub(super) fn find(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let listen = config.admin.listen;
    if config.admin.enabled && !listen.ip().is_loopback() {
        warnings.push(format!(
            "admin.listen: {listen} can be reached from other machines: the metrics, which name your tenants, have no \
             password, and the control token goes there without TLS; let a proxy in front of it ask for both"
        ));
    }
    let listen = config.webhooks.listen;
    if config.webhooks.public_url.is_none() && config.webhooks != Webhooks::default() {
        warnings.push(format!(
            "webhooks.listen: nobody listens at {listen} without webhooks.public_url"
        ));
    } else if config.webhooks.public_url.is_some() && !listen.ip().is_loopback() {
        warnings.push(format!(
            "webhooks.listen: {listen} can be reached from other machines, and what goes there is not TLS: let a proxy in \
             front of it end TLS, and nobody else reach it"
        ));
    }
    for tenant in &*config.tenants {
        if !config
            .sources
            .iter()
            .any(|source| source.tenants.contains(&tenant.name))
        {
            warnings.push(format!(
                "tenants.{}: no source collects its events",
                tenant.name
            ));
        }
    }
    for source in &config.sources {
        let unread: Vec<_> = source
            .tenants
            .iter()
            .filter(|tenant| !config.sinks.iter().any(|sink| takes(sink, source, tenant)))
            .map(AsRef::as_ref)
            .collect();
        if !unread.is_empty() {
            let unread = unread.join(", ");
            warnings.push(format!(
                "sources.{}: no sink takes the events of {unread}",
                source.name
            ));
        }
    }
    for sink in &config.sinks {
        let fed = |source: &Source| {
            source
                .tenants
                .iter()
                .any(|tenant| takes(sink, source, tenant))
        };
        if !config.sources.iter().any(fed) {
            warnings.push(format!(
                "sinks.{}: no source collects for its tenants",
                sink.name
            ));
        }
    }
    for filter in &config.filters {
        if !config
            .sinks
            .iter()
            .any(|sink| sink.filters.contains(&filter.name))
        {
            warnings.push(format!("filters.{}: no sink uses it", filter.name));
        }
    }
    warnings
}

fn takes(sink: &Sink, source: &Source, tenant: &std::sync::Arc<str>) -> bool {
    sink.sources.contains(&source.name) && sink.tenants.contains(tenant)
}
