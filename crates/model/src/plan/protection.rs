//! Which holds and bookmarks a side makes and removes around a step.
//!
//! What is made and what is removed are separate lists: everything is made before anything is
//! removed, so that at no moment a base is without protection. What is there already is not made
//! again, so that repeating a call costs nothing.
//!
//! Protections are told apart by kind and guid; their names carry both, and the job.

use crate::name::{JobName, NameError, VersionName};
use crate::protection::{Protection, ProtectionKind, ProtectionStrategy, cursor_name, tentative_cursor_name};
use crate::version::{CreateTxg, Guid, VersionKind, VersionRef};

/// Holds and bookmarks of one filesystem to make, then others to remove.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProtectionChanges {
    /// Snapshots to hold: with the step hold's tag on a sender, the last-received tag on a receiver.
    pub holds: Vec<VersionRef>,
    /// Bookmarks to make: the version, and the bookmark's name.
    pub bookmarks: Vec<(VersionRef, VersionName)>,
    /// Holds to release, when all of the above are there.
    pub release: Vec<Protection>,
    /// Bookmarks to destroy, when all of the above are there.
    pub destroy_bookmarks: Vec<VersionName>,
}

impl ProtectionChanges {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.creates() && !self.removes()
    }

    /// Whether something is to be made.
    pub fn creates(&self) -> bool {
        !self.holds.is_empty() || !self.bookmarks.is_empty()
    }

    /// Whether something is to be removed.
    pub fn removes(&self) -> bool {
        !self.release.is_empty() || !self.destroy_bookmarks.is_empty()
    }

    fn remove<'a>(&mut self, protections: impl IntoIterator<Item = &'a Protection>) {
        for protection in protections {
            match protection.version.kind {
                VersionKind::Snapshot => self.release.push(protection.clone()),
                VersionKind::Bookmark => self.destroy_bookmarks.push(protection.version.name.clone()),
            }
        }
    }
}

/// What a sender does before it sends: protect `from` and `to`, then forget what earlier steps left.
///
/// A `from` that is a bookmark is trusted as it is: no ZFS before 2.0 can copy it, none can hold it.
/// It is never destroyed. Cursors are not touched; a `from` that the cursor is on needs no bookmark beside
/// it, because the cursor stays until the next one is there. Fails only on a bookmark name that is too long.
pub fn protect_before_send(
    job: &JobName,
    from: Option<&VersionRef>,
    to: &VersionRef,
    strategy: ProtectionStrategy,
    existing: &[Protection],
) -> Result<ProtectionChanges, NameError> {
    let ends = || from.into_iter().chain([to]);
    let snapshots = || ends().filter(|end| end.kind == VersionKind::Snapshot);
    let mut changes = ProtectionChanges::default();
    match strategy {
        ProtectionStrategy::Resumability => {
            changes.holds =
                snapshots().filter(|end| !has(existing, ProtectionKind::StepHold, end.guid)).cloned().collect();
        }
        ProtectionStrategy::Incremental => {
            let is_cursor = |end: &VersionRef| Some(end) == from && has(existing, ProtectionKind::Cursor, end.guid);
            let is_marked = |end: &VersionRef| has(existing, ProtectionKind::TentativeCursor, end.guid);
            for end in snapshots().filter(|end| !is_cursor(end) && !is_marked(end)) {
                changes.bookmarks.push((end.clone(), tentative_cursor_name(end.guid, job)?));
            }
        }
        ProtectionStrategy::Nothing => {}
    }
    changes.remove(existing.iter().filter(|protection| match (protection.kind, strategy) {
        (ProtectionKind::StepHold, ProtectionStrategy::Resumability) => !ends().any(|end| is_on(protection, end)),
        (ProtectionKind::StepHold, _) => true,
        (ProtectionKind::TentativeCursor, ProtectionStrategy::Incremental) => !ends().any(|end| is_on(protection, end)),
        (ProtectionKind::TentativeCursor, _) => Some(&protection.version) != from,
        (ProtectionKind::Cursor | ProtectionKind::LastReceivedHold, _) => false,
    }));
    Ok(changes)
}

/// What a sender does once the receiver has `to`: move the cursor there, then remove what protected
/// the step and older cursors. With [`ProtectionStrategy::Nothing`] the cursor goes as well.
///
/// A `to` that is a bookmark and not yet the cursor cannot be given one by every ZFS; then everything
/// stays as it is, because what is there may be all that keeps the base. Fails only on a bookmark name
/// that is too long.
pub fn after_completion(
    job: &JobName,
    to: &VersionRef,
    strategy: ProtectionStrategy,
    existing: &[Protection],
) -> Result<ProtectionChanges, NameError> {
    let mut changes = ProtectionChanges::default();
    let completion = Completion::of(to, strategy, existing);
    if completion.make_cursor {
        changes.bookmarks.push((to.clone(), cursor_name(to.guid, job)?));
    }
    changes.remove(completion.remove);
    Ok(changes)
}

