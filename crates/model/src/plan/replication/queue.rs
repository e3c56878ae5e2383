//! In which order filesystems should start.

use std::collections::HashMap;

use super::{FilesystemAction, FilesystemPlan, Planned, ReplicationPlan, Sides};
use crate::name::DatasetName;
use crate::plan::resolve::Resolution;
use crate::version::UnixTime;
use crate::view::FilesystemView;

/// Puts filesystems into the order in which they should start. They arrive parents first.
#[derive(Default)]
pub(super) struct Queue {
    /// Each with the time of its next snapshot, or of its parent's if that is later.
    filesystems: Vec<(Option<UnixTime>, FilesystemPlan)>,
    /// Those that the receiver gets only by a full send of this plan.
    arriving: HashMap<DatasetName, Option<UnixTime>>,
}

impl Queue {
    pub(super) fn push(&mut self, sides: &Sides<'_>, (action, next): Planned) {
        let has_steps = matches!(action, FilesystemAction::Steps { .. });
        let waits_for = if has_steps && sides.receiver.is_none() { self.nearest_arriving(sides.name) } else { None };
        let (after, date) = match waits_for {
            Some((parent, parent_date)) => (Some(parent), next.max(parent_date)),
            None => (None, next),
        };
        if starts_in_full(&action) && (!is_present(sides.receiver) || renames(&action)) {
            self.arriving.insert(sides.name.clone(), date);
        }
        let plan = FilesystemPlan {
            name: sides.name.clone(),
            after,
            action,
            newest: sides.sender.newest_snapshot().map(|version| version.creation),
            received: sides.received(),
        };
        self.filesystems.push((date, plan));
    }

    fn nearest_arriving(&self, name: &DatasetName) -> Option<(DatasetName, Option<UnixTime>)> {
        let parents = std::iter::successors(parent(name.as_str()), |path| parent(path));
        parents.filter_map(|path| self.arriving.get_key_value(path)).map(|(name, date)| (name.clone(), *date)).next()
    }

    pub(super) fn into_plan(mut self) -> ReplicationPlan {
        // A child is never older than the parent that it waits for and on a tie comes after it, since
        // the sort keeps the order of arrival.
        self.filesystems.sort_by_key(|(date, _)| *date);
        ReplicationPlan { filesystems: self.filesystems.into_iter().map(|(_, plan)| plan).collect() }
    }
}

fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

fn starts_in_full(action: &FilesystemAction) -> bool {
    match action {
        FilesystemAction::Steps { steps, .. } => steps.first().is_some_and(|step| step.from.is_none()),
        _ => false,
    }
}

pub(super) fn renames(action: &FilesystemAction) -> bool {
    matches!(action, FilesystemAction::Steps { resolution: Some(Resolution::RenameAside { .. }), .. })
}

/// Whether something can be received below it: an unfinished first receive is not a place for that.
fn is_present(receiver: Option<&FilesystemView>) -> bool {
    receiver.is_some_and(|receiver| receiver.partial.is_none())
}
