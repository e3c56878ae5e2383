//! Everything that a person is shown. Status, logs and metrics are folds over one stream of events;
//! readers of events decide nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::name::{ClientIdentity, DatasetName, JobName, VersionName};
use crate::plan::prune::{PrunePlan, PruneSide};
use crate::plan::replication::{Conflict, Discard, FilesystemPlan, ReplicationPlan};
use crate::plan::resolve::Resolution;
use crate::version::UnixTime;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The job that it belongs to; none for the daemon itself.
    pub job: Option<JobName>,
    /// The object of a protection, a note, a warning or an error, whose words name it; what else happens says it
    /// itself.
    pub about: About,
    /// What.
    pub what: What,
}

/// What a message is about, for whoever looks for all messages about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum About {
    /// Nothing that has a name, or several things.
    #[default]
    Nothing,
    /// A filesystem, named as on the side that tells it.
    Filesystem(DatasetName),
    /// Whoever is at the other end of a connection.
    Peer {
        /// Where it is.
        address: String,
        /// Who it is, once that is known.
        client: Option<ClientIdentity>,
        /// What the connection is for, once that is known.
        label: Option<&'static str>,
    },
}

impl About {
    /// The filesystem, if it is one.
    pub fn filesystem(&self) -> Option<&DatasetName> {
        match self {
            About::Filesystem(filesystem) => Some(filesystem),
            About::Nothing | About::Peer { .. } => None,
        }
    }
}

/// What happened.
#[derive(Debug, Clone)]
pub enum What {
    /// The daemon runs; with its version.
    DaemonStarted {
        /// Version text.
        version: String,
    },
    /// The daemon was asked to stop and ends what it does.
    DaemonStopping {
        /// By which signal or call.
        cause: String,
    },
    /// All jobs have ended.
    DaemonStopped,
    /// A job waits for work.
    JobStarted,
    /// A job has ended.
    JobStopped,
    /// A child process was started (debug).
    CommandStarted {
        /// Command line.
        command: String,
    },
    /// A child process ended (debug; a failure is reported by what it was for).
    CommandFinished {
        /// Command line.
        command: String,
        /// How long it ran.
        took: Duration,
        /// What it computed, if that is known.
        used: Option<ProcessorTime>,
        /// Whether it succeeded.
        success: bool,
    },
    /// Something about snapshotting.
    Snapshotting(Snapshotting),
    /// Something about what runs around the snapshot of a filesystem.
    Hook {
        /// The filesystem.
        filesystem: DatasetName,
        /// The snapshot.
        snapshot: VersionName,
        /// What.
        what: Hook,
    },
    /// An invocation of an active job began; earlier reports of the job are void.
    InvocationStarted {
        /// Counts from 1 since the daemon started.
        number: u64,
    },
    /// An interval of the job's own wakes it up next.
    SleepsUntil {
        /// When.
        at: Timestamp,
    },
    /// An invocation ended, with a summary.
    InvocationFinished {
        /// Counts from 1.
        number: u64,
        /// What it did.
        summary: InvocationSummary,
    },
    /// Something about replication.
    Replication(Replication),
    /// Something about pruning.
    Pruning {
        /// Which side.
        side: PruneSide,
        /// What.
        what: Pruning,
    },
    /// A protection (hold, cursor) was made, removed, or could not be.
    Protection {
        /// On what, in words: `hold zrepl_STEP_J_x on p/a@s`.
        object: String,
        /// What became of it.
        outcome: ProtectionOutcome,
    },
    /// Entries of the job's filter that match no dataset; told after each look at the pools, also of none.
    Unmatched {
        /// How many.
        count: usize,
    },
    /// Something about what a client of a sink sends.
    Receiving {
        /// The client.
        client: ClientIdentity,
        /// The filesystem, as the client names it.
        filesystem: DatasetName,
        /// The snapshot.
        snapshot: VersionName,
        /// Where it is received.
        target: DatasetName,
        /// When it was taken, as the stream says.
        created: UnixTime,
        /// What.
        what: Receiving,
    },
    /// What a sink has, as a listing says.
    Stored {
        /// Whose descendants were listed.
        below: DatasetName,
        /// Those that have snapshots, with the time when the newest was taken.
        newest: Vec<(DatasetName, UnixTime)>,
    },
    /// A job that serves others can be reached, or not.
    Listening {
        /// Where.
        place: String,
        /// Why not.
        problem: Option<String>,
    },
    /// Something unusual that was done on purpose, told before it is done.
    Note {
        /// Subsystem as in zrepl's logs.
        subsystem: &'static str,
        /// The message, naming the object.
        message: String,
    },
    /// Something to look at that stops nothing.
    Warning {
        /// Subsystem as in zrepl's logs: `job`, `repl`, `endpoint`, `pruning`, `snapshot`, `zfs.cmd`.
        subsystem: &'static str,
        /// The message.
        message: String,
    },
    /// Something failed; each failure is reported once, where it is known best.
    Error {
        /// Subsystem as in zrepl's logs.
        subsystem: &'static str,
        /// The message, naming the object.
        message: String,
    },
}

