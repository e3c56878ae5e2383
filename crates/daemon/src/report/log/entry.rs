//! What an event says to a person.

use std::time::Duration;

use config::types::LogLevel;
use jiff::Timestamp;
use model::JobName;
use model::event::{
    Event, Hook, HookEdge, InvocationSummary, Missed, OutputStream, ProtectionOutcome, Pruning, Receiving, Replication,
    SnapshotterState, Snapshotting, What,
};
use model::plan::prune::{Decision, FilesystemPrunePlan, PruneSide};
use model::plan::replication::{FilesystemAction, ReplicationPlan};

use super::earlier::{Earlier, succeeded};

/// One line of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// How important.
    pub level: LogLevel,
    /// Whose.
    pub job: Option<JobName>,
    /// Which part of the program, as zrepl calls it.
    pub subsystem: Option<&'static str>,
    /// What happened.
    pub message: String,
    /// Details, in order.
    pub fields: Vec<(&'static str, Value)>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A count.
    Number(u64),
    /// A time span, shown in seconds.
    Seconds(Duration),
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Number(u64::try_from(number).unwrap_or(u64::MAX))
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Value {
        Value::Seconds(duration)
    }
}

/// A line without its event's time and job.
struct Line {
    level: LogLevel,
    subsystem: Option<&'static str>,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

fn line(level: LogLevel, subsystem: &'static str, message: impl Into<String>) -> Line {
    Line { level, subsystem: Some(subsystem), message: message.into(), fields: Vec::new() }
}

impl Line {
    fn with(mut self, field: &'static str, value: impl Into<Value>) -> Line {
        self.fields.push((field, value.into()));
        self
    }

    fn maybe(self, field: &'static str, value: Option<impl Into<Value>>) -> Line {
        match value {
            Some(value) => self.with(field, value),
            None => self,
        }
    }
}

impl Entry {
    /// The line for an event, if it deserves one. `steps` names the steps of the job's plan.
    pub(super) fn of(event: &Event, earlier: &Earlier) -> Option<Entry> {
        let Line { level, subsystem, message, fields } = describe(event, earlier)?;
        Some(Entry { at: event.at, level, job: event.job.clone(), subsystem, message, fields })
    }
}

/// How important the line for an event is, if it deserves one.
pub(crate) fn level_of(event: &Event) -> Option<LogLevel> {
    describe(event, &Earlier::default()).map(|line| line.level)
}

use LogLevel::{Debug, Error, Info, Warn};

fn describe(event: &Event, earlier: &Earlier) -> Option<Line> {
    let daemon = |level, message: &str| Line { subsystem: None, ..line(level, "", message) };
    Some(match &event.what {
        What::DaemonStarted { version } => daemon(Info, "starting daemon").with("version", version.as_str()),
        What::DaemonStopping { cause } => {
            daemon(Info, "stopping, waiting for jobs to finish").with("cause", cause.as_str())
        }
        What::DaemonStopped => daemon(Info, "daemon exiting"),
        What::JobStarted => line(Info, "job", "starting job"),
        What::JobStopped => line(Info, "job", "job exited"),
        What::CommandStarted { command } => line(Debug, "zfs.cmd", "started command").with("cmd", command.as_str()),
        What::CommandFinished { command, took, used, success } => {
            let message = if *success { "command exited with success" } else { "command exited with error" };
            let line = line(Debug, "zfs.cmd", message).with("cmd", command.as_str()).with("total_time_s", *took);
            line.maybe("systemtime_s", used.map(|used| used.system)).maybe("usertime_s", used.map(|used| used.user))
        }
        What::Snapshotting(what) => snapshotting(what),
        What::Hook { filesystem, snapshot, what } => {
            hook(what).with("fs", filesystem.as_str()).with("snap", snapshot.as_str())
        }
        What::InvocationStarted { number } => line(Info, "job", "invocation started").with("invocation", *number),
        What::SleepsUntil { .. } | What::Unmatched { .. } => return None,
        What::InvocationFinished { number, summary } => {
            finished(*number, summary, earlier.last_successful(event.job.as_ref()))
        }
        What::Replication(what) => replication(event.job.as_ref(), what, earlier)?,
        What::Pruning { side, what } => pruning(*side, what)?,
        What::Protection { object, outcome } => protection(object, outcome),
        What::Receiving { client, filesystem, snapshot, what, .. } => {
            let (level, message, why) = match what {
                Receiving::Started => (Debug, "receiving", None),
                Receiving::Finished => (Debug, "received", None),
                // The job that sends tries again, or tells it as an error.
                Receiving::Failed(Some(why)) => (Warn, "not received", Some(why.as_str())),
                Receiving::Failed(None) => (Warn, "not received", Some("the client or the daemon has ended it")),
            };
            let entry = line(level, "endpoint", message).with("client_identity", client.as_str());
            entry.with("fs", filesystem.as_str()).with("snap", snapshot.as_str()).maybe("err", why)
        }
        What::Stored { .. } => return None,
        What::Listening { place, problem: None } => line(Info, "transport", format!("listening on {place}")),
        What::Listening { place, problem: Some(problem) } => {
            line(Error, "transport", format!("cannot listen on {place}: {problem}; nobody can connect until it works"))
        }
        What::Note { subsystem, message } => line(Info, subsystem, message.as_str()),
        What::Warning { subsystem, message } => line(Warn, subsystem, message.as_str()),
        What::Error { subsystem, message } => line(Error, subsystem, message.as_str()),
    })
}

/// Of one that did not succeed the line says since when that is so.
fn finished(number: u64, summary: &InvocationSummary, last_successful: Option<Timestamp>) -> Line {
    let InvocationSummary { filesystems, steps, bytes, destroyed, errors, took, cancelled, replicated } = *summary;
    let line = line(Info, "job", if cancelled { "invocation cancelled" } else { "invocation finished" });
    line.with("invocation", number)
        .with("filesystems", filesystems)
        .with("steps", steps)
        .with("bytes", bytes)
        .with("destroyed", destroyed)
        .with("errors", errors)
        .maybe("replicated", replicated.then_some("all"))
        .with("duration", took)
        .maybe("last_successful", (!succeeded(summary)).then(|| or_never(last_successful)))
}

fn or_never(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "not since the daemon started".to_owned(), |at| at.to_string())
}

