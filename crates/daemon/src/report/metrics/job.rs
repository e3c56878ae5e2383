//! What the events of one job say, beyond what each says by itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use config::types::{Job, Snapshotting as Snapshotted};
use jiff::Timestamp;
use model::event::{Event, InvocationSummary, Pruning, Replication, Snapshotting, Standing, What};
use model::plan::prune::{Decision, PrunePlan, PruneSide};
use model::plan::replication::{FilesystemAction, FilesystemPlan, ReplicationPlan};
use model::{DatasetName, UnixTime, Version};

use super::table::Metric;
use super::{Table, seconds};

/// The job as far as its events have told.
#[derive(Default)]
pub(super) struct JobFold {
    /// The state of the attempt that runs, and since when.
    state: Option<(&'static str, Timestamp)>,
    /// The side that is pruned, and since when.
    pruning: Option<(PruneSide, Timestamp)>,
    /// Bytes of the step that runs, per filesystem.
    flowing: HashMap<DatasetName, u64>,
    /// Filesystems that this attempt could not replicate.
    failed: HashSet<DatasetName>,
    plan_failed: bool,
    attempted: bool,
    /// What the sender has, while an invocation runs: steps name their snapshots without a time.
    versions: HashMap<DatasetName, Arc<[Version]>>,
    steps: HashMap<DatasetName, Arc<FilesystemPlan>>,
}

/// States of an attempt, as zrepl's status calls them.
const PLANNING: &str = "planning";
const REPLICATING: &str = "fan-out-filesystems";

/// A phase of a job, for who asks since when it is in it.
const PHASES: [&str; 6] =
    ["planning", "replicating", "pruning-sender", "pruning-receiver", "pruning-local", "snapshotting"];

fn pruning_phase(side: PruneSide) -> &'static str {
    match side {
        PruneSide::Sender => "pruning-sender",
        PruneSide::Receiver => "pruning-receiver",
        PruneSide::Local => "pruning-local",
    }
}

impl JobFold {
    /// A job that has done nothing yet. Its series exist from the start, so that a rate over its first
    /// event is right.
    pub(super) fn new(job: &Job, table: &mut Table) -> JobFold {
        let name = job.name().as_str();
        let (replicates, sides): (_, &[PruneSide]) = match job {
            Job::Push(_) | Job::Pull(_) => (true, &[PruneSide::Sender, PruneSide::Receiver]),
            Job::Snap(_) => (false, &[PruneSide::Local]),
            Job::Source(_) | Job::Sink(_) => (false, &[]),
        };
        if replicates {
            for state in [PLANNING, REPLICATING] {
                table.touch(Metric::StateTime, &[state, name]);
            }
            for result in ["ok", "retry", "error"] {
                table.touch(Metric::Steps, &[name, result]);
            }
            for metric in [Metric::FilesystemErrors, Metric::LastSuccessful, Metric::Reconnects] {
                table.touch(metric, &[name]);
            }
        }
        for side in sides {
            for metric in [Metric::PruningTime, Metric::PruneDestroyed, Metric::PruneFailed, Metric::PruneErrors] {
                table.touch(metric, &[&side.to_string(), name]);
            }
        }
        if !sides.is_empty() {
            for result in ["ok", "error", "cancelled"] {
                table.touch(Metric::Invocations, &[name, result]);
            }
            table.touch(Metric::InvocationStart, &[name]);
            table.touch(Metric::NextWakeup, &[name]);
        }
        if takes_snapshots(job) {
            for result in ["ok", "error"] {
                table.touch(Metric::Snapshots, &[name, result]);
            }
        }
        table.touch(Metric::Protections, &[name]);
        JobFold::default()
    }

    pub(super) fn apply(&mut self, table: &mut Table, job: &str, event: &Event) {
        let at = event.at;
        let moved = match &event.what {
            What::Snapshotting(what) => snapshotting(table, job, at, what),
            What::Replication(what) => self.replication(table, job, at, what),
            What::Pruning { side, what } => self.pruning(table, job, at, *side, what),
            What::InvocationStarted { .. } => {
                table.set_time(Metric::InvocationStart, &[job], at);
                true
            }
            What::InvocationFinished { summary, .. } => {
                self.finished(table, job, at, summary);
                true
            }
            _ => false,
        };
        if moved {
            table.set_time(Metric::Progress, &[job], at);
        }
    }

