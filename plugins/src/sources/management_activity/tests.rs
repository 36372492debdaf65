use std::collections::BTreeMap;
use std::sync::Mutex;

use audit_exporter_core::plugin::Unit;

use super::ledger::Checkpoint;

/// Units and the checkpoint, as the journal would keep them.
#[derive(Default)]
pub(super) struct Memory {
    kept: Mutex<(BTreeMap<String, Unit>, Option<Checkpoint>)>,
}

impl Memory {
    pub(super) fn checkpoint(&self) -> Option<Checkpoint> {
        self.kept.lock().unwrap().1.clone()
    }

    pub(super) fn register(&self, units: Vec<Unit>, checkpoint: &Checkpoint) -> usize {
        let mut kept = self.kept.lock().unwrap();
        let before = kept.0.len();
        for unit in units {
            kept.0.entry(unit.id.to_string()).or_insert(unit);
        }
        kept.1 = Some(checkpoint.clone());
        kept.0.len() - before
    }
}