fn snapshotting(what: &Snapshotting) -> Line {
    match what {
        Snapshotting::State { state, sleep_until, error } => {
            let until = sleep_until.map(|until| until.to_string());
            match error {
                Some(error) => line(Error, "snapshot", "enter wait-state after error").with("err", error.as_str()),
                None => line(Debug, "snapshot", "state change").with("state", state_name(*state)),
            }
            .maybe("sleep_until", until)
        }
        Snapshotting::HooksStarted { filesystem } => {
            line(Debug, "snapshot", "begin run job plan").with("fs", filesystem.as_str())
        }
        Snapshotting::HooksFinished { filesystem, report, had_error } => match had_error {
            false => line(Info, "snapshot", "end run job plan successful"),
            // Each of its errors is told by itself.
            true => line(Info, "snapshot", "end run job plan with error"),
        }
        .with("fs", filesystem.as_str())
        .with("report", report.as_str()),
        Snapshotting::RoundStarted { snapshots, .. } => {
            line(Debug, "snapshot", "taking snapshots").with("count", snapshots.len())
        }
        Snapshotting::Taken { filesystem, snapshot, result } => match result {
            Ok(()) => line(Info, "snapshot", "snapshot taken"),
            Err(_) => line(Error, "snapshot", "snapshot failed"),
        }
        .with("fs", filesystem.as_str())
        .with("snap", snapshot.as_str())
        .maybe("err", result.as_ref().err().map(String::as_str)),
        Snapshotting::RoundFinished => line(Debug, "snapshot", "round of snapshots finished"),
        Snapshotting::Missed { count, why } => {
            let message = match why {
                Missed::Asleep => {
                    "times of the cron schedule passed while the machine slept or its clock was set; taking one round"
                }
                Missed::RoundRunning => {
                    "snapshotting triggered according to cron rules but previous snapshotting is not done; \
                     not taking a snapshot this time"
                }
            };
            line(Warn, "snapshot", message).with("count", *count)
        }
    }
}

