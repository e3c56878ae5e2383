//! What lines say of events before theirs: the names of steps, which events speak of by number, when a job last
//! succeeded, and what runs.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use config::types::LogLevel;
use jiff::Timestamp;
use model::event::{Event, Hook, InvocationSummary, Pruning, Replication, Snapshotting, What};
use model::plan::replication::{FilesystemAction, FilesystemPlan, ReplicationPlan};
use model::{DatasetName, JobName};

use super::describe::describe;
use super::entry::{Entry, Line, Value};
use super::level::level_of;
use super::running::{NOTHING_RUNS, Running};
use super::span::{id, span};
use crate::limits::ENDED_JOBS;

/// What is remembered of earlier events.
#[derive(Default)]
pub(super) struct Earlier {
    /// The plan of each job that replicates now.
    jobs: HashMap<JobName, Plan>,
    successes: HashMap<JobName, Timestamp>,
    told: HashMap<JobName, Told>,
    running: HashMap<JobName, Running>,
    /// Jobs that have ended, in that order, and may begin again.
    ended: VecDeque<JobName>,
    /// The daemon, in spans: another one after each start.
    root: Option<String>,
}

/// What was said about failures of a job, so that each is told once.
#[derive(Default)]
struct Told {
    /// Texts of errors of the invocation that runs, with the levels of their lines.
    errors: Vec<(String, LogLevel)>,
    /// Filesystems of the round of snapshots that runs, of which hooks have failed, with their errors.
    hooks: HashMap<DatasetName, Vec<String>>,
    /// Those that a hook, with this name, kept from being taken a snapshot of.
    prevented: HashMap<DatasetName, String>,
    /// So many snapshots of that round have failed.
    snapshots: u64,
    /// As many, until the end of the invocation that follows.
    untold: u64,
}

/// Errors of an invocation that are remembered. They are about sides, of which there are two.
const TOLD: usize = 16;
/// Characters of a text that was told before which stand in its place.
const GIST: usize = 200;

struct Plan {
    plan: Arc<ReplicationPlan>,
    /// Where a filesystem with steps is in the plan.
    index: HashMap<DatasetName, usize>,
    /// Those that were planned again by themselves.
    again: HashMap<DatasetName, Arc<FilesystemPlan>>,
}

impl Earlier {
    /// The line for the next event, if it deserves one that any of the outlets takes, which have these levels.
    pub(super) fn entry(&mut self, event: &Event, outlets: &[LogLevel]) -> Option<Entry> {
        let root = self.root.get_or_insert_with(|| id(&event.at.as_nanosecond().to_string())).clone();
        if let Some(job) = &event.job {
            self.running.entry(job.clone()).or_default().begin(&event.what);
        }
        let is_taken = |level: &LogLevel| outlets.iter().any(|outlet| level >= outlet);
        let mut entry = level_of(event).filter(is_taken).and_then(|level| self.described(event, level, &root));
        self.follow(event);
        if let Some(job) = &event.job {
            let told = self.told.entry(job.clone()).or_default();
            told.once(event, entry.as_mut(), outlets);
        }
        entry
    }

    fn described(&self, event: &Event, level: LogLevel, root: &str) -> Option<Entry> {
        let Line { subsystem, message, fields, also } = describe(event, self)?;
        let span = event.job.as_ref().map(|job| span(root, job, self.running(Some(job)), event));
        Some(Entry { at: event.at, level, job: event.job.clone(), subsystem, span, message, fields, also })
    }

    /// Where in a job's work an event belongs, after it.
    pub(super) fn span(&self, job: &JobName, event: &Event) -> String {
        span(self.root.as_deref().unwrap_or_default(), job, self.running(Some(job)), event)
    }

    /// What runs in a job.
    pub(super) fn running(&self, job: Option<&JobName>) -> &Running {
        job.and_then(|job| self.running.get(job)).unwrap_or(NOTHING_RUNS)
    }

