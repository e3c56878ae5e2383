//! Which snapshots a round takes.

use jiff::Timestamp;
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

/// Plans a round over the datasets of a listing. Fails if prefix and time make no valid name.
pub fn plan_snapshots<'a>(
    now: Timestamp,
    naming: &SnapshotNaming,
    filter: &FilesystemFilter,
    datasets: impl IntoIterator<Item = (&'a DatasetName, &'a [Version])>,
) -> Result<SnapshotPlan, NameError> {
    let name = naming.name(now)?;
    let (mut filesystems, mut impossible) = (Vec::new(), Vec::new());
    for (dataset, versions) in datasets.into_iter().filter(|(dataset, _)| filter.selects(dataset)) {
        match obstacle(dataset, &name, versions) {
            None => filesystems.push(dataset.clone()),
            Some(reason) => impossible.push((dataset.clone(), reason)),
        }
    }
    filesystems.sort();
    impossible.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(SnapshotPlan { name, filesystems, impossible })
}

fn obstacle(dataset: &DatasetName, name: &VersionName, versions: &[Version]) -> Option<Impossible> {
    let len = dataset.as_str().len() + 1 + name.as_str().len();
    if len > MAX_NAME_LEN {
        return Some(Impossible::TooLong { len });
    }
    let exists = versions.iter().any(|version| version.is_snapshot() && version.name == *name);
    exists.then_some(Impossible::Exists)
}
