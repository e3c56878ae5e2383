//! What an event says to a person. How important it is, is said elsewhere.

mod replication;

use jiff::Timestamp;
use model::event::{
    About, Event, Hook, HookEdge, InvocationSummary, Missed, OutputStream, ProtectionOutcome, Receiving,
    SnapshotterState, Snapshotting, What,
};

use super::earlier::{Earlier, succeeded};
use super::entry::{Line, line};
use super::running::Running;

/// The line for an event, if it deserves one.
pub(super) fn describe(event: &Event, earlier: &Earlier) -> Option<Line> {
    let running = earlier.running(event.job.as_ref());
    Some(match &event.what {
        What::DaemonStarted { version } => daemon("starting daemon").with("version", version.as_str()),
        What::DaemonStopping { cause } => daemon("stopping, waiting for jobs to finish").with("cause", cause.as_str()),
        What::DaemonStopped => daemon("daemon exiting"),
        What::JobStarted => line("job", "starting job"),
        What::JobStopped => line("job", "job exited"),
        What::CommandStarted { command } => line("zfs.cmd", "started command").with("cmd", command.as_str()),
        What::CommandFinished { command, took, used, success } => {
            let message = if *success { "command exited with success" } else { "command exited with error" };
            let line = line("zfs.cmd", message).with("cmd", command.as_str()).with("total_time_s", *took);
            line.maybe("systemtime_s", used.map(|used| used.system)).maybe("usertime_s", used.map(|used| used.user))
        }
        What::Snapshotting(what) => snapshotting(what, running),
        What::Hook { filesystem, snapshot, what } => {
            let around =
                |message: &str| line("hook", message).with("fs", filesystem.as_str()).with("snap", snapshot.as_str());
            hook(what, around)?
        }
        What::InvocationStarted { number } => line("job", "invocation started").with("invocation", *number),
        What::SleepsUntil { .. } | What::Unmatched { .. } | What::Stored { .. } => return None,
        What::InvocationFinished { number, summary } => {
            let job = event.job.as_ref();
            finished(*number, summary, earlier.snapshots_failed(job), earlier.last_successful(job))
        }
        What::Replication(what) => replication::replication(event.job.as_ref(), what, earlier, running)?,
        What::Pruning { side, what } => replication::pruning(*side, what)?,
        What::Protection { object, outcome } => about(protection(object, outcome), &event.about),
        What::Receiving { client, filesystem, snapshot, target, what, .. } => {
            let (message, why) = match what {
                Receiving::Started => ("receiving", None),
                Receiving::Finished => ("received", None),
                Receiving::Failed(Some(why)) => ("not received", Some(why.as_str())),
                Receiving::Failed(None) => ("not received", Some("the client or the daemon has ended it")),
            };
            line("endpoint", message)
                .with("client_identity", client.as_str())
                .with("fs", filesystem.as_str())
                .also("proto_fs", filesystem.as_str())
                .with("local_fs", target.as_str())
                .with("snap", snapshot.as_str())
                .maybe("err", why)
        }
        What::Listening { place, problem: None } => line("transport", format!("listening on {place}")),
        What::Listening { place, problem: Some(problem) } => {
            line("transport", format!("cannot listen on {place}: {problem}; nobody can connect until it works"))
        }
        What::Note { subsystem, message }
        | What::Warning { subsystem, message }
        | What::Error { subsystem, message } => about(line(subsystem, message.as_str()), &event.about),
    })
}

fn daemon(message: &str) -> Line {
    Line { subsystem: None, ..line("", message) }
}

/// The message names it as well; a person need not read that twice.
fn about(line: Line, about: &About) -> Line {
    match about {
        About::Nothing => line,
        About::Filesystem(filesystem) => line.also("fs", filesystem.as_str()),
        About::Peer { address, client, label } => line
            .also("peer_addr", address.as_str())
            .also_maybe("client_identity", client.as_ref().map(|client| client.as_str()))
            .also_maybe("client_label", *label),
    }
}

/// Of one that did not succeed the line says since when that is so.
fn finished(
    number: u64,
    summary: &InvocationSummary,
    snapshots_failed: Option<u64>,
    last_successful: Option<Timestamp>,
) -> Line {
    let InvocationSummary { filesystems, steps, bytes, destroyed, errors, took, cancelled, replicated } = *summary;
    line("job", if cancelled { "invocation cancelled" } else { "invocation finished" })
        .with("invocation", number)
        .with("filesystems", filesystems)
        .with("steps", steps)
        .with("bytes", bytes)
        .with("destroyed", destroyed)
        .with("errors", errors)
        .maybe("snapshots_failed", snapshots_failed)
        .maybe("replicated", replicated.then_some("all"))
        .with("duration", took)
        .also("duration_s", took)
        .maybe("last_successful", (!succeeded(summary, snapshots_failed)).then(|| or_never(last_successful)))
}