    fn finished(&mut self, table: &mut Table, job: &str, at: Timestamp, summary: &InvocationSummary) {
        self.leave_state(table, job, at);
        let replicates = std::mem::take(self);
        table.set(Metric::InvocationStart, &[job], 0.0);
        table.set(Metric::InvocationDuration, &[job], summary.took.as_secs_f64());
        let result = match summary {
            InvocationSummary { cancelled: true, .. } => "cancelled",
            InvocationSummary { errors: 0, .. } => "ok",
            InvocationSummary { .. } => "error",
        };
        table.count(Metric::Invocations, &[job, result]);
        for phase in PHASES.iter().filter(|phase| **phase != "snapshotting") {
            table.set(Metric::Phase, &[job, phase], 0.0);
        }
        if summary.replicated {
            table.set_time(Metric::LastSuccessful, &[job], at);
        }
        let errors = match replicates.failed.len() {
            _ if replicates.plan_failed => -1.0,
            // Trees that could not be listed have no filesystems.
            0 if replicates.attempted && !summary.replicated => summary.errors as f64,
            failed => failed as f64,
        };
        if summary.replicated || errors != 0.0 {
            table.set(Metric::FilesystemErrors, &[job], errors);
        }
    }

    /// Whether something moved.
    fn replication(&mut self, table: &mut Table, job: &str, at: Timestamp, what: &Replication) -> bool {
        match what {
            Replication::AttemptStarted => {
                self.failed.clear();
                (self.plan_failed, self.attempted) = (false, true);
                self.enter_state(table, job, at, Some(PLANNING));
            }
            Replication::PlanFailed { .. } => {
                self.plan_failed = true;
                self.leave_state(table, job, at);
            }
            Replication::Planned { plan } => {
                self.enter_state(table, job, at, Some(REPLICATING));
                self.planned(table, job, plan);
            }
            Replication::Replanned { plan, .. } => {
                self.steps.insert(plan.name.clone(), Arc::clone(plan));
            }
            Replication::Standing { filesystems } => {
                filesystems.iter().for_each(|one| self.stands(table, job, one));
            }
            Replication::StepStarted { filesystem, .. } => {
                self.flowing.insert(filesystem.clone(), 0);
            }
            Replication::StepProgress { filesystem, bytes, .. } => {
                return self.flow(table, job, filesystem, *bytes) > 0;
            }
            Replication::StepFinished { filesystem, step, bytes, .. } => {
                self.flow(table, job, filesystem, *bytes);
                self.flowing.remove(filesystem);
                self.failed.remove(filesystem);
                table.count(Metric::Steps, &[job, "ok"]);
                self.step_done(table, job, filesystem, *step);
            }
            Replication::StepFailed { filesystem, bytes, will_retry, .. } => {
                self.flow(table, job, filesystem, *bytes);
                self.flowing.remove(filesystem);
                table.count(Metric::Steps, &[job, if *will_retry { "retry" } else { "error" }]);
                if !will_retry {
                    self.failed.insert(filesystem.clone());
                }
                return false;
            }
            Replication::Conflicted { filesystem, .. } => {
                self.failed.insert(filesystem.clone());
            }
            Replication::Reconnecting { .. } => {
                table.count(Metric::Reconnects, &[job]);
                return false;
            }
            Replication::AttemptFinished => self.leave_state(table, job, at),
            Replication::Blocked { .. } | Replication::ReconnectFailed { .. } => return false,
            Replication::Reconnected
            | Replication::Discarding { .. }
            | Replication::Resolving { .. }
            | Replication::DestroyedToResolve { .. }
            | Replication::Resolved { .. }
            | Replication::Confirmed { .. } => {}
        }
        true
    }

    fn enter_state(&mut self, table: &mut Table, job: &str, at: Timestamp, state: Option<&'static str>) {
        if let Some((left, since)) = self.state.take() {
            let phase = if left == PLANNING { "planning" } else { "replicating" };
            table.observe(Metric::StateTime, &[left, job], between(since, at));
            table.set(Metric::Phase, &[job, phase], 0.0);
        }
        self.state = state.map(|state| (state, at));
        if let Some(state) = state {
            let phase = if state == PLANNING { "planning" } else { "replicating" };
            table.set_time(Metric::Phase, &[job, phase], at);
        }
    }

    fn leave_state(&mut self, table: &mut Table, job: &str, at: Timestamp) {
        self.enter_state(table, job, at, None);
    }

    fn planned(&mut self, table: &mut Table, job: &str, plan: &ReplicationPlan) {
        self.steps.clear();
        for filesystem in &plan.filesystems {
            table.touch(Metric::Bytes, &[filesystem.name.as_str(), job]);
            if let FilesystemAction::Steps { .. } = filesystem.action {
                self.steps.insert(filesystem.name.clone(), Arc::new(filesystem.clone()));
            }
        }
    }

    /// Counts what has come since the last time; how much.
    fn flow(&mut self, table: &mut Table, job: &str, filesystem: &DatasetName, bytes: u64) -> u64 {
        let before = self.flowing.entry(filesystem.clone()).or_insert(0);
        let more = bytes.saturating_sub(*before);
        *before = bytes.max(*before);
        table.add(Metric::Bytes, &[filesystem.as_str(), job], more as f64);
        more
    }

