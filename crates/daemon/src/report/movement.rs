//! Whether an invocation gets on, as opposed to whether it runs.

use std::collections::BTreeMap;

use model::DatasetName;
use model::event::{Replication, What};

/// The invocation that runs, as far as that needs to be known.
#[derive(Debug, Clone, Default)]
pub(super) struct Movement {
    /// Bytes of the steps that run.
    flowing: BTreeMap<DatasetName, u64>,
}

impl Movement {
    /// Whether the event says that something of the invocation has moved: snapshots that are taken beside it
    /// do not, nor does a wait that begins or a step that fails.
    pub(super) fn moves(&mut self, what: &What) -> bool {
        match what {
            What::Replication(what) => self.replication(what),
            What::Pruning { .. } => true,
            _ => false,
        }
    }

    fn replication(&mut self, what: &Replication) -> bool {
        match what {
            Replication::StepProgress { filesystem, bytes, .. } => {
                let before = self.flowing.insert(filesystem.clone(), *bytes).unwrap_or_default();
                *bytes > before
            }
            Replication::StepStarted { filesystem, .. } | Replication::StepFinished { filesystem, .. } => {
                self.flowing.remove(filesystem);
                true
            }
            Replication::StepFailed { filesystem, .. } => {
                self.flowing.remove(filesystem);
                false
            }
            Replication::Reconnecting { .. } | Replication::ReconnectFailed { .. } | Replication::Blocked { .. } => {
                false
            }
            _ => true,
        }
    }
}
