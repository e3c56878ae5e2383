//! From what both sides look like to what a person is shown: pure.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use config::types::{Pruning, PullJob, PushJob, SnapJob, Snapshotting};
use jiff::Timestamp;
use model::naming::SnapshotNaming;
use model::plan::prune::{Decision, KeepRule, PruneSide, PruneView, SnapshotVerdict, verdicts};
use model::plan::replication::{FilesystemAction, ReplicationPolicy, Step, plan_replication};
use model::plan::resolve::Resolution;
use model::plan::snapshot::{SnapshotPlan, plan_snapshots};
use model::view::{View, unlisted};
use model::{DatasetName, FilesystemFilter, Guid, JobName, VersionRef};

use super::apply::{self, Sides};
use super::report::{
    FilesystemPreview, JobPreview, NextRound, PruningPreview, Rejected, ReplicationPreview, ResolutionPreview, Side,
    SidePreview, Size, SnapshotPreview, StepPreview, Summary, Verdict,
};
use super::timing::{next_fetch, next_round};
use crate::act::{local_views, receiver_views, sender_views};
use crate::hooks::HookRunner;

/// A planned send whose size ZFS can tell.
pub(super) struct Sizeable {
    pub(super) filesystem: DatasetName,
    pub(super) from: Option<VersionRef>,
    pub(super) to: VersionRef,
    /// Bytes of it that the receiver has already.
    pub(super) received: u64,
    /// Its place among the steps of the filesystem.
    pub(super) step: usize,
}

/// What is planned of a job that replicates.
pub(super) struct Replicating<'a> {
    name: &'a JobName,
    kind: &'static str,
    /// How often it fetches by itself what others took snapshots of.
    interval: Option<Duration>,
    /// None if others take the snapshots.
    snapshots: Option<(&'a Snapshotting, &'a FilesystemFilter)>,
    policy: &'a ReplicationPolicy,
    pruning: &'a Pruning,
}

impl<'a> From<&'a PushJob> for Replicating<'a> {
    fn from(job: &'a PushJob) -> Self {
        Replicating {
            name: &job.name,
            kind: "push",
            interval: None,
            snapshots: Some((&job.snapshotting, &job.filesystems)),
            policy: &job.replication,
            pruning: &job.pruning,
        }
    }
}

impl<'a> From<&'a PullJob> for Replicating<'a> {
    fn from(job: &'a PullJob) -> Self {
        Replicating {
            name: &job.name,
            kind: "pull",
            interval: job.interval,
            snapshots: None,
            policy: &job.replication,
            pruning: &job.pruning,
        }
    }
}

/// What a job that replicates would do. The error of a side says why it cannot be looked at.
pub(super) fn replicating(
    job: &Replicating<'_>,
    now: Timestamp,
    hooks: &HookRunner,
    sender: Result<View, String>,
    receiver: Result<View, String>,
) -> (JobPreview, Vec<Sizeable>) {
    let next = match job.snapshots {
        Some((snapshotting, _)) => next_round(now, snapshotting, sender.as_ref()),
        None => next_fetch(now, job.interval),
    };
    let mut draft = Draft::new(job.name.as_str(), job.kind, now, next);
    draft.job.problems.extend(sender.as_ref().err().into_iter().chain(receiver.as_ref().err()).cloned());
    [&sender, &receiver].into_iter().flatten().for_each(|view| draft.unlisted(view));
    let mut sizeable = Vec::new();
    let mut receiver = receiver;
    let sender = sender.and_then(|mut sender| {
        let listed = sender.clone();
        if let Some((snapshotting, filesystems)) = job.snapshots {
            draft.snapshots(now, snapshotting, filesystems, hooks, &mut sender);
        }
        // A receiver that cannot be looked at keeps the sender from being sent, not from being pruned.
        if let Ok(receiver) = &mut receiver {
            let planned = draft.replication(job, &listed, &mut sender, receiver);
            sizeable = planned.inspect_err(|problem| draft.job.problems.push(problem.clone()))?;
        }
        Ok(sender)
    });
    let views = sender.as_ref().map(|sender| sender_views(sender, receiver.as_ref().ok()));
    draft.pruning(Side::Sender, &job.pruning.keep_sender, views.map_err(Clone::clone));
    let views = match (&sender, &receiver) {
        (Ok(sender), Ok(receiver)) => Ok(receiver_views(sender, receiver)),
        (_, Err(problem)) | (Err(problem), _) => Err(problem.clone()),
    };
    draft.pruning(Side::Receiver, &job.pruning.keep_receiver, views);
    (draft.finish(), sizeable)
}

