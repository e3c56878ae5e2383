//! What is on the pools of a machine, as a checker needs it.

use std::collections::{BTreeMap, BTreeSet};

use model::protection::{ProtectionKind, parse_cursor_name};
use model::{CreateTxg, Guid, JobName, VersionKind};

use crate::process::Host;

/// All datasets of a machine by full name.
pub type Picture = BTreeMap<String, DatasetPicture>;

/// One dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatasetPicture {
    /// Whether it is marked as a placeholder (`zrepl:placeholder=on`).
    pub placeholder: bool,
    /// What an interrupted receive left.
    pub partial: Option<Partial>,
    /// Snapshots and bookmarks, oldest first, a bookmark before its snapshot.
    pub versions: Vec<VersionPicture>,
    /// Snapshot and tag.
    pub holds: BTreeSet<(String, String)>,
}

/// What an interrupted receive left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// The snapshot that it would complete, if its token can be read.
    pub to: Option<Guid>,
}

/// One snapshot or bookmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionPicture {
    /// Which of both.
    pub kind: VersionKind,
    /// Short name.
    pub name: String,
    /// Identity.
    pub guid: Guid,
    /// Order.
    pub createtxg: CreateTxg,
}

/// Reads pools without leaving a trace.
pub trait Pools: Send {
    /// What a machine has.
    fn picture(&self, host: Host) -> Picture;
    /// A digest of what a snapshot contains; none if it is not there.
    fn content(&self, host: Host, dataset: &str, snapshot: &str) -> Option<u64>;
}

impl DatasetPicture {
    /// The snapshots, oldest first.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = &VersionPicture> {
        self.versions.iter().filter(|version| version.kind == VersionKind::Snapshot)
    }

    /// The newest snapshot.
    pub fn newest(&self) -> Option<&VersionPicture> {
        self.snapshots().next_back()
    }

    /// The guids of the job's cursors of a kind.
    pub fn cursors(&self, kind: ProtectionKind, job: &JobName) -> Vec<Guid> {
        let cursor = |version: &VersionPicture| {
            let (found, guid, owner) = parse_cursor_name(&version.name)?;
            (version.kind == VersionKind::Bookmark && found == kind && owner == job.as_str() && guid == version.guid)
                .then_some(guid)
        };
        self.versions.iter().filter_map(cursor).collect()
    }

    /// The guids of the snapshots that carry a tag.
    pub fn held(&self, tag: &str) -> Vec<Guid> {
        let carries = |version: &&VersionPicture| self.holds.contains(&(version.name.clone(), tag.to_owned()));
        self.snapshots().filter(carries).map(|version| version.guid).collect()
    }
}

/// The newest version that an incremental can start from: on the sender a snapshot or bookmark, on the
/// receiver a snapshot.
pub fn newest_common<'a>(sender: &'a DatasetPicture, receiver: &DatasetPicture) -> Option<&'a VersionPicture> {
    let there: BTreeSet<Guid> = receiver.snapshots().map(|version| version.guid).collect();
    sender.versions.iter().rev().find(|version| there.contains(&version.guid))
}
