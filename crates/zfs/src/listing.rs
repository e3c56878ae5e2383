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
}

/// All datasets of a scope, parents before children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The datasets.
    pub datasets: Vec<Dataset>,
    /// Roots of the scope that do not exist.
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
    /// Encryption and key status.
    pub encryption: Encryption,
    /// `receive_resume_token`, if an interrupted receive left one.
    pub resume_token: Option<String>,
    /// Snapshots and bookmarks in [`Version::order`]. Names that many datasets share are stored once.
    pub versions: Arc<[Version]>,
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
