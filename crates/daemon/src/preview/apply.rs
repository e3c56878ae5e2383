//! Plans applied to views in memory: what listings would show if everything planned had succeeded.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::plan::protection::{ProtectionChanges, after_completion, after_receive, protect_before_send};
use model::plan::replication::{Base, FilesystemAction, ReplicationPlan, Step};
use model::plan::resolve::Resolution;
use model::plan::snapshot::SnapshotPlan;
use model::protection::{Protection, ProtectionKind, ProtectionPolicy};
use model::view::{Encryption, FilesystemView, Placeholder, View};
use model::{
    CreateTxg, DatasetName, Guid, JobName, NameError, UnixTime, Version, VersionKind, VersionName, VersionRef,
};

/// Adds the snapshots of a round, with guids that are made up.
pub(super) fn take(view: &mut View, plan: &SnapshotPlan, now: Timestamp) {
    for (name, guid) in plan.filesystems.iter().zip(made_up_guids()) {
        let Some(filesystem) = view.filesystems.get_mut(name) else { continue };
        let snapshot = Version {
            kind: VersionKind::Snapshot,
            name: plan.name.clone(),
            guid,
            createtxg: next_txg(&filesystem.versions),
            creation: UnixTime(now.as_second()),
            userrefs: 0,
        };
        add(filesystem, snapshot);
    }
}

/// From the end of the range, where a chance meeting with a guid of ZFS is as unlikely as anywhere.
fn made_up_guids() -> impl Iterator<Item = Guid> {
    (0..u64::MAX).map(|number| Guid(u64::MAX - number))
}

/// Both sides of a replication.
pub(super) struct Sides<'a> {
    /// Whose protections they are on the sender.
    pub(super) job: &'a JobName,
    pub(super) policy: ProtectionPolicy,
    pub(super) sender: &'a mut View,
    pub(super) receiver: &'a mut View,
}

impl Sides<'_> {
    /// Does all steps and repairs.
    pub(super) fn replicate(&mut self, plan: &ReplicationPlan) -> Result<(), NameError> {
        for filesystem in &plan.filesystems {
            match &filesystem.action {
                FilesystemAction::Steps { base, resolution, steps, .. } => {
                    if let Some(resolution) = resolution {
                        self.resolve(&filesystem.name, resolution);
                    }
                    match base {
                        Base::Common(version) if steps.is_empty() => {
                            self.complete(&filesystem.name, version, Some(version))?;
                        }
                        _ => self.steps(&filesystem.name, steps)?,
                    }
                }
                FilesystemAction::Confirm { version, .. } => self.complete(&filesystem.name, version, Some(version))?,
                FilesystemAction::Nothing(_) | FilesystemAction::Conflict(_) => {}
            }
        }
        Ok(())
    }

    fn resolve(&mut self, name: &DatasetName, resolution: &Resolution) {
        match (resolution, self.receiver.filesystems.get_mut(name)) {
            (Resolution::RollBack { destroy, .. }, Some(receiver)) => {
                let goes = |version: &Version| version.is_snapshot() && destroy.contains(&version.to_ref());
                receiver.versions = receiver.versions.iter().filter(|version| !goes(version)).cloned().collect();
                receiver.protections.retain(|protection| !destroy.contains(&protection.version));
                receiver.partial = None;
            }
            (Resolution::RenameAside { .. }, _) => self.receiver.filesystems.retain(|other, _| !other.is_within(name)),
            (Resolution::RollBack { .. }, None) => {}
        }
    }

    /// What the steps before the last one protect, the last one lets go: it alone decides about holds
    /// and bookmarks.
    fn steps(&mut self, name: &DatasetName, steps: &[Step]) -> Result<(), NameError> {
        let (Some(sender), Some(last)) = (self.sender.filesystems.get_mut(name), steps.last()) else { return Ok(()) };
        let receiver = self.receiver.filesystems.entry(name.clone()).or_insert_with(|| nothing_yet(sender));
        let from_nothing = steps.first().is_some_and(|step| step.from.is_none());
        let snapshots: HashMap<Guid, &Version> = sender.snapshots().map(|version| (version.guid, version)).collect();
        receive(receiver, from_nothing, steps.iter().filter_map(|step| snapshots.get(&step.to.guid).copied()));
        let strategy = self.policy.for_step(last.from.as_ref());
        let before = protect_before_send(self.job, last.from.as_ref(), &last.to, strategy, &sender.protections)?;
        change(sender, &before, ProtectionKind::StepHold);
        self.complete(name, &last.to, last.from.as_ref())
    }

    fn complete(&mut self, name: &DatasetName, to: &VersionRef, from: Option<&VersionRef>) -> Result<(), NameError> {
        let strategy = self.policy.for_step(from);
        if let Some(sender) = self.sender.filesystems.get_mut(name) {
            let after = after_completion(self.job, to, strategy, &sender.protections)?;
            change(sender, &after, ProtectionKind::StepHold);
        }
        if let Some(receiver) = self.receiver.filesystems.get_mut(name) {
            let after = after_receive(to, strategy, &receiver.protections);
            change(receiver, &after, ProtectionKind::LastReceivedHold);
        }
        Ok(())
    }
}

