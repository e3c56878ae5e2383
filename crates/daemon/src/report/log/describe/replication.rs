//! What is said of replication and pruning.

use std::collections::BTreeMap;

use model::JobName;
use model::event::{Pruning, Replication};
use model::plan::prune::{Decision, FilesystemPrunePlan, PrunePlan, PruneSide};
use model::plan::replication::{FilesystemAction, ReplicationPlan};

use super::super::earlier::Earlier;
use super::super::entry::{Line, line};
use super::super::running::Running;

/// How zrepl calls the class of an error after which it waits for the other side.
const CONNECTIVITY: &str = "errorClassTemporaryConnectivityRelated";

pub(super) fn replication(
    job: Option<&JobName>,
    what: &Replication,
    earlier: &Earlier,
    running: &Running,
) -> Option<Line> {
    let of = |filesystem: &str, message: &str| repl(message).with("fs", filesystem).also("filesystem", filesystem);
    // Waiting for the other side comes after the attempt that it is about.
    let attempt = |line: Line| line.also_maybe("attempt_number", running.latest_attempt());
    Some(match what {
        Replication::AttemptStarted => attempt(repl("start planning")).also("attempt_state", "planning"),
        Replication::PlanFailed { error } => {
            attempt(repl("planning failed")).also("attempt_state", "planning-error").with("err", error.as_str())
        }
        Replication::Planned { plan } => attempt(planned(plan)),
        Replication::Replanned { plan, done } => {
            of(plan.name.as_str(), "planned again").with("steps_done", *done as u64)
        }
        Replication::Reconnecting { error, until } => attempt(repl("waiting for the other side"))
            .with("err", error.as_str())
            .also("most_recent_err", error.as_str())
            .also("most_recent_err_class", CONNECTIVITY)
            .also("reconnect_decision", true)
            .with("deadline", until.to_string()),
        Replication::Reconnected => attempt(repl("the other side is back")),
        Replication::ReconnectFailed { error } => {
            attempt(repl("giving up until the next wake-up")).with("err", error.as_str())
        }
        Replication::Discarding { filesystem, reason } => {
            of(filesystem.as_str(), "discarding what an interrupted receive left, it cannot be resumed")
                .with("reason", reason.to_string())
        }
        Replication::Resolving { filesystem, resolution } => {
            of(filesystem.as_str(), "resolving a conflict as the job is configured to")
                .with("how", resolution.to_string())
        }
        Replication::DestroyedToResolve { filesystem, snapshot, reason } => {
            of(filesystem.as_str(), "destroyed a snapshot on the receiver")
                .with("snap", snapshot.as_str())
                .with("reason", reason.as_ref())
        }
        Replication::Resolved { filesystem, how } => {
            of(filesystem.as_str(), "resolved a conflict").with("how", how.as_str())
        }
        Replication::StepStarted { filesystem, step } => {
            of(filesystem.as_str(), "step started").maybe("step", earlier.name(job, filesystem, *step))
        }
        Replication::StepFinished { filesystem, step, bytes, took } => of(filesystem.as_str(), "replicated")
            .maybe("step", earlier.name(job, filesystem, *step))
            .with("bytes", *bytes)
            .with("duration", *took)
            .also("duration_s", *took),
        Replication::Confirmed { filesystem } => of(filesystem.as_str(), "protections put right"),
        Replication::Conflicted { filesystem, conflict } => {
            let conflict = conflict.to_string();
            let line = of(filesystem.as_str(), "cannot be replicated").also("conflict", conflict.as_str());
            line.with("err", conflict)
        }
        Replication::StepFailed { filesystem, step, bytes, error, will_retry } => {
            let message = if *will_retry { "step failed and will be tried again" } else { "step failed" };
            of(filesystem.as_str(), message)
                .maybe("step", earlier.name(job, filesystem, *step))
                .with("bytes", *bytes)
                .with("err", error.as_str())
        }
        Replication::AttemptFinished => attempt(repl("attempt finished")).also("attempt_state", running.ends_as()),
        Replication::Blocked { .. } | Replication::StepProgress { .. } => return None,
    })
}

fn repl(message: &str) -> Line {
    line("repl", message)
}

fn planned(plan: &ReplicationPlan) -> Line {
    if plan.filesystems.is_empty() {
        return repl("no filesystems to replicate (do the job's `filesystems` match anything?)");
    }
    let steps = |action: &FilesystemAction| match action {
        FilesystemAction::Steps { steps, .. } => steps.len(),
        FilesystemAction::Nothing(_) | FilesystemAction::Confirm { .. } | FilesystemAction::Conflict(_) => 0,
    };
    repl("planned")
        .with("filesystems", plan.filesystems.len())
        .with("steps", plan.filesystems.iter().map(|one| steps(&one.action)).sum::<usize>())
}

pub(super) fn pruning(side: PruneSide, what: &Pruning) -> Option<Line> {
    let line = |message: &str| line("pruning", message).with("prune_side", side.to_string());
    Some(match what {
        Pruning::Started => line("start pruning"),
        Pruning::PlanFailed { error } => line("pruning failed").with("err", error.as_str()),
        Pruning::Planned { plan } => line("planned pruning")
            .with("filesystems", plan.filesystems.len())
            .with("snapshots", plan.filesystems.iter().map(to_destroy).sum::<usize>())
            .maybe("skip_reason", skipped(plan)),
        Pruning::Destroyed { filesystem, snapshot, rules } => line("destroyed snapshot")
            .with("fs", filesystem.as_str())
            .with("destroy_snap", snapshot.as_str())
            .with("reason", "no keep rule keeps it")
            .with("rule", &**rules),
        Pruning::Filesystem { filesystem, destroyed, failed } => {
            let failures: Vec<String> = failed.iter().map(|(name, why)| format!("@{name}: {why}")).collect();
            let line = match (destroyed.is_empty(), failures.is_empty()) {
                (true, true) => return None,
                (false, true) => line("filesystem pruned"),
                (_, false) => line("some snapshots could not be destroyed"),
            };
            line.with("fs", filesystem.as_str())
                .with("destroyed", destroyed.len())
                .maybe("err", (!failures.is_empty()).then(|| failures.join("; ")))
        }
        Pruning::Finished => line("finished pruning"),
    })
}

fn to_destroy(plan: &FilesystemPrunePlan) -> usize {
    plan.decisions.iter().filter(|decision| **decision == Decision::Destroy).count()
}

/// Why filesystems are not pruned, each reason with their number; none if all are.
fn skipped(plan: &PrunePlan) -> Option<String> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for reason in plan.filesystems.iter().filter_map(|filesystem| filesystem.skip) {
        *reasons.entry(reason.to_string()).or_default() += 1;
    }
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}
