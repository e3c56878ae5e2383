//! Every metric that is kept, with its labels and meaning. The first part has zrepl's names and labels,
//! which dashboards and alerts use as they are, oddities included: counters without `_total`, a label
//! `jobid` beside `zrepl_job`, and gauges that only grow.

use super::family::{Descriptor, Kind};
use Kind::{Counter, Gauge, Histogram};

/// The bounds that client libraries have unless somebody says otherwise.
const DEFAULT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const COMMAND: &[f64] = &[0.01, 0.1, 0.2, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 60.0];
const REQUEST: &[f64] = &[0.000_001, 0.000_01, 0.000_1, 0.000_5, 0.001, 0.01, 0.1, 0.2, 0.4, 0.8, 1.0, 10.0, 20.0];
/// Parts of an invocation take hours as well as milliseconds.
const PHASE: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0, 6.0 * 3600.0, 24.0 * 3600.0];

macro_rules! metrics {
    ($($metric:ident $name:literal $kind:expr, [$($label:literal),*], $help:literal;)*) => {
        /// A metric that is kept.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Metric { $($metric),* }

        /// All of them, in the order of [`Metric`].
        pub(super) const ALL: &[Descriptor] =
            &[$(Descriptor { name: $name, kind: $kind, labels: &[$($label),*], help: $help }),*];
    };
}

