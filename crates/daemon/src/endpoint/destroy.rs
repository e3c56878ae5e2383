//! Destroys snapshots: ZFS does it by name, so names are compared with guids immediately before.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::stream::{self, StreamExt};
use model::{DatasetName, Guid, HoldTag, VersionKind, VersionName, VersionRef};
use wire::{CallError, DestroyOutcome, DestroyRequest};
use zfs::{ErrorKind, Scope, Snapshot};

use super::refused;
use super::view::Side;
use crate::limits::{DESTROYS, SINGLE_LOOKS};

/// The outcomes for one filesystem, in the request's order.
type Outcomes = Vec<(VersionName, DestroyOutcome)>;

/// What a name stands for now.
struct Found {
    guid: Guid,
    held: bool,
}

type Snapshots = HashMap<VersionName, Found>;

impl Side {
    /// Destroys snapshots of several filesystems, named as on this side's pools; one list of outcomes
    /// per request.
    pub(super) async fn destroy(&self, requests: &[DestroyRequest]) -> Result<Vec<Outcomes>, CallError> {
        let found = self.look_at(requests.iter().map(|request| &request.filesystem).collect()).await?;
        let holds = self.holds_on(requests, &found).await?;
        let mut destroys = Vec::new();
        for DestroyRequest { filesystem, snapshots } in requests {
            let verdicts = snapshots.iter().map(|version| verdict(filesystem, version, &found, &holds)).collect();
            destroys.push(self.destroy_in(filesystem, snapshots, verdicts));
        }
        Ok(stream::iter(destroys).buffered(DESTROYS).collect().await)
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

    /// The snapshots of these datasets as they are now, in few processes.
    async fn look_at(&self, names: BTreeSet<&DatasetName>) -> Result<BTreeMap<DatasetName, Snapshots>, CallError> {
        let datasets = if names.len() <= SINGLE_LOOKS {
            let mut datasets = Vec::new();
            for name in names {
                match self.zfs.dataset(name).await {
                    Ok(dataset) => datasets.push(dataset),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(refused(&error)),
                }
            }
            datasets
        } else {
            let roots = names.iter().filter(|name| !name.ancestors().any(|above| names.contains(&above)));
            let scope = Scope::Trees(roots.map(|name| (*name).clone()).collect());
            let mut datasets = self.zfs.list(&scope).await.map_err(|error| refused(&error))?.datasets;
            datasets.retain(|dataset| names.contains(&dataset.name));
            datasets
        };
        let found = datasets.into_iter().map(|dataset| {
            let snapshots = dataset.versions.iter().filter(|version| version.is_snapshot());
            let found = |version: &model::Version| Found { guid: version.guid, held: version.userrefs > 0 };
            (dataset.name, snapshots.map(|version| (version.name.clone(), found(version))).collect())
        });
        Ok(found.collect())
    }

    /// The tags on those of the wanted snapshots that are held.
    async fn holds_on(
        &self,
        requests: &[DestroyRequest],
        found: &BTreeMap<DatasetName, Snapshots>,
    ) -> Result<HashMap<Snapshot, Vec<HoldTag>>, CallError> {
        let is_held = |dataset: &DatasetName, name: &VersionName| {
            found.get(dataset).and_then(|snapshots| snapshots.get(name)).is_some_and(|found| found.held)
        };
        let mut held = Vec::new();
        for DestroyRequest { filesystem, snapshots } in requests {
            let names = snapshots.iter().map(|version| &version.name).filter(|name| is_held(filesystem, name));
            held.extend(names.map(|name| Snapshot { dataset: filesystem.clone(), name: name.clone() }));
        }
        let mut tags: HashMap<Snapshot, Vec<HoldTag>> = HashMap::new();
        if !held.is_empty() {
            for hold in self.zfs.holds(&held).await.map_err(|error| refused(&error))? {
                tags.entry(Snapshot { dataset: hold.dataset, name: hold.snapshot }).or_default().push(hold.tag);
            }
        }
        Ok(tags)
    }
}

/// Whether a snapshot may be destroyed.
enum Verdict {
    Go,
    Settled(DestroyOutcome),
}

fn verdict(
    dataset: &DatasetName,
    wanted: &VersionRef,
    found: &BTreeMap<DatasetName, Snapshots>,
    holds: &HashMap<Snapshot, Vec<HoldTag>>,
) -> Verdict {
    if wanted.kind != VersionKind::Snapshot {
        return Verdict::Settled(DestroyOutcome::Failed("it is not a snapshot".to_owned()));
    }
    // Not the same as destroyed: the snapshots of a pool that was exported meanwhile are all still there.
    let Some(snapshots) = found.get(dataset) else {
        let gone = "the filesystem does not exist any longer (is the pool imported?)";
        return Verdict::Settled(DestroyOutcome::Failed(gone.to_owned()));
    };
    let Some(found) = snapshots.get(&wanted.name) else {
        return Verdict::Settled(DestroyOutcome::Destroyed);
    };
    if found.guid != wanted.guid {
        return Verdict::Settled(DestroyOutcome::Failed(format!(
            "another snapshot has its name by now (guid {}, not {})",
            found.guid, wanted.guid
        )));
    }
    match holds.get(&Snapshot { dataset: dataset.clone(), name: wanted.name.clone() }) {
        Some(tags) => {
            let tags: Vec<String> = tags.iter().map(|tag| format!("{:?}", tag.as_str())).collect();
            Verdict::Settled(DestroyOutcome::Kept(format!("it is held by {}", tags.join(", "))))
        }
        None => Verdict::Go,
    }
}

fn outcome_of(result: Result<(), zfs::Error>) -> DestroyOutcome {
    match result {
        Ok(()) => DestroyOutcome::Destroyed,
        Err(error) => match error.kind {
            ErrorKind::Held => DestroyOutcome::Kept(error.kind.to_string()),
            kind => DestroyOutcome::Failed(kind.to_string()),
        },
    }
}

fn unanswered() -> DestroyOutcome {
    DestroyOutcome::Failed("nothing is known of it".to_owned())
}
