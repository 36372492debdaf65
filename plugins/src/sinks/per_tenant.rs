//! What a sink has for each of its tenants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use audit_exporter_core::Result;
use audit_exporter_core::config::{Options, Tenant};

/// Makes a tenant's own from the options as they are for it, its name and its id.
type Read<T> = Box<dyn Fn(&Options, &str, &str) -> Result<T> + Send + Sync>;

/// One `T` a tenant: a destination with its credentials, which no other tenant's events may reach.
pub(super) struct PerTenant<T> {
    options: Options,
    read: Read<T>,
    known: Mutex<HashMap<Arc<str>, Arc<T>>>,
}

impl<T> PerTenant<T> {
    /// Reads every tenant's options, so that an error shows at start.
    pub(super) fn new(
        options: Options,
        tenants: &[Tenant],
        read: impl Fn(&Options, &str, &str) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        if tenants.is_empty() {
            read(&options.for_tenant("")?, "", "")?;
        }
        let own = Self {
            options,
            read: Box::new(read),
            known: Mutex::default(),
        };
        for tenant in tenants {
            own.of(&tenant.name, &tenant.id)?;
        }
        Ok(own)
    }

    /// A tenant's own. One that left the configuration may still have events in the journal.
    pub(super) fn of(&self, name: &Arc<str>, id: &str) -> Result<Arc<T>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name) {
            return Ok(Arc::clone(found));
        }
        let made = Arc::new((self.read)(&self.options.for_tenant(name)?, name, id)?);
        known.insert(Arc::clone(name), Arc::clone(&made));
        Ok(made)
    }

    /// Those of all tenants, in the order of their names.
    pub(super) fn all(&self) -> Vec<Arc<T>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut named: Vec<_> = known.iter().collect();
        named.sort_unstable_by_key(|(name, _)| Arc::clone(name));
        named.into_iter().map(|(_, own)| Arc::clone(own)).collect()
    }
}
