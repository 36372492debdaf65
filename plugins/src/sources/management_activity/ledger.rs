//! The checkpoint while content types are being listed side by side.
//!
//! Every change goes to the journal first, together with the units that it stands for, and counts here afterwards. A
//! listing that is dropped in between leaves this copy behind the journal's, never ahead of it.

use std::collections::BTreeMap;

use audit_exporter_core::Result;
use audit_exporter_core::plugin::{Intake, Unit};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::window::Progress;

/// How far the source is: one entry a content type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    #[serde(default)]
    pub(super) content_types: BTreeMap<String, Progress>,
}

/// Where units and checkpoints go.
pub(super) enum Register<'a> {
    Journal(&'a Intake),
    #[cfg(test)]
    Memory(&'a super::tests::Memory),
}

/// The checkpoint, and the way to change it.
pub(super) struct Ledger<'a> {
    register: Register<'a>,
    checkpoint: Mutex<Checkpoint>,
}

impl<'a> Ledger<'a> {
    /// Begins from the checkpoint that the journal holds.
    pub(super) async fn open(register: Register<'a>) -> Result<Self> {
        let checkpoint = match &register {
            Register::Journal(intake) => intake.checkpoint().await?,
            #[cfg(test)]
            Register::Memory(memory) => memory.checkpoint(),
        };
        Ok(Self {
            register,
            checkpoint: Mutex::new(checkpoint.unwrap_or_default()),
        })
    }

    /// How far a content type is.
    pub(super) async fn progress(&self, content_type: &str) -> Progress {
        let checkpoint = self.checkpoint.lock().await;
        checkpoint
            .content_types
            .get(content_type)
            .cloned()
            .unwrap_or_default()
    }

    /// Hands over what was listed, together with the change to the content type's progress. Returns how many units
    /// were new.
    pub(super) async fn register(
        &self,
        content_type: &str,
        units: Vec<Unit>,
        change: impl FnOnce(&mut Progress) + Send,
    ) -> Result<usize> {
        let mut checkpoint = self.checkpoint.lock().await;
        let mut next = checkpoint.clone();
        change(
            next.content_types
                .entry(content_type.to_owned())
                .or_default(),
        );
        let new = match &self.register {
            Register::Journal(intake) => intake.register(units, Some(&next)).await?,
            #[cfg(test)]
            Register::Memory(memory) => memory.register(units, &next),
        };
        *checkpoint = next;
        Ok(new)
    }
}