/// Time on a processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessorTime {
    /// In the program itself.
    pub user: Duration,
    /// In the kernel on its behalf, without what kernel threads do for it (ZFS has many).
    pub system: Duration,
}

/// How far the receipt of a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receiving {
    /// It has begun.
    Started,
    /// It is there, and protected.
    Finished,
    /// It was not received, or not all of it, and why; none if nobody asks for it any longer.
    Failed(Option<String>),
}

/// What became of a protection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProtectionOutcome {
    /// It is there.
    Made,
    /// It is gone.
    Removed,
    /// It could neither be made nor removed.
    Failed(String),
}

/// What an invocation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvocationSummary {
    /// Filesystems that were looked at.
    pub filesystems: usize,
    /// Steps completed.
    pub steps: usize,
    /// Stream bytes.
    pub bytes: u64,
    /// Snapshots destroyed, both sides.
    pub destroyed: usize,
    /// Failed filesystems, both phases.
    pub errors: usize,
    /// Whether an attempt brought every filesystem of the job up to date. False if there was none, or
    /// if it was ended early.
    pub replicated: bool,
    /// How long it took.
    pub took: Duration,
    /// Ended by a reset or by the daemon's stop.
    pub cancelled: bool,
}

/// About snapshotting.
#[derive(Debug, Clone)]
pub enum Snapshotting {
    /// State of the snapshotter changed. One that follows a calendar knows neither of the sync-up states.
    State {
        /// The new state.
        state: SnapshotterState,
        /// Until when it sleeps.
        sleep_until: Option<Timestamp>,
        /// The error that led there.
        error: Option<String>,
    },
    /// A round begins for these filesystems.
    RoundStarted {
        /// Full names of what will be taken.
        snapshots: Vec<(DatasetName, VersionName)>,
        /// Those with hooks, which come one by one after the others, in this order.
        one_by_one: Vec<DatasetName>,
    },
    /// The hooks around a snapshot begin.
    HooksStarted {
        /// Its filesystem.
        filesystem: DatasetName,
    },
    /// The hooks around a snapshot, and the snapshot itself, are done.
    HooksFinished {
        /// Its filesystem.
        filesystem: DatasetName,
        /// A line per step.
        report: String,
        /// Whether any step failed; the snapshot may be there all the same.
        had_error: bool,
    },
    /// One snapshot was tried.
    Taken {
        /// The filesystem.
        filesystem: DatasetName,
        /// The snapshot.
        snapshot: VersionName,
        /// The error's text if it failed.
        result: Result<(), String>,
    },
    /// The round ended.
    RoundFinished,
    /// Times of the calendar came and no round was taken for them.
    Missed {
        /// How many, as far as they were counted.
        count: usize,
        /// Why.
        why: Missed,
    },
}

/// Why times of a calendar were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// The machine slept or its clock was set forward; one round is taken for all of them.
    Asleep,
    /// A round was still running.
    RoundRunning,
}

/// About the hooks around one snapshot. A hook is named as the configuration identifies it: by its
/// program, or by its type and server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// What comes before the snapshot begins, in the order of the configuration.
    PreEdges,
    /// A line that a hook's program wrote.
    Output {
        /// The hook.
        hook: String,
        /// Where to.
        stream: OutputStream,
        /// Without its line feed.
        line: String,
    },
    /// More than may be logged of one edge was written.
    OutputCut {
        /// The hook.
        hook: String,
        /// So many bytes are not in the log.
        bytes: u64,
    },
    /// A hook talks to its server.
    Statement {
        /// The hook.
        hook: String,
        /// In SQL.
        statement: &'static str,
    },
    /// An edge failed.
    Failed {
        /// The hook.
        hook: String,
        /// Before or after the snapshot.
        edge: HookEdge,
        /// Why.
        error: String,
    },
    /// The failure of a hook before the snapshot prevents it.
    Prevented {
        /// The hook.
        hook: String,
    },
    /// The snapshot is taken now.
    Callback,
    /// What comes after the snapshot begins, in reverse order.
    PostEdges,
    /// A hook has nothing to undo because it failed before the snapshot.
    PostSkipped {
        /// The hook.
        hook: String,
    },
    /// The run was ended by a reset or by the daemon's stop; what was done before the snapshot is undone.
    Interrupted,
}

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookEdge {
    /// Before the snapshot.
    Pre,
    /// After it.
    Post,
}

