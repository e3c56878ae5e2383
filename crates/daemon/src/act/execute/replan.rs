//! Plans again what failed, by itself, while others go on.

use std::collections::HashMap;
use std::sync::Arc;

use model::event::Replication;
use model::plan::replication::{Conflict, FilesystemAction, FilesystemPlan, plan_replication};
use model::plan::resolve::WhenNothingInCommon;
use model::view::{FilesystemView, View, unlisted};
use model::{DatasetName, RetryClass};
use wire::CallError;

use super::{Execution, Happened};
use crate::act::sides::Sides;
use crate::act::work::{State, Work};

impl Execution<'_> {
    /// All that are due share the listings of both sides.
    pub(super) fn list_due(&mut self) {
        let indices = std::mem::take(&mut self.due);
        let names: Vec<DatasetName> =
            indices.iter().filter_map(|index| self.work.get(*index)?.filesystem().cloned()).collect();
        let Sides { sender, receiver } = self.sides.clone();
        // What is renamed takes along what is below it, which has to be looked at as well.
        let whole = self.invocation.policy.conflicts.no_common == WhenNothingInCommon::RenameAside;
        self.planning = true;
        self.running.push(Box::pin(async move {
            let views = match whole {
                true => tokio::try_join!(sender.list(), receiver.list()),
                false => tokio::try_join!(sender.list_some(&names), receiver.list_some(&names)),
            };
            Happened::Listed { indices, views }
        }));
    }

    pub(super) fn listed(&mut self, indices: Vec<usize>, views: Result<(View, View), CallError>) {
        self.planning = false;
        // Some may have been given up meanwhile.
        let is_awaited = |index: &usize| self.work.get(*index).is_some_and(|work| work.state == State::Retrying);
        let indices: Vec<usize> = indices.into_iter().filter(is_awaited).collect();
        let (sender, receiver) = match views {
            Ok(views) => views,
            Err(error) => return indices.into_iter().for_each(|index| self.looked_in_vain(index, &error)),
        };
        let plan = plan_replication(&sender, &receiver, &self.invocation.policy);
        let mut plans: HashMap<DatasetName, FilesystemPlan> =
            plan.filesystems.into_iter().map(|plan| (plan.name.clone(), plan)).collect();
        for index in indices {
            let Some(name) = self.work.get(index).and_then(Work::filesystem).cloned() else { continue };
            match plans.remove(&name) {
                Some(plan) => self.planned_again(index, plan, &sender, &receiver),
                None => match why_unlisted(&name, &sender) {
                    Some(why) => self.failed(index, 0, &why),
                    None => self.give_up(index, "the filesystem does not exist any longer".to_owned()),
                },
            }
        }
    }

    /// That a connection broke is often noticed only by the listing that follows the step that it cut: one
    /// failure, not two.
    fn looked_in_vain(&mut self, index: usize, error: &CallError) {
        if let Some(work) = self.work.get_mut(index)
            && matches!(error, CallError::Connection(_))
            && !std::mem::replace(&mut work.looked_in_vain, true)
        {
            work.tries = work.tries.saturating_sub(1);
        }
        self.failed(index, 0, error);
    }

    pub(super) fn planned_again(&mut self, index: usize, plan: FilesystemPlan, sender: &View, receiver: &View) {
        if let FilesystemAction::Conflict(conflict) = &plan.action
            && conflict.may_pass()
        {
            return self.failed(index, 0, &passing(conflict));
        }
        let Some(work) = self.work.get_mut(index) else { return };
        let (done, plan) = work.replan(plan, sender, receiver);
        let filesystem = plan.name.clone();
        self.tell(Replication::Replanned { plan: Arc::clone(&plan), done });
        if let FilesystemAction::Conflict(conflict) = &plan.action {
            let conflict = conflict.clone();
            self.tell(Replication::Conflicted { filesystem: filesystem.clone(), conflict });
            self.note_endangered(&filesystem, (sender, receiver));
            // What is below gets placeholders above it, as beside a conflict of a first plan; but those
            // would cost what an interrupted first receive left.
            if !receiver.filesystems.get(&filesystem).is_some_and(FilesystemView::is_only_partial) {
                self.let_children_start(index);
            }
            return self.end_failed(index, Some(filesystem));
        }
        self.tally.tried_again(&filesystem);
        let is_present = match &plan.action {
            FilesystemAction::Steps { steps, .. } => done > 0 || steps.first().is_some_and(|step| step.from.is_some()),
            _ => true,
        };
        if is_present {
            self.let_children_start(index);
        }
        self.queue(index);
    }
}

/// Why a filesystem could not be listed again, if that is why it is not in a later plan. It may be
/// listed the next time.
fn why_unlisted(name: &DatasetName, sender: &View) -> Option<CallError> {
    let (root, why) = sender.why_unlisted(name)?;
    Some(CallError::Refused { class: RetryClass::Transient, message: unlisted(root, why) })
}

/// A conflict that may pass is an error like others that may.
pub(super) fn passing(conflict: &Conflict) -> CallError {
    CallError::Refused { class: RetryClass::Transient, message: conflict.to_string() }
}
