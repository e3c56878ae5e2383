//! Pruning in the report.

use std::collections::HashMap;
use std::sync::Arc;

use model::DatasetName;
use model::event::Pruning;
use model::plan::prune::{Decision, FilesystemPrunePlan, PrunePlan};
use serde::{Serialize, Serializer};

use super::json::{Lazily, time};

/// Pruning of one side in one invocation.
#[derive(Debug, Clone)]
pub(super) struct Pruner {
    phase: Phase,
    error: String,
    progress: Option<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Planning,
    PlanFailed,
    Executing,
    Finished,
}

#[derive(Debug, Clone)]
struct Progress {
    plan: Arc<PrunePlan>,
    index: Arc<HashMap<DatasetName, usize>>,
    /// Per filesystem of the plan.
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Clone)]
enum Outcome {
    Pending,
    Done,
    Failed(Box<str>),
}

impl Pruner {
    pub(super) fn new() -> Pruner {
        Pruner { phase: Phase::Planning, error: String::new(), progress: None }
    }

    pub(super) fn apply(&mut self, event: &Pruning) {
        match event {
            Pruning::Started => *self = Pruner::new(),
            Pruning::PlanFailed { error } => {
                self.phase = if self.progress.is_some() { Phase::Finished } else { Phase::PlanFailed };
                self.error.clone_from(error);
            }
            Pruning::Planned { plan } => {
                self.phase = Phase::Executing;
                self.progress = Some(Progress::new(plan));
            }
            Pruning::Filesystem { filesystem, failed, .. } => {
                if let Some(progress) = &mut self.progress {
                    let failures: Vec<String> = failed.iter().map(|(name, why)| format!("@{name}: {why}")).collect();
                    progress.finish(filesystem, &failures.join("; "));
                }
            }
            // Shown when its filesystem is done.
            Pruning::Destroyed { .. } => {}
            Pruning::Finished => self.phase = Phase::Finished,
        }
    }

    /// Nothing more happens: what is open now was cancelled.
    pub(super) fn close(&mut self) {
        let open = match self.phase {
            Phase::Planning | Phase::Executing => true,
            Phase::PlanFailed | Phase::Finished => false,
        };
        if open {
            self.phase = if self.phase == Phase::Planning { Phase::PlanFailed } else { Phase::Finished };
            self.error = "cancelled".to_owned();
        }
    }

    fn state(&self) -> &'static str {
        match self.phase {
            Phase::Planning => "Plan",
            Phase::PlanFailed => "PlanErr",
            Phase::Executing => "Exec",
            Phase::Finished if !self.error.is_empty() => "ExecErr",
            Phase::Finished if self.progress.as_ref().is_some_and(Progress::has_failed) => "ExecErr",
            Phase::Finished => "Done",
        }
    }
}

impl Progress {
    /// What has nothing to destroy is done at once.
    fn new(plan: &Arc<PrunePlan>) -> Progress {
        let outcome = |filesystem: &FilesystemPrunePlan| match filesystem.decisions.contains(&Decision::Destroy) {
            true => Outcome::Pending,
            false => Outcome::Done,
        };
        let names = plan.filesystems.iter().enumerate().map(|(index, filesystem)| (filesystem.name.clone(), index));
        Progress {
            outcomes: plan.filesystems.iter().map(outcome).collect(),
            index: Arc::new(names.collect()),
            plan: Arc::clone(plan),
        }
    }

    fn finish(&mut self, filesystem: &DatasetName, failures: &str) {
        let outcome = self.index.get(filesystem).and_then(|index| self.outcomes.get_mut(*index));
        if let Some(outcome) = outcome {
            *outcome = match failures {
                "" => Outcome::Done,
                failures => Outcome::Failed(failures.into()),
            };
        }
    }

    fn has_failed(&self) -> bool {
        self.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    fn filesystems(&self, pending: bool) -> impl Iterator<Item = Filesystem<'_>> {
        let all = self.plan.filesystems.iter().zip(&self.outcomes);
        all.filter(move |(_, outcome)| matches!(outcome, Outcome::Pending) == pending)
            .map(|(plan, outcome)| Filesystem { plan, outcome })
    }
}

impl Serialize for Pruner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a, P, C> {
            state: &'static str,
            error: &'a str,
            pending: Option<P>,
            completed: Option<C>,
        }
        let progress = self.progress.as_ref();
        Row {
            state: self.state(),
            error: &self.error,
            pending: progress.map(|progress| Lazily(|| progress.filesystems(true))),
            completed: progress.map(|progress| Lazily(|| progress.filesystems(false))),
        }
        .serialize(serializer)
    }
}

struct Filesystem<'a> {
    plan: &'a FilesystemPrunePlan,
    outcome: &'a Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Snapshot<'a> {
    name: &'a str,
    replicated: bool,
    date: String,
}

impl<'a> Filesystem<'a> {
    fn snapshots(&self, only_destroyed: bool) -> impl Iterator<Item = Snapshot<'a>> + use<'a> {
        let plan = self.plan;
        let decided = plan.versions.iter().zip(&plan.decisions).zip(&plan.replicated);
        decided
            .filter(|((version, _), _)| version.is_snapshot())
            .filter(move |((_, decision), _)| !only_destroyed || **decision == Decision::Destroy)
            .map(|((version, _), replicated)| Snapshot {
                name: version.name.as_str(),
                replicated: *replicated,
                date: time(Some(version.creation.to_timestamp())),
            })
    }
}

impl Serialize for Filesystem<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Row<'a, A, D> {
            filesystem: &'a str,
            snapshot_list: Option<A>,
            destroy_list: Option<D>,
            skip_reason: String,
            last_error: &'a str,
        }
        let considered = self.plan.skip.is_none();
        Row {
            filesystem: self.plan.name.as_str(),
            snapshot_list: considered.then_some(Lazily(|| self.snapshots(false))),
            destroy_list: considered.then_some(Lazily(|| self.snapshots(true))),
            skip_reason: self.plan.skip.map(|reason| reason.to_string()).unwrap_or_default(),
            last_error: match self.outcome {
                Outcome::Failed(error) => error,
                Outcome::Pending | Outcome::Done => "",
            },
        }
        .serialize(serializer)
    }
}
