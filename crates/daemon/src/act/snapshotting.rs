//! Rounds of snapshots: one listing, one name, one bulk call.

use jiff::Timestamp;
use model::event::{Snapshotting, What};
use model::naming::SnapshotNaming;
use model::plan::snapshot::{SnapshotPlan, plan_snapshots};
use model::{DatasetName, FilesystemFilter, NameError, Version};
use thiserror::Error;
use zfs::{Listing, Scope, Snapshot, Zfs};

use crate::events::Events;

/// How many names a message lists; the rest is a number.
const NAMES_SHOWN: usize = 5;

/// Why no round could be planned.
#[derive(Debug, Error)]
pub enum PlanError {
    /// ZFS does not answer.
    #[error(transparent)]
    Zfs(#[from] zfs::Error),
    /// Nothing that the job is about is there.
    #[error("none of the job's `filesystems` exist: {0} (is the pool imported? see `zpool import`)")]
    NothingThere(String),
    /// Prefix and time make no name.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// What a job takes snapshots of, as one listing shows it. What of the filter does not exist is told
/// as a warning, and is an error only if nothing else is left.
///
/// # Errors
/// The listing failed or shows nothing at all.
pub async fn look(zfs: &dyn Zfs, filter: &FilesystemFilter, events: &Events) -> Result<Listing, PlanError> {
    let scope = match filter.roots() {
        None => Scope::Everything,
        // A filter that selects nothing needs no process to find it.
        Some(roots) if roots.is_empty() => return Ok(Listing::default()),
        Some(roots) => Scope::Trees(roots),
    };
    let listing = zfs.list(&scope).await?;
    let warn = |message| events.tell(What::Warning { subsystem: "snapshot", message });
    if !listing.missing.is_empty() {
        let missing = some_names(listing.missing.iter());
        if listing.datasets.is_empty() {
            return Err(PlanError::NothingThere(missing));
        }
        warn(format!("in `filesystems` but not there: {missing} (is the pool imported? see `zpool import`)"));
    }
    if !listing.skipped.is_empty() {
        warn(format!("left out, because zrepl cannot use their names: {}", some_names(listing.skipped.iter())));
    }
    Ok(listing)
}

/// The datasets of a listing that the filter selects.
pub fn selected<'a>(
    listing: &'a Listing,
    filter: &'a FilesystemFilter,
) -> impl Iterator<Item = (&'a DatasetName, &'a [Version])> {
    let datasets = listing.datasets.iter().filter(|dataset| filter.selects(&dataset.name));
    datasets.map(|dataset| (&dataset.name, &*dataset.versions))
}

/// Plans a round.
///
/// # Errors
/// See [`PlanError`].
pub async fn plan_round(
    zfs: &dyn Zfs,
    now: Timestamp,
    naming: &SnapshotNaming,
    filter: &FilesystemFilter,
    events: &Events,
) -> Result<SnapshotPlan, PlanError> {
    let listing = look(zfs, filter, events).await?;
    Ok(plan_snapshots(now, naming, filter, selected(&listing, filter))?)
}

/// Takes the snapshots of a plan and tells what became of each; how many failed.
pub async fn take_round(zfs: &dyn Zfs, plan: SnapshotPlan, events: &Events) -> usize {
    let tell = |what| events.tell(What::Snapshotting(what));
    let SnapshotPlan { name, filesystems, impossible } = plan;
    let all = filesystems.iter().chain(impossible.iter().map(|(filesystem, _)| filesystem));
    tell(Snapshotting::RoundStarted { snapshots: all.map(|one| (one.clone(), name.clone())).collect() });

    let taken = |filesystem: DatasetName, result: Result<(), String>| {
        let failed = result.is_err();
        tell(Snapshotting::Taken { filesystem, snapshot: name.clone(), result });
        usize::from(failed)
    };
    let mut failed = 0;
    for (filesystem, reason) in impossible {
        let object = format!("{filesystem}@{name}");
        failed += taken(filesystem, Err(format!("cannot snapshot {object:?}: {reason}")));
    }
    let snapshots: Vec<Snapshot> =
        filesystems.into_iter().map(|dataset| Snapshot { dataset, name: name.clone() }).collect();
    let results = match snapshots.is_empty() {
        true => Vec::new(),
        false => zfs.snapshot(&snapshots).await,
    };
    for (snapshot, result) in snapshots.into_iter().zip(results) {
        failed += taken(snapshot.dataset, result.map_err(|error| error.to_string()));
    }
    tell(Snapshotting::RoundFinished);
    failed
}

/// The first few of many names, and how many more there are.
pub(crate) fn some_names<T: ToString>(names: impl ExactSizeIterator<Item = T>) -> String {
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let shown: Vec<String> = names.take(NAMES_SHOWN).map(|name| name.to_string()).collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
