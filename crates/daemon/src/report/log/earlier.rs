//! What lines say of events before theirs: the names of steps, which events speak of by number, and when a job
//! last succeeded.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use model::event::{Event, InvocationSummary, Replication, What};
use model::plan::replication::{FilesystemAction, FilesystemPlan, ReplicationPlan};
use model::{DatasetName, JobName};

use super::entry::Entry;

/// What is remembered of earlier events.
#[derive(Default)]
pub(super) struct Earlier {
    /// The plan of each job that replicates now.
    jobs: HashMap<JobName, Plan>,
    successes: HashMap<JobName, Timestamp>,
}

struct Plan {
    plan: Arc<ReplicationPlan>,
    /// Where a filesystem with steps is in the plan.
    index: HashMap<DatasetName, usize>,
    /// Those that were planned again by themselves.
    again: HashMap<DatasetName, Arc<FilesystemPlan>>,
}

impl Earlier {
    /// The line for the next event, if it deserves one.
    pub(super) fn entry(&mut self, event: &Event) -> Option<Entry> {
        let entry = Entry::of(event, self);
        self.follow(event);
        entry
    }

    /// Keeps what the following events refer to, as long as they do.
    pub(super) fn follow(&mut self, event: &Event) {
        let Some(job) = &event.job else { return };
        match &event.what {
            What::Replication(Replication::Planned { plan }) => {
                self.jobs.insert(job.clone(), Plan::new(plan));
            }
            What::Replication(Replication::Replanned { plan, .. }) => {
                if let (Some(job), FilesystemAction::Steps { .. }) = (self.jobs.get_mut(job), &plan.action) {
                    job.again.insert(plan.name.clone(), Arc::clone(plan));
                }
            }
            What::Replication(Replication::AttemptFinished) => drop(self.jobs.remove(job)),
            What::InvocationFinished { summary, .. } => {
                self.jobs.remove(job);
                if succeeded(summary) {
                    self.successes.insert(job.clone(), event.at);
                }
            }
            _ => {}
        }
    }

    /// When an invocation of the job last succeeded, since the daemon started.
    pub(super) fn last_successful(&self, job: Option<&JobName>) -> Option<Timestamp> {
        self.successes.get(job?).copied()
    }

    /// A step as `@a => @b`.
    pub(super) fn name(&self, job: Option<&JobName>, filesystem: &DatasetName, step: usize) -> Option<String> {
        let plan = self.jobs.get(job?)?;
        let filesystem = match plan.again.get(filesystem) {
            Some(again) => &**again,
            None => plan.plan.filesystems.get(*plan.index.get(filesystem)?)?,
        };
        match &filesystem.action {
            FilesystemAction::Steps { steps, .. } => Some(steps.get(step)?.to_string()),
            FilesystemAction::Nothing(_) | FilesystemAction::Confirm { .. } | FilesystemAction::Conflict(_) => None,
        }
    }
}

/// Whether an invocation did all that there was to do.
pub(super) fn succeeded(summary: &InvocationSummary) -> bool {
    summary.errors == 0 && !summary.cancelled
}

impl Plan {
    fn new(plan: &Arc<ReplicationPlan>) -> Plan {
        let has_steps = |filesystem: &FilesystemPlan| matches!(filesystem.action, FilesystemAction::Steps { .. });
        let all = plan.filesystems.iter().enumerate().filter(|(_, filesystem)| has_steps(filesystem));
        let index = all.map(|(index, filesystem)| (filesystem.name.clone(), index)).collect();
        Plan { plan: Arc::clone(plan), index, again: HashMap::new() }
    }
}
