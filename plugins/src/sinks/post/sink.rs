//! The sink itself: each tenant's batches to that tenant's far side.

use async_trait::async_trait;
use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Tenant};
use audit_exporter_core::plugin::{Batch, Delivered, Finding, Sink};

use super::super::per_tenant::PerTenant;
use super::{Destination, Post};

/// A sink that posts to one destination a tenant.
pub(in crate::sinks) struct Posting<D> {
    destinations: PerTenant<D>,
    post: Post,
}

impl<D> Posting<D> {
    /// Makes every tenant's destination by `read` (its options, name and id), so that an error shows at start.
    pub(in crate::sinks) fn new(
        options: Options,
        tenants: &[Tenant],
        read: impl Fn(&Options, &str, &str) -> Result<D> + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Self {
            destinations: PerTenant::new(options, tenants, read)?,
            post: Post::default(),
        })
    }
}

#[async_trait]
impl<D: Destination> Sink for Posting<D> {
    async fn deliver(&self, batch: &Batch) -> Result<Delivered> {
        let Some(first) = batch.events.first() else {
            return Ok(Delivered::default());
        };
        let origin = first.origin();
        let destination = self.destinations.of(&origin.tenant_name, &origin.tenant)?;
        self.post.deliver(&*destination, batch).await
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for destination in self.destinations.all() {
            for finding in destination.check().await {
                // Tenants may share a destination.
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
        findings
    }
}
