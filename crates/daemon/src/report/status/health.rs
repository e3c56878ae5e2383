//! What tells whether a job does its duty, across invocations: when it last succeeded, what comes next,
//! and how old what it protects is. Not in zrepl's report.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use config::types::{Job, Snapshotting as Configured};
use jiff::Timestamp;
use model::DatasetName;
use model::event::Snapshotting;
use model::plan::prune::PrunePlan;
use model::plan::replication::{FilesystemAction, FilesystemPlan, NothingReason, ReplicationPlan};
use model::version::UnixTime;
use serde::{Serialize, Serializer};

use super::json::{Lazily, optional_time};

/// The health of one job, since the daemon started.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    rhythm: Rhythm,
    last_success: Option<Timestamp>,
    next_run: Option<Timestamp>,
    /// When the attempt began whose listing the plan is from.
    listed: Option<Timestamp>,
    filesystems: Arc<BTreeMap<DatasetName, Ages>>,
}

/// How often the job is meant to run by itself.
#[derive(Debug, Clone, Default)]
enum Rhythm {
    #[default]
    None,
    Every(Duration),
    At(Box<str>),
}

/// When the newest versions of a filesystem were taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ages {
    newest: Option<Timestamp>,
    received: Option<Timestamp>,
}

impl Health {
    pub(super) fn new(job: &Job) -> Health {
        let snapshotting = |configured: &Configured| match configured {
            Configured::Periodic { interval, .. } => Rhythm::Every(*interval),
            Configured::Cron { cron, .. } => Rhythm::At(cron.text().into()),
            Configured::Manual => Rhythm::None,
        };
        let rhythm = match job {
            Job::Push(job) => snapshotting(&job.snapshotting),
            Job::Snap(job) => snapshotting(&job.snapshotting),
            Job::Source(job) => snapshotting(&job.snapshotting),
            Job::Pull(job) => job.interval.map_or(Rhythm::None, Rhythm::Every),
            Job::Sink(_) => Rhythm::None,
        };
        Health { rhythm, ..Health::default() }
    }

    pub(super) fn sleeps_until(&mut self, at: Timestamp) {
        self.next_run = Some(at);
    }

    /// Forgets what a round is not about, for a job that learns of its filesystems by its rounds alone.
    pub(super) fn retain(&mut self, event: &Snapshotting) {
        let Snapshotting::RoundStarted { snapshots, .. } = event else { return };
        let round: HashSet<&DatasetName> = snapshots.iter().map(|(filesystem, _)| filesystem).collect();
        Arc::make_mut(&mut self.filesystems).retain(|filesystem, _| round.contains(filesystem));
    }

    /// The job did everything that it is there for.
    pub(super) fn succeeded(&mut self, at: Timestamp) {
        self.last_success = Some(at);
    }

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
}

fn time(at: Option<UnixTime>) -> Option<Timestamp> {
    at.map(UnixTime::to_timestamp)
}

impl Serialize for Health {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a, F> {
            #[serde(serialize_with = "optional_time")]
            last_success: Option<Timestamp>,
            /// Only of a job that is woken up by an interval of its own.
            #[serde(serialize_with = "optional_time")]
            next_run: Option<Timestamp>,
            interval_seconds: Option<f64>,
            cron: Option<&'a str>,
            filesystems: F,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Filesystem<'a> {
            name: &'a str,
            #[serde(serialize_with = "optional_time")]
            newest: Option<Timestamp>,
            #[serde(serialize_with = "optional_time")]
            replicated: Option<Timestamp>,
        }
        let filesystems = || {
            self.filesystems.iter().map(|(name, ages)| Filesystem {
                name: name.as_str(),
                newest: ages.newest,
                replicated: ages.received,
            })
        };
        Row {
            last_success: self.last_success,
            next_run: self.next_run,
            interval_seconds: match &self.rhythm {
                Rhythm::Every(interval) => Some(interval.as_secs_f64()),
                Rhythm::None | Rhythm::At(_) => None,
            },
            cron: match &self.rhythm {
                Rhythm::At(text) => Some(text),
                Rhythm::None | Rhythm::Every(_) => None,
            },
            filesystems: Lazily(filesystems),
        }
        .serialize(serializer)
    }
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
        let mut health = Health::default();
        for names in [&["p/a", "p/b"][..], &["p/b", "p/c"]] {
            health.retain(&round(names));
            health.snapshotting(Timestamp::UNIX_EPOCH, &round(names));
        }
        let known: Vec<&str> = health.filesystems.keys().map(DatasetName::as_str).collect();
        assert_eq!(known, ["p/b", "p/c"]);
    }
}