fn nothing_yet(sender: &FilesystemView) -> FilesystemView {
    FilesystemView {
        kind: sender.kind,
        placeholder: Placeholder::Unset,
        encryption: Encryption::None,
        versions: Arc::default(),
        partial: None,
        protections: Vec::new(),
    }
}

fn receive<'a>(receiver: &mut FilesystemView, from_nothing: bool, sent: impl Iterator<Item = &'a Version>) {
    receiver.partial = None;
    if receiver.placeholder == Placeholder::On {
        receiver.placeholder = Placeholder::Off;
    }
    let there = if from_nothing { Arc::default() } else { Arc::clone(&receiver.versions) };
    let CreateTxg(first) = next_txg(&there);
    let arrived =
        sent.zip(first..).map(|(version, txg)| Version { createtxg: CreateTxg(txg), userrefs: 0, ..version.clone() });
    receiver.versions = Version::sorted(there.iter().cloned().chain(arrived).collect());
}

/// Holds and bookmarks as a side changes them; `kind` is that of the holds.
fn change(filesystem: &mut FilesystemView, changes: &ProtectionChanges, kind: ProtectionKind) {
    for held in &changes.holds {
        count_holds(filesystem, held, |holds| holds.saturating_add(1));
        if let Some(version) = find(&filesystem.versions, held) {
            let protection = Protection { kind, version: version.to_ref(), createtxg: version.createtxg };
            filesystem.protections.push(protection);
        }
    }
    for (source, name) in &changes.bookmarks {
        let Some(source) = find(&filesystem.versions, source) else { continue };
        let bookmark = Version { kind: VersionKind::Bookmark, name: name.clone(), userrefs: 0, ..source.clone() };
        let kind = model::protection::parse_cursor_name(name.as_str()).map(|(kind, ..)| kind);
        let version = bookmark.to_ref();
        let made = kind.map(|kind| Protection { kind, version, createtxg: bookmark.createtxg });
        filesystem.protections.extend(made);
        add(filesystem, bookmark);
    }
    for released in &changes.release {
        count_holds(filesystem, &released.version, |holds| holds.saturating_sub(1));
        filesystem.protections.retain(|protection| protection != released);
    }
    for name in &changes.destroy_bookmarks {
        let is_it = |kind: VersionKind, other: &VersionName| kind == VersionKind::Bookmark && other == name;
        let kept = filesystem.versions.iter().filter(|version| !is_it(version.kind, &version.name));
        filesystem.versions = kept.cloned().collect();
        filesystem.protections.retain(|protection| !is_it(protection.version.kind, &protection.version.name));
    }
}

fn count_holds(filesystem: &mut FilesystemView, version: &VersionRef, count: impl Fn(u32) -> u32) {
    let counted = filesystem.versions.iter().cloned().map(|mut one| {
        if one.kind == version.kind && one.guid == version.guid {
            one.userrefs = count(one.userrefs);
        }
        one
    });
    filesystem.versions = counted.collect();
}

fn add(filesystem: &mut FilesystemView, version: Version) {
    filesystem.versions = Version::sorted(filesystem.versions.iter().cloned().chain([version]).collect());
}

fn find<'a>(versions: &'a [Version], wanted: &VersionRef) -> Option<&'a Version> {
    versions.iter().find(|version| version.kind == wanted.kind && version.guid == wanted.guid)
}

fn next_txg(versions: &[Version]) -> CreateTxg {
    CreateTxg(versions.iter().map(|version| version.createtxg.0).max().unwrap_or(0).saturating_add(1))
}
