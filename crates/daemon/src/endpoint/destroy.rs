//! Destroys snapshots: ZFS does it by name, so names are compared with guids immediately before.

use std::collections::{BTreeMap, HashMap};

use futures::stream::{self, StreamExt};
use model::protection::{ProtectionKind, parse_hold_tag};
use model::{DatasetName, Guid, HoldTag, VersionKind, VersionName, VersionRef};
use wire::{DestroyOutcome, DestroyRequest};
use zfs::{Dataset, ErrorKind, Scope, Snapshot};

use super::view::Side;
use crate::limits::{DESTROY_LOOKS, DESTROYS};

/// The outcomes for one filesystem, in the request's order.
type Outcomes = Vec<(VersionName, DestroyOutcome)>;

/// What a name stands for now.
struct Found {
    guid: Guid,
    held: bool,
}

/// The snapshots of a filesystem.
struct Snapshots {
    by_name: HashMap<VersionName, Found>,
    newest: Option<VersionName>,
}

/// What was found of a filesystem.
enum Look {
    Snapshots(Snapshots),
    /// It is gone, and its snapshots with it.
    Gone,
    /// Nothing is known.
    Failed(String),
}

/// What is known of some filesystems immediately before their snapshots are destroyed.
type Looks = BTreeMap<DatasetName, Look>;

/// The tags on held snapshots; the words of ZFS if they are not known.
type Tags = Result<HashMap<Snapshot, Vec<HoldTag>>, String>;

impl Side {
    /// Destroys snapshots of several filesystems, named as on this side's pools; one list of outcomes
    /// per request. What cannot be done for one filesystem concerns no other.
    pub(super) async fn destroy(&self, requests: &[DestroyRequest]) -> Vec<Outcomes> {
        let mut outcomes = Vec::with_capacity(requests.len());
        for of_pool in requests.chunk_by(|a, b| a.filesystem.pool() == b.filesystem.pool()) {
            // A pool that does not answer is waited for once.
            let mut dead = None;
            for some in of_pool.chunks(DESTROY_LOOKS) {
                let looks = match &dead {
                    None => self.look_at(some, &mut dead).await,
                    Some(error) => all_failed(some, error),
                };
                outcomes.extend(self.destroy_looked_at(some, &looks).await);
            }
        }
        outcomes
    }

    async fn destroy_looked_at(&self, requests: &[DestroyRequest], looks: &Looks) -> Vec<Outcomes> {
        let tags = self.tags_on(requests, looks).await;
        let mut destroys = Vec::new();
        for DestroyRequest { filesystem, snapshots } in requests {
            let verdicts = snapshots.iter().map(|version| verdict(filesystem, version, looks, &tags)).collect();
            destroys.push(self.destroy_in(filesystem, snapshots, verdicts));
        }
        stream::iter(destroys).buffered(DESTROYS).collect().await
    }

    async fn destroy_in(&self, dataset: &DatasetName, wanted: &[VersionRef], verdicts: Vec<Verdict>) -> Outcomes {
        let names: Vec<VersionName> = std::iter::zip(wanted, &verdicts)
            .filter(|(_, verdict)| matches!(verdict, Verdict::Go))
            .map(|(version, _)| version.name.clone())
            .collect();
        let results = match names.is_empty() {
            true => Vec::new(),
            false => {
                self.table.forget(dataset);
                self.zfs.destroy_snapshots(dataset, &names).await
            }
        };
        let mut results = results.into_iter();
        let outcomes = std::iter::zip(wanted, verdicts).map(|(version, verdict)| {
            let outcome = match verdict {
                Verdict::Settled(outcome) => outcome,
                Verdict::Go => results.next().map_or_else(unanswered, outcome_of),
            };
            (version.name.clone(), outcome)
        });
        outcomes.collect()
    }

