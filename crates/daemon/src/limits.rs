//! The limits of endpoints, engine, jobs and control socket, each with its reason. What an
//! administrator may want to change is an option of a job or an environment variable, which the daemon
//! reads when it starts.

use std::num::NonZeroU32;
use std::time::Duration;

/// How often everything is listed, and how often a filesystem is tried without completing a step,
/// before an invocation leaves it to the next one. zrepl's default: a passing disturbance is survived,
/// a lasting one waits for the next wake-up. `ZREPL_REPLICATION_MAX_ATTEMPTS` changes it.
pub const ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

/// How often a pool is listed by itself, after a listing of several pools failed, before a job goes on
/// without it: as often as a job would try if it were the only one.
pub const LISTINGS_OF_POOL: u32 = 3;

/// How long an invocation waits for an unreachable peer to come back. zrepl's default: longer than a
/// reboot. `ZREPL_REPLICATION_RECONNECT_HARD_FAIL_TIMEOUT` changes it.
pub const RECONNECT_WINDOW: Duration = Duration::from_secs(10 * 60);

/// Wait before the second attempt, and between tries to reach a peer; it doubles each time. About
/// what a busy dataset or a restarting peer needs.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(2);

/// Longest such wait, so that a peer that is back is noticed soon.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Longest wait before a sink whose pool could not be listed looks again. What it costs is a process, and the
/// pool of a backup disk is away for months.
pub const SINK_LOOK_PAUSE: Duration = Duration::from_secs(10 * 60);

/// How long a call to one side may take: to list, to start a stream, to move a cursor, to confirm.
/// Whoever serves it has limits of its own, half an hour at most for each child process, and says more
/// precisely what hangs; this one is for a side that says nothing, and so longer than any two of those.
/// `ZREPL_REPLICATION_CALL_TIMEOUT` changes it.
pub const CALL: Duration = Duration::from_secs(75 * 60);

/// How long no byte of a step may move before the job gives it up, its last bytes being committed
/// included. Longer than [`STALL`], which names the end that stands still, and than the commit may take.
/// `ZREPL_REPLICATION_STALL_TIMEOUT` changes it.
pub const NO_PROGRESS: Duration = Duration::from_secs(75 * 60);

/// A side that was listed longer ago is listed again before snapshots are destroyed by what it has: a
/// person may have rolled a sender back meanwhile. As long as the listing of a large pool takes.
pub const VIEW_AGE: Duration = Duration::from_secs(60);

/// Filesystems whose snapshots one call destroys at most. Each may wait for transaction groups to sync,
/// and a call as a whole must end within [`CALL`].
pub const DESTROYS_PER_CALL: usize = 500;

/// Filesystems whose protections are put right at a time. Each waits for transaction groups to sync,
/// and those that wait together share them.
pub const CONFIRMATIONS: usize = 8;

/// Commands that hold, or release, snapshots of one pool at a time; what else is asked for meanwhile shares
/// the next one. A command with many snapshots waits for a transaction group for each, while commands
/// side by side share them: so there are several, and only many filesystems at once share a process.
pub const HOLD_COMMANDS: usize = 4;

/// Filesystems whose snapshots are destroyed at a time, for the same reason.
pub const DESTROYS: usize = 8;

/// Stale bookmarks that are destroyed at a time, for the same reason.
pub const CLEANUPS: usize = 8;

/// Filesystems that are looked at together before their snapshots are destroyed. Names are compared with
/// guids then: so many destroys, [`DESTROYS`] at a time, take seconds, and the look two processes.
pub const DESTROY_LOOKS: usize = 32;

/// Roots of one pool that are looked at one by one after they could not be together, each with a process
/// or two. Of more than that the pool as a whole counts as broken.
pub const ROOTS_APART: usize = 32;

/// Entries of an endpoint's table beyond those of its last listing, whose names are a peer's as a rule;
/// with more the table is emptied, and what is asked for is looked at again.
pub const TABLE_EXTRAS: usize = 10_000;

/// A filesystem that a program made and nobody used has at most so many bytes before compression: with
/// OpenZFS 2.3 from 12 KiB (512-byte sectors) to 69 KiB (4 KiB sectors, encrypted). What has more is
/// somebody's data.
pub const UNUSED_FILESYSTEM_BYTES: u64 = 128 * 1024;

/// A stream in which no byte moves for so long is given up. `zfs send` can be silent for minutes
/// while it searches what changed, and `zfs receive` while it frees what is gone.
/// `ZREPL_ENDPOINT_STALL_TIMEOUT` changes it.
pub const STALL: Duration = Duration::from_secs(30 * 60);

/// How long a request waits for another one about the same filesystem, such as a broken connection's
/// whose end was not noticed yet, before it is refused.
pub const FILESYSTEM_LOCK: Duration = Duration::from_secs(60);

/// Time between two progress reports of a step. A person sees no more than four numbers per second.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Pause of a snapshotter that panicked outside of a round, before it begins anew: the reason may pass,
/// and a minute keeps the log readable if it does not. A panic of a round ends that round alone.
pub const SNAPSHOTTER_PAUSE: Duration = Duration::from_secs(60);

/// How long a stopping daemon waits for what is under way before it cuts it. The steps of a job that runs often
/// end within that; longer ones are resumed. With [`STOP`] twice it is what a service manager gives by default.
/// `ZREPL_DAEMON_DRAIN_TIMEOUT` changes it.
pub const DRAIN: Duration = Duration::from_secs(30);

