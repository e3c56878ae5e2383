//! What an invocation has done so far. Outlives a cancelled one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::DatasetName;
use model::event::{InvocationSummary, What};
use model::view::{View, unlisted};

use crate::events::Events;

#[derive(Default)]
pub(super) struct Tally {
    /// Stream bytes, counted while they pass.
    pub(super) bytes: Arc<AtomicU64>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    filesystems: usize,
    steps: usize,
    destroyed: usize,
    /// Filesystems whose last try failed.
    failed: BTreeSet<DatasetName>,
    /// The last attempt had no plan.
    no_plan: bool,
    /// An attempt brought everything up to date.
    replicated: bool,
    pruning_errors: usize,
}

impl Tally {
    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn looked_at(&self, filesystems: usize) {
        self.change(|counts| counts.filesystems = filesystems);
    }

    pub(super) fn planned(&self, planned: bool) {
        self.change(|counts| counts.no_plan = !planned);
    }

    /// An attempt ended; whether with every filesystem up to date.
    pub(super) fn replicated(&self, all: bool) {
        self.change(|counts| counts.replicated = all);
    }

    pub(super) fn step_done(&self) {
        self.change(|counts| counts.steps += 1);
    }

    /// Whether it had not failed before.
    pub(super) fn failed(&self, filesystem: &DatasetName) -> bool {
        let mut is_new = false;
        self.change(|counts| is_new = counts.failed.insert(filesystem.clone()));
        is_new
    }

    /// What could not be listed failed, whatever becomes of the rest; it is told once.
    pub(super) fn count_unlisted(&self, view: &View, events: &Events, subsystem: &'static str) {
        for (root, why) in &view.unlisted {
            if self.failed(root) {
                events.tell_of(root, What::Error { subsystem, message: unlisted(root, why) });
            }
        }
    }

    /// A failed filesystem gets another chance.
    pub(super) fn tried_again(&self, filesystem: &DatasetName) {
        self.change(|counts| {
            counts.failed.remove(filesystem);
        });
    }

    pub(super) fn destroyed(&self, snapshots: usize) {
        self.change(|counts| counts.destroyed += snapshots);
    }

    pub(super) fn pruning_failed(&self) {
        self.change(|counts| counts.pruning_errors += 1);
    }

    pub(super) fn summary(&self, took: Duration, cancelled: bool) -> InvocationSummary {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        InvocationSummary {
            filesystems: counts.filesystems,
            steps: counts.steps,
            bytes: self.bytes.load(Ordering::Relaxed),
            destroyed: counts.destroyed,
            replicated: counts.replicated,
            errors: counts.failed.len() + usize::from(counts.no_plan) + counts.pruning_errors,
            took,
            cancelled,
        }
    }
}
