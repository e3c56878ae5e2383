//! Rounds of snapshots: one listing, one name, one bulk call.
//!
//! Filesystems with hooks are snapshotted one by one after that call. They come last because hooks may
//! take as long as their timeouts, for which the others would wait, and because a hook that quiesces an
//! application should not do so while many other snapshots are made.

use jiff::Timestamp;
use model::aside::is_aside;
use model::event::{Snapshotting, What};
use model::naming::SnapshotNaming;
use model::plan::snapshot::{Impossible, SnapshotPlan, plan_snapshots};
use model::{DatasetName, FilesystemFilter, NameError, Version, VersionName};
use thiserror::Error;
use zfs::{Listing, Scope, Snapshot, Zfs};

use crate::events::Events;
use crate::hooks::HookRunner;
use crate::isolate::{self, Unlisted};

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

/// What a job takes snapshots of, as one listing shows it. What of the filter does not exist or cannot be
/// listed is told as a warning, and is an error only if nothing else is left.
///
/// # Errors
/// The listing failed or shows nothing at all.
pub async fn look(zfs: &dyn Zfs, filter: &FilesystemFilter, events: &Events) -> Result<Listing, PlanError> {
    let (listing, unlisted) = look_everywhere(zfs, filter, events).await?;
    for (root, error) in &unlisted {
        events.tell_of(root, What::Warning { subsystem: "snapshot", message: error.to_string() });
    }
    Ok(listing)
}

/// The same, with what cannot be listed.
async fn look_everywhere(
    zfs: &dyn Zfs,
    filter: &FilesystemFilter,
    events: &Events,
) -> Result<(Listing, Unlisted), PlanError> {
    let scope = match filter.roots() {
        None => Scope::Everything,
        // A filter that selects nothing needs no process to find it.
        Some(roots) if roots.is_empty() => return Ok((Listing::default(), Unlisted::new())),
        Some(roots) => Scope::Trees(roots),
    };
    let (listing, mut unlisted) = isolate::list(zfs, &scope).await?;
    unlisted.retain(|root, _| filter.reaches(root));
    events.tell(What::Unmatched { count: listing.missing.len() });
    let warn = |message| events.tell(What::Warning { subsystem: "snapshot", message });
    if !listing.missing.is_empty() {
        let missing = some_names(listing.missing.iter());
        if listing.datasets.is_empty() && unlisted.is_empty() {
            return Err(PlanError::NothingThere(missing));
        }
        warn(format!("in `filesystems` but not there: {missing} (is the pool imported? see `zpool import`)"));
    }
    if !listing.skipped.is_empty() {
        warn(format!("left out, because zrepl cannot use their names: {}", some_names(listing.skipped.iter())));
    }
    Ok((listing, unlisted))
}

/// The datasets of a listing that the filter selects.
pub fn selected<'a>(
    listing: &'a Listing,
    filter: &'a FilesystemFilter,
) -> impl Iterator<Item = (&'a DatasetName, &'a [Version])> {
    // What was moved out of the way of a replication is left alone, see the endpoints.
    let wanted = |name: &DatasetName| filter.selects(name) && !is_aside(name);
    let datasets = listing.datasets.iter().filter(move |dataset| wanted(&dataset.name));
    datasets.map(|dataset| (&dataset.name, &*dataset.versions))
}

/// Plans a round. What cannot be listed is among what cannot be snapshotted.
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
    let (listing, unlisted) = look_everywhere(zfs, filter, events).await?;
    let mut plan = plan_snapshots(now, naming, filter, selected(&listing, filter))?;
    let unlisted = unlisted.into_iter().map(|(root, error)| (root, Impossible::Unlisted(error.kind.to_string())));
    plan.impossible.extend(unlisted);
    Ok(plan)
}

/// What went wrong in a round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    /// Snapshots that were not taken.
    pub snapshots: usize,
    /// Snapshots that were taken although a hook around them failed.
    pub hooks: usize,
}

/// Takes the snapshots of a plan and tells what became of each.
pub async fn take_round(zfs: &dyn Zfs, plan: SnapshotPlan, hooks: &HookRunner, events: &Events) -> Failures {
    let tell = |what| events.tell(What::Snapshotting(what));
    let SnapshotPlan { name, filesystems, impossible } = plan;
    let unmatched = hooks.unmatched(&filesystems);
    if !unmatched.is_empty() {
        let message = format!("hook did not match any snapshotted filesystems: {}", unmatched.join(", "));
        events.tell(What::Warning { subsystem: "snapshot", message });
    }
    let (one_by_one, together): (Vec<_>, Vec<_>) = filesystems.into_iter().partition(|one| hooks.matches(one));
    let all = together.iter().chain(&one_by_one).chain(impossible.iter().map(|(filesystem, _)| filesystem));
    let snapshots = all.map(|one| (one.clone(), name.clone())).collect();
    tell(Snapshotting::RoundStarted { snapshots, one_by_one: one_by_one.clone() });

    let mut failures = Failures::default();
    for (filesystem, reason) in impossible {
        let error = format!("cannot snapshot \"{filesystem}@{name}\": {reason}");
        failures.snapshots += 1;
        tell(Snapshotting::Taken { filesystem, snapshot: name.clone(), result: Err(error) });
    }
    failures.snapshots += take_together(zfs, together, &name, events).await;
    for filesystem in one_by_one {
        tell(Snapshotting::HooksStarted { filesystem: filesystem.clone() });
        let outcome = hooks.run(&filesystem, &name, take_one(zfs, &filesystem, &name)).await;
        match &outcome.snapshot {
            Err(_) => failures.snapshots += 1,
            Ok(()) => failures.hooks += usize::from(outcome.had_error),
        }
        let (report, had_error) = (outcome.to_string(), outcome.had_error);
        tell(Snapshotting::HooksFinished { filesystem: filesystem.clone(), report, had_error });
        tell(Snapshotting::Taken { filesystem, snapshot: name.clone(), result: outcome.snapshot });
    }
    tell(Snapshotting::RoundFinished);
    failures
}

/// Takes the snapshots that nothing runs around; how many failed.
async fn take_together(zfs: &dyn Zfs, filesystems: Vec<DatasetName>, name: &VersionName, events: &Events) -> usize {
    let snapshots: Vec<Snapshot> =
        filesystems.into_iter().map(|dataset| Snapshot { dataset, name: name.clone() }).collect();
    let results = match snapshots.is_empty() {
        true => Vec::new(),
        false => zfs.snapshot(&snapshots).await,
    };
    let failed = results.iter().filter(|result| result.is_err()).count();
    for (Snapshot { dataset: filesystem, name: snapshot }, result) in snapshots.into_iter().zip(results) {
        let result = result.map_err(|error| error.to_string());
        events.tell(What::Snapshotting(Snapshotting::Taken { filesystem, snapshot, result }));
    }
    failed
}

async fn take_one(zfs: &dyn Zfs, filesystem: &DatasetName, name: &VersionName) -> Result<(), String> {
    let snapshot = Snapshot { dataset: filesystem.clone(), name: name.clone() };
    let results = zfs.snapshot(&[snapshot]).await;
    results.into_iter().try_for_each(|result| result).map_err(|error| error.to_string())
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