/// How long a stopping daemon waits for its tasks. They end within moments once cancelled; what takes
/// longer is a child process that the kernel does not let die, which may be never. What undoes hooks is
/// not among them: its limit is the sum of the timeouts of the hooks around one snapshot.
pub const STOP: Duration = Duration::from_secs(30);

/// Messages that may wait for the dispatcher. Who sends one waits while it is full: a client no
/// longer than its connection may last, a job until the daemon stops.
pub const DISPATCH_QUEUE: usize = 64;

/// How long the dispatcher may take to answer before the service manager is no longer told that the daemon
/// lives. It answers within microseconds; a machine that is starved takes seconds.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Invocations of a job whose outcomes are remembered, for who asks again a moment later.
pub const OUTCOMES: usize = 16;

/// Jobs that a reload has ended of which is remembered how far they had come, in case they begin again. More than
/// a configuration has: a reload ends all that it begins anew before it begins the first of them.
pub const ENDED_JOBS: usize = 4096;

/// How long an answer about an invocation waits for its end: less than a connection to the control
/// socket may last and than its client waits. The client asks again.
pub const OUTCOME_WAIT: Duration = Duration::from_secs(20);

/// Clients that wait for the end of an invocation at a time, so that others find room; further ones
/// are answered at once and ask again.
pub const OUTCOME_WAITERS: usize = HTTP_CONNECTIONS / 2;

/// Clients of the control socket served at once, and as many of each other HTTP listener; further ones
/// wait in the listener's queue. Each may cost a report's worth of work.
pub const HTTP_CONNECTIONS: usize = 32;

/// How long an HTTP client may take the rest of its answer when the daemon ends.
pub const HTTP_LAST: Duration = Duration::from_millis(200);

/// How long a reload looks at the pools of the jobs that it has begun, while a person waits for its answer.
pub const RELOAD_LOOK: Duration = Duration::from_secs(10);

/// How long a preview waits for a side to be listed: less than the client of the control socket waits
/// for its answer, also if sizes are asked for afterwards.
pub const PREVIEW_LOOK: Duration = Duration::from_secs(15);

/// How long a preview asks for the sizes of streams; what is not known then stays unknown.
pub const PREVIEW_ESTIMATING: Duration = Duration::from_secs(10);

/// Streams of a job whose sizes a preview asks for, each with a process.
pub const PREVIEW_ESTIMATES: usize = 200;

/// Largest request on the control socket, in bytes. A signal is a job name and a verb.
pub const CONTROL_REQUEST_BYTES: usize = 64 * 1024;

/// How long an HTTP client may take to send its request.
pub const HTTP_REQUEST: Duration = Duration::from_secs(5);

/// How long a connection of an HTTP client may last: a report of a large host is tens of megabytes, and
/// a client that does not read it must not hold it for ever. Prometheus gives a scrape ten seconds.
pub const HTTP_CONNECTION: Duration = Duration::from_secs(60);

/// Pause after a failed accept. The reason is a lack of file descriptors as a rule, and passes.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Log lines that may wait to be written, in bytes: enough for the bursts of a host with tens of
/// thousands of filesystems.
pub const LOG_QUEUE_BYTES: usize = 4 << 20;

/// The part of that queue that only warnings and errors may use.
pub const LOG_QUEUE_RESERVED_BYTES: usize = 1 << 20;

/// Longest log line in bytes. Texts of peers and children end up in lines; what is longer is cut.
pub const LOG_LINE_BYTES: usize = 64 * 1024;

/// Filesystems of which one metric tells by name; the rest is counted together. A series takes about 200
/// bytes, and names may be a peer's.
pub const METRIC_FILESYSTEMS: usize = 100_000;

/// The same for metrics of durations, whose series are a dozen lines each.
pub const METRIC_TIMED_FILESYSTEMS: usize = 2_000;

/// Time between two looks whether a killed child has been reaped, which takes a millisecond or so.
pub const REAP_PAUSE: Duration = Duration::from_millis(5);

/// Output of one edge of a hook that is logged, in bytes. zrepl's default; `ZREPL_MAX_HOOK_LOG_SIZE`
/// changes it.
pub const HOOK_LOG_BYTES: u64 = 1 << 20;

/// Longest line of a hook's output, in bytes; a longer one is logged in pieces. It fits into a log
/// line even if every byte has to be escaped.
pub const HOOK_LINE_BYTES: usize = 8 * 1024;

/// Lines at the end of what a hook wrote that the error has if it fails, and bytes of each. Enough for the
/// complaint of a program; a stack trace is in the lines `hook output`.
pub const HOOK_SAID_LINES: usize = 8;
/// See [`HOOK_SAID_LINES`].
pub const HOOK_SAID_LINE_BYTES: usize = 400;

/// How long output is read after a hook's program has ended or was killed. The pipe ends at once
/// unless something that it started in the background holds it, which nobody waits for.
pub const HOOK_LEFTOVERS: Duration = Duration::from_millis(200);

/// How long a killed hook is waited for; one that is stuck in the kernel is reaped whenever that ends.
pub const HOOK_REAP: Duration = Duration::from_secs(1);

/// Events of an activity trace that wait for the file or for a client; further ones are left out and
/// counted. One is 200 bytes, as a rule.
pub const TRACE_QUEUE: usize = 10_000;

/// Largest file with an activity trace, in bytes: what viewers still open.
pub const TRACE_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// Clients that read an activity trace at a time.
pub const TRACE_CLIENTS: usize = 4;

/// Pause after which a client of the activity trace hears something, so that it knows that the daemon is
/// there, and the daemon that it is.
pub const TRACE_PULSE: Duration = Duration::from_secs(10);
