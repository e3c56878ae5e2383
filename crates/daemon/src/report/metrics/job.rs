//! What the events of one job say, beyond what each says by itself.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use config::types::{Job, Snapshotting as Snapshotted};
use jiff::Timestamp;
use model::event::{Event, InvocationSummary, Pruning, Receiving, Replication, Snapshotting, What};
use model::plan::prune::{Decision, PrunePlan, PruneSide};
use model::plan::replication::{FilesystemAction, FilesystemPlan, ReplicationPlan};
use model::{DatasetName, UnixTime, Version};

use super::super::ages::FilesystemAges;
use super::super::movement::Movement;
use super::table::Metric;
use super::{Table, seconds};

/// The job as far as its events have told.
#[derive(Default)]
pub(super) struct JobFold {
    /// What the job protects. The metrics about it are made when they are asked for.
    pub ages: FilesystemAges,
    /// Both sides have been compared: what has not been received is known then.
    pub compared: bool,
    /// It learns of its filesystems by its rounds of snapshots alone.
    serves_snapshots: bool,
    /// It has what others send.
    pub stores: bool,
    /// An invocation runs.
    running: bool,
    invocation: Invocation,
}

/// The invocation that runs.
#[derive(Default)]
struct Invocation {
    movement: Movement,
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
    plan: Option<Arc<ReplicationPlan>>,
    /// Where a filesystem is in the plan.
    index: HashMap<DatasetName, usize>,
    /// What was planned once more.
    replanned: HashMap<DatasetName, Arc<FilesystemPlan>>,
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
        JobFold {
            serves_snapshots: matches!(job, Job::Source(_)),
            stores: matches!(job, Job::Sink(_)),
            ..JobFold::default()
        }
    }

    pub(super) fn apply(&mut self, table: &mut Table, job: &str, event: &Event) {
        let at = event.at;
        match &event.what {
            What::Snapshotting(what) => {
                if self.serves_snapshots {
                    self.ages.retain(what);
                }
                self.ages.snapshotting(at, what);
                snapshotting(table, job, at, what);
            }
            What::Stored { below, newest } => self.ages.stored(below, newest),
            What::Receiving { target, created, what: Receiving::Finished, .. } => self.ages.arrived(target, *created),
            What::Replication(what) => {
                self.age(at, what);
                self.invocation.replication(table, job, at, what);
            }
            What::Pruning { side, what } => {
                if let (PruneSide::Local, Pruning::Planned { plan }) = (side, what) {
                    self.ages.pruning_planned(plan);
                }
                self.invocation.pruning(table, job, at, *side, what);
            }
            What::InvocationStarted { .. } => {
                self.running = true;
                table.set_time(Metric::InvocationStart, &[job], at);
            }
            What::InvocationFinished { summary, .. } => {
                self.running = false;
                std::mem::take(&mut self.invocation).finished(table, job, at, summary);
            }
            _ => {}
        }
        if self.moves(&event.what) {
            table.set_time(Metric::Progress, &[job], at);
        }
    }

    fn moves(&mut self, what: &What) -> bool {
        match what {
            // A replication that hangs must not look alive because snapshots are taken beside it.
            What::Snapshotting(_) => !self.running,
            What::Receiving { what: Receiving::Finished, .. }
            | What::InvocationStarted { .. }
            | What::InvocationFinished { .. } => true,
            _ => self.invocation.movement.moves(what),
        }
    }

    fn age(&mut self, at: Timestamp, what: &Replication) {
        match what {
            Replication::AttemptStarted => self.ages.attempt_started(at),
            Replication::Planned { plan } => {
                self.ages.planned(plan);
                self.compared = true;
            }
            Replication::StepFinished { filesystem, step, .. } => {
                if let Some(created) = self.invocation.created(filesystem, *step) {
                    self.ages.received(filesystem, created);
                }
            }
            _ => {}
        }
    }
}

impl Invocation {
    fn finished(mut self, table: &mut Table, job: &str, at: Timestamp, summary: &InvocationSummary) {
        self.leave_state(table, job, at);
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
        let errors = match self.failed.len() {
            _ if self.plan_failed => -1.0,
            // Trees that could not be listed have no filesystems.
            0 if self.attempted && !summary.replicated => summary.errors as f64,
            failed => failed as f64,
        };
        if summary.replicated || errors != 0.0 {
            table.set(Metric::FilesystemErrors, &[job], errors);
        }
    }

