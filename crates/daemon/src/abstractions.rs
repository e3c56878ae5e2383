//! What zrepl keeps on disk, for a person: found in one listing, released in few processes.
//!
//! Beside the jobs: a daemon that runs sees at its next listing what has gone.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;

use futures::stream::{self, StreamExt};
use model::abstraction::{Abstraction, Filesystems, Query};
use model::protection::step_hold_tag;
use model::{DatasetName, HoldTag, JobName, VersionName};
use zfs::{Dataset, Error, ErrorKind, Hold, Listing, Scope, Snapshot, Zfs};

/// The answer to a query.
#[derive(Debug, Default)]
pub struct Found {
    /// What was found, by filesystem and age.
    pub abstractions: Vec<Abstraction>,
    /// Where it could not be looked, and why.
    pub errors: Vec<ListError>,
}

/// Something could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListError {
    /// A filesystem, or what contains it.
    pub object: String,
    /// What was looked for.
    pub what: &'static str,
    /// Why not.
    pub error: String,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "list endpoint abstractions on {:?}: {}: {}", self.object, self.what, self.error)
    }
}

impl std::error::Error for ListError {}

/// Looks for abstractions. Two processes, and one more if there are holds, however many filesystems
/// there are; more only where something fails, so that one filesystem's failure is not that of others.
pub async fn list(zfs: &dyn Zfs, query: &Query) -> Found {
    let mut found = Found::default();
    let mut datasets = list_datasets(zfs, &query.filesystems, &mut found.errors).await;
    datasets.retain(|dataset| query.filesystems.selects(&dataset.name));
    let mut holds = match query.wants_holds() {
        true => list_holds(zfs, &datasets, &mut found.errors).await,
        false => BTreeMap::new(),
    };
    for dataset in &datasets {
        let holds = holds.remove(&dataset.name).unwrap_or_default();
        found.abstractions.extend(of_dataset(dataset, &holds).into_iter().filter(|one| query.matches(one)));
    }
    found
}

/// All abstractions of a dataset, oldest first.
pub(crate) fn of_dataset(dataset: &Dataset, holds: &[Hold]) -> Vec<Abstraction> {
    let mut tags: BTreeMap<&VersionName, Vec<&HoldTag>> = BTreeMap::new();
    for hold in holds {
        tags.entry(&hold.snapshot).or_default().push(&hold.tag);
    }
    let mut all = Vec::new();
    for version in dataset.versions.iter() {
        all.extend(Abstraction::of_bookmark(&dataset.name, version));
        let tags = tags.get(&version.name).filter(|_| version.is_snapshot());
        all.extend(tags.into_iter().flatten().filter_map(|tag| Abstraction::of_hold(&dataset.name, version, tag)));
    }
    all
}

async fn list_datasets(zfs: &dyn Zfs, wanted: &Filesystems, errors: &mut Vec<ListError>) -> Vec<Dataset> {
    let roots = match wanted {
        Filesystems::All => None,
        Filesystems::One(name) => {
            let listed = take(zfs.list(&Scope::Only(vec![name.clone()])).await, name.as_str(), errors);
            let missing = listed.missing.iter().map(|name| list_error(name, ErrorKind::NotFound));
            errors.extend(missing);
            return listed.datasets;
        }
        Filesystems::Filter(filter) => filter.roots(),
    };
    let Some(roots) = roots else {
        return take(zfs.list(&Scope::Everything).await, "all pools", errors).datasets;
    };
    // A root of a filter that does not exist has nothing to release.
    if let Ok(listing) = zfs.list(&Scope::Trees(roots.clone())).await {
        return take(Ok(listing), "", errors).datasets;
    }
    let mut datasets = Vec::new();
    for root in roots {
        let listing = zfs.list(&Scope::Trees(vec![root.clone()])).await;
        datasets.extend(take(listing, root.as_str(), errors).datasets);
    }
    datasets
}

fn take(listing: Result<Listing, Error>, object: &str, errors: &mut Vec<ListError>) -> Listing {
    match listing {
        Ok(listing) => {
            let skipped = listing.skipped.iter().map(|what| list_error(what, "its name cannot be used"));
            errors.extend(skipped);
            listing
        }
        Err(error) => {
            errors.push(list_error(object, error.kind));
            Listing::default()
        }
    }
}

fn list_error(object: impl fmt::Display, error: impl fmt::Display) -> ListError {
    ListError { object: object.to_string(), what: "list filesystem versions", error: error.to_string() }
}