    /// The snapshots of these filesystems of one pool as they are now, in two processes. `dead` is why
    /// the pool does not answer, if it does not.
    async fn look_at(&self, requests: &[DestroyRequest], dead: &mut Option<String>) -> Looks {
        let names: Vec<DatasetName> = requests.iter().map(|request| request.filesystem.clone()).collect();
        match self.zfs.list(&Scope::Only(names)).await {
            Ok(listing) => {
                let found = listing.datasets.iter().map(|dataset| (dataset.name.clone(), snapshots_of(dataset)));
                let mut looks: Looks = found.collect();
                if !listing.missing.is_empty() {
                    let gone = self.pool_of(&listing.missing).await;
                    looks.extend(listing.missing.into_iter().map(|name| (name, gone.look())));
                }
                looks
            }
            Err(error) => {
                let text = error.kind.to_string();
                match error.kind {
                    ErrorKind::Deadline(_) | ErrorKind::PoolSuspended { .. } => *dead = Some(text.clone()),
                    _ if requests.len() > 1 => return self.look_one_by_one(requests).await,
                    _ => {}
                }
                all_failed(requests, &text)
            }
        }
    }

    /// What cannot be listed is one of them, as a rule.
    async fn look_one_by_one(&self, requests: &[DestroyRequest]) -> Looks {
        let mut looks = Looks::new();
        for DestroyRequest { filesystem, .. } in requests {
            let look = match self.zfs.dataset(filesystem).await {
                Ok(dataset) => snapshots_of(&dataset),
                Err(error) if error.is_not_found() => self.pool_of(std::slice::from_ref(filesystem)).await.look(),
                Err(error) => Look::Failed(error.kind.to_string()),
            };
            looks.insert(filesystem.clone(), look);
        }
        looks
    }

    /// Whether the pool of datasets that do not exist does: the snapshots of an exported one are all
    /// still there.
    async fn pool_of(&self, missing: &[DatasetName]) -> Absence {
        let pool = missing.first().and_then(|name| DatasetName::parse(name.pool()).ok());
        match pool {
            Some(pool) if self.zfs.dataset(&pool).await.is_ok() => Absence::Destroyed,
            Some(pool) => Absence::PoolMissing(pool.to_string()),
            None => Absence::PoolMissing(String::new()),
        }
    }

    /// The tags on those of the wanted snapshots that are held, and on all of a filesystem whose newest
    /// snapshot is wanted.
    async fn tags_on(&self, requests: &[DestroyRequest], looks: &Looks) -> Tags {
        let mut held = Vec::new();
        for DestroyRequest { filesystem, snapshots: wanted } in requests {
            let Some(Look::Snapshots(Snapshots { by_name, newest })) = looks.get(filesystem) else { continue };
            let is_wanted = |name: &VersionName| wanted.iter().any(|version| version.name == *name);
            let all = newest.as_ref().is_some_and(is_wanted);
            let names = by_name.iter().filter(|(name, found)| found.held && (all || is_wanted(name)));
            held.extend(names.map(|(name, _)| Snapshot { dataset: filesystem.clone(), name: name.clone() }));
        }
        held.sort();
        let mut tags: HashMap<Snapshot, Vec<HoldTag>> = held.iter().map(|held| (held.clone(), Vec::new())).collect();
        if !held.is_empty() {
            for hold in self.zfs.holds(&held).await.map_err(|error| error.kind.to_string())? {
                tags.entry(hold.snapshot()).or_default().push(hold.tag);
            }
        }
        Ok(tags)
    }
}

/// Why a dataset does not exist.
enum Absence {
    Destroyed,
    PoolMissing(String),
}

impl Absence {
    fn look(&self) -> Look {
        match self {
            Absence::Destroyed => Look::Gone,
            Absence::PoolMissing(pool) => Look::Failed(ErrorKind::PoolMissing { pool: pool.clone() }.to_string()),
        }
    }
}

fn all_failed(requests: &[DestroyRequest], error: &str) -> Looks {
    requests.iter().map(|request| (request.filesystem.clone(), Look::Failed(error.to_owned()))).collect()
}