/// Whether a sender may be told that the receiver has a version. One that does not tell its protections is
/// zrepl's: told of a bookmark, or of anything where no cursor is wanted, it protects nothing and still
/// removes whatever else the job had there, the base among it.
pub fn may_be_told(version: &VersionRef, strategy: ProtectionStrategy, tells_protections: bool) -> bool {
    tells_protections || (version.kind == VersionKind::Snapshot && strategy != ProtectionStrategy::Nothing)
}

/// What a receiver does once it has `to`: hold it, then release what it held before. With
/// [`ProtectionStrategy::Nothing`] it releases everything.
pub fn after_receive(to: &VersionRef, strategy: ProtectionStrategy, existing: &[Protection]) -> ProtectionChanges {
    let mut changes = ProtectionChanges::default();
    let wanted = strategy != ProtectionStrategy::Nothing;
    if wanted && !has(existing, ProtectionKind::LastReceivedHold, to.guid) {
        changes.holds.push(to.clone());
    }
    changes.remove(existing.iter().filter(|protection| {
        protection.kind == ProtectionKind::LastReceivedHold && !(wanted && is_on(protection, to))
    }));
    changes
}

/// What no step can need any longer, as far as one side alone can tell: to be removed when a job
/// starts. Takes the protections of one filesystem and one job.
///
/// Stale are step holds that are not newer than the cursor, and all last-received holds but the newest.
/// Without a cursor no step hold is: the older one may be on the base of a step that was interrupted, when
/// nobody told the sender that the step before had arrived. The next step releases them. A bookmark is stale only
/// if the cursor is on the same version: should the receiver have lost what it had since, an older
/// bookmark is all that is left of the common base. [`after_completion`] removes older ones, knowing
/// what the receiver has.
pub fn stale_protections(existing: &[Protection]) -> ProtectionChanges {
    let newest = |kind| existing.iter().filter(|p| p.kind == kind).map(|p| p.createtxg).max();
    let cursor = newest(ProtectionKind::Cursor);
    let last_received = newest(ProtectionKind::LastReceivedHold);
    let older = |protection: &Protection, than: Option<CreateTxg>| than.is_some_and(|txg| protection.createtxg < txg);
    let is_stale = |protection: &&Protection| match protection.kind {
        ProtectionKind::Cursor => false,
        ProtectionKind::TentativeCursor => has(existing, ProtectionKind::Cursor, protection.version.guid),
        ProtectionKind::LastReceivedHold => older(protection, last_received),
        ProtectionKind::StepHold => cursor.is_some_and(|cursor| protection.createtxg <= cursor),
    };
    let mut changes = ProtectionChanges::default();
    changes.remove(existing.iter().filter(is_stale));
    changes
}

/// What a finished step asks of the sender, before names are made of it.
pub(crate) struct Completion<'a> {
    /// The cursor has to be put on `to`.
    pub(crate) make_cursor: bool,
    /// What goes then.
    pub(crate) remove: Vec<&'a Protection>,
}

impl<'a> Completion<'a> {
    pub(crate) fn of(to: &VersionRef, strategy: ProtectionStrategy, existing: &'a [Protection]) -> Self {
        let keeps_cursor = strategy != ProtectionStrategy::Nothing;
        let make_cursor = keeps_cursor && !has(existing, ProtectionKind::Cursor, to.guid);
        if make_cursor && to.kind == VersionKind::Bookmark {
            return Self { make_cursor: false, remove: Vec::new() };
        }
        let goes = |protection: &&Protection| match protection.kind {
            ProtectionKind::StepHold => true,
            ProtectionKind::Cursor if keeps_cursor => !is_on(protection, to),
            ProtectionKind::TentativeCursor if keeps_cursor => true,
            // A base of which only this bookmark is left survives even a job that wants no cursor.
            ProtectionKind::Cursor | ProtectionKind::TentativeCursor => protection.version != *to,
            ProtectionKind::LastReceivedHold => false,
        };
        Self { make_cursor, remove: existing.iter().filter(goes).collect() }
    }
}

fn is_on(protection: &Protection, version: &VersionRef) -> bool {
    protection.version.guid == version.guid
}

fn has(existing: &[Protection], kind: ProtectionKind, guid: Guid) -> bool {
    existing.iter().any(|protection| protection.kind == kind && protection.version.guid == guid)
}
