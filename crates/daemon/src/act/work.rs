//! What an attempt has to do for each filesystem, and how far it is.

use std::collections::HashMap;
use std::sync::Arc;

use model::plan::replication::{Base, Discard, FilesystemAction, FilesystemPlan, Repair, ReplicationPlan, Step};
use model::plan::resolve::Resolution;
use model::view::View;
use model::{DatasetName, Guid, UnixTime, Version, VersionRef};

/// A filesystem with something to do.
pub(super) struct Work {
    plan: PlanOf,
    /// When the snapshots that the steps bring were taken.
    dates: HashMap<Guid, UnixTime>,
    /// The version to confirm or to start from, by the name that it has on the receiver.
    pub(super) received_as: Option<VersionRef>,
    /// Whether the sender tells what it protects, as zrepl's does not.
    pub(super) tells_protections: bool,
    /// Index of the first step that is not done before this plan.
    first: usize,
    /// Index of the step that is next or runs.
    pub(super) next: usize,
    /// Failures since a step was completed last, or more of it had arrived.
    pub(super) tries: u32,
    /// Whether the sides could not even be listed since.
    pub(super) looked_in_vain: bool,
    /// How much of the next step the receiver has, in bytes of its stream.
    arrived: u64,
    pub(super) state: State,
    /// Work that waits for this one's first step.
    pub(super) children: Vec<usize>,
}

/// Where work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Waits for the first step of a filesystem above it.
    Waiting,
    /// Waits for its turn.
    Ready,
    /// A step or the confirmation runs.
    Running,
    /// Failed, and is planned again soon.
    Retrying,
    /// Nothing is left to do.
    Done,
    /// Nothing more is tried.
    Failed,
}

/// A filesystem's plan: a row of everybody's, or its own.
enum PlanOf {
    Row(Arc<ReplicationPlan>, usize),
    Own(Arc<FilesystemPlan>),
}

/// What is to be done next.
pub(super) enum Task {
    Step {
        step: Step,
        /// What is discarded first.
        discard: Option<Discard>,
        /// What is done to the receiver first.
        resolution: Option<Resolution>,
    },
    /// A conflict behind which nothing is to be sent.
    Resolve {
        resolution: Resolution,
        discard: Option<Discard>,
        /// What both sides have then, as the sender names it.
        common: Option<VersionRef>,
    },
    Confirm {
        version: VersionRef,
        repairs: Vec<Repair>,
    },
    Nothing,
}

impl Work {
    /// The work of a row of the plan; none if it has none.
    pub(super) fn of_row(plan: &Arc<ReplicationPlan>, row: usize, sender: &View, receiver: &View) -> Option<Self> {
        let filesystem = plan.filesystems.get(row)?;
        match filesystem.action {
            FilesystemAction::Steps { .. } | FilesystemAction::Confirm { .. } => {}
            // To be planned again.
            FilesystemAction::Conflict(ref conflict) if conflict.may_pass() => {}
            FilesystemAction::Nothing(_) | FilesystemAction::Conflict(_) => return None,
        }
        let state = if filesystem.after.is_some() { State::Waiting } else { State::Ready };
        Some(Self {
            dates: dates(filesystem, sender),
            received_as: received_as(filesystem, receiver),
            arrived: arrived(filesystem, receiver),
            looked_in_vain: false,
            plan: PlanOf::Row(Arc::clone(plan), row),
            tells_protections: sender.protections_known,
            first: 0,
            next: 0,
            tries: 0,
            state,
            children: Vec::new(),
        })
    }

    fn plan(&self) -> Option<&FilesystemPlan> {
        match &self.plan {
            PlanOf::Row(plan, row) => plan.filesystems.get(*row),
            PlanOf::Own(plan) => Some(plan),
        }
    }

    pub(super) fn filesystem(&self) -> Option<&DatasetName> {
        self.plan().map(|plan| &plan.name)
    }

    pub(super) fn steps(&self) -> &[Step] {
        match self.plan().map(|plan| &plan.action) {
            Some(FilesystemAction::Steps { steps, .. }) => steps,
            _ => &[],
        }
    }

    /// When the next snapshot was taken.
    pub(super) fn date(&self) -> UnixTime {
        let to = self.steps().get(self.next).map(|step| step.to.guid);
        to.and_then(|guid| self.dates.get(&guid).copied()).unwrap_or(UnixTime(i64::MIN))
    }

    pub(super) fn task(&self) -> Task {
        match self.plan().map(|plan| &plan.action) {
            Some(FilesystemAction::Steps { steps, discard, resolution, base }) => {
                let (discard, resolution) = match self.next == self.first {
                    true => (discard.clone(), resolution.clone()),
                    false => (None, None),
                };
                match (steps.get(self.next), resolution) {
                    (Some(step), resolution) => Task::Step { step: step.clone(), discard, resolution },
                    (None, Some(resolution)) => Task::Resolve { resolution, discard, common: common(base).cloned() },
                    (None, None) => Task::Nothing,
                }
            }
            Some(FilesystemAction::Confirm { version, repairs }) => {
                Task::Confirm { version: version.clone(), repairs: repairs.clone() }
            }
            Some(FilesystemAction::Nothing(_) | FilesystemAction::Conflict(_)) | None => Task::Nothing,
        }
    }