/// Where a program writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// States of the snapshotter, as zrepl numbers them in its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotterState {
    /// 1
    SyncUp,
    /// 2
    SyncUpErrWait,
    /// 4
    Planning,
    /// 8
    Snapshotting,
    /// 16
    Waiting,
    /// 32
    ErrorWait,
    /// 64
    Stopped,
}

/// About replication.
#[derive(Debug, Clone)]
pub enum Replication {
    /// An attempt begins.
    AttemptStarted,
    /// The listings or the plan failed.
    PlanFailed {
        /// Why.
        error: String,
    },
    /// The plan.
    Planned {
        /// The plan itself.
        plan: Arc<ReplicationPlan>,
    },
    /// A filesystem that failed was listed and planned again by itself.
    Replanned {
        /// Its new plan. Steps that were completed before are still the first ones of it.
        plan: Arc<FilesystemPlan>,
        /// How many those are.
        done: usize,
    },
    /// A side cannot be reached; nothing new is started until it can be again.
    Reconnecting {
        /// What broke.
        error: String,
        /// When it is given up.
        until: Timestamp,
    },
    /// Both sides can be reached again.
    Reconnected,
    /// A side could not be reached in time, or does not let the job in any longer.
    ReconnectFailed {
        /// Why.
        error: String,
    },
    /// Partial state on the receiver will be discarded.
    Discarding {
        /// Where.
        filesystem: DatasetName,
        /// Why.
        reason: Discard,
    },
    /// A conflict is about to be resolved on the receiver, as the job's policy says.
    Resolving {
        /// Where.
        filesystem: DatasetName,
        /// How, with everything that will be destroyed or renamed.
        resolution: Resolution,
    },
    /// A snapshot on the receiver was destroyed to resolve a conflict.
    DestroyedToResolve {
        /// Where.
        filesystem: DatasetName,
        /// The snapshot.
        snapshot: VersionName,
        /// Why.
        reason: Arc<str>,
    },
    /// A conflict was resolved.
    Resolved {
        /// Where.
        filesystem: DatasetName,
        /// What was done, in words.
        how: String,
    },
    /// A filesystem waits for something.
    Blocked {
        /// The filesystem.
        filesystem: DatasetName,
        /// On what.
        on: BlockedOn,
    },
    /// A step runs.
    StepStarted {
        /// The filesystem.
        filesystem: DatasetName,
        /// Index in the plan's steps.
        step: usize,
    },
    /// How far the running step of a filesystem is; sent a few times per second.
    StepProgress {
        /// The filesystem.
        filesystem: DatasetName,
        /// Index in the plan's steps.
        step: usize,
        /// Expected stream size, once known.
        expected: Option<u64>,
        /// Stream bytes so far.
        bytes: u64,
    },
    /// A step is complete: received, and confirmed to the sender.
    StepFinished {
        /// The filesystem.
        filesystem: DatasetName,
        /// Index in the plan's steps.
        step: usize,
        /// Stream bytes.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// Protections of an up-to-date filesystem were put right.
    Confirmed {
        /// The filesystem.
        filesystem: DatasetName,
    },
    /// A filesystem needs a person; reported once per attempt.
    Conflicted {
        /// The filesystem.
        filesystem: DatasetName,
        /// Why.
        conflict: Conflict,
    },
    /// A step, or the confirmation of a filesystem, failed.
    StepFailed {
        /// The filesystem.
        filesystem: DatasetName,
        /// Index in the plan's steps.
        step: usize,
        /// Stream bytes so far.
        bytes: u64,
        /// Why.
        error: String,
        /// Whether it is tried again in this invocation.
        will_retry: bool,
    },
    /// The attempt is over.
    AttemptFinished,
}

/// What a filesystem waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockedOn {
    /// `nothing`
    Nothing,
    /// `plan-queue`
    Planning,
    /// `parent-initial-repl`
    Parent,
    /// `repl-queue`
    Queue,
}

/// About pruning.
#[derive(Debug, Clone)]
pub enum Pruning {
    /// Planning begins; what was told of the side in this invocation before is void.
    Started,
    /// The listings failed; or, after the plan, a call that destroys. It is not tried again.
    PlanFailed {
        /// Why.
        error: String,
    },
    /// The decisions.
    Planned {
        /// The plan itself.
        plan: Arc<PrunePlan>,
    },
    /// A snapshot is gone.
    Destroyed {
        /// Its filesystem.
        filesystem: DatasetName,
        /// The snapshot.
        snapshot: VersionName,
        /// The rules that let it go, all there are, each with its reason, in words.
        rules: Arc<str>,
    },
    /// A filesystem is done.
    Filesystem {
        /// The filesystem.
        filesystem: DatasetName,
        /// Destroyed; each was told before.
        destroyed: Vec<VersionName>,
        /// Could not be destroyed, and why.
        failed: Vec<(VersionName, String)>,
    },
    /// All filesystems are done.
    Finished,
}
