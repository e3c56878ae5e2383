//! What keeps a base alive on disk: holds and cursor bookmarks, with zrepl's exact names.
//!
//! The names are an interface: another daemon, or zrepl itself, must recognise them.

use regex::Regex;
use std::sync::LazyLock;

use crate::name::{HoldTag, JobName, NameError, VersionName};
use crate::version::{CreateTxg, Guid, Version, VersionKind, VersionRef};

/// How much protection a job asks for, by kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtectionPolicy {
    /// For full sends.
    pub initial: ProtectionStrategy,
    /// For incremental sends.
    pub incremental: ProtectionStrategy,
}

impl Default for ProtectionPolicy {
    fn default() -> Self {
        Self { initial: ProtectionStrategy::Resumability, incremental: ProtectionStrategy::Resumability }
    }
}

impl ProtectionPolicy {
    /// The strategy for a step, which is initial exactly when it has no `from`.
    pub fn for_step<From>(&self, from: Option<From>) -> ProtectionStrategy {
        match from {
            None => self.initial,
            Some(_) => self.incremental,
        }
    }
}

/// What must survive while a step is under way and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtectionStrategy {
    /// An interrupted step can be resumed: `from` and `to` are held until it is complete.
    Resumability,
    /// The next incremental step is possible: bookmarks of `from` and `to` are kept.
    Incremental,
    /// Nothing.
    Nothing,
}

/// The kinds of object that zrepl keeps on disk to protect a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtectionKind {
    /// Hold on the sender while a step is unfinished.
    StepHold,
    /// Bookmark on the sender while a step is unfinished.
    TentativeCursor,
    /// Bookmark on the sender of the newest version that the receiver has.
    Cursor,
    /// Hold on the receiver of the newest version that it has.
    LastReceivedHold,
}

/// One such object, found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// What it is.
    pub kind: ProtectionKind,
    /// The snapshot that carries the hold, or the bookmark itself.
    pub version: VersionRef,
    /// Age within the pool.
    pub createtxg: CreateTxg,
}

const STEP_HOLD: &str = "zrepl_STEP_J_";
const LAST_RECEIVED: &str = "zrepl_last_received_J_";
const CURSOR: &str = "zrepl_CURSOR";
// The second underscore before `G` is part of what zrepl writes, not a slip.
const TENTATIVE: &str = "zrepl_CURSORTENTATIVE_";

/// The tag of a job's step holds. Never fails: a [`JobName`] leaves room for it.
pub fn step_hold_tag(job: &JobName) -> Result<HoldTag, NameError> {
    HoldTag::parse(&format!("{STEP_HOLD}{job}"))
}

/// The tag of a job's last-received holds.
pub fn last_received_tag(job: &JobName) -> Result<HoldTag, NameError> {
    HoldTag::parse(&format!("{LAST_RECEIVED}{job}"))
}

/// The short name of a job's replication cursor for a version.
pub fn cursor_name(guid: Guid, job: &JobName) -> Result<VersionName, NameError> {
    VersionName::parse(&format!("{CURSOR}_G_{:016x}_J_{job}", guid.0))
}

/// The short name of a job's tentative cursor for a version.
pub fn tentative_cursor_name(guid: Guid, job: &JobName) -> Result<VersionName, NameError> {
    VersionName::parse(&format!("{TENTATIVE}_G_{:016x}_J_{job}", guid.0))
}

/// Which protection of `job` a bookmark is, if any. The guid in the name must be the bookmark's own:
/// a look-alike is nobody's protection and is never destroyed.
pub fn bookmark_protection(version: &Version, job: &JobName) -> Option<Protection> {
    if version.kind != VersionKind::Bookmark {
        return None;
    }
    let (kind, guid, owner) = parse_cursor_name(version.name.as_str())?;
    (guid == version.guid && owner == job.as_str()).then(|| Protection {
        kind,
        version: version.to_ref(),
        createtxg: version.createtxg,
    })
}

