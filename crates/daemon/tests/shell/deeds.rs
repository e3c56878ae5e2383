//! What a preview says that an invocation would do, and what an invocation did, in the same words. The
//! suite that runs on real ZFS uses this file as well.

use std::collections::BTreeSet;

use daemon::preview::{FilesystemPreview, JobPreview, ReplicationPreview, ResolutionPreview, Side};
use model::DatasetName;
use model::event::{Pruning, Replication, Snapshotting, What};
use model::plan::prune::PruneSide;
use model::plan::replication::{FilesystemAction, ReplicationPlan};

/// What these events say was done.
pub(crate) fn done(events: &[What]) -> BTreeSet<String> {
    let (mut all, mut planned) = (BTreeSet::new(), None);
    for what in events {
        match what {
            What::Snapshotting(Snapshotting::Taken { filesystem, snapshot, result }) => {
                let verb = if result.is_ok() { "take" } else { "cannot take" };
                all.insert(format!("{verb} {filesystem}@{snapshot}"));
            }
            What::Replication(Replication::Planned { plan }) => planned = Some(plan),
            What::Replication(what) => all.extend(replicated(what, planned.map(|plan| &**plan))),
            What::Pruning { side, what: Pruning::Filesystem { filesystem, destroyed, .. } } => {
                all.extend(destroyed.iter().map(|name| format!("destroy {side} {filesystem}@{name}")));
            }
            What::Pruning { side, what: Pruning::PlanFailed { .. } } => {
                all.insert(format!("cannot prune {side}"));
            }
            _ => {}
        }
    }
    all
}

fn replicated(what: &Replication, plan: Option<&ReplicationPlan>) -> Option<String> {
    match what {
        Replication::DestroyedToResolve { filesystem, snapshot, .. } => {
            Some(format!("roll back {filesystem}@{snapshot}"))
        }
        Replication::Resolved { filesystem, .. } => Some(format!("resolve {filesystem}")),
        Replication::Discarding { filesystem, reason } => Some(format!("discard {filesystem}: {reason}")),
        Replication::Confirmed { filesystem } => Some(format!("confirm {filesystem}")),
        Replication::Conflicted { filesystem, conflict } => Some(format!("conflict {filesystem}: {conflict}")),
        Replication::StepFinished { filesystem, step, .. } => Some(sent(filesystem, *step, plan)),
        Replication::StepFailed { filesystem, error, .. } => Some(format!("failed {filesystem}: {error}")),
        Replication::PlanFailed { .. } => Some("cannot replicate".to_owned()),
        _ => None,
    }
}

/// A step by its place in the plan that it belongs to.
fn sent(filesystem: &DatasetName, step: usize, plan: Option<&ReplicationPlan>) -> String {
    let planned = plan.into_iter().flat_map(|plan| &plan.filesystems).find(|one| one.name == *filesystem);
    match planned.map(|one| &one.action) {
        Some(FilesystemAction::Steps { steps, .. }) => match steps.get(step) {
            Some(step) => format!("{} {filesystem} {step}", verb(step.resume_token.is_some())),
            None => format!("a step of {filesystem} that the plan does not have"),
        },
        other => format!("a step of {filesystem} where {other:?} was planned"),
    }
}

fn verb(resumes: bool) -> &'static str {
    if resumes { "resume" } else { "send" }
}

/// What a preview says would be done.
pub(crate) fn planned(job: &JobPreview) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = job.filesystems.iter().flat_map(planned_for).collect();
    let unknown = job.sides.iter().filter(|side| side.unknown.is_some());
    all.extend(unknown.map(|side| format!("cannot prune {}", word(side.side))));
    if !job.problems.is_empty() {
        all.insert("cannot replicate".to_owned());
    }
    all
}

fn planned_for(filesystem: &FilesystemPreview) -> Vec<String> {
    let name = &filesystem.filesystem;
    let mut all = Vec::new();
    if let Some(snapshot) = &filesystem.snapshot {
        let verb = if snapshot.impossible.is_none() { "take" } else { "cannot take" };
        all.push(format!("{verb} {name}@{}", snapshot.name));
    }
    match &filesystem.replication {
        Some(ReplicationPreview::Send { discard, resolution, steps, .. }) => {
            if let Some(resolution) = resolution {
                all.push(format!("resolve {name}"));
                all.extend(steps.is_empty().then(|| format!("confirm {name}")));
                all.extend(rolled_back(resolution).iter().map(|snapshot| format!("roll back {name}{snapshot}")));
            }
            all.extend(discard.as_ref().map(|why| format!("discard {name}: {why}")));
            let from = |from: &Option<String>| from.clone().unwrap_or_else(|| "full".to_owned());
            all.extend(
                steps.iter().map(|step| format!("{} {name} {} => {}", verb(step.resumes), from(&step.from), step.to)),
            );
        }
        Some(ReplicationPreview::Confirm { .. }) => all.push(format!("confirm {name}")),
        Some(ReplicationPreview::Conflict { why }) => all.push(format!("conflict {name}: {why}")),
        Some(ReplicationPreview::Nothing { .. }) | None => {}
    }
    for pruning in &filesystem.pruning {
        let destroyed = pruning.snapshots.iter().filter(|one| one.destroy);
        all.extend(destroyed.map(|one| format!("destroy {} {name}@{}", word(pruning.side), one.name)));
    }
    all
}

/// The snapshots that go with a rollback.
fn rolled_back(resolution: &ResolutionPreview) -> &[String] {
    match resolution {
        ResolutionPreview::RollBack { destroys, .. } => destroys,
        ResolutionPreview::RenameAside { .. } => &[],
    }
}

fn word(side: Side) -> String {
    let side = match side {
        Side::Sender => PruneSide::Sender,
        Side::Receiver => PruneSide::Receiver,
        Side::Local => PruneSide::Local,
    };
    side.to_string()
}
