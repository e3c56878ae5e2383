//! Carries out changes of protections: everything is made before anything is removed.

use futures::stream::{self, StreamExt};
use model::event::{ProtectionOutcome, What};
use model::plan::protection::{ProtectionChanges, stale_protections};
use model::protection::{Protection, ProtectionKind, last_received_tag, step_hold_tag};
use model::{CreateTxg, DatasetName, HoldTag, VersionKind, VersionName, VersionRef};
use wire::CallError;
use zfs::Snapshot;

use super::batch::Change;
use super::refused;
use super::view::{Seen, Side};
use crate::limits::CLEANUPS;

/// Of what was just made: newer than all that a listing showed.
const NOW: CreateTxg = CreateTxg(u64::MAX);

impl Side {
    /// Makes what `changes` wants made, `kind` saying what holds and bookmarks are. Stops at the first
    /// failure; what was made until then is noted, told, and stays.
    pub(super) async fn make(
        &self,
        dataset: &DatasetName,
        changes: &ProtectionChanges,
        kind: Made,
    ) -> Result<Vec<Protection>, CallError> {
        let mut made = self.make_holds(dataset, &changes.holds, kind.hold()).await?;
        for (source, name) in &changes.bookmarks {
            self.zfs.bookmark(dataset, source, name).await.map_err(|error| refused(&error))?;
            let version = VersionRef { kind: VersionKind::Bookmark, name: name.clone(), guid: source.guid };
            let bookmark = Protection { kind: kind.bookmark(), version, createtxg: NOW };
            self.note_made(dataset, &bookmark)?;
            made.push(bookmark);
        }
        Ok(made)
    }

