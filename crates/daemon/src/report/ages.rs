//! When the newest versions of a job's filesystems were taken, on both sides, as far as the job's events
//! tell.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use model::DatasetName;
use model::event::Snapshotting;
use model::plan::prune::PrunePlan;
use model::plan::replication::{FilesystemAction, FilesystemPlan, NothingReason, ReplicationPlan};
use model::version::UnixTime;

/// The filesystems of a job.
#[derive(Debug, Clone, Default)]
pub(super) struct FilesystemAges {
    /// When the attempt began whose listing the plan is from.
    listed: Option<Timestamp>,
    filesystems: Arc<BTreeMap<DatasetName, Ages>>,
}

/// When the newest versions of a filesystem were taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ages {
    /// The newest snapshot of the side that takes them; none without any.
    pub newest: Option<Timestamp>,
    /// The newest version that the other side has as well; none without any, or if there is no other side.
    pub received: Option<Timestamp>,
}

impl FilesystemAges {
    /// In the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&DatasetName, &Ages)> {
        self.filesystems.iter()
    }

    /// Both sides are listed from now on.
    pub(super) fn attempt_started(&mut self, at: Timestamp) {
        self.listed = Some(at);
    }

    /// Takes over what both sides have; forgets filesystems that the job is not about any longer.
    pub(super) fn planned(&mut self, plan: &ReplicationPlan) {
        let known = std::mem::take(&mut self.filesystems);
        let seen = |plan: &FilesystemPlan| {
            let newer = |at: &Timestamp| self.listed.is_some_and(|listed| *at >= listed);
            let taken_since = known.get(&plan.name).and_then(|ages| ages.newest).filter(newer);
            Ages { newest: taken_since.or(time(plan.newest)), received: time(plan.received) }
        };
        let carries_data =
            |plan: &&FilesystemPlan| plan.action != FilesystemAction::Nothing(NothingReason::Placeholder);
        let ages = plan.filesystems.iter().filter(carries_data).map(|plan| (plan.name.clone(), seen(plan)));
        self.filesystems = Arc::new(ages.collect());
    }

    /// The receiver has a version that was taken at `created`.
    pub(super) fn received(&mut self, filesystem: &DatasetName, created: UnixTime) {
        if let Some(ages) = Arc::make_mut(&mut self.filesystems).get_mut(filesystem) {
            ages.received = ages.received.max(time(Some(created)));
        }
    }

    /// Takes over what a sink has below a dataset; forgets what it has there no longer.
    pub(super) fn stored(&mut self, below: &DatasetName, newest: &[(DatasetName, UnixTime)]) {
        let filesystems = Arc::make_mut(&mut self.filesystems);
        filesystems.retain(|name, _| !name.is_below(below));
        let ages = |created| Ages { newest: None, received: time(Some(created)) };
        filesystems.extend(newest.iter().map(|(name, created)| (name.clone(), ages(*created))));
    }

    /// A sink has received a version that was taken at `created`.
    pub(super) fn arrived(&mut self, target: &DatasetName, created: UnixTime) {
        let ages = Arc::make_mut(&mut self.filesystems).entry(target.clone()).or_default();
        ages.received = ages.received.max(time(Some(created)));
    }

    /// Takes over what there is on the only side of a job without replication.
    pub(super) fn pruning_planned(&mut self, plan: &PrunePlan) {
        let considered = plan.filesystems.iter().filter(|filesystem| filesystem.skip.is_none());
        let ages = considered.map(|filesystem| {
            let newest = filesystem.versions.iter().rfind(|version| version.is_snapshot());
            let newest = newest.map(|version| version.creation.to_timestamp());
            (filesystem.name.clone(), Ages { newest, received: None })
        });
        self.filesystems = Arc::new(ages.collect());
    }

    pub(super) fn snapshotting(&mut self, at: Timestamp, event: &Snapshotting) {
        match event {
            Snapshotting::Taken { filesystem, result: Ok(()), .. } => {
                let ages = Arc::make_mut(&mut self.filesystems).entry(filesystem.clone()).or_default();
                ages.newest = ages.newest.max(Some(at));
            }
            // What a round is about and has no snapshot yet is worth knowing most of all.
            Snapshotting::RoundStarted { snapshots, .. } => {
                let filesystems = Arc::make_mut(&mut self.filesystems);
                for (filesystem, _) in snapshots {
                    filesystems.entry(filesystem.clone()).or_default();
                }
            }
            _ => {}
        }
    }

    /// Forgets what a round is not about, for a job that learns of its filesystems by its rounds alone.
    pub(super) fn retain(&mut self, event: &Snapshotting) {
        let Snapshotting::RoundStarted { snapshots, .. } = event else { return };
        let round: HashSet<&DatasetName> = snapshots.iter().map(|(filesystem, _)| filesystem).collect();
        Arc::make_mut(&mut self.filesystems).retain(|filesystem, _| round.contains(filesystem));
    }
}

fn time(at: Option<UnixTime>) -> Option<Timestamp> {
    at.map(UnixTime::to_timestamp)
}

#[cfg(test)]
mod tests {
    use model::VersionName;

    use super::*;

    #[test]
    fn what_a_round_is_not_about_any_longer_is_forgotten() {
        let dataset = |name: &str| DatasetName::parse(name).unwrap();
        let round = |names: &[&str]| {
            let snapshot = VersionName::parse("s").unwrap();
            let snapshots = names.iter().map(|name| (dataset(name), snapshot.clone())).collect();
            Snapshotting::RoundStarted { snapshots, one_by_one: Vec::new() }
        };
        let mut ages = FilesystemAges::default();
        for names in [&["p/a", "p/b"][..], &["p/b", "p/c"]] {
            ages.retain(&round(names));
            ages.snapshotting(Timestamp::UNIX_EPOCH, &round(names));
        }
        let known: Vec<&str> = ages.filesystems.keys().map(DatasetName::as_str).collect();
        assert_eq!(known, ["p/b", "p/c"]);
    }
}
