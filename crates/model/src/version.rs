//! Snapshots and bookmarks.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::name::VersionName;

/// The identity of a snapshot's content, equal on every pool that holds it. A bookmark has the guid
/// of the snapshot that it was made from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub u64);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guid {}", self.0)
    }
}

/// The transaction group in which a version was made. It orders the versions of one pool and means
/// nothing on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CreateTxg(pub u64);

/// A point in time as ZFS keeps it: whole seconds since 1970, 8 bytes. A table of a large host holds a
/// million of them, which is why it is not a [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub i64);

impl UnixTime {
    /// The same instant; times that no calendar has become the nearest one that it has.
    pub fn to_timestamp(self) -> Timestamp {
        Timestamp::from_second(self.0).unwrap_or(if self.0 < 0 { Timestamp::MIN } else { Timestamp::MAX })
    }
}

/// What a version is. Bookmarks sort before snapshots of the same transaction group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VersionKind {
    /// Only the identity of a snapshot: enough to send *from*, not to send.
    Bookmark,
    /// A snapshot.
    Snapshot,
}

impl VersionKind {
    /// The character that separates the dataset from the short name.
    pub fn delimiter(self) -> char {
        match self {
            VersionKind::Bookmark => '#',
            VersionKind::Snapshot => '@',
        }
    }
}

/// A snapshot or bookmark as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Snapshot or bookmark.
    pub kind: VersionKind,
    /// The short name.
    pub name: VersionName,
    /// Identity across pools.
    pub guid: Guid,
    /// Order within the pool.
    pub createtxg: CreateTxg,
    /// When the snapshot was taken (a bookmark: when its snapshot was).
    pub creation: UnixTime,
    /// How many holds a snapshot has; 0 for a bookmark.
    pub userrefs: u32,
}

impl Version {
    /// The part of a version that requests carry.
    pub fn to_ref(&self) -> VersionRef {
        VersionRef { kind: self.kind, name: self.name.clone(), guid: self.guid }
    }

    /// Whether this is a snapshot.
    pub fn is_snapshot(&self) -> bool {
        self.kind == VersionKind::Snapshot
    }

    /// A list in [`Version::order`], as views want it.
    pub fn sorted(mut versions: Vec<Version>) -> Arc<[Version]> {
        versions.sort_by_key(Version::order);
        versions.into()
    }

    /// The order of one pool's versions: by transaction group, a bookmark before its snapshot.
    pub fn order(&self) -> (CreateTxg, VersionKind) {
        (self.createtxg, self.kind)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.delimiter(), self.name)
    }
}

/// A version named for an operation: the name says where to look, the guid what must be found there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionRef {
    /// Snapshot or bookmark.
    pub kind: VersionKind,
    /// The short name.
    pub name: VersionName,
    /// The content that the name must stand for.
    pub guid: Guid,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.delimiter(), self.name)
    }
}