/// What a snap job would do. The error says why its filesystems cannot be looked at.
pub(super) fn snap(job: &SnapJob, now: Timestamp, hooks: &HookRunner, view: Result<View, String>) -> JobPreview {
    let mut draft = Draft::new(job.name.as_str(), "snap", now, next_round(now, &job.snapshotting, view.as_ref()));
    draft.job.problems.extend(view.as_ref().err().cloned());
    view.iter().for_each(|view| draft.unlisted(view));
    let view = view.map(|mut view| {
        draft.snapshots(now, &job.snapshotting, &job.filesystems, hooks, &mut view);
        view
    });
    draft.pruning(Side::Local, &job.keep, view.as_ref().map(local_views).map_err(Clone::clone));
    draft.finish()
}

/// A preview as it grows.
struct Draft {
    job: JobPreview,
    filesystems: BTreeMap<DatasetName, FilesystemPreview>,
}

impl Draft {
    fn new(job: &str, kind: &str, now: Timestamp, next: NextRound) -> Self {
        let job = JobPreview {
            job: job.to_owned(),
            kind: kind.to_owned(),
            at: now.to_string(),
            next,
            snapshot: None,
            problems: Vec::new(),
            warnings: Vec::new(),
            sides: Vec::new(),
            filesystems: Vec::new(),
            total: Summary::default(),
        };
        Self { job, filesystems: BTreeMap::new() }
    }

    fn finish(mut self) -> JobPreview {
        self.job.filesystems = self.filesystems.into_values().collect();
        self.job.count();
        self.job
    }

    /// Nothing is known of these trees, and nothing planned.
    fn unlisted(&mut self, view: &View) {
        self.job.problems.extend(view.unlisted.iter().map(|(root, why)| unlisted(root, why)));
    }

    fn filesystem(&mut self, name: &DatasetName) -> &mut FilesystemPreview {
        self.filesystems.entry(name.clone()).or_insert_with(|| FilesystemPreview {
            filesystem: name.to_string(),
            snapshot: None,
            replication: None,
            pruning: Vec::new(),
            summary: Summary::default(),
        })
    }

    /// Plans the snapshots and takes them in the view.
    fn snapshots(
        &mut self,
        now: Timestamp,
        how: &Snapshotting,
        filter: &FilesystemFilter,
        hooks: &HookRunner,
        view: &mut View,
    ) {
        let Some(naming) = naming(how) else { return };
        let datasets = view.filesystems.iter().map(|(name, filesystem)| (name, &*filesystem.versions));
        let SnapshotPlan { name, filesystems, impossible } = match plan_snapshots(now, naming, filter, datasets) {
            Ok(plan) => {
                apply::take(view, &plan, now);
                plan
            }
            Err(error) => return self.job.problems.push(format!("no snapshots can be taken: {error}")),
        };
        self.job.snapshot = Some(name.to_string());
        let unmatched = hooks.unmatched(&filesystems);
        if !unmatched.is_empty() {
            self.job.warnings.push(format!("hook matches no filesystem that is snapshotted: {}", unmatched.join(", ")));
        }
        let possible = filesystems.into_iter().map(|filesystem| (filesystem, None));
        let impossible = impossible.into_iter().map(|(filesystem, why)| (filesystem, Some(why.to_string())));
        for (filesystem, impossible) in possible.chain(impossible) {
            // Nothing runs around a snapshot that is not tried.
            let hooks = if impossible.is_none() { hooks.around(&filesystem) } else { Vec::new() };
            let snapshot = SnapshotPreview { name: name.to_string(), impossible, hooks };
            self.filesystem(&filesystem).snapshot = Some(snapshot);
        }
    }

    /// Plans the steps and does them in the views. `listed` is the sender without the snapshots that
    /// are only planned.
    fn replication(
        &mut self,
        job: &Replicating<'_>,
        listed: &View,
        sender: &mut View,
        receiver: &mut View,
    ) -> Result<Vec<Sizeable>, String> {
        let plan = plan_replication(sender, receiver, job.policy);
        let mut sizeable = Vec::new();
        for filesystem in &plan.filesystems {
            let name = &filesystem.name;
            // A set: one filesystem may have tens of thousands of steps and versions.
            let versions = listed.filesystems.get(name).into_iter().flat_map(|filesystem| filesystem.versions.iter());
            let guids: HashSet<Guid> = versions.map(|version| version.guid).collect();
            let there = |version: &VersionRef| guids.contains(&version.guid);
            let partial = receiver.filesystems.get(name).and_then(|filesystem| filesystem.partial.as_ref());
            let received =
                partial.and_then(|partial| partial.contents.as_ref().ok()).map_or(0, |has| has.bytes_received);
            if let FilesystemAction::Steps { steps, .. } = &filesystem.action {
                let steps = steps.iter().enumerate().filter(|(_, step)| there(&step.to) && step.from.iter().all(there));
                sizeable.extend(steps.map(|(index, step)| Sizeable {
                    filesystem: name.clone(),
                    from: step.from.clone(),
                    to: step.to.clone(),
                    received: if step.resume_token.is_some() { received } else { 0 },
                    step: index,
                }));
            }
            self.filesystem(name).replication = Some(replication(name, &filesystem.action, there));
        }
        let mut sides = Sides { job: job.name, policy: job.policy.protection, sender, receiver };
        sides.replicate(&plan).map_err(|error| format!("no step can be protected: {error}"))?;
        Ok(sizeable)
    }