metrics! {
    StartTime "zrepl_start_time" Gauge, ["raw", "version_info"],
        "When the daemon started, as Unix time; the labels say its version.";
    LogEntries "zrepl_daemon_log_entries" Counter, ["zrepl_job", "level"],
        "Log entries, whether an outlet takes them or not.";
    ControlBegin "zrepl_control_request_begin" Counter, ["endpoint"],
        "Requests to the control socket that have begun, those for the status left out.";
    ControlFinished "zrepl_control_request_finished" Histogram(REQUEST), ["endpoint"],
        "How long requests to the control socket took, in seconds.";
    StateTime "zrepl_replication_state_time" Histogram(PHASE), ["state", "zrepl_job"],
        "How long an attempt to replicate was in a state, in seconds.";
    Bytes "zrepl_replication_bytes_replicated" Counter, ["filesystem", "zrepl_job"],
        "Bytes of replication streams, counted while they flow.";
    FilesystemErrors "zrepl_replication_filesystem_errors" Gauge, ["zrepl_job"],
        "Filesystems that the last invocation could not replicate; -1 if it could not plan, 0 before the first one.";
    LastSuccessful "zrepl_replication_last_successful" Gauge, ["zrepl_job"],
        "When an invocation last replicated everything, as Unix time; 0 if none has since the daemon started.";
    PruningTime "zrepl_pruning_time" Histogram(PHASE), ["prune_side", "zrepl_job"],
        "How long pruning of a side took, in seconds.";
    ListDuration "zrepl_zfs_list_filesystem_versions_duration" Histogram(DEFAULT), ["filesystem"],
        "How long it took to list snapshots and bookmarks below a filesystem, in seconds; without a name: of everything.";
    SnapshotDuration "zrepl_zfs_snapshot_duration" Histogram(DEFAULT), ["filesystem"],
        "How long it took to take snapshots below a filesystem, those of one command together, in seconds.";
    BookmarkDuration "zrepl_zfs_bookmark_duration" Histogram(DEFAULT), ["filesystem"],
        "How long it took to make a bookmark, in seconds.";
    DestroyDuration "zrepl_zfs_destroy_duration" Histogram(DEFAULT), ["dataset_type", "filesystem"],
        "How long it took to destroy something, in seconds; snapshots of one command together.";
    Unmatched "zrepl_zfs_list_unmatched_user_specified_dataset_count" Gauge, ["jobid"],
        "Entries of `filesystems` that matched no dataset, added up over all looks: use increase().";
    CommandRuntime "zrepl_zfscmd_runtime" Histogram(COMMAND), ["jobid", "zfsbinary", "zfsverb"],
        "How long child processes ran, in seconds.";
    CommandSystem "zrepl_zfscmd_systemtime" Histogram(COMMAND), ["jobid", "zfsbinary", "zfsverb"],
        "How long the kernel computed for child processes, in seconds.";
    CommandUser "zrepl_zfscmd_usertime" Histogram(COMMAND), ["jobid", "zfsbinary", "zfsverb"],
        "How long child processes computed themselves, in seconds.";

    NewestSnapshot "zrepl_snapshot_newest_timestamp_seconds" Gauge, ["filesystem", "zrepl_job"],
        "When the newest snapshot of a filesystem of the sending side was taken, as Unix time; 0 if there is none.";
    NewestReplicated "zrepl_replication_newest_timestamp_seconds" Gauge, ["filesystem", "zrepl_job"],
        "When the newest snapshot that is on both sides was taken, as Unix time; 0 if there is none.";
    Lag "zrepl_replication_lag_seconds" Gauge, ["filesystem", "zrepl_job"],
        "How much older the newest snapshot on both sides is than the sender's newest; +Inf if none is on both.";
    Snapshots "zrepl_snapshots_total" Counter, ["zrepl_job", "result"],
        "Snapshots that were to be taken, by `ok` and `error`.";
    HookRuns "zrepl_hook_runs_total" Counter, ["zrepl_job", "result"],
        "Snapshots with hooks around them, by `ok` and `error`.";
    HookFailures "zrepl_hook_failures_total" Counter, ["zrepl_job", "edge"],
        "Hooks that failed, by `pre` and `post`.";
    PruneDestroyed "zrepl_pruning_destroyed_snapshots_total" Counter, ["prune_side", "zrepl_job"],
        "Snapshots that pruning destroyed.";
    PruneFailed "zrepl_pruning_failed_snapshots_total" Counter, ["prune_side", "zrepl_job"],
        "Snapshots that pruning could not destroy.";
    PruneKept "zrepl_pruning_kept_snapshots" Gauge, ["prune_side", "zrepl_job"],
        "Snapshots that the last pruning of a side kept.";
    PruneErrors "zrepl_pruning_errors_total" Counter, ["prune_side", "zrepl_job"],
        "Times that pruning of a side could not be planned.";
    Protections "zrepl_protection_failures_total" Counter, ["zrepl_job"],
        "Holds and bookmarks that could not be made or removed.";
    Reconnects "zrepl_replication_reconnects_total" Counter, ["zrepl_job"],
        "Times that a replication had to wait for a side that it could not reach.";
    Steps "zrepl_replication_steps_total" Counter, ["zrepl_job", "result"],
        "Steps of replication, by `ok`, `retry` and `error`.";
    Invocations "zrepl_job_invocations_total" Counter, ["zrepl_job", "result"],
        "Invocations that have ended, by `ok`, `error` and `cancelled`.";
    InvocationDuration "zrepl_job_last_invocation_duration_seconds" Gauge, ["zrepl_job"],
        "How long the last invocation took.";
    InvocationStart "zrepl_job_invocation_start_timestamp_seconds" Gauge, ["zrepl_job"],
        "Since when an invocation runs, as Unix time; 0 if none does.";
    Phase "zrepl_job_phase_start_timestamp_seconds" Gauge, ["zrepl_job", "phase"],
        "Since when a job is in a phase, as Unix time; 0 if it is not.";
    Progress "zrepl_job_progress_timestamp_seconds" Gauge, ["zrepl_job"],
        "When something last moved in a job, as Unix time: a phase, a step, a byte, a snapshot.";
    NextWakeup "zrepl_job_next_wakeup_timestamp_seconds" Gauge, ["zrepl_job"],
        "When the job next does something by itself, as Unix time; 0 if it waits for nothing.";
    Clients "zrepl_client_connections" Gauge, ["zrepl_job", "client", "kind"],
        "Connections of a client in another process to a job that serves others, of the kinds `control` and `data`; none of a client that is not there.";
    LostLines "zrepl_log_lost_lines_total" Counter, ["outlet"],
        "Log lines that an outlet did not take in time, or could not write.";
    ConfigLoaded "zrepl_config_load_timestamp_seconds" Gauge, [],
        "When the configuration that is in use was read, as Unix time.";
    ConfigGood "zrepl_config_last_reload_successful" Gauge, [],
        "Whether the configuration could be used when it was last read.";
    Scrapes "promhttp_metric_handler_requests_total" Counter, ["code"],
        "Requests for metrics that were answered.";
}