fn hook(what: &Hook) -> Line {
    let line = |level, message: &str| line(level, "hook", message);
    match what {
        Hook::PreEdges => line(Info, "run pre-edges in configuration order"),
        Hook::Output { hook, stream: OutputStream::Stdout, line: text } => {
            line(Info, "hook output").with("stdout", text.as_str()).with("command", hook.as_str())
        }
        Hook::Output { hook, stream: OutputStream::Stderr, line: text } => {
            line(Warn, "hook output").with("stderr", text.as_str()).with("command", hook.as_str())
        }
        Hook::OutputCut { hook, bytes } => {
            line(Warn, "the rest of the hook's output is not logged (see ZREPL_MAX_HOOK_LOG_SIZE)")
                .with("bytes", *bytes)
                .with("command", hook.as_str())
        }
        Hook::Statement { hook, statement } => {
            line(Info, &format!("execute {statement} command")).with("hook", hook.as_str())
        }
        Hook::Failed { hook, edge: HookEdge::Pre, error } => {
            line(Error, "hook invocation failed for pre-edge").with("hook", hook.as_str()).with("err", error.as_str())
        }
        Hook::Failed { hook, edge: HookEdge::Post, error } => {
            line(Error, "hook invocation failed for post-edge").with("hook", hook.as_str()).with("err", error.as_str())
        }
        Hook::Prevented { hook } => {
            line(Info, "fatal error in a pre-snapshot hook invocation, no snapshot will be taken")
                .with("hook", hook.as_str())
        }
        Hook::Callback => line(Info, "running callback"),
        Hook::PostEdges => line(Info, "run post-edges for successful pre-edges in reverse configuration order"),
        Hook::PostSkipped { hook } => line(Info, "skip post-edge because pre-edge failed").with("hook", hook.as_str()),
        Hook::Interrupted => line(Warn, "interrupted, only running post-edges for successful pre-edges"),
    }
}

fn state_name(state: SnapshotterState) -> &'static str {
    match state {
        SnapshotterState::SyncUp => "SyncUp",
        SnapshotterState::SyncUpErrWait => "SyncUpErrWait",
        SnapshotterState::Planning => "Planning",
        SnapshotterState::Snapshotting => "Snapshotting",
        SnapshotterState::Waiting => "Waiting",
        SnapshotterState::ErrorWait => "ErrorWait",
        SnapshotterState::Stopped => "Stopped",
    }
}

fn replication(job: Option<&JobName>, what: &Replication, earlier: &Earlier) -> Option<Line> {
    const REPL: &str = "repl";
    Some(match what {
        Replication::AttemptStarted => line(Debug, REPL, "start planning"),
        Replication::PlanFailed { error } => line(Error, REPL, "planning failed").with("err", error.as_str()),
        Replication::Planned { plan } => planned(plan),
        Replication::Replanned { plan, done } => {
            line(Debug, REPL, "planned again").with("fs", plan.name.as_str()).with("steps_done", *done as u64)
        }
        Replication::Reconnecting { error, until } => {
            line(Warn, REPL, "waiting for the other side").with("err", error.as_str()).with("until", until.to_string())
        }
        Replication::Reconnected => line(Info, REPL, "the other side is back"),
        Replication::ReconnectFailed { error } => {
            line(Error, REPL, "giving up until the next wake-up").with("err", error.as_str())
        }
        Replication::Discarding { filesystem, reason } => {
            line(Warn, REPL, "discarding what an interrupted receive left, it cannot be resumed")
                .with("fs", filesystem.as_str())
                .with("reason", reason.to_string())
        }
        Replication::Resolving { filesystem, resolution } => {
            line(Warn, REPL, "resolving a conflict as the job is configured to")
                .with("fs", filesystem.as_str())
                .with("how", resolution.to_string())
        }
        Replication::DestroyedToResolve { filesystem, snapshot, reason } => {
            line(Warn, REPL, "destroyed a snapshot on the receiver")
                .with("fs", filesystem.as_str())
                .with("snap", snapshot.as_str())
                .with("reason", reason.as_ref())
        }
        Replication::Resolved { filesystem, how } => {
            line(Warn, REPL, "resolved a conflict").with("fs", filesystem.as_str()).with("how", how.as_str())
        }
        Replication::StepStarted { filesystem, step } => line(Debug, REPL, "step started")
            .with("fs", filesystem.as_str())
            .maybe("step", earlier.name(job, filesystem, *step)),
        Replication::StepFinished { filesystem, step, bytes, took } => line(Info, REPL, "replicated")
            .with("fs", filesystem.as_str())
            .maybe("step", earlier.name(job, filesystem, *step))
            .with("bytes", *bytes)
            .with("duration", *took),
        Replication::Confirmed { filesystem } => {
            line(Info, REPL, "protections put right").with("fs", filesystem.as_str())
        }
        Replication::Conflicted { filesystem, conflict } => {
            line(Error, REPL, "cannot be replicated").with("fs", filesystem.as_str()).with("err", conflict.to_string())
        }
        Replication::StepFailed { filesystem, step, bytes, error, will_retry } => match will_retry {
            true => line(Warn, REPL, "step failed and will be tried again"),
            false => line(Error, REPL, "step failed"),
        }
        .with("fs", filesystem.as_str())
        .maybe("step", earlier.name(job, filesystem, *step))
        .with("bytes", *bytes)
        .with("err", error.as_str()),
        Replication::AttemptFinished => line(Debug, REPL, "attempt finished"),
        Replication::Blocked { .. } | Replication::StepProgress { .. } => return None,
    })
}