    fn stands(&mut self, table: &mut Table, job: &str, standing: &Standing) {
        let Standing { filesystem, versions, common } = standing;
        if let Some(newest) = newest(versions) {
            set_standing(table, job, filesystem, newest, *common);
        }
        self.versions.insert(filesystem.clone(), Arc::clone(versions));
    }

    /// The receiver has another snapshot.
    fn step_done(&mut self, table: &mut Table, job: &str, filesystem: &DatasetName, step: usize) {
        let Some(FilesystemAction::Steps { steps, .. }) = self.steps.get(filesystem).map(|plan| &plan.action) else {
            return;
        };
        let Some((step, versions)) = steps.get(step).zip(self.versions.get(filesystem)) else { return };
        let arrived = versions.iter().find(|version| version.guid == step.to.guid);
        if let (Some(arrived), Some(newest)) = (arrived, newest(versions)) {
            set_standing(table, job, filesystem, newest.max(arrived.creation), Some(arrived.creation));
        }
    }

    /// Whether something moved.
    fn pruning(&mut self, table: &mut Table, job: &str, at: Timestamp, side: PruneSide, what: &Pruning) -> bool {
        let name = side.to_string();
        let labels = [name.as_str(), job];
        match what {
            Pruning::Started => {
                self.pruning = Some((side, at));
                table.set_time(Metric::Phase, &[job, pruning_phase(side)], at);
            }
            Pruning::PlanFailed { .. } => {
                table.count(Metric::PruneErrors, &labels);
                self.pruned(table, job, at);
            }
            Pruning::Planned { plan } => table.set(Metric::PruneKept, &labels, kept(plan) as f64),
            Pruning::Destroyed { .. } => table.count(Metric::PruneDestroyed, &labels),
            Pruning::Filesystem { failed, .. } => table.add(Metric::PruneFailed, &labels, failed.len() as f64),
            Pruning::Finished => self.pruned(table, job, at),
        }
        true
    }

    fn pruned(&mut self, table: &mut Table, job: &str, at: Timestamp) {
        let Some((side, since)) = self.pruning.take() else { return };
        table.observe(Metric::PruningTime, &[&side.to_string(), job], between(since, at));
        table.set(Metric::Phase, &[job, pruning_phase(side)], 0.0);
    }
}

fn takes_snapshots(job: &Job) -> bool {
    let snapshotting = match job {
        Job::Push(job) => &job.snapshotting,
        Job::Source(job) => &job.snapshotting,
        Job::Snap(job) => &job.snapshotting,
        Job::Pull(_) | Job::Sink(_) => return false,
    };
    !matches!(snapshotting, Snapshotted::Manual)
}

fn newest(versions: &[Version]) -> Option<UnixTime> {
    versions.iter().filter(|version| version.is_snapshot()).map(|version| version.creation).max()
}

fn set_standing(table: &mut Table, job: &str, filesystem: &DatasetName, newest: UnixTime, common: Option<UnixTime>) {
    let labels = [filesystem.as_str(), job];
    table.set(Metric::NewestSnapshot, &labels, newest.0 as f64);
    table.set(Metric::NewestReplicated, &labels, common.map_or(0.0, |common| common.0 as f64));
    let lag = common.map_or(f64::INFINITY, |common| newest.0.saturating_sub(common.0).max(0) as f64);
    table.set(Metric::Lag, &labels, lag);
}

fn snapshotting(table: &mut Table, job: &str, at: Timestamp, what: &Snapshotting) -> bool {
    match what {
        Snapshotting::State { sleep_until, .. } => {
            table.set(Metric::NextWakeup, &[job], sleep_until.map_or(0.0, seconds));
        }
        Snapshotting::RoundStarted { .. } => table.set_time(Metric::Phase, &[job, "snapshotting"], at),
        Snapshotting::RoundFinished => table.set(Metric::Phase, &[job, "snapshotting"], 0.0),
        Snapshotting::Taken { filesystem, result, .. } => {
            table.count(Metric::Snapshots, &[job, if result.is_ok() { "ok" } else { "error" }]);
            if result.is_ok() {
                table.set_time(Metric::NewestSnapshot, &[filesystem.as_str(), job], at);
            }
        }
        Snapshotting::HooksFinished { had_error, .. } => {
            table.count(Metric::HookRuns, &[job, if *had_error { "error" } else { "ok" }]);
        }
        Snapshotting::HooksStarted { .. } | Snapshotting::Missed { .. } => {}
    }
    true
}

fn kept(plan: &PrunePlan) -> usize {
    let snapshots = |versions: &[Version]| versions.iter().filter(|version| version.is_snapshot()).count();
    let goes = |decisions: &[Decision]| decisions.iter().filter(|one| **one == Decision::Destroy).count();
    plan.filesystems.iter().map(|one| snapshots(&one.versions).saturating_sub(goes(&one.decisions))).sum()
}

fn between(since: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(since)).unwrap_or(Duration::ZERO)
}
