//! Which snapshots a round takes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::filter::FilesystemFilter;
use crate::name::{DatasetName, MAX_NAME_LEN, NameError, VersionName};
use crate::naming::SnapshotNaming;
use crate::version::Version;

/// One round of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// What all of them are called, however long the round takes.
    pub name: VersionName,
    /// Where they are taken, parents first.
    pub filesystems: Vec<DatasetName>,
    /// Selected filesystems that cannot have this snapshot. They are kept out because ZFS takes many
    /// snapshots of one call together or not at all.
    pub impossible: Vec<(DatasetName, Impossible)>,
}

/// Why a snapshot cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Impossible {
    /// One of that name is there.
    #[error("the snapshot exists already")]
    Exists,
    /// Nothing is known of the filesystem and of what is below it.
    #[error("it and what is below it cannot be listed: {0}")]
    Unlisted(String),
    /// The full name would not be accepted.
    #[error("the full name would be {len} bytes long, ZFS allows {MAX_NAME_LEN}: use a shorter prefix")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
}

/// How many seconds the name of a round may be ahead of its time.
const AHEAD_MAX: u32 = 60;

/// Plans a round over the datasets of a listing. Fails if prefix and time make no valid name.
///
/// A name that one of the datasets has already, because the clock was set back or another job names its
/// snapshots alike, gives way to that of the next free second.
pub fn plan_snapshots<'a>(
    now: Timestamp,
    naming: &SnapshotNaming,
    filter: &FilesystemFilter,
    datasets: impl IntoIterator<Item = (&'a DatasetName, &'a [Version])>,
) -> Result<SnapshotPlan, NameError> {
    let datasets: Vec<_> = datasets.into_iter().filter(|(dataset, _)| filter.selects(dataset)).collect();
    let name = free_name(now, naming, &datasets)?;
    let (mut filesystems, mut impossible) = (Vec::new(), Vec::new());
    for (dataset, versions) in datasets {
        match obstacle(dataset, &name, versions) {
            None => filesystems.push(dataset.clone()),
            Some(reason) => impossible.push((dataset.clone(), reason)),
        }
    }
    filesystems.sort();
    impossible.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(SnapshotPlan { name, filesystems, impossible })
}

/// The name for now, or of the first second after it that no dataset has; that for now if there is none
/// soon, or if names do not tell seconds apart.
fn free_name(
    now: Timestamp,
    naming: &SnapshotNaming,
    datasets: &[(&DatasetName, &[Version])],
) -> Result<VersionName, NameError> {
    let name = naming.name(now)?;
    let tells_seconds = naming.format().resolution().is_some_and(|finest| finest <= Duration::from_secs(1));
    let is_taken = |name: &VersionName| datasets.iter().any(|(_, versions)| has_snapshot(versions, name));
    if !tells_seconds || !is_taken(&name) {
        return Ok(name);
    }
    for ahead in 1..=AHEAD_MAX {
        let Ok(then) = now.checked_add(SignedDuration::from_secs(i64::from(ahead))) else { break };
        let free = naming.name(then)?;
        if !is_taken(&free) {
            return Ok(free);
        }
    }
    Ok(name)
}

fn has_snapshot(versions: &[Version], name: &VersionName) -> bool {
    versions.iter().any(|version| version.is_snapshot() && version.name == *name)
}

fn obstacle(dataset: &DatasetName, name: &VersionName, versions: &[Version]) -> Option<Impossible> {
    let len = dataset.as_str().len() + 1 + name.as_str().len();
    if len > MAX_NAME_LEN {
        return Some(Impossible::TooLong { len });
    }
    has_snapshot(versions, name).then_some(Impossible::Exists)
}
