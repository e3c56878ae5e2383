//! What lines say of events before theirs: the names of steps, which events speak of by number, and when a job
//! last succeeded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use config::types::LogLevel;
use jiff::Timestamp;
use model::event::{Event, Hook, InvocationSummary, Pruning, Replication, Snapshotting, What};
use model::plan::replication::{FilesystemAction, FilesystemPlan, ReplicationPlan};
use model::{DatasetName, JobName};

use super::entry::{Entry, Value};

/// What is remembered of earlier events.
#[derive(Default)]
pub(super) struct Earlier {
    /// The plan of each job that replicates now.
    jobs: HashMap<JobName, Plan>,
    successes: HashMap<JobName, Timestamp>,
    told: HashMap<JobName, Told>,
}

/// What was said about failures of a job, so that each is told once.
#[derive(Default)]
struct Told {
    /// Texts of errors of the invocation that runs.
    errors: Vec<String>,
    /// Filesystems of the round of snapshots that runs, of which a hook has failed.
    hooks: HashSet<DatasetName>,
    /// A snapshot of that round has failed.
    snapshots: bool,
}

/// Errors of an invocation that are remembered. They are about sides, of which there are two.
const TOLD: usize = 16;
/// What stands in the place of a text that was told before.
const AGAIN: &str = "the same as above";

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
        let mut entry = Entry::of(event, self);
        self.follow(event);
        if let (Some(job), Some(entry)) = (&event.job, &mut entry) {
            self.told.entry(job.clone()).or_default().once(event, entry);
        }
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

impl Told {
    /// Makes less of a line that says what an earlier one has said.
    fn once(&mut self, event: &Event, entry: &mut Entry) {
        match &event.what {
            What::InvocationStarted { .. } => self.errors.clear(),
            What::Snapshotting(what) => self.of_snapshots(what, entry),
            What::Hook { filesystem, what: Hook::Failed { .. }, .. } => drop(self.hooks.insert(filesystem.clone())),
            // Those of a filesystem name it.
            What::Replication(
                Replication::PlanFailed { error }
                | Replication::Reconnecting { error, .. }
                | Replication::ReconnectFailed { error },
            )
            | What::Pruning { what: Pruning::PlanFailed { error }, .. } => self.of_sides(error, entry),
            What::Warning { subsystem: "pruning", message } => self.of_sides(message, entry),
            _ => {}
        }
    }

    fn of_sides(&mut self, text: &str, entry: &mut Entry) {
        let Some(known) = self.errors.iter().find(|known| text.contains(*known)) else {
            if self.errors.len() < TOLD && !text.is_empty() {
                self.errors.push(text.to_owned());
            }
            return;
        };
        entry.message = entry.message.replace(known, AGAIN);
        set_error(entry, |error| error.replace(known, AGAIN));
        // That it is tried again says nothing new.
        if entry.level == LogLevel::Warn && entry.subsystem == Some("pruning") {
            entry.level = LogLevel::Debug;
        }
    }

    /// The failure of a hook prevents a snapshot, and that of a snapshot fails the round.
    fn of_snapshots(&mut self, what: &Snapshotting, entry: &mut Entry) {
        match what {
            Snapshotting::RoundStarted { .. } => {
                self.hooks.clear();
                self.snapshots = false;
            }
            Snapshotting::Taken { filesystem, result: Err(_), .. } => {
                self.snapshots = true;
                if self.hooks.contains(filesystem) {
                    entry.level = LogLevel::Warn;
                    set_error(entry, |_| "a hook before it failed, see above".to_owned());
                }
            }
            Snapshotting::State { error: Some(_), .. } if self.snapshots || !self.hooks.is_empty() => {
                entry.level = LogLevel::Warn;
            }
            _ => {}
        }
    }
}

fn set_error(entry: &mut Entry, other: impl Fn(&str) -> String) {
    for (name, value) in &mut entry.fields {
        if let (&mut "err", Value::Text(value)) = (name, value) {
            *value = other(value);
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
