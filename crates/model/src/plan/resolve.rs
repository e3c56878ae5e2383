//! What a job may do by itself about sides that do not fit together. All of it is off unless asked for.

use std::ops::Bound;

use crate::diff::{Comparison, compare};
use crate::name::DatasetName;
use crate::protection::ProtectionKind;
use crate::version::{Version, VersionKind, VersionRef};
use crate::view::{FilesystemView, View};

/// The choices of a job for conflicts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConflictPolicy {
    /// The receiver has what the sender does not know.
    pub diverged: WhenDiverged,
    /// What an interrupted step left cannot be used any longer.
    pub dead_token: WhenTokenIsDead,
    /// Both sides have snapshots, none in common.
    pub no_common: WhenNothingInCommon,
}

/// What to do if the receiver has newer snapshots or data than the newest common version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenDiverged {
    /// Nothing: a person has to decide.
    #[default]
    Fail,
    /// Destroy what the receiver has since, and roll it back.
    RollbackReceiver,
}

/// What to do with partial state on the receiver that no step continues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenTokenIsDead {
    /// Discard it and start the step anew.
    #[default]
    Discard,
    /// Nothing: a person has to decide.
    Fail,
}

/// What to do if the receiver has snapshots, none of them the sender's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenNothingInCommon {
    /// Nothing: a person has to decide.
    #[default]
    Fail,
    /// Give the receiver's filesystem another name, and send in full.
    RenameAside,
}

/// What is done on the receiver before a filesystem's steps, and cannot be undone by this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// Snapshots are destroyed, then live changes are rolled back.
    RollBack {
        /// Where to, as the receiver names it.
        to: VersionRef,
        /// Everything newer on the receiver, oldest first; nothing else is destroyed.
        destroy: Vec<VersionRef>,
    },
    /// The filesystem gets the name of [`crate::aside`], with all that is below it.
    RenameAside {
        /// Its newest snapshot.
        newest: VersionRef,
        /// What moves along, as the sender would name it.
        below: Vec<DatasetName>,
    },
}

/// How many obstacles are named.
const NAMED_OBSTACLES_MAX: usize = 5;

/// How the receiver gets back to `common`, or what forbids it.
pub(crate) fn roll_back(
    common: &Version,
    receiver: &FilesystemView,
    newer: &[&Version],
) -> Result<Resolution, Vec<String>> {
    let Some(to) = receiver.snapshots().find(|version| version.guid == common.guid) else {
        return Err(vec![format!("{common} is not on the receiver")]);
    };
    let held = newer.iter().filter(|version| is_held_by_others(version, receiver));
    let held = held.map(|version| format!("{version} is held by somebody else"));
    // ZFS rolls back past a bookmark only together with its end, and it may be another job's base.
    let is_newer = |version: &&Version| version.kind == VersionKind::Bookmark && version.createtxg > to.createtxg;
    let marks = receiver.versions.iter().filter(is_newer).map(|version| format!("bookmark {version} is newer"));
    let obstacles: Vec<String> = held.chain(marks).take(NAMED_OBSTACLES_MAX).collect();
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    Ok(Resolution::RollBack { to: to.to_ref(), destroy: newer.iter().map(|version| version.to_ref()).collect() })
}

fn is_held_by_others(version: &Version, receiver: &FilesystemView) -> bool {
    let own = |kind, guid| kind == ProtectionKind::LastReceivedHold && guid == version.guid;
    let own = receiver.protections.iter().filter(|held| own(held.kind, held.version.guid)).count();
    usize::try_from(version.userrefs).is_ok_and(|holds| holds > own)
}

/// How the receiver's `name` gets out of the way, or what forbids it: whatever is below moves along, so
/// nothing there may be the base of a replication, of this job or of another.
pub(crate) fn rename_aside(
    name: &DatasetName,
    newest: &Version,
    sender: &View,
    receiver: &View,
) -> Result<Resolution, Vec<String>> {
    let start = format!("{name}/");
    let range = (Bound::Included(start.as_str()), Bound::Unbounded);
    let descendants = receiver.filesystems.range::<str, _>(range).take_while(|(below, _)| below.is_below(name));
    let (mut below, mut obstacles) = (Vec::new(), Vec::new());
    for (descendant, view) in descendants {
        below.push(descendant.clone());
        if view.newest_snapshot().is_none() {
            continue;
        }
        match sender.filesystems.get(descendant) {
            None => obstacles.push(format!("{descendant} is not this job's")),
            Some(source) if compare(&source.versions, &view.versions) == Comparison::Unrelated => {}
            Some(_) => obstacles.push(format!("{descendant} has snapshots in common with the sender")),
        }
    }
    obstacles.truncate(NAMED_OBSTACLES_MAX);
    if obstacles.is_empty() { Ok(Resolution::RenameAside { newest: newest.to_ref(), below }) } else { Err(obstacles) }
}
