//! The memory of bodies that are being cut, of all fetches together.
//!
//! A fetch takes its part when bytes arrive, not before: one that waits for a slow peer holds nothing. Most bodies
//! need a batch's worth. A record larger than that needs a large part as well, of which there is one: whoever holds
//! it waits for nobody, so nobody waits for ever.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};

/// What a fetch may hold without asking: many content blobs are not larger. The rest is counted in as many bytes.
const FREE_BYTES: usize = 64 << 10;
/// Units that are complete and wait to be committed, while others take their places in fetching.
const COMPLETE: usize = 64;

/// The budget. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Memory {
    batch_bytes: usize,
    batches: Arc<Semaphore>,
    large: Arc<Semaphore>,
    complete: Arc<Semaphore>,
}

/// What one fetch holds of it.
#[derive(Debug, Default)]
pub struct Held {
    batch: Option<OwnedSemaphorePermit>,
    large: Option<OwnedSemaphorePermit>,
    complete: Option<OwnedSemaphorePermit>,
}

impl Memory {
    /// A budget of `total_bytes`, of which one record may take `record_bytes`.
    #[must_use]
    pub fn new(total_bytes: usize, batch_bytes: usize, record_bytes: usize) -> Self {
        let parts = total_bytes.saturating_sub(record_bytes) / FREE_BYTES;
        Self {
            batch_bytes,
            batches: Arc::new(Semaphore::new(parts.max(batch_parts(batch_bytes)))),
            large: Arc::new(Semaphore::new(1)),
            complete: Arc::new(Semaphore::new(COMPLETE)),
        }
    }

    /// Makes `held` fit for `bytes`: waits for what is missing, gives back what is not needed.
    pub(crate) async fn fit(&self, held: &mut Held, bytes: usize) -> Result<()> {
        if bytes <= 2 * self.batch_bytes {
            held.large = None;
        }
        if bytes <= FREE_BYTES {
            held.batch = None;
            return Ok(());
        }
        if held.batch.is_none() {
            let parts = batch_parts(self.batch_bytes);
            held.batch = Some(take(&self.batches, parts).await?);
        }
        if bytes > 2 * self.batch_bytes && held.large.is_none() {
            held.large = Some(take(&self.large, 1).await?);
        }
        Ok(())
    }

    /// Gives back what a unit that is complete does not need, and waits for a place among those that wait to be
    /// committed.
    pub(crate) async fn complete(&self, held: &mut Held, bytes: usize) -> Result<()> {
        if let Some(batch) = &mut held.batch {
            let spare = batch
                .num_permits()
                .saturating_sub(bytes.div_ceil(FREE_BYTES));
            drop(batch.split(spare));
        }
        held.complete = Some(take(&self.complete, 1).await?);
        Ok(())
    }
}

/// A batch that is being filled and the one that is being committed.
fn batch_parts(batch_bytes: usize) -> usize {
    (2 * batch_bytes).div_ceil(FREE_BYTES)
}

async fn take(from: &Arc<Semaphore>, parts: usize) -> Result<OwnedSemaphorePermit> {
    let parts = u32::try_from(parts).unwrap_or(u32::MAX);
    let permit = Arc::clone(from).acquire_many_owned(parts).await;
    permit.map_err(|_| Error::bug("the intake's memory is gone"))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn large_records_come_one_at_a_time_and_leave_the_batches_alone() {
        let memory = Memory::new(20 * MIB, MIB, 16 * MIB);
        let (mut first, mut second) = (Held::default(), Held::default());
        memory.fit(&mut first, 10 * MIB).await.unwrap();
        assert!(memory.fit(&mut second, 3 * MIB).now_or_never().is_none());
        memory.fit(&mut second, MIB).await.unwrap();
        memory.fit(&mut first, MIB).await.unwrap();
        memory.fit(&mut second, 3 * MIB).await.unwrap();
    }

    #[tokio::test]
    async fn a_fetch_that_waits_for_its_peer_holds_nothing() {
        let memory = Memory::new(18 * MIB, MIB, 16 * MIB);
        let (mut first, mut second) = (Held::default(), Held::default());
        memory.fit(&mut first, FREE_BYTES).await.unwrap();
        memory.fit(&mut second, MIB).await.unwrap();
        assert!(memory.fit(&mut first, MIB).now_or_never().is_none());
        memory.fit(&mut second, 0).await.unwrap();
        memory.fit(&mut first, MIB).await.unwrap();
    }

    #[tokio::test]
    async fn a_unit_that_is_complete_keeps_only_what_it_needs() {
        let memory = Memory::new(19 * MIB, MIB, 16 * MIB);
        let (mut first, mut second) = (Held::default(), Held::default());
        memory.fit(&mut first, MIB / 2).await.unwrap();
        assert!(memory.fit(&mut second, MIB).now_or_never().is_none());
        memory.complete(&mut first, MIB / 2).await.unwrap();
        memory.fit(&mut second, MIB).await.unwrap();
    }
}