    /// Goes on with a new plan, in which what was completed before comes first: how many steps that is,
    /// and the plan.
    pub(super) fn replan(
        &mut self,
        mut plan: FilesystemPlan,
        sender: &View,
        receiver: &View,
    ) -> (usize, Arc<FilesystemPlan>) {
        self.dates = dates(&plan, sender);
        self.received_as = received_as(&plan, receiver);
        self.tells_protections = sender.protections_known;
        let before = std::mem::replace(&mut self.arrived, arrived(&plan, receiver));
        let done = match &mut plan.action {
            FilesystemAction::Steps { base, steps, .. } => {
                let from = match steps.first() {
                    Some(step) => step.from.as_ref(),
                    None => common(base),
                };
                let done = completed(self.steps(), from);
                steps.splice(0..0, done.iter().cloned());
                done.len()
            }
            // All that was planned has arrived.
            FilesystemAction::Confirm { .. } | FilesystemAction::Nothing(_) => self.steps().len(),
            FilesystemAction::Conflict(_) => self.next,
        };
        if done > self.next || self.arrived > before {
            self.tries = 0;
        }
        let plan = Arc::new(plan);
        self.plan = PlanOf::Own(Arc::clone(&plan));
        (self.first, self.next) = (done, done);
        (done, plan)
    }
}

fn common(base: &Base) -> Option<&VersionRef> {
    match base {
        Base::Common(version) => Some(version),
        Base::Initial(_) | Base::Resume => None,
    }
}

/// The steps of an earlier plan that come before a later plan, which starts from `from`. A step whose
/// reply was lost is among them.
fn completed<'a>(earlier: &'a [Step], from: Option<&VersionRef>) -> &'a [Step] {
    let Some(from) = from else { return &[] };
    let end = earlier.iter().rposition(|step| step.to.guid == from.guid).map_or(0, |last| last + 1);
    earlier.get(..end).unwrap_or_default()
}

fn dates(plan: &FilesystemPlan, sender: &View) -> HashMap<Guid, UnixTime> {
    let FilesystemAction::Steps { steps, .. } = &plan.action else { return HashMap::new() };
    let mut dates: HashMap<Guid, UnixTime> = steps.iter().map(|step| (step.to.guid, UnixTime(i64::MIN))).collect();
    for version in sender.filesystems.get(&plan.name).iter().flat_map(|view| view.versions.iter()) {
        if let Some(date) = dates.get_mut(&version.guid) {
            *date = version.creation;
        }
    }
    dates
}

fn received_as(plan: &FilesystemPlan, receiver: &View) -> Option<VersionRef> {
    let version = match &plan.action {
        FilesystemAction::Confirm { version, .. } => version,
        FilesystemAction::Steps { steps, .. } => steps.first()?.from.as_ref()?,
        FilesystemAction::Nothing(_) | FilesystemAction::Conflict(_) => return None,
    };
    let view = receiver.filesystems.get(&plan.name)?;
    view.snapshots().find(|snapshot| snapshot.guid == version.guid).map(Version::to_ref)
}

/// How much the receiver has of the step that the plan resumes.
fn arrived(plan: &FilesystemPlan, receiver: &View) -> u64 {
    let FilesystemAction::Steps { base: Base::Resume, .. } = plan.action else { return 0 };
    let partial = receiver.filesystems.get(&plan.name).and_then(|view| view.partial.as_ref());
    partial.and_then(|partial| partial.contents.as_ref().ok()).map_or(0, |contents| contents.bytes_received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{VersionKind, VersionName};

    fn version(guid: u64) -> VersionRef {
        let name = VersionName::parse(&guid.to_string()).unwrap();
        VersionRef { kind: VersionKind::Snapshot, name, guid: Guid(guid) }
    }

    fn steps(ends: &[(Option<u64>, u64)]) -> Vec<Step> {
        let step = |(from, to): &(Option<u64>, u64)| Step {
            from: from.map(version),
            to: version(*to),
            created: UnixTime(0),
            resume_token: None,
        };
        ends.iter().map(step).collect()
    }

    #[test]
    fn what_arrived_comes_before_what_is_left() {
        let earlier = steps(&[(None, 1), (Some(1), 2), (Some(2), 3)]);
        let left = |first: (Option<u64>, u64)| completed(&earlier, first.0.map(version).as_ref()).len();
        assert_eq!(left((None, 1)), 0, "nothing arrived");
        assert_eq!(left((Some(1), 2)), 1);
        assert_eq!(left((Some(2), 3)), 2, "the second did, although its reply may be lost");
        assert_eq!(left((Some(3), 4)), 3, "a new snapshot");
        assert_eq!(left((Some(7), 8)), 0, "another base");
    }
}
