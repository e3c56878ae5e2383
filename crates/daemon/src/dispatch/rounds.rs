//! Rounds of snapshots that somebody asks for.

use std::sync::Arc;

use tokio::sync::watch;

use super::SignalError;

/// Where rounds of snapshots are asked for. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotRequests(Arc<watch::Sender<Phase>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Asked,
    Running,
}

impl Default for SnapshotRequests {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Idle)))
    }
}

impl SnapshotRequests {
    /// Asks for a round now.
    pub(super) fn ask(&self) -> Result<(), SignalError> {
        let asked = self.0.send_if_modified(|phase| {
            let idle = *phase == Phase::Idle;
            if idle {
                *phase = Phase::Asked;
            }
            idle
        });
        if asked { Ok(()) } else { Err(SignalError::AlreadySnapshotting) }
    }

    /// Waits until a round is asked for.
    pub(crate) async fn asked(&self) {
        // The sender is here: waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|phase| *phase == Phase::Asked).await;
    }

    /// A round begins, which is what was asked for, if anything was.
    pub(crate) fn round(&self) -> Round<'_> {
        self.0.send_replace(Phase::Running);
        Round(self)
    }
}

/// A round of snapshots, until it is dropped.
pub(crate) struct Round<'a>(&'a SnapshotRequests);

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(Phase::Idle);
    }
}