    fn replication(&mut self, table: &mut Table, job: &str, at: Timestamp, what: &Replication) {
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
                self.replanned.insert(plan.name.clone(), Arc::clone(plan));
            }
            Replication::StepStarted { filesystem, .. } => {
                self.flowing.insert(filesystem.clone(), 0);
            }
            Replication::StepProgress { filesystem, bytes, .. } => self.flow(table, job, filesystem, *bytes),
            Replication::StepFinished { filesystem, bytes, .. } => {
                self.flow(table, job, filesystem, *bytes);
                self.flowing.remove(filesystem);
                self.failed.remove(filesystem);
                table.count(Metric::Steps, &[job, "ok"]);
            }
            Replication::StepFailed { filesystem, bytes, will_retry, .. } => {
                self.flow(table, job, filesystem, *bytes);
                self.flowing.remove(filesystem);
                table.count(Metric::Steps, &[job, if *will_retry { "retry" } else { "error" }]);
                if !will_retry {
                    self.failed.insert(filesystem.clone());
                }
            }
            Replication::Conflicted { filesystem, .. } => {
                self.failed.insert(filesystem.clone());
            }
            Replication::Reconnecting { .. } => table.count(Metric::Reconnects, &[job]),
            Replication::AttemptFinished => self.leave_state(table, job, at),
            Replication::Blocked { .. }
            | Replication::ReconnectFailed { .. }
            | Replication::Reconnected
            | Replication::Discarding { .. }
            | Replication::Resolving { .. }
            | Replication::DestroyedToResolve { .. }
            | Replication::Resolved { .. }
            | Replication::Confirmed { .. } => {}
        }
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

    fn planned(&mut self, table: &mut Table, job: &str, plan: &Arc<ReplicationPlan>) {
        for filesystem in &plan.filesystems {
            table.touch(Metric::Bytes, &[filesystem.name.as_str(), job]);
        }
        let names = plan.filesystems.iter().map(|filesystem| filesystem.name.clone());
        self.index = names.zip(0..).collect();
        self.replanned.clear();
        self.plan = Some(Arc::clone(plan));
    }

    /// When the snapshot was taken that a step sends.
    fn created(&self, filesystem: &DatasetName, step: usize) -> Option<UnixTime> {
        let planned = || self.plan.as_ref()?.filesystems.get(*self.index.get(filesystem)?);
        match &self.replanned.get(filesystem).map(|again| &**again).or_else(planned)?.action {
            FilesystemAction::Steps { steps, .. } => Some(steps.get(step)?.created),
            _ => None,
        }
    }

    /// Counts what has come since the last time.
    fn flow(&mut self, table: &mut Table, job: &str, filesystem: &DatasetName, bytes: u64) {
        let before = self.flowing.entry(filesystem.clone()).or_insert(0);
        let more = bytes.saturating_sub(*before);
        *before = bytes.max(*before);
        table.add(Metric::Bytes, &[filesystem.as_str(), job], more as f64);
    }

    fn pruning(&mut self, table: &mut Table, job: &str, at: Timestamp, side: PruneSide, what: &Pruning) {
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

fn snapshotting(table: &mut Table, job: &str, at: Timestamp, what: &Snapshotting) {
    match what {
        Snapshotting::State { sleep_until, .. } => {
            table.set(Metric::NextWakeup, &[job], sleep_until.map_or(0.0, seconds));
        }
        Snapshotting::RoundStarted { .. } => table.set_time(Metric::Phase, &[job, "snapshotting"], at),
        Snapshotting::RoundFinished => table.set(Metric::Phase, &[job, "snapshotting"], 0.0),
        Snapshotting::Taken { result, .. } => {
            table.count(Metric::Snapshots, &[job, if result.is_ok() { "ok" } else { "error" }]);
        }
        Snapshotting::HooksFinished { had_error, .. } => {
            table.count(Metric::HookRuns, &[job, if *had_error { "error" } else { "ok" }]);
        }
        Snapshotting::HooksStarted { .. } | Snapshotting::Missed { .. } => {}
    }
}

fn kept(plan: &PrunePlan) -> usize {
    let snapshots = |versions: &[Version]| versions.iter().filter(|version| version.is_snapshot()).count();
    let goes = |decisions: &[Decision]| decisions.iter().filter(|one| **one == Decision::Destroy).count();
    plan.filesystems.iter().map(|one| snapshots(&one.versions).saturating_sub(goes(&one.decisions))).sum()
}

fn between(since: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(since)).unwrap_or(Duration::ZERO)
}