    /// Keeps what the following events refer to, as long as they do.
    fn follow(&mut self, event: &Event) {
        let Some(job) = &event.job else { return };
        if let Some(running) = self.running.get_mut(job) {
            running.end(&event.what);
        }
        match &event.what {
            What::JobStarted => self.ended.retain(|ended| ended != job),
            What::JobStopped => self.end(job),
            What::Replication(Replication::Planned { plan }) => {
                self.jobs.insert(job.clone(), Plan::new(plan));
            }
            What::Replication(Replication::Replanned { plan, .. }) => {
                if let (Some(job), FilesystemAction::Steps { .. }) = (self.jobs.get_mut(job), &plan.action) {
                    job.again.insert(plan.name.clone(), Arc::clone(plan));
                }
            }
            What::Replication(Replication::AttemptFinished) => drop(self.jobs.remove(job)),
            What::InvocationFinished { summary, .. } => {
                self.jobs.remove(job);
                if succeeded(summary, self.snapshots_failed(Some(job))) {
                    self.successes.insert(job.clone(), event.at);
                }
            }
            _ => {}
        }
    }

    /// What was known of jobs that do not come back is not kept for ever.
    fn end(&mut self, job: &JobName) {
        if self.running.entry(job.clone()).or_default().stop() {
            self.ended.push_back(job.clone());
        }
        if self.ended.len() > ENDED_JOBS
            && let Some(gone) = self.ended.pop_front()
        {
            self.jobs.remove(&gone);
            self.successes.remove(&gone);
            self.told.remove(&gone);
            self.running.remove(&gone);
        }
    }

    /// When an invocation of the job last succeeded, since the daemon started.
    pub(super) fn last_successful(&self, job: Option<&JobName>) -> Option<Timestamp> {
        self.successes.get(job?).copied()
    }

    /// How many snapshots of the last round failed, until an invocation has said so.
    pub(super) fn snapshots_failed(&self, job: Option<&JobName>) -> Option<u64> {
        job.and_then(|job| self.told.get(job)).map(|told| told.untold).filter(|untold| *untold > 0)
    }

    /// A step as `@a => @b`.
    pub(super) fn name(&self, job: Option<&JobName>, filesystem: &DatasetName, step: usize) -> Option<String> {
        let plan = self.jobs.get(job?)?;
        let filesystem = match plan.again.get(filesystem) {
            Some(again) => &**again,
            None => plan.plan.filesystems.get(*plan.index.get(filesystem)?)?,
        };
        match &filesystem.action {
            FilesystemAction::Steps { steps, .. } => Some(steps.get(step)?.to_string()),
            FilesystemAction::Nothing(_) | FilesystemAction::Confirm { .. } | FilesystemAction::Conflict(_) => None,
        }
    }
}

impl Told {
    /// Makes less of a line that says what an earlier one has said.
    fn once(&mut self, event: &Event, entry: Option<&mut Entry>, outlets: &[LogLevel]) {
        match &event.what {
            What::InvocationStarted { .. } => self.errors.clear(),
            What::Snapshotting(what) => self.of_snapshots(what, entry),
            What::Hook { filesystem, what: Hook::Failed { error, .. }, .. } => {
                self.hooks.entry(filesystem.clone()).or_default().push(error.clone());
            }
            What::Hook { filesystem, what: Hook::Prevented { hook }, .. } => {
                self.prevented.insert(filesystem.clone(), hook.clone());
            }
            What::InvocationFinished { .. } => self.untold = 0,
            // Those of a filesystem name it.
            What::Replication(
                Replication::PlanFailed { error }
                | Replication::Reconnecting { error, .. }
                | Replication::ReconnectFailed { error },
            )
            | What::Pruning { what: Pruning::PlanFailed { error }, .. } => self.of_sides(error, entry, outlets),
            What::Warning { subsystem: "pruning", message } => self.of_sides(message, entry, outlets),
            _ => {}
        }
    }

    /// Of two sides that failed, each has a line of the text, after its name; pruning is about one of them.
    fn of_sides(&mut self, text: &str, entry: Option<&mut Entry>, outlets: &[LogLevel]) {
        let Some(entry) = entry else { return };
        // What one outlet has is not above this line in another one that did not take it.
        let is_above = |level: LogLevel| !outlets.iter().any(|outlet| (level < *outlet) && (*outlet <= entry.level));
        let known = self.errors.iter().find(|(known, level)| text.contains(known) && is_above(*level));
        let Some((known, _)) = known else {
            let parts = text
                .lines()
                .filter_map(|part| part.strip_prefix("  sender: ").or_else(|| part.strip_prefix("  receiver: ")));
            let new = [text].into_iter().chain(parts).filter(|text| !text.is_empty());
            let new = new.map(|text| (text.to_owned(), entry.level)).take(TOLD.saturating_sub(self.errors.len()));
            self.errors.extend(new);
            return;
        };
        let gist = gist(known);
        entry.message = entry.message.replace(known, &gist);
        set(entry, &["err", "most_recent_err"], |error| error.replace(known, &gist));
        // That it is tried again says nothing new.
        if entry.level == LogLevel::Warn && entry.subsystem == Some("pruning") {
            entry.level = LogLevel::Debug;
        }
    }