    fn pruning(&mut self, side: Side, rules: &[KeepRule], views: Result<Vec<PruneView>, String>) {
        // Without rules nothing has to be looked at.
        let unknown = views.as_ref().err().filter(|_| !rules.is_empty()).cloned();
        let words = rules.iter().map(ToString::to_string).collect();
        self.job.sides.push(SidePreview { side, rules: words, unknown });
        let Ok(views) = views else { return };
        let pruned = match side {
            Side::Sender => PruneSide::Sender,
            Side::Receiver => PruneSide::Receiver,
            Side::Local => PruneSide::Local,
        };
        for view in &views {
            self.filesystem(&view.name).pruning.push(pruning(side, pruned, view, rules));
        }
    }
}

fn naming(snapshotting: &Snapshotting) -> Option<&SnapshotNaming> {
    match snapshotting {
        Snapshotting::Periodic { naming, .. } | Snapshotting::Cron { naming, .. } => Some(naming),
        Snapshotting::Manual => None,
    }
}

fn replication(
    name: &DatasetName,
    action: &FilesystemAction,
    there: impl Fn(&VersionRef) -> bool,
) -> ReplicationPreview {
    match action {
        FilesystemAction::Nothing(why) => ReplicationPreview::Nothing { why: why.to_string() },
        FilesystemAction::Confirm { .. } => ReplicationPreview::Confirm { why: action.to_string() },
        FilesystemAction::Conflict(why) => ReplicationPreview::Conflict { why: why.to_string() },
        FilesystemAction::Steps { base, discard, resolution, steps } => ReplicationPreview::Send {
            why: base.to_string(),
            discard: discard.as_ref().map(ToString::to_string),
            resolution: resolution.as_ref().map(|resolution| self::resolution(name, resolution)),
            steps: steps.iter().map(|one| step(one, there(&one.to))).collect(),
        },
    }
}

fn resolution(name: &DatasetName, resolution: &Resolution) -> ResolutionPreview {
    let why = resolution.policy().to_owned();
    match resolution {
        Resolution::RollBack { to, destroy } => {
            let destroys = destroy.iter().map(ToString::to_string).collect();
            ResolutionPreview::RollBack { to: to.to_string(), destroys, why }
        }
        Resolution::RenameAside { below, .. } => {
            let below = below.iter().map(ToString::to_string).collect();
            ResolutionPreview::RenameAside { to: format!("{name}.zrepl.aside.TIME"), below, why }
        }
    }
}

fn step(step: &Step, there: bool) -> StepPreview {
    let why = if there { "not estimated" } else { "the snapshot is not taken yet" };
    StepPreview {
        from: step.from.as_ref().map(ToString::to_string),
        to: step.to.to_string(),
        resumes: step.resume_token.is_some(),
        size: Size::Unknown(why.to_owned()),
    }
}

fn pruning(side: Side, pruned: PruneSide, view: &PruneView, rules: &[KeepRule]) -> PruningPreview {
    let snapshots = verdicts(pruned, view, rules).into_iter().map(|one| verdict(one, rules)).collect();
    PruningPreview { side, skipped: view.skip.map(|skip| skip.to_string()), snapshots }
}

fn verdict(of: SnapshotVerdict, rules: &[KeepRule]) -> Verdict {
    let place = |index: u16| u32::from(index).saturating_add(1);
    let rejected = of.rejected_by.iter().map(|(index, why)| Rejected { rule: place(*index), why: why.to_string() });
    let rejected_by: Vec<Rejected> = rejected.collect();
    Verdict {
        name: of.version.name.to_string(),
        creation: of.version.creation.to_timestamp().to_string(),
        destroy: of.decision == Decision::Destroy,
        why: why(of.decision, rules, &rejected_by),
        kept_by: of.kept_by.iter().map(|index| place(*index)).collect(),
        rejected_by,
    }
}

/// The decision in words, without the verdict that begins them.
fn why(decision: Decision, rules: &[KeepRule], rejected: &[Rejected]) -> String {
    let words = decision.explain(rules).to_string();
    let why = words.split_once(": ").map_or(words.as_str(), |(_, why)| why);
    if decision != Decision::Destroy {
        return why.to_owned();
    }
    let rejected: Vec<String> = rejected.iter().map(|Rejected { rule, why }| format!("{rule}. {why}")).collect();
    format!("{why}: {}", rejected.join(", "))
}