/// The holds of all these datasets; if they cannot be had at once, of each by itself.
async fn list_holds(
    zfs: &dyn Zfs,
    datasets: &[Dataset],
    errors: &mut Vec<ListError>,
) -> BTreeMap<DatasetName, Vec<Hold>> {
    let held: Vec<Vec<Snapshot>> = datasets.iter().map(held_snapshots).filter(|held| !held.is_empty()).collect();
    if held.is_empty() {
        return BTreeMap::new();
    }
    if let Ok(holds) = zfs.holds(&held.concat()).await {
        return by_dataset(holds);
    }
    let mut all = Vec::new();
    for snapshots in held {
        match zfs.holds(&snapshots).await {
            Ok(holds) => all.extend(holds),
            Err(error) => errors.push(ListError {
                object: snapshots.first().map_or_else(String::new, |snapshot| snapshot.dataset.to_string()),
                what: "list holds",
                error: error.kind.to_string(),
            }),
        }
    }
    by_dataset(all)
}

pub(crate) fn by_dataset(holds: Vec<Hold>) -> BTreeMap<DatasetName, Vec<Hold>> {
    let mut map: BTreeMap<DatasetName, Vec<Hold>> = BTreeMap::new();
    for hold in holds {
        map.entry(hold.dataset.clone()).or_default().push(hold);
    }
    map
}

pub(crate) fn held_snapshots(dataset: &Dataset) -> Vec<Snapshot> {
    let held = dataset.versions.iter().filter(|version| version.is_snapshot() && version.userrefs > 0);
    held.map(|version| Snapshot { dataset: dataset.name.clone(), name: version.name.clone() }).collect()
}

/// Releases holds and destroys bookmarks; one result each, in the given order. What is gone already
/// counts as done. Holds of one tag go together, of bookmarks `at_a_time`.
pub async fn release(zfs: &dyn Zfs, all: &[Abstraction], at_a_time: NonZeroUsize) -> Vec<Result<(), Error>> {
    let mut results: BTreeMap<usize, Result<(), Error>> = BTreeMap::new();
    let mut by_tag: BTreeMap<&HoldTag, Vec<(usize, Snapshot)>> = BTreeMap::new();
    let mut bookmarks = Vec::new();
    for (index, one) in all.iter().enumerate() {
        match &one.tag {
            Some(tag) => {
                let snapshot = Snapshot { dataset: one.dataset.clone(), name: one.version.name.clone() };
                by_tag.entry(tag).or_default().push((index, snapshot));
            }
            None => bookmarks.push((index, one)),
        }
    }
    for (tag, holds) in by_tag {
        let (indices, snapshots): (Vec<usize>, Vec<Snapshot>) = holds.into_iter().unzip();
        results.extend(std::iter::zip(indices, zfs.release(tag, &snapshots).await));
    }
    let mut destroys = Vec::new();
    for (index, one) in bookmarks {
        destroys.push(async move { (index, zfs.destroy_bookmark(&one.dataset, &one.version.name).await) });
    }
    results.extend(stream::iter(destroys).buffer_unordered(at_a_time.get()).collect::<Vec<_>>().await);
    let missing = |one: &Abstraction| Err(Error::new("release", one.full_path(), ErrorKind::Cancelled));
    let result = |(index, one)| results.remove(&index).unwrap_or_else(|| missing(one));
    all.iter().enumerate().map(result).collect()
}

/// Makes a step hold of a job, as before a step.
///
/// # Errors
/// The snapshot does not exist, or ZFS refuses.
pub async fn create_step_hold(zfs: &dyn Zfs, snapshot: &Snapshot, job: &JobName) -> Result<Abstraction, Error> {
    const OPERATION: &str = "hold";
    let named = |kind: ErrorKind| Error::new(OPERATION, snapshot, kind);
    let tag = step_hold_tag(job).map_err(|error| named(error.into()))?;
    zfs.hold(&tag, std::slice::from_ref(snapshot)).await.pop().unwrap_or_else(|| Err(named(ErrorKind::Cancelled)))?;
    let dataset = zfs.dataset(&snapshot.dataset).await?;
    let version = dataset.versions.iter().find(|version| version.is_snapshot() && version.name == snapshot.name);
    let held = version.and_then(|version| Abstraction::of_hold(&snapshot.dataset, version, &tag));
    held.ok_or_else(|| named(ErrorKind::NotFound))
}
