//! Every limit of the daemon, each with its reason. What an administrator may want to change is an
//! option of a job or an environment variable, which the daemon reads when it starts.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// Attempts per invocation. zrepl's default: a passing disturbance is survived, a lasting one waits
/// for the next wake-up. `ZREPL_REPLICATION_MAX_ATTEMPTS` changes it.
pub const ATTEMPTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

/// How long an invocation waits for an unreachable peer to come back. zrepl's default: longer than a
/// reboot. `ZREPL_REPLICATION_RECONNECT_HARD_FAIL_TIMEOUT` changes it.
pub const RECONNECT_WINDOW: Duration = Duration::from_secs(10 * 60);

/// Wait before the second attempt, and between tries to reach a peer; it doubles each time. About
/// what a busy dataset or a restarting peer needs.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(2);

/// Longest such wait, so that a peer that is back is noticed soon.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// Steps at a time unless the job says otherwise; zrepl's default.
pub const STEPS: NonZeroUsize = NonZeroUsize::MIN;

/// Filesystems whose protections are put right at a time. Each waits for transaction groups to sync,
/// and those that wait together share them.
pub const CONFIRMATIONS: usize = 8;

/// Filesystems whose snapshots are destroyed at a time, for the same reason.
pub const DESTROYS: usize = 8;

/// Stale bookmarks that are destroyed at a time, for the same reason.
pub const CLEANUPS: usize = 8;

/// Up to so many filesystems are looked at one by one before snapshots are destroyed; more are worth
/// one listing.
pub const SINGLE_LOOKS: usize = 4;

/// A stream in which no byte moves for so long is given up. `zfs send` can be silent for minutes
/// while it searches what changed, and `zfs receive` while it frees what is gone.
pub const STALL: Duration = Duration::from_secs(30 * 60);

/// How long a request waits for another one about the same filesystem, such as a broken connection's
/// whose end was not noticed yet, before it is refused.
pub const FILESYSTEM_LOCK: Duration = Duration::from_secs(60);

/// Time between two progress reports of a step. A person sees no more than four numbers per second.
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
