//! The names of the steps that events speak of by number.

use std::collections::HashMap;
use std::sync::Arc;

use model::event::{Event, Replication, What};
use model::plan::replication::{FilesystemAction, FilesystemPlan, ReplicationPlan};
use model::{DatasetName, JobName};

use super::entry::Entry;

/// The plan of each job that replicates now.
#[derive(Default)]
pub(super) struct StepNames {
    jobs: HashMap<JobName, Plan>,
}

struct Plan {
    plan: Arc<ReplicationPlan>,
    /// Where a filesystem with steps is in the plan.
    index: HashMap<DatasetName, usize>,
    /// Those that were planned again by themselves.
    again: HashMap<DatasetName, Arc<FilesystemPlan>>,
}

impl StepNames {
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
            What::Replication(Replication::AttemptFinished) | What::InvocationFinished { .. } => {
                self.jobs.remove(job);
            }
            _ => {}
        }
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

impl Plan {
    fn new(plan: &Arc<ReplicationPlan>) -> Plan {
        let has_steps = |filesystem: &FilesystemPlan| matches!(filesystem.action, FilesystemAction::Steps { .. });
        let all = plan.filesystems.iter().enumerate().filter(|(_, filesystem)| has_steps(filesystem));
        let index = all.map(|(index, filesystem)| (filesystem.name.clone(), index)).collect();
        Plan { plan: Arc::clone(plan), index, again: HashMap::new() }
    }
}