fn snapshots_of(dataset: &Dataset) -> Look {
    let snapshots = || dataset.versions.iter().filter(|version| version.is_snapshot());
    let found = |version: &model::Version| Found { guid: version.guid, held: version.userrefs > 0 };
    Look::Snapshots(Snapshots {
        by_name: snapshots().map(|version| (version.name.clone(), found(version))).collect(),
        newest: snapshots().next_back().map(|version| version.name.clone()),
    })
}

/// Whether a snapshot may be destroyed.
enum Verdict {
    Go,
    Settled(DestroyOutcome),
}

fn verdict(dataset: &DatasetName, wanted: &VersionRef, looks: &Looks, tags: &Tags) -> Verdict {
    let failed = |why: String| Verdict::Settled(DestroyOutcome::Failed(why));
    if wanted.kind != VersionKind::Snapshot {
        return failed("it is not a snapshot".to_owned());
    }
    let snapshots = match looks.get(dataset) {
        Some(Look::Snapshots(snapshots)) => snapshots,
        Some(Look::Gone) => return Verdict::Settled(DestroyOutcome::Destroyed),
        Some(Look::Failed(why)) => return failed(format!("its filesystem cannot be looked at: {why}")),
        None => return failed("nothing is known of its filesystem".to_owned()),
    };
    let Some(found) = snapshots.by_name.get(&wanted.name) else {
        return Verdict::Settled(DestroyOutcome::Destroyed);
    };
    if found.guid != wanted.guid {
        let Found { guid, .. } = found;
        return failed(format!("another snapshot has its name by now (guid {guid}, not {})", wanted.guid));
    }
    let is_newest = snapshots.newest.as_ref() == Some(&wanted.name);
    let tags_on_it =
        tags.as_ref().map(|tags| tags.get(&Snapshot { dataset: dataset.clone(), name: wanted.name.clone() }));
    match tags_on_it {
        Ok(Some(tags)) if !tags.is_empty() => {
            let tags: Vec<String> = tags.iter().map(|tag| format!("{:?}", tag.as_str())).collect();
            return Verdict::Settled(DestroyOutcome::Kept(format!("it is held by {}", tags.join(", "))));
        }
        // ZFS knows whether it is still held; tags that have no name here are left out of listings.
        Ok(_) => {}
        Err(why) if found.held || is_newest => return failed(format!("its holds cannot be looked up: {why}")),
        Err(_) => {}
    }
    // What arrived a moment ago may not be held yet. Without it, ZFS takes the filesystem for modified, and
    // refuses the next stream.
    match is_newest.then(|| receiving_job(dataset, tags)).flatten() {
        None => Verdict::Go,
        Some(job) => Verdict::Settled(DestroyOutcome::Kept(format!(
            "it is the newest snapshot of what job {job:?} receives, which the next stream continues"
        ))),
    }
}

/// The job that receives into a dataset, as its last-received hold tells.
fn receiving_job<'a>(dataset: &DatasetName, tags: &'a Tags) -> Option<&'a str> {
    let of_dataset = tags.iter().flatten().filter(|(snapshot, _)| snapshot.dataset == *dataset);
    of_dataset.flat_map(|(_, tags)| tags).find_map(|tag| match parse_hold_tag(tag.as_str()) {
        Some((ProtectionKind::LastReceivedHold, job)) => Some(job),
        _ => None,
    })
}

fn outcome_of(result: Result<(), zfs::Error>) -> DestroyOutcome {
    match result {
        Ok(()) => DestroyOutcome::Destroyed,
        Err(error) => match error.kind {
            ErrorKind::Held => DestroyOutcome::Kept(error.kind.to_string()),
            _ => DestroyOutcome::Failed(error.why()),
        },
    }
}

fn unanswered() -> DestroyOutcome {
    DestroyOutcome::Failed("nothing is known of it".to_owned())
}