/// Kind, guid and job of a cursor's name.
pub fn parse_cursor_name(name: &str) -> Option<(ProtectionKind, Guid, &str)> {
    // The first group is greedy as in zrepl, so that both read a job name that looks like a guid
    // field in the same way.
    #[allow(clippy::unwrap_used, reason = "a literal, compiled by the tests")]
    static NAME: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(.+)_G_([0-9a-f]{16})_J_(.+)$").unwrap());
    if !name.starts_with(CURSOR) {
        return None;
    }
    let groups = NAME.captures(name)?;
    let kind = match groups.get(1)?.as_str() {
        CURSOR => ProtectionKind::Cursor,
        TENTATIVE => ProtectionKind::TentativeCursor,
        _ => return None,
    };
    let guid = u64::from_str_radix(groups.get(2)?.as_str(), 16).ok()?;
    Some((kind, Guid(guid), groups.get(3)?.as_str()))
}

/// Kind and job of a hold's tag.
pub fn parse_hold_tag(tag: &str) -> Option<(ProtectionKind, &str)> {
    let step = tag.strip_prefix(STEP_HOLD).map(|job| (ProtectionKind::StepHold, job));
    step.or_else(|| tag.strip_prefix(LAST_RECEIVED).map(|job| (ProtectionKind::LastReceivedHold, job)))
}

/// Which protection of `job` a hold is, if any.
pub fn hold_protection(tag: &HoldTag, snapshot: &Version, job: &JobName) -> Option<Protection> {
    let (kind, owner) = parse_hold_tag(tag.as_str())?;
    (owner == job.as_str()).then(|| Protection { kind, version: snapshot.to_ref(), createtxg: snapshot.createtxg })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::UnixTime;

    fn job(name: &str) -> JobName {
        JobName::parse(name).unwrap()
    }

    fn bookmark(name: &str, guid: u64) -> Version {
        Version {
            kind: VersionKind::Bookmark,
            name: VersionName::parse(name).unwrap(),
            guid: Guid(guid),
            createtxg: CreateTxg(1),
            creation: UnixTime(0),
            userrefs: 0,
        }
    }

    #[test]
    fn names_are_those_of_zrepl() {
        let (guid, job) = (Guid(0xface601d), job("push to b"));
        assert_eq!(cursor_name(guid, &job).unwrap().as_str(), "zrepl_CURSOR_G_00000000face601d_J_push to b");
        assert_eq!(
            tentative_cursor_name(guid, &job).unwrap().as_str(),
            "zrepl_CURSORTENTATIVE__G_00000000face601d_J_push to b"
        );
        assert_eq!(step_hold_tag(&job).unwrap().as_str(), "zrepl_STEP_J_push to b");
        assert_eq!(last_received_tag(&job).unwrap().as_str(), "zrepl_last_received_J_push to b");
    }

    #[test]
    fn a_cursor_is_recognised_by_kind_guid_and_job() {
        let kind =
            |name: &str, guid, owner: &str| bookmark_protection(&bookmark(name, guid), &job(owner)).map(|p| p.kind);
        let name = "zrepl_CURSOR_G_00000000face601d_J_a b";
        assert_eq!(kind(name, 0xface601d, "a b"), Some(ProtectionKind::Cursor));
        assert_eq!(kind(name, 0xface601e, "a b"), None, "guid of another snapshot");
        assert_eq!(kind(name, 0xface601d, "a"), None, "another job's");
        assert_eq!(
            kind("zrepl_CURSORTENTATIVE__G_00000000face601d_J_a", 0xface601d, "a"),
            Some(ProtectionKind::TentativeCursor)
        );
        for other in [
            "zrepl_CURSORTENTATIVE_G_00000000face601d_J_a",
            "zrepl_CURSOR_G_face601d_J_a",
            "zrepl_CURSOR_G_00000000FACE601D_J_a",
            "zrepl_replication_cursor",
            "x_zrepl_CURSOR_G_00000000face601d_J_a",
        ] {
            assert_eq!(kind(other, 0xface601d, "a"), None, "{other}");
        }
    }

    #[test]
    fn a_job_that_looks_like_a_guid_field_is_split_as_zrepl_does() {
        let name = "zrepl_CURSOR_G_00000000face601d_J__G_0123456789abcdef_J_x";
        assert_eq!(parse_cursor_name(name), None);
    }
}
