//! Resolves conflicts on the receiver as the plan says, right before the steps of a filesystem.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::event::{Replication, What};
use model::plan::resolve::{Resolution, WhenDiverged};
use model::{DatasetName, RetryClass, VersionRef};
use wire::{CallError, RenameAsideRequest, RollBackRequest, SendRequest};

use super::invocation::Invocation;
use super::sides::Sides;
use super::step::StepRun;
use super::tally::Tally;

/// What a plan says about a conflict of one filesystem.
pub(super) struct Resolving {
    pub(super) resolution: Resolution,
    /// What an interrupted step left on the receiver goes as well.
    pub(super) discards: bool,
    /// What the sender is to protect as having arrived.
    pub(super) common: Option<VersionRef>,
}

/// Changes the receiver for one filesystem.
pub(super) struct Resolver<'a> {
    pub(super) sides: Sides,
    pub(super) invocation: &'a Invocation,
    pub(super) tally: &'a Tally,
    pub(super) filesystem: DatasetName,
}

impl Resolver<'_> {
    /// Does what comes before the first step.
    pub(super) async fn resolve(&self, how: &Resolving) -> Result<(), CallError> {
        match &how.resolution {
            resolution @ Resolution::RollBack { to, destroy } => {
                self.protect_base(how.common.as_ref()).await?;
                let request = RollBackRequest {
                    filesystem: self.filesystem.clone(),
                    to: to.clone(),
                    destroy: destroy.clone(),
                    discard_partial: how.discards,
                    protection: self.invocation.policy.protection,
                };
                self.roll_back(resolution, request).await
            }
            resolution @ Resolution::RenameAside { newest, below } => {
                self.tell_resolving(resolution);
                let request = RenameAsideRequest {
                    filesystem: self.filesystem.clone(),
                    newest: newest.clone(),
                    below: below.clone(),
                };
                let aside = self.sides.receiver.rename_aside(&request).await?;
                self.tell_resolved(format!("renamed what the receiver had to {:?}", aside.as_str()));
                Ok(())
            }
        }
    }

    /// Resolves a conflict behind which nothing is to be sent.
    pub(super) async fn resolve_only(&self, how: &Resolving) -> Result<(), CallError> {
        self.resolve(how).await?;
        self.tell(Replication::Confirmed { filesystem: self.filesystem.clone() });
        Ok(())
    }

    /// Has the sender protect the common version as after a step that brought it, before the receiver
    /// loses all that is newer: a sender that was itself rolled back protects nothing, and other jobs prune
    /// it. The receiver protects its own.
    async fn protect_base(&self, common: Option<&VersionRef>) -> Result<(), CallError> {
        let Some(version) = common else { return Ok(()) };
        let request = SendRequest {
            filesystem: self.filesystem.clone(),
            from: Some(version.clone()),
            to: version.clone(),
            resume_token: None,
            protection: self.invocation.policy.protection,
        };
        self.sides.sender.send_completed(&request).await
    }

    /// Runs a step. Live changes on the receiver, of which no listing tells, are rolled back if the job
    /// wants that, and the step is run again; one that resumed another has to be planned anew, because the
    /// receiver has more of it now. `base` is what the receiver has, by its name there.
    pub(super) async fn step(&self, run: &StepRun<'_>, base: Option<VersionRef>) -> Result<(), CallError> {
        match (run.run().await, base) {
            (Err(CallError::TargetModified(_)), Some(base))
                if self.invocation.policy.conflicts.diverged == WhenDiverged::RollbackReceiver =>
            {
                self.roll_back_changes(base).await?;
                // Of the step, not of the invocation, which has sent them.
                run.bytes.store(0, Ordering::Relaxed);
                match run.step.resume_token {
                    None => run.run().await,
                    Some(_) => Err(CallError::Refused {
                        class: RetryClass::Transient,
                        message: "the receiver was modified and has been rolled back".to_owned(),
                    }),
                }
            }
            (result, _) => result,
        }
    }

    async fn roll_back_changes(&self, to: VersionRef) -> Result<(), CallError> {
        let resolution = Resolution::RollBack { to: to.clone(), destroy: Vec::new() };
        let request = RollBackRequest {
            filesystem: self.filesystem.clone(),
            to,
            destroy: Vec::new(),
            discard_partial: false,
            protection: self.invocation.policy.protection,
        };
        self.roll_back(&resolution, request).await
    }

    async fn roll_back(&self, resolution: &Resolution, request: RollBackRequest) -> Result<(), CallError> {
        self.tell_resolving(resolution);
        let destroyed = self.sides.receiver.roll_back(&request).await?;
        self.tally.destroyed(destroyed.len());
        let reason: Arc<str> = format!("newer than {} ({})", request.to, resolution.policy()).into();
        for snapshot in destroyed {
            let (filesystem, reason) = (self.filesystem.clone(), Arc::clone(&reason));
            self.tell(Replication::DestroyedToResolve { filesystem, snapshot, reason });
        }
        self.tell_resolved(format!("rolled the receiver back to {}", request.to));
        Ok(())
    }

    fn tell_resolving(&self, resolution: &Resolution) {
        let (filesystem, resolution) = (self.filesystem.clone(), resolution.clone());
        self.tell(Replication::Resolving { filesystem, resolution });
    }

    fn tell_resolved(&self, how: String) {
        self.tell(Replication::Resolved { filesystem: self.filesystem.clone(), how });
    }

    fn tell(&self, what: Replication) {
        self.invocation.events.tell(What::Replication(what));
    }
}
