//! Where in a job's work a line belongs: `ROOT$JOB$JOB.SPAN.SPAN`, as zrepl writes it. Identifiers follow from
//! what they stand for, so that the same job, client or filesystem has the same one each day; only that of the
//! daemon is another one after each start.

use std::fmt::Write;

use model::event::{Event, Pruning, Replication, Snapshotting, What};
use model::plan::prune::PruneSide;
use model::{DatasetName, JobName};

use super::running::Running;

/// Four characters for a name, of which there may be many: two may have the same.
pub(super) fn id(name: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // FNV-1a.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let digit =
        |shift: u32| DIGITS.get((hash >> shift) as usize % DIGITS.len()).map_or('A', |digit| char::from(*digit));
    // The upper bits are mixed best.
    [26, 20, 14, 8].map(digit).iter().collect()
}

/// The span of what happened to a job that is at this point.
pub(super) fn span(root: &str, job: &JobName, running: &Running, event: &Event) -> String {
    let job = id(job.as_str());
    let mut span = Span(format!("{root}${job}${job}"));
    span.of(running, event);
    span.0
}

struct Span(String);

impl Span {
    fn of(&mut self, running: &Running, event: &Event) {
        match &event.what {
            What::InvocationStarted { number } | What::InvocationFinished { number, .. } => {
                self.numbered('i', Some(*number));
            }
            What::Replication(what) => {
                self.replication(running);
                let (filesystem, step) = place(what);
                self.filesystem(filesystem);
                self.numbered('s', step.map(|step| step as u64 + 1));
            }
            What::Pruning { side, what } => {
                self.numbered('i', running.invocation);
                self.within(match side {
                    PruneSide::Sender => "ps",
                    PruneSide::Receiver => "pr",
                    PruneSide::Local => "pl",
                });
                if let Pruning::Destroyed { filesystem, .. } | Pruning::Filesystem { filesystem, .. } = what {
                    self.filesystem(Some(filesystem));
                }
            }
            What::Snapshotting(what) => {
                self.numbered('t', running.round);
                self.filesystem(match what {
                    Snapshotting::Taken { filesystem, .. }
                    | Snapshotting::HooksStarted { filesystem }
                    | Snapshotting::HooksFinished { filesystem, .. } => Some(filesystem),
                    _ => None,
                });
            }
            What::Hook { filesystem, .. } => {
                self.numbered('t', running.round);
                self.filesystem(Some(filesystem));
            }
            What::Receiving { client, filesystem, .. } => {
                self.within(&id(client.as_str()));
                self.filesystem(Some(filesystem));
            }
            What::Note { subsystem, .. } | What::Warning { subsystem, .. } | What::Error { subsystem, .. } => {
                match *subsystem {
                    "repl" => self.replication(running),
                    "pruning" => self.numbered('i', running.invocation),
                    _ => {}
                }
                self.filesystem(event.about.filesystem());
            }
            What::Protection { .. } => self.filesystem(event.about.filesystem()),
            _ => {}
        }
    }

    fn replication(&mut self, running: &Running) {
        self.numbered('i', running.invocation);
        self.numbered('r', running.attempt);
    }

    fn filesystem(&mut self, filesystem: Option<&DatasetName>) {
        if let Some(filesystem) = filesystem {
            self.within(&id(filesystem.as_str()));
        }
    }

    fn numbered(&mut self, kind: char, number: Option<u64>) {
        if let Some(number) = number {
            // Writing to a string does not fail.
            let _ = write!(self.0, ".{kind}{number}");
        }
    }

    fn within(&mut self, name: &str) {
        self.0.push('.');
        self.0.push_str(name);
    }
}

/// The filesystem that is replicated, and the step's index.
fn place(what: &Replication) -> (Option<&DatasetName>, Option<usize>) {
    match what {
        Replication::StepStarted { filesystem, step }
        | Replication::StepProgress { filesystem, step, .. }
        | Replication::StepFinished { filesystem, step, .. }
        | Replication::StepFailed { filesystem, step, .. } => (Some(filesystem), Some(*step)),
        Replication::Discarding { filesystem, .. }
        | Replication::Resolving { filesystem, .. }
        | Replication::DestroyedToResolve { filesystem, .. }
        | Replication::Resolved { filesystem, .. }
        | Replication::Blocked { filesystem, .. }
        | Replication::Confirmed { filesystem }
        | Replication::Conflicted { filesystem, .. } => (Some(filesystem), None),
        Replication::Replanned { plan, .. } => (Some(&plan.name), None),
        Replication::AttemptStarted
        | Replication::PlanFailed { .. }
        | Replication::Planned { .. }
        | Replication::Reconnecting { .. }
        | Replication::Reconnected
        | Replication::ReconnectFailed { .. }
        | Replication::AttemptFinished => (None, None),
    }
}