    /// The failure of a hook prevents a snapshot, and that of a snapshot fails the round.
    fn of_snapshots(&mut self, what: &Snapshotting, entry: Option<&mut Entry>) {
        match what {
            Snapshotting::RoundStarted { .. } => {
                self.hooks.clear();
                self.prevented.clear();
                (self.snapshots, self.untold) = (0, 0);
            }
            Snapshotting::HooksFinished { filesystem, .. } => {
                let told = self.hooks.get_mut(filesystem).map(mem::take).unwrap_or_default();
                let gists = |report: &str| {
                    told.iter().fold(report.to_owned(), |report, error| report.replace(error, &gist(error)))
                };
                if let Some(entry) = entry {
                    set(entry, &["report"], gists);
                }
            }
            Snapshotting::Taken { filesystem, result: Err(_), .. } => {
                (self.snapshots, self.untold) = (self.snapshots + 1, self.untold + 1);
                if let (Some(entry), Some(hook)) = (entry, self.prevented.get(filesystem)) {
                    entry.level = LogLevel::Warn;
                    set(entry, &["err"], |_| format!("the hook {hook} failed (see above)"));
                }
            }
            Snapshotting::State { error: Some(_), .. } => {
                if let Some(entry) = entry.filter(|_| self.snapshots > 0 || !self.hooks.is_empty()) {
                    entry.level = LogLevel::Warn;
                }
            }
            _ => {}
        }
    }
}

/// What stands in the place of a text that was told before: enough to know it again, without what helps.
fn gist(text: &str) -> String {
    let fact = text.split(" (").next().unwrap_or(text);
    let end = fact.char_indices().nth(GIST);
    let (fact, cut) = end.map_or((fact, ""), |(end, _)| (fact.get(..end).unwrap_or(fact), "…"));
    format!("{fact}{cut} (see above)")
}

fn set(entry: &mut Entry, fields: &[&str], other: impl Fn(&str) -> String) {
    for (name, value) in entry.fields.iter_mut().chain(&mut entry.also) {
        if let (true, Value::Text(value)) = (fields.contains(name), value) {
            *value = other(value);
        }
    }
}

/// Whether an invocation did all that there was to do, and the round of snapshots before it did.
pub(super) fn succeeded(summary: &InvocationSummary, snapshots_failed: Option<u64>) -> bool {
    summary.errors == 0 && !summary.cancelled && snapshots_failed.is_none()
}

impl Plan {
    fn new(plan: &Arc<ReplicationPlan>) -> Plan {
        let has_steps = |filesystem: &FilesystemPlan| matches!(filesystem.action, FilesystemAction::Steps { .. });
        let all = plan.filesystems.iter().enumerate().filter(|(_, filesystem)| has_steps(filesystem));
        let index = all.map(|(index, filesystem)| (filesystem.name.clone(), index)).collect();
        Plan { plan: Arc::clone(plan), index, again: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use model::event::About;

    use super::*;

    #[test]
    fn jobs_that_do_not_come_back_are_forgotten_some_day() {
        let mut earlier = Earlier::default();
        let name = |number: usize| JobName::parse(&format!("j{number}")).unwrap();
        let mut tell = |job: usize, what: What| {
            let event = Event { at: Timestamp::UNIX_EPOCH, job: Some(name(job)), about: About::Nothing, what };
            earlier.entry(&event, &[LogLevel::Debug]);
        };
        let finished = || What::InvocationFinished { number: 1, summary: InvocationSummary::default() };
        let most = ENDED_JOBS + 10;
        for number in 0..most {
            tell(number, What::JobStarted);
            tell(number, finished());
            tell(number, What::JobStopped);
            if number == 5 {
                tell(5, What::JobStarted);
            }
        }
        let Earlier { successes, told, running, ended, .. } = &earlier;
        let kept = [successes.len(), told.len(), running.len()];
        assert_eq!((kept, ended.len()), ([ENDED_JOBS + 1; 3], ENDED_JOBS));
        for (number, known) in [(0, false), (5, true), (9, false), (most - 1, true)] {
            assert_eq!(earlier.last_successful(Some(&name(number))).is_some(), known, "{number}");
        }
    }
}
