//! What a listing says.

use std::sync::Arc;

use model::view::{DatasetKind, Encryption, Placeholder};
use model::{DatasetName, HoldTag, Version, VersionName};

/// The part of the name space that a listing covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All imported pools.
    Everything,
    /// These datasets and everything below them.
    Trees(Vec<DatasetName>),
    /// These datasets alone.
    Only(Vec<DatasetName>),
}

/// All datasets of a scope, parents before children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The datasets.
    pub datasets: Vec<Dataset>,
    /// What the scope names and does not exist.
    pub missing: Vec<DatasetName>,
    /// Entries whose names this program cannot use (with the reason), left out.
    pub skipped: Vec<String>,
}

/// One filesystem or volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Full name.
    pub name: DatasetName,
    /// Filesystem or volume.
    pub kind: DatasetKind,
    /// `zrepl:placeholder` if set locally (an inherited or received value does not count).
    pub placeholder: Placeholder,
    /// The text of that property if set locally, also one that means nothing; zrepl 0.0 wrote a hash.
    pub placeholder_text: Option<Box<str>>,
    /// Encryption and key status.
    pub encryption: Encryption,
    /// `receive_resume_token`, if an interrupted receive left one.
    pub resume_token: Option<String>,
    /// Snapshots and bookmarks in [`Version::order`]. Names that many datasets share are stored once.
    pub versions: Arc<[Version]>,
}

/// What tells whether a dataset holds anybody's data, apart from its snapshots.
///
/// None of it proves that a filesystem is empty: a few small files fit into blocks that a new one has,
/// so that no size changes. Together it is what a filesystem made by a program and never used looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Filesystem or volume.
    pub kind: DatasetKind,
    /// Bytes that the head refers to before compression, its metadata included; not those of
    /// snapshots, children, or an interrupted receive into an existing dataset.
    pub logical_bytes: u64,
    /// Whether it is mounted, as this process sees it.
    pub mounted: bool,
    /// Whether its `mountpoint` is `none`.
    pub without_mountpoint: bool,
    /// Whether a snapshot was ever taken of it or received into it, also if none is left; none if this
    /// ZFS does not say (`snapshots_changed`, since 2.1.6).
    pub had_snapshots: Option<bool>,
}

/// One hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The dataset of the snapshot.
    pub dataset: DatasetName,
    /// The snapshot's short name.
    pub snapshot: VersionName,
    /// The tag.
    pub tag: HoldTag,
}
