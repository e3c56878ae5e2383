//! What zrepl keeps on disk, of all jobs: the "ZFS abstractions" of its command line.
//!
//! A job asks only for its own ([`crate::protection`]); a person who cleans up asks for everybody's.

mod query;
mod stale;

use std::collections::BTreeSet;
use std::fmt;

use crate::name::{DatasetName, HoldTag, JobName};
use crate::protection::{ProtectionKind, parse_cursor_name, parse_hold_tag};
use crate::version::{Version, VersionKind};

pub use query::{Filesystems, Query, QueryError, TxgRange};
pub use stale::{Sorted, StalenessError, sort_out};

/// The one name of a cursor of zrepl up to 0.2, which told neither job nor guid.
pub const CURSOR_V1: &str = "zrepl_replication_cursor";

/// A kind of abstraction, by the word that the command line has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AbstractionKind {
    /// A job's.
    Protection(ProtectionKind),
    /// A cursor of zrepl up to 0.2. Never made, and never stale.
    CursorV1,
}

impl AbstractionKind {
    /// All kinds, in the order of their words.
    pub const ALL: [AbstractionKind; 5] = [
        Self::Protection(ProtectionKind::LastReceivedHold),
        Self::CursorV1,
        Self::CURSOR,
        Self::STEP_HOLD,
        Self::Protection(ProtectionKind::TentativeCursor),
    ];
    /// The replication cursor of a job.
    pub const CURSOR: AbstractionKind = Self::Protection(ProtectionKind::Cursor);
    /// The hold of an unfinished step.
    pub const STEP_HOLD: AbstractionKind = Self::Protection(ProtectionKind::StepHold);

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Protection(ProtectionKind::StepHold) => "step-hold",
            Self::Protection(ProtectionKind::TentativeCursor) => "tentative-replication-cursor-bookmark-v2",
            Self::Protection(ProtectionKind::Cursor) => "replication-cursor-bookmark-v2",
            Self::Protection(ProtectionKind::LastReceivedHold) => "last-received-hold",
            Self::CursorV1 => "replication-cursor-bookmark-v1",
        }
    }

    /// Whether it is a hold, not a bookmark.
    pub fn is_hold(self) -> bool {
        matches!(self, Self::Protection(ProtectionKind::StepHold | ProtectionKind::LastReceivedHold))
    }
}

impl fmt::Display for AbstractionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A hold or bookmark of zrepl, found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abstraction {
    /// What it is.
    pub kind: AbstractionKind,
    /// The filesystem or volume.
    pub dataset: DatasetName,
    /// The snapshot that carries the hold, or the bookmark itself.
    pub version: Version,
    /// The tag of a hold.
    pub tag: Option<HoldTag>,
    /// Whose it is; none for a cursor of zrepl up to 0.2.
    pub job: Option<JobName>,
}

impl Abstraction {
    /// What a bookmark is, if it is zrepl's. The guid in the name must be the bookmark's own.
    pub fn of_bookmark(dataset: &DatasetName, version: &Version) -> Option<Abstraction> {
        if version.kind != VersionKind::Bookmark {
            return None;
        }
        let (kind, job) = if version.name.as_str() == CURSOR_V1 {
            (AbstractionKind::CursorV1, None)
        } else {
            let (kind, guid, job) = parse_cursor_name(version.name.as_str())?;
            let job = JobName::parse(job).ok().filter(|_| guid == version.guid)?;
            (AbstractionKind::Protection(kind), Some(job))
        };
        Some(Abstraction { kind, dataset: dataset.clone(), version: version.clone(), tag: None, job })
    }

    /// What a hold is, if it is zrepl's.
    pub fn of_hold(dataset: &DatasetName, snapshot: &Version, tag: &HoldTag) -> Option<Abstraction> {
        let (kind, job) = parse_hold_tag(tag.as_str())?;
        let (kind, job) = (AbstractionKind::Protection(kind), Some(JobName::parse(job).ok()?));
        Some(Abstraction { kind, dataset: dataset.clone(), version: snapshot.clone(), tag: Some(tag.clone()), job })
    }

    /// `pool/fs@snapshot` or `pool/fs#bookmark`.
    pub fn full_path(&self) -> String {
        format!("{}{}", self.dataset, self.version)
    }
}

/// As the command line prints it; scripts read it.
impl fmt::Display for Abstraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, dataset, version, tag, .. } = self;
        match tag {
            Some(tag) => write!(f, "{kind} {:?} on {dataset}{version}", tag.as_str()),
            None => write!(f, "{kind} {dataset}{version}"),
        }
    }
}

/// What nobody looks after: a job's own where it does not go any longer (its filter `selects` no such
/// filesystem), and those of jobs that are not `configured`, such as renamed ones.
pub fn abandoned<'a>(
    all: &'a [Abstraction],
    job: &JobName,
    selects: impl Fn(&DatasetName) -> bool,
    configured: &BTreeSet<JobName>,
) -> Vec<&'a Abstraction> {
    let is_abandoned = |one: &&Abstraction| match &one.job {
        Some(owner) if owner == job => !selects(&one.dataset),
        Some(owner) => !configured.contains(owner),
        None => false,
    };
    all.iter().filter(is_abandoned).collect()
}
