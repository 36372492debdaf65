//! What a source hands its finds and its bytes to.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Tenant;
use crate::error::{Error, Result};
use crate::plugin::Unit;

/// One tenant's way into the journal, for one source.
#[derive(Clone)]
pub struct Intake {
    tenant: Tenant,
}

impl Intake {
    /// The tenant that is collected.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The source's checkpoint, as it last stored it.
    pub async fn checkpoint<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        Err(Error::bug("not built yet"))
    }

    /// Registers what the source has listed and stores its checkpoint, in one transaction. Units that are known are
    /// left as they are. Returns how many were new.
    pub async fn register<T: Serialize + Sync>(
        &self,
        units: Vec<Unit>,
        checkpoint: &T,
    ) -> Result<usize> {
        let _ = (units, checkpoint);
        Err(Error::bug("not built yet"))
    }
}

/// Takes one unit's body, cuts it into events and commits them in bounded batches.
///
/// A decoder may write to it as to any [`std::io::Write`]; call [`UnitWriter::settle`] after each chunk.
pub struct UnitWriter {}

impl UnitWriter {
    /// Appends inflated bytes of a JSON array of records. Fails if the unit is larger than its cap.
    pub fn write(&mut self, body: &[u8]) -> Result<()> {
        let _ = body;
        Err(Error::bug("not built yet"))
    }

    /// Commits what is ready, if that is enough for a batch. Waits while the journal is full.
    pub async fn settle(&mut self) -> Result<()> {
        Err(Error::bug("not built yet"))
    }

    /// Says that the body is complete; fails (retryable) if it broke off inside the array.
    pub async fn end_of_body(&mut self) -> Result<()> {
        Err(Error::bug("not built yet"))
    }

    /// Appends one whole record, for sources whose records do not come as one JSON array.
    pub async fn record(&mut self, raw: Bytes) -> Result<()> {
        let _ = raw;
        Err(Error::bug("not built yet"))
    }
}
