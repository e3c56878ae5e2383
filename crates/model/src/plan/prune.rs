//! Which snapshots go, and what keeps the others.

use std::sync::Arc;

use crate::name::DatasetName;
use crate::version::{Guid, Version};

/// A keep rule. A snapshot is destroyed only if every rule of the list lets it go.
#[derive(Debug, Clone)]
pub enum KeepRule {
    /// Keep what the receiver does not have yet.
    NotReplicated {
        /// Whether the snapshot that the cursor stands for is kept as well.
        keep_snapshot_at_cursor: bool,
    },
    /// Keep the newest `count` of those whose name matches.
    LastN {
        /// How many.
        count: usize,
        /// Which; none for all.
        regex: Option<regex::Regex>,
    },
    /// Keep those whose name matches (or, negated, does not).
    Regex {
        /// The pattern, unanchored.
        regex: regex::Regex,
        /// Keep those that do not match.
        negate: bool,
    },
}

/// What pruning knows of one filesystem on the side that is pruned.
#[derive(Debug, Clone)]
pub struct PruneView {
    /// The name in the sender's name space.
    pub name: DatasetName,
    /// Why it is not pruned at all.
    pub skip: Option<SkipReason>,
    /// Its versions in order.
    pub versions: Arc<[Version]>,
    /// Where replication of the job stands.
    pub cursor: CursorView,
    /// Guid of the newest version common to both sides, as far as known: never destroyed on a
    /// receiver, whatever the rules say.
    pub common_base: Option<Guid>,
}

/// Where replication stands, as the pruned side can use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorView {
    /// Pruning has nothing to do with replication (`snap` jobs).
    NotReplicating,
    /// No cursor: nothing is known to be replicated.
    Missing,
    /// The cursor stands for this version.
    At(Guid, crate::version::CreateTxg),
}

/// Why a filesystem is not pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// `filesystem is placeholder`
    Placeholder,
    /// `filesystem has no correspondence on sender`
    NotOnSender,
}

/// Which side is pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PruneSide {
    /// The sender of a push or pull job.
    Sender,
    /// The receiver of a push or pull job.
    Receiver,
    /// The only side of a snap job.
    Local,
}

/// The decision about every snapshot of every filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrunePlan {
    /// The side.
    pub side: PruneSide,
    /// In path order.
    pub filesystems: Vec<FilesystemPrunePlan>,
}

/// The decisions about one filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemPrunePlan {
    /// The name in the sender's name space.
    pub name: DatasetName,
    /// Why it is not pruned.
    pub skip: Option<SkipReason>,
    /// The versions that were looked at (shared with the listing).
    pub versions: Arc<[Version]>,
    /// Per version of `versions`: the decision; bookmarks are never candidates.
    pub decisions: Box<[Decision]>,
    /// Per version of `versions`: whether it counts as replicated.
    pub replicated: Box<[bool]>,
}

/// The decision about one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Not a snapshot, or the filesystem is skipped.
    NotConsidered,
    /// Kept by the rule with this index in the list (the first one that keeps it).
    KeptByRule(u16),
    /// Every rule lets it go, but it is the newest common version of both sides.
    KeptAsBase,
    /// Every rule lets it go, but it is held: step holds, last-received hold or somebody else's.
    KeptHeld,
    /// Every rule lets it go.
    Destroy,
}
