//! What hooks that run have written so far. Whoever reads everything has it at once. For the others, the error of
//! a hook that fails has the end of it, so they get the lines of those that do not fail, when that is known.

use std::collections::{HashMap, VecDeque};
use std::mem;

use model::event::{Event, Hook, Snapshotting, What};
use model::{DatasetName, JobName};

use super::entry::Entry;
use crate::limits::HOOK_LINES_HELD;

/// Lines that are written once a hook has ended well. Hooks around one snapshot run one after another.
#[derive(Default)]
pub(super) struct Held {
    lines: HashMap<JobName, HashMap<DatasetName, VecDeque<Entry>>>,
}

impl Held {
    /// Whether the line of an event is held.
    pub(super) fn holds(event: &Event) -> bool {
        matches!(event.what, What::Hook { what: Hook::Output { .. } | Hook::OutputCut { .. }, .. })
    }

    /// Holds it; the answer is a line that cannot be held any longer.
    pub(super) fn hold(&mut self, event: &Event, entry: Entry) -> Option<Entry> {
        let (Some(job), What::Hook { filesystem, .. }) = (&event.job, &event.what) else { return Some(entry) };
        let lines = self.lines.entry(job.clone()).or_default().entry(filesystem.clone()).or_default();
        lines.push_back(entry);
        if lines.len() > HOOK_LINES_HELD { lines.pop_front() } else { None }
    }

    /// What is written, now that this has happened.
    pub(super) fn released(&mut self, event: &Event) -> Vec<Entry> {
        let Some(of_job) = event.job.as_ref().and_then(|job| self.lines.get_mut(job)) else { return Vec::new() };
        match &event.what {
            _ if Held::holds(event) => Vec::new(),
            What::Hook { filesystem, what: Hook::Failed { .. }, .. } => {
                of_job.remove(filesystem);
                Vec::new()
            }
            What::Hook { filesystem, .. } => of_job.remove(filesystem).map(Vec::from).unwrap_or_default(),
            // A reset may have ended hooks of which nothing more is heard.
            What::Snapshotting(Snapshotting::RoundStarted { .. } | Snapshotting::RoundFinished) | What::JobStopped => {
                mem::take(of_job).into_values().flatten().collect()
            }
            _ => Vec::new(),
        }
    }
}
