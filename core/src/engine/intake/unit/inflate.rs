//! Content that comes compressed by gzip.

use std::mem;

use super::{UnitWriter, incomplete};
use crate::buffer::Buffer;
use crate::engine::gunzip::{self, Gunzip};
use crate::error::{Error, Result};

/// A compressed body is small that has at most one in so many bytes of a batch.
const SMALL: usize = 4;
/// Bytes of a large one that are inflated before what is complete is looked at.
const LEAST_STEP: usize = 4 << 10;
const MOST_STEP: usize = 64 << 10;

/// The inflating of a body that comes compressed.
pub(super) enum Inflation {
    None,
    /// A small one is inflated when it has come as a whole: at one go, into a buffer of just its size.
    Waiting(Buffer),
    /// As it comes, if it is large; else it was.
    Ready(Gunzip),
    /// A call failed, or was dropped half-way.
    Broken,
}

impl Inflation {
    pub(super) fn waiting_bytes(&self) -> usize {
        match self {
            Self::Waiting(held) => held.len(),
            _ => 0,
        }
    }

    /// Says whether the body was complete.
    pub(super) fn finish(&self) -> Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Ready(gunzip) => gunzip.finish(),
            Self::Waiting(_) | Self::Broken => Err(incomplete()),
        }
    }
}

fn mixed() -> Error {
    Error::bug("a source mixes compressed content with other")
}

impl UnitWriter {
    /// Appends bytes of a JSON array of records, compressed by gzip. Commits and waits as [`UnitWriter::settle`] does.
    /// Fails if they are damaged, or the unit is larger than its cap; of a small body only its end says so.
    pub async fn write_gzip(&mut self, body: &[u8]) -> Result<()> {
        self.body = true;
        // Until this call ends: it may fail, or be dropped half-way.
        let gunzip = match mem::replace(&mut self.inflation, Inflation::Broken) {
            Inflation::Broken => return Err(incomplete()),
            Inflation::Ready(gunzip) => {
                self.gzip = None;
                gunzip
            }
            Inflation::None if self.written > 0 => {
                self.broken = true;
                return Err(mixed());
            }
            waiting => {
                let mut held = match waiting {
                    Inflation::Waiting(held) => held,
                    _ => Buffer::new(),
                };
                if held.len() + body.len() <= self.intake.0.limits.batch_bytes / SMALL {
                    held.make_room(body.len());
                    held.extend_from_slice(body);
                    self.inflation = Inflation::Waiting(held);
                    return self.settle().await;
                }
                self.inflating = held.len();
                let gunzip = self.inflate(Gunzip::new(), &held, MOST_STEP).await?;
                self.inflating = 0;
                gunzip
            }
        };
        let gunzip = self.inflate(gunzip, body, MOST_STEP).await?;
        self.inflation = Inflation::Ready(gunzip);
        Ok(())
    }

    /// Inflates a small body once it is there.
    pub(super) async fn inflate_small(&mut self) -> Result<()> {
        match mem::replace(&mut self.inflation, Inflation::Broken) {
            Inflation::Waiting(held) => {
                let gzip = held.into_bytes();
                self.inflating = gzip.len();
                let inflated = gunzip::inflated_len(&gzip).min(self.intake.0.limits.batch_bytes);
                let memory = &self.intake.0.limits.memory;
                memory.fit(&mut self.held, gzip.len() + inflated).await?;
                // One byte more shows that nothing is left.
                let gunzip = self.inflate(Gunzip::new(), &gzip, inflated + 1).await?;
                self.inflation = Inflation::Ready(gunzip);
                self.inflating = 0;
                self.gzip = (self.index == 0).then_some(gzip);
            }
            other => self.inflation = other,
        }
        Ok(())
    }

    /// Inflates all of `body`, whose next `wanted` bytes are cut at once.
    async fn inflate(
        &mut self,
        mut gunzip: Gunzip,
        mut body: &[u8],
        mut wanted: usize,
    ) -> Result<Gunzip> {
        let batch_bytes = self.intake.0.limits.batch_bytes;
        loop {
            // Little more than a batch, whatever a few bytes inflate to.
            let room = batch_bytes.saturating_sub(self.pending_bytes());
            let room = room.min(wanted).max(LEAST_STEP);
            let mut given = 0;
            self.cutter.write_with(room, |out| {
                let step = gunzip.step(body, out)?;
                body = &body[step.taken..];
                given = step.given;
                Ok::<_, Error>(given)
            })?;
            self.grow(given)?;
            fail::fail_point!("intake::cut");
            self.settle().await?;
            if given < room {
                return Ok(gunzip);
            }
            wanted = MOST_STEP;
        }
    }

    /// Refuses what is not compressed if something before was.
    pub(super) fn is_plain(&mut self) -> Result<()> {
        if matches!(self.inflation, Inflation::None) {
            return Ok(());
        }
        self.broken = true;
        Err(mixed())
    }
}