fn or_never(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "not since the daemon started".to_owned(), |at| at.to_string())
}

fn snapshotting(what: &Snapshotting, running: &Running) -> Line {
    match what {
        Snapshotting::State { state, sleep_until, error } => {
            state_change(*state, *sleep_until, error.as_deref(), running.snapshotter)
        }
        Snapshotting::HooksStarted { filesystem } => {
            line("snapshot", "begin run job plan").with("fs", filesystem.as_str())
        }
        Snapshotting::HooksFinished { filesystem, report, had_error } => {
            let message = if *had_error { "end run job plan with error" } else { "end run job plan successful" };
            line("snapshot", message).with("fs", filesystem.as_str()).with("report", report.as_str())
        }
        Snapshotting::RoundStarted { snapshots, .. } => {
            line("snapshot", "taking snapshots").with("count", snapshots.len())
        }
        Snapshotting::Taken { filesystem, snapshot, result } => {
            line("snapshot", if result.is_ok() { "snapshot taken" } else { "snapshot failed" })
                .with("fs", filesystem.as_str())
                .with("snap", snapshot.as_str())
                .maybe("err", result.as_ref().err().map(String::as_str))
        }
        Snapshotting::RoundFinished => line("snapshot", "round of snapshots finished"),
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
            line("snapshot", message).with("count", *count)
        }
    }
}

fn state_change(
    state: SnapshotterState,
    sleep_until: Option<Timestamp>,
    error: Option<&str>,
    before: Option<SnapshotterState>,
) -> Line {
    let until = sleep_until.map(|until| until.to_string());
    let before = before.map(state_name);
    let line = match error {
        Some(error) => line("snapshot", "enter wait-state after error")
            .with("err", error)
            .also("post_state", state_name(state))
            .also_maybe("pre_state", before),
        None => line("snapshot", "state change")
            .with("state", state_name(state))
            .also_maybe("transition", before.map(|before| format!("{before}=>{}", state_name(state)))),
    };
    // In this state it sleeps until the first round fits to what was taken before.
    let sync_point = until.clone().filter(|_| state == SnapshotterState::SyncUp);
    line.maybe("sleep_until", until).also_maybe("syncPoint", sync_point)
}

fn hook(what: &Hook, line: impl Fn(&str) -> Line) -> Option<Line> {
    Some(match what {
        Hook::PreEdges => line("run pre-edges in configuration order"),
        Hook::Output { hook, stream: OutputStream::Stdout, line: text } => {
            line("hook output").with("stdout", text.as_str()).with("command", hook.as_str())
        }
        Hook::Output { hook, stream: OutputStream::Stderr, line: text } => {
            line("hook output").with("stderr", text.as_str()).with("command", hook.as_str())
        }
        Hook::OutputCut { hook, bytes } => {
            line("the rest of the hook's output is not logged (see ZREPL_MAX_HOOK_LOG_SIZE)")
                .with("bytes", *bytes)
                .with("command", hook.as_str())
        }
        Hook::Statement { hook, statement } => {
            line(&format!("execute {statement} command")).with("hook", hook.as_str())
        }
        Hook::Failed { hook, edge: HookEdge::Pre, error } => {
            line("hook invocation failed for pre-edge").with("hook", hook.as_str()).with("err", error.as_str())
        }
        Hook::Failed { hook, edge: HookEdge::Post, error } => {
            line("hook invocation failed for post-edge").with("hook", hook.as_str()).with("err", error.as_str())
        }
        Hook::Prevented { hook } => {
            line("fatal error in a pre-snapshot hook invocation, no snapshot will be taken").with("hook", hook.as_str())
        }
        Hook::Callback => line("running callback"),
        Hook::PostEdges => line("run post-edges for successful pre-edges in reverse configuration order"),
        Hook::PostSkipped { hook } => line("skip post-edge because pre-edge failed").with("hook", hook.as_str()),
        Hook::Interrupted => line("interrupted, only running post-edges for successful pre-edges"),
    })
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

fn protection(object: &str, outcome: &ProtectionOutcome) -> Line {
    let message = match outcome {
        ProtectionOutcome::Made => "protection made",
        ProtectionOutcome::Removed => "protection removed",
        ProtectionOutcome::Failed(_) => "protection failed",
    };
    let mut line = line("endpoint", message).with("abstraction", object);
    if let Some(bookmark) = object.strip_prefix("bookmark ") {
        line = line.also("bookmark", bookmark);
        if *outcome == ProtectionOutcome::Made && bookmark.contains(CURSOR) {
            line = line.also("to_cursor", bookmark);
        }
    }
    match outcome {
        ProtectionOutcome::Failed(error) => line.with("err", error.as_str()),
        ProtectionOutcome::Made | ProtectionOutcome::Removed => line,
    }
}

/// How the names of replication cursors begin.
const CURSOR: &str = "#zrepl_CURSOR_";