fn planned(plan: &ReplicationPlan) -> Line {
    if plan.filesystems.is_empty() {
        return line(Warn, "repl", "no filesystems to replicate (do the job's `filesystems` match anything?)");
    }
    let steps = |action: &FilesystemAction| match action {
        FilesystemAction::Steps { steps, .. } => steps.len(),
        FilesystemAction::Nothing(_) | FilesystemAction::Confirm { .. } | FilesystemAction::Conflict(_) => 0,
    };
    line(Info, "repl", "planned")
        .with("filesystems", plan.filesystems.len())
        .with("steps", plan.filesystems.iter().map(|one| steps(&one.action)).sum::<usize>())
}

fn pruning(side: PruneSide, what: &Pruning) -> Option<Line> {
    let line = |level, message: &str| line(level, "pruning", message).with("prune_side", side.to_string());
    Some(match what {
        Pruning::Started => line(Debug, "start pruning"),
        Pruning::PlanFailed { error } => line(Error, "pruning failed").with("err", error.as_str()),
        Pruning::Planned { plan } => line(Debug, "planned pruning")
            .with("filesystems", plan.filesystems.len())
            .with("snapshots", plan.filesystems.iter().map(to_destroy).sum::<usize>()),
        Pruning::Destroyed { filesystem, snapshot, rules } => line(Info, "destroyed snapshot")
            .with("fs", filesystem.as_str())
            .with("destroy_snap", snapshot.as_str())
            .with("reason", "no keep rule keeps it")
            .with("rule", &**rules),
        Pruning::Filesystem { filesystem, destroyed, failed } => {
            let failures: Vec<String> = failed.iter().map(|(name, why)| format!("@{name}: {why}")).collect();
            let line = match (destroyed.is_empty(), failures.is_empty()) {
                (true, true) => return None,
                (false, true) => line(Debug, "filesystem pruned"),
                (_, false) => line(Error, "some snapshots could not be destroyed"),
            };
            line.with("fs", filesystem.as_str())
                .with("destroyed", destroyed.len())
                .maybe("err", (!failures.is_empty()).then(|| failures.join("; ")))
        }
        Pruning::Finished => line(Debug, "finished pruning"),
    })
}

fn to_destroy(plan: &FilesystemPrunePlan) -> usize {
    plan.decisions.iter().filter(|decision| **decision == Decision::Destroy).count()
}

fn protection(object: &str, outcome: &ProtectionOutcome) -> Line {
    match outcome {
        ProtectionOutcome::Made => line(Debug, "endpoint", "protection made").with("abstraction", object),
        ProtectionOutcome::Removed => line(Debug, "endpoint", "protection removed").with("abstraction", object),
        ProtectionOutcome::Failed(error) => {
            line(Error, "endpoint", "protection failed").with("abstraction", object).with("err", error.as_str())
        }
    }
}