    async fn make_holds(
        &self,
        dataset: &DatasetName,
        snapshots: &[VersionRef],
        kind: ProtectionKind,
    ) -> Result<Vec<Protection>, CallError> {
        let Some((tag, full)) = self.tagged(dataset, snapshots, kind)? else { return Ok(Vec::new()) };
        let results = self.batches.run(Change::Hold, &*self.zfs, &tag, &full).await;
        let mut failed = None;
        let mut made = Vec::new();
        for (version, result) in snapshots.iter().zip(results) {
            match result {
                Ok(()) => {
                    let hold = Protection { kind, version: version.clone(), createtxg: NOW };
                    self.note_made(dataset, &hold)?;
                    made.push(hold);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) => Err(refused(&error)),
            None => Ok(made),
        }
    }

    /// Removes what `changes` wants removed. A failure is told and leaves the rest to a later call: it
    /// never makes a step fail.
    pub(super) async fn remove(&self, dataset: &DatasetName, changes: &ProtectionChanges) {
        self.release(dataset, &changes.release).await;
        for name in &changes.destroy_bookmarks {
            self.destroy_bookmark(dataset, name).await;
        }
    }

    /// Removes protections that were made for nothing.
    pub(super) async fn unmake(&self, dataset: &DatasetName, made: &[Protection]) {
        let (holds, bookmarks): (Vec<_>, Vec<_>) =
            made.iter().cloned().partition(|protection| protection.version.kind == VersionKind::Snapshot);
        let destroy_bookmarks = bookmarks.into_iter().map(|protection| protection.version.name).collect();
        self.remove(dataset, &ProtectionChanges { release: holds, destroy_bookmarks, ..Default::default() }).await;
    }

    /// Removes what no step can need any longer of everything that was just listed; how many.
    pub(super) async fn clean_stale(&self, seen: &[Seen]) -> usize {
        let mut holds = Vec::new();
        let mut bookmarks = Vec::new();
        for Seen { dataset, protections } in seen {
            let stale = stale_protections(protections);
            holds.extend(stale.release.into_iter().map(|hold| (&dataset.name, hold)));
            bookmarks.extend(stale.destroy_bookmarks.into_iter().map(|bookmark| (&dataset.name, bookmark)));
        }
        let mut removed = 0;
        for kind in [ProtectionKind::StepHold, ProtectionKind::LastReceivedHold] {
            removed += self.release_all(&holds, kind).await;
        }
        let mut destroys = Vec::new();
        for (name, bookmark) in &bookmarks {
            destroys.push(self.destroy_bookmark(name, bookmark));
        }
        let destroyed: Vec<bool> = stream::iter(destroys).buffer_unordered(CLEANUPS).collect().await;
        removed + destroyed.into_iter().filter(|destroyed| *destroyed).count()
    }

    async fn release(&self, dataset: &DatasetName, holds: &[Protection]) {
        let holds: Vec<_> = holds.iter().map(|hold| (dataset, hold.clone())).collect();
        for kind in [ProtectionKind::StepHold, ProtectionKind::LastReceivedHold] {
            self.release_all(&holds, kind).await;
        }
    }

    /// Releases the holds of one kind, in one call whatever their datasets; how many.
    async fn release_all(&self, holds: &[(&DatasetName, Protection)], kind: ProtectionKind) -> usize {
        let holds: Vec<_> = holds.iter().filter(|(_, hold)| hold.kind == kind).collect();
        let Ok(tag) = self.tag(kind) else { return 0 };
        if holds.is_empty() {
            return 0;
        }
        let snapshots: Vec<Snapshot> = holds
            .iter()
            .map(|(dataset, hold)| Snapshot { dataset: (*dataset).clone(), name: hold.version.name.clone() })
            .collect();
        // A step's are of one filesystem. A cleanup's may be of all, which already share a process.
        let one = snapshots.iter().all(|snapshot| Some(&snapshot.dataset) == snapshots.first().map(|s| &s.dataset));
        let results = match one {
            true => self.batches.run(Change::Release, &*self.zfs, &tag, &snapshots).await,
            false => self.zfs.release(&tag, &snapshots).await,
        };
        let mut released = 0;
        for ((dataset, hold), result) in holds.into_iter().zip(results) {
            released += usize::from(result.is_ok());
            self.note_removed(dataset, kind, &hold.version, result);
        }
        released
    }

    async fn destroy_bookmark(&self, dataset: &DatasetName, name: &VersionName) -> bool {
        let result = self.zfs.destroy_bookmark(dataset, name).await;
        let destroyed = result.is_ok();
        let is_it = |protection: &Protection| {
            protection.version.kind == VersionKind::Bookmark && protection.version.name == *name
        };
        self.tell_removed(dataset, format!("bookmark {dataset}#{name}"), &result);
        if destroyed {
            self.table.change(dataset, |facts| facts.protections.retain(|protection| !is_it(protection)));
        }
        destroyed
    }

    fn note_made(&self, dataset: &DatasetName, made: &Protection) -> Result<(), CallError> {
        self.table.change(dataset, |facts| facts.protections.push(made.clone()));
        let object = match made.version.kind {
            VersionKind::Snapshot => format!("hold {} on {dataset}@{}", self.tag(made.kind)?, made.version.name),
            VersionKind::Bookmark => format!("bookmark {dataset}#{}", made.version.name),
        };
        self.events.tell_of(dataset, What::Protection { object, outcome: ProtectionOutcome::Made });
        Ok(())
    }

    fn note_removed(
        &self,
        dataset: &DatasetName,
        kind: ProtectionKind,
        version: &VersionRef,
        result: Result<(), zfs::Error>,
    ) {
        if result.is_ok() {
            self.table.change(dataset, |facts| {
                facts.protections.retain(|protection| !(protection.kind == kind && protection.version == *version));
            });
        }
        let tag = self.tag(kind).map_or_else(|_| String::new(), |tag| tag.to_string());
        self.tell_removed(dataset, format!("hold {tag} on {dataset}@{}", version.name), &result);
    }

    fn tell_removed(&self, dataset: &DatasetName, object: String, result: &Result<(), zfs::Error>) {
        let outcome = match result {
            Ok(()) => ProtectionOutcome::Removed,
            Err(error) => ProtectionOutcome::Failed(error.to_string()),
        };
        self.events.tell_of(dataset, What::Protection { object, outcome });
    }

    fn tagged(
        &self,
        dataset: &DatasetName,
        snapshots: &[VersionRef],
        kind: ProtectionKind,
    ) -> Result<Option<(HoldTag, Vec<Snapshot>)>, CallError> {
        if snapshots.is_empty() {
            return Ok(None);
        }
        let full = snapshots.iter().map(|version| Snapshot { dataset: dataset.clone(), name: version.name.clone() });
        Ok(Some((self.tag(kind)?, full.collect())))
    }

    fn tag(&self, kind: ProtectionKind) -> Result<HoldTag, CallError> {
        match kind {
            ProtectionKind::LastReceivedHold => last_received_tag(&self.job),
            _ => step_hold_tag(&self.job),
        }
        .map_err(CallError::permanent)
    }
}

/// What is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// Protections of a step under way.
    Step,
    /// The cursor of a completed step.
    Cursor,
    /// The hold on what was received.
    LastReceived,
}

impl Made {
    fn hold(self) -> ProtectionKind {
        match self {
            Made::Step | Made::Cursor => ProtectionKind::StepHold,
            Made::LastReceived => ProtectionKind::LastReceivedHold,
        }
    }

    fn bookmark(self) -> ProtectionKind {
        match self {
            Made::Step => ProtectionKind::TentativeCursor,
            Made::Cursor | Made::LastReceived => ProtectionKind::Cursor,
        }
    }
}
