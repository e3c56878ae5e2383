//! Warns of holds and cursors that nobody looks after any longer. They are never removed by themselves:
//! they may be all that keeps the base of a replication that goes on elsewhere or under another name.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use config::types::Job;
use model::abstraction::{Abstraction, abandoned};
use model::event::What;
use model::{DatasetName, JobName};

use super::view::Side;

/// The jobs of the configuration in use, and what was told of others': each thing once, however many jobs see it.
#[derive(Debug, Default)]
pub struct ConfiguredJobs {
    names: Mutex<BTreeSet<JobName>>,
    told: Mutex<HashSet<String>>,
}

impl ConfiguredJobs {
    /// The jobs of a configuration.
    pub fn new(jobs: &[Job]) -> Self {
        let configured = Self::default();
        configured.follow(jobs);
        configured
    }

    /// From now on these are the jobs, also for whoever looks since before: what a job that was added makes is
    /// looked after.
    pub fn follow(&self, jobs: &[Job]) {
        *self.names() = jobs.iter().map(|job| job.name().clone()).collect();
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<JobName>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_new(&self, one: &Abstraction) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(one.to_string())
    }
}

impl Side {
    /// One warning, if there is anything to warn of.
    pub(super) fn warn_of_abandoned(
        &self,
        jobs: &ConfiguredJobs,
        all: &[Abstraction],
        selects: impl Fn(&DatasetName) -> bool,
    ) {
        let mut abandoned = abandoned(all, &self.job, selects, &jobs.names());
        abandoned.retain(|one| jobs.is_new(one));
        if let Some((example, message)) = abandoned.first().zip(warning(&abandoned, &self.job)) {
            self.events.tell_of(&example.dataset, What::Warning { subsystem: "endpoint", message });
        }
    }
}

fn warning(abandoned: &[&Abstraction], job: &JobName) -> Option<String> {
    let example = abandoned.first()?;
    let owner = example.job.as_ref()?;
    let why = match owner == job {
        true => "the job's filter does not select that filesystem".to_owned(),
        false => format!("there is no job {:?} in the configuration", owner.as_str()),
    };
    let count = match abandoned.len() {
        1 => "a hold or cursor of zrepl that nobody looks after".to_owned(),
        count => format!("{count} holds and cursors of zrepl that nobody looks after, such as"),
    };
    Some(format!(
        "found {count} {example}: {why}; it stays until you release it, and a hold keeps its snapshot from being \
         destroyed: zrepl zfs-abstraction release-all --fs '{}' --job '{owner}'",
        example.dataset
    ))
}
