//! Resolves conflicts on the receiver as the plan says, right before the steps of a filesystem.

use std::sync::Arc;

use model::event::{Replication, What};
use model::plan::replication::{Base, Discard, FilesystemAction};
use model::plan::resolve::{ConflictPolicy, Resolution, WhenDiverged};
use model::protection::ProtectionPolicy;
use model::{DatasetName, RetryClass, VersionRef};
use wire::{CallError, Endpoint, RenameAsideRequest, RollBackRequest, SendRequest};

use super::step::StepRun;
use super::tally::Tally;
use crate::events::Events;

/// What a plan says about conflicts of one filesystem.
#[derive(Clone, Copy)]
pub(super) struct Resolving<'a> {
    resolution: Option<&'a Resolution>,
    discard: Option<&'a Discard>,
    base: &'a Base,
}

impl<'a> Resolving<'a> {
    /// That of an action; none if it sends nothing.
    pub(super) fn of(action: &'a FilesystemAction) -> Option<Self> {
        match action {
            FilesystemAction::Steps { base, discard, resolution, .. } => {
                Some(Self { resolution: resolution.as_ref(), discard: discard.as_ref(), base })
            }
            _ => None,
        }
    }
}

/// Changes the receiver for one filesystem.
pub(super) struct Resolver<'a> {
    pub(super) sender: &'a dyn Endpoint,
    pub(super) receiver: &'a dyn Endpoint,
    pub(super) events: &'a Events,
    pub(super) tally: &'a Tally,
    pub(super) protection: ProtectionPolicy,
    pub(super) conflicts: ConflictPolicy,
    pub(super) filesystem: &'a DatasetName,
}

impl Resolver<'_> {
    /// Does what comes before the first step.
    pub(super) async fn resolve(&self, how: &Resolving<'_>) -> Result<(), CallError> {
        match how.resolution {
            None => Ok(()),
            Some(resolution @ Resolution::RollBack { to, destroy }) => {
                let request = RollBackRequest {
                    filesystem: self.filesystem.clone(),
                    to: to.clone(),
                    destroy: destroy.clone(),
                    discard_partial: how.discard.is_some(),
                    protection: self.protection,
                };
                self.roll_back(resolution, request).await
            }
            Some(resolution @ Resolution::RenameAside { newest, below }) => {
                self.tell_resolving(resolution);
                let request = RenameAsideRequest {
                    filesystem: self.filesystem.clone(),
                    newest: newest.clone(),
                    below: below.clone(),
                };
                let aside = self.receiver.rename_aside(&request).await?;
                self.tell_resolved(format!("renamed what the receiver had to {:?}", aside.as_str()));
                Ok(())
            }
        }
    }

    /// Resolves a conflict behind which nothing is to be sent. In the end the sender protects the common
    /// version as after a step that brought it; the receiver does so already.
    pub(super) async fn resolve_only(&self, how: &Resolving<'_>) -> Result<(), CallError> {
        self.resolve(how).await?;
        if let Base::Common(version) = how.base {
            let request = SendRequest {
                filesystem: self.filesystem.clone(),
                from: Some(version.clone()),
                to: version.clone(),
                resume_token: None,
                protection: self.protection,
            };
            self.sender.send_completed(&request).await?;
        }
        self.tell(Replication::Confirmed { filesystem: self.filesystem.clone() });
        Ok(())
    }

    /// Runs a step. Live changes on the receiver, of which no listing tells, are rolled back if the job
    /// wants that, and the step is run again; one that resumed another has to be planned anew, because the
    /// receiver has more of it now. `base` is what the receiver has, by its name there.
    pub(super) async fn step(&self, run: &StepRun<'_>, base: Option<VersionRef>) -> Result<(), CallError> {
        match (run.run().await, base) {
            (Err(CallError::TargetModified(_)), Some(base))
                if self.conflicts.diverged == WhenDiverged::RollbackReceiver =>
            {
                self.roll_back_changes(base).await?;
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
            protection: self.protection,
        };
        self.roll_back(&resolution, request).await
    }

    async fn roll_back(&self, resolution: &Resolution, request: RollBackRequest) -> Result<(), CallError> {
        self.tell_resolving(resolution);
        let destroyed = self.receiver.roll_back(&request).await?;
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
        self.events.tell(What::Replication(what));
    }
}
