//! Environment variables: those that mean something, and those that did in zrepl 0.7.

use std::ffi::OsString;

/// What is read, and what for.
pub(crate) const READ: &[(&str, &str)] = &[
    ("ZREPL_REPLICATION_MAX_ATTEMPTS", "how often a replication is tried in one invocation, 3 unless set"),
    (
        "ZREPL_REPLICATION_RECONNECT_HARD_FAIL_TIMEOUT",
        "how long a replication waits for the other side to come back, such as 10m",
    ),
    ("ZREPL_REPLICATION_CALL_TIMEOUT", "how long a replication waits for the answer to a call, such as 5m"),
    ("ZREPL_REPLICATION_STALL_TIMEOUT", "how long a replication waits for the next byte of a stream, such as 1h"),
    ("ZREPL_RPC_CLIENT_VERSIONHANDSHAKE_TIMEOUT", "how long a job waits for the first words of the other side"),
    ("ZREPL_RPC_SERVER_VERSIONHANDSHAKE_TIMEOUT", "how long a listener waits for the first words of a client"),
    ("ZREPL_TRANSPORT_DEMUX_TIMEOUT", "how long a listener then waits to hear what the connection is for"),
    (
        "ZREPL_ENDPOINT_STALL_TIMEOUT",
        "how long a sender or a receiver waits for the next byte of a stream, 30m unless set",
    ),
    (
        "ZREPL_DAEMON_DRAIN_TIMEOUT",
        "how long a stopping daemon waits for steps, rounds of snapshots, pruning and streams for clients that are \
         under way, 30s unless set; 0s cuts them at once",
    ),
    ("ZREPL_RPC_EXTENSIONS", "if off: nothing is offered to the other side that zrepl 0.7 does not know"),
    ("ZREPL_MAX_HOOK_LOG_SIZE", "how many bytes of a hook's output are logged"),
    ("ZREPL_KEYLOG_FILE", "where the daemon writes the secrets of TLS connections, to read recorded traffic"),
    ("ZREPL_ACTIVITY_TRACE", "where the daemon writes what it does, see zrepl pprof activity-trace"),
    ("ZREPL_DAEMON_AUTOSTART_PPROF_SERVER", "where the daemon listens from its start on, see zrepl pprof listen"),
    ("NO_COLOR", "if not empty: no colours"),
    ("TERM", "if dumb: no colours"),
    ("PATH", "where zfs and zpool are looked for"),
];

/// What zrepl 0.7 read, and why that is not needed any longer.
pub(crate) const GONE: &[(&str, &str)] = &[
    ("ZREPL_DAEMON_CONTROL_SERVER_READ_TIMEOUT", CONTROL),
    ("ZREPL_DAEMON_CONTROL_SERVER_WRITE_TIMEOUT", CONTROL),
    ("ZREPL_PRUNER_RETRY_INTERVAL", "it never had an effect"),
    ("ZREPL_TRANSPORT_MUX_TIMEOUT", "it never had an effect"),
    ("ZREPL_SNAPPER_SYNCUP_WARN_MIN_DURATION", "the wait for the sync point is shown in the status"),
    ("ZREPL_WALLCLOCKTIMER_MAX_DELAY", "a sleep of the machine is noticed without it"),
    ("ZREPL_TRACE_DEBUG_ENABLED", TRACE),
    ("ZREPL_TRACE_ID_NUM_BYTES", TRACE),
    ("ZREPL_ENDPOINT_RECV_PEEK_SIZE", "only the first record of a stream is looked at"),
    ("ZREPL_ENDPOINT_DISABLE_PLACEHOLDER_RESTORATION", "a placeholder is never left without its mark"),
    ("ZREPL_ENDPOINT_LIST_ABSTRACTIONS_QUERY_CREATETXG_RANGE_BOUND_ALLOW_0", "it was for tests"),
    ("ZREPL_RPC_DATACONN_PING_SLEEP", "a broken connection is waited for with a growing pause"),
    ("ZREPL_DESTROY_MAX_BATCH_SIZE", "batches are as large as a command line may be"),
    ("ZREPL_EXPERIMENTAL_ZFS_COMMA_SYNTAX_SUPPORTED", OLD_ZFS),
    ("ZREPL_EXPERIMENTAL_ZFS_ENCRYPTION_CLI_SUPPORTED", OLD_ZFS),
    ("ZREPL_EXPERIMENTAL_ZFS_SEND_RESUME_SUPPORTED", OLD_ZFS),
    ("ZREPL_ZFS_RESUME_RECV_POOL_SUPPORT_RECHECK_TIMEOUT", OLD_ZFS),
    ("ZREPL_ZFS_MAX_HOLD_TAG_LEN", "the limit is that of ZFS"),
    ("ZREPL_ZFS_SEND_STDERR_MAX_CAPTURE_SIZE", "the end of standard error is kept"),
    ("ZREPL_ZFS_SEND_SIZE_ESTIMATE_INCORRECT_THRESHOLD", "sizes come from the running send"),
    ("ZFS_SEND_PIPE_CAPACITY_HINT", PIPES),
    ("ZFS_RECV_PIPE_CAPACITY_HINT", PIPES),
    ("IOCOMMAND_TIMEOUT", "how long a child may take to end is fixed"),
    ("ZREPL_REPLICATION_DRIVER_DEBUG", DEBUG),
    ("ZREPL_RPC_DEBUG", DEBUG),
    ("ZREPL_RPC_DATACONN_DEBUG", DEBUG),
    ("ZREPL_RPC_DATACONN_STREAM_DEBUG", DEBUG),
    ("ZREPL_RPC_DATACONN_HEARTBEATCONN_DEBUG", DEBUG),
    ("ZREPL_ZFS_DEBUG", DEBUG),
];

const CONTROL: &str = "a report takes the time that it takes";
const TRACE: &str = "the trace has no ids, and cannot end the daemon";
const OLD_ZFS: &str = "every supported version of OpenZFS can do it";
const PIPES: &str = "pipes are as large as the kernel allows";
const DEBUG: &str = "set the level of a log outlet to debug";

/// A line for every variable that is set, not empty, and means nothing (any longer).
pub(crate) fn without_effect(set: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let mut lines: Vec<String> = set
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, _)| {
            let name = name.to_str()?;
            let (_, why) = GONE.iter().find(|(gone, _)| *gone == name)?;
            Some(format!("environment variable {name} has no effect: {why}"))
        })
        .collect();
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_in_vain_is_named_with_the_reason() {
        let set = [("ZREPL_ZFS_DEBUG", "1"), ("PATH", "/bin"), ("IOCOMMAND_TIMEOUT", "5s"), ("ZREPL_RPC_DEBUG", "")];
        let set = set.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        assert_eq!(
            without_effect(set.into_iter()),
            [
                "environment variable IOCOMMAND_TIMEOUT has no effect: how long a child may take to end is fixed",
                "environment variable ZREPL_ZFS_DEBUG has no effect: set the level of a log outlet to debug",
            ]
        );
    }

    #[test]
    fn no_variable_is_both_read_and_gone() {
        for (name, why) in GONE.iter().chain(READ) {
            assert!(!why.is_empty() && !why.ends_with('.'), "{name}");
        }
        assert!(GONE.iter().all(|(gone, _)| READ.iter().all(|(read, _)| read != gone)));
    }
}
