//! Settings that come from the environment, under the names that zrepl gives them.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::SignedDuration;
use thiserror::Error;
use wire::transport::HANDSHAKE;

use crate::act::Patience;
use crate::limits::{ATTEMPTS, DRAIN, HOOK_LOG_BYTES, RECONNECT_WINDOW, STALL};

/// How often a replication is tried before its job waits for its next wake-up.
pub const MAX_ATTEMPTS: &str = "ZREPL_REPLICATION_MAX_ATTEMPTS";
/// How long a replication waits for the other side to come back.
pub const RECONNECT_TIMEOUT: &str = "ZREPL_REPLICATION_RECONNECT_HARD_FAIL_TIMEOUT";
/// How long a replication waits for the answer to a call.
pub const CALL_TIMEOUT: &str = "ZREPL_REPLICATION_CALL_TIMEOUT";
/// How long a replication waits for the next byte of a step.
pub const STALL_TIMEOUT: &str = "ZREPL_REPLICATION_STALL_TIMEOUT";
/// How long a job waits for the first words of a peer that it connected to.
pub const CLIENT_HANDSHAKE_TIMEOUT: &str = "ZREPL_RPC_CLIENT_VERSIONHANDSHAKE_TIMEOUT";
/// How long a listener waits for the first words of a client.
pub const SERVER_HANDSHAKE_TIMEOUT: &str = "ZREPL_RPC_SERVER_VERSIONHANDSHAKE_TIMEOUT";
/// How long a listener then waits to hear what the connection is for.
pub const DEMUX_TIMEOUT: &str = "ZREPL_TRANSPORT_DEMUX_TIMEOUT";
/// How long an endpoint waits for the next byte of a stream.
pub const ENDPOINT_STALL_TIMEOUT: &str = "ZREPL_ENDPOINT_STALL_TIMEOUT";
/// How long a stop waits for steps, rounds of snapshots and the like that are under way.
pub const DRAIN_TIMEOUT: &str = "ZREPL_DAEMON_DRAIN_TIMEOUT";
/// Whether more than zrepl's protocol is offered to peers: `on`, or `off`, to behave in all as zrepl does.
/// A zrepl peer takes no notice.
pub const EXTENSIONS: &str = "ZREPL_RPC_EXTENSIONS";
/// How many bytes of the output of one edge of a hook are logged.
pub const HOOK_LOG_SIZE: &str = "ZREPL_MAX_HOOK_LOG_SIZE";

/// The settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// [`MAX_ATTEMPTS`]
    pub attempts: NonZeroU32,
    /// [`RECONNECT_TIMEOUT`]
    pub reconnect_window: Duration,
    /// [`CALL_TIMEOUT`] and [`STALL_TIMEOUT`]
    pub patience: Patience,
    /// How long peers may take to introduce themselves.
    pub handshake: Handshake,
    /// [`ENDPOINT_STALL_TIMEOUT`]
    pub endpoint_stall: Duration,
    /// [`DRAIN_TIMEOUT`]
    pub drain: Duration,
    /// [`EXTENSIONS`]
    pub extensions: bool,
    /// [`HOOK_LOG_SIZE`]
    pub hook_log_bytes: u64,
}

/// How long peers may take to introduce themselves; [`HANDSHAKE`] unless somebody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// [`CLIENT_HANDSHAKE_TIMEOUT`]
    pub client: Duration,
    /// [`SERVER_HANDSHAKE_TIMEOUT`]
    pub server: Duration,
    /// [`DEMUX_TIMEOUT`]
    pub label: Duration,
}

impl Default for Handshake {
    fn default() -> Self {
        Self { client: HANDSHAKE, server: HANDSHAKE, label: HANDSHAKE }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Tuning {
            attempts: ATTEMPTS,
            reconnect_window: RECONNECT_WINDOW,
            patience: Patience::default(),
            handshake: Handshake::default(),
            endpoint_stall: STALL,
            drain: DRAIN,
            extensions: true,
            hook_log_bytes: HOOK_LOG_BYTES,
        }
    }
}

/// A variable that holds something else than what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("environment variable {name}={value:?} is not {expected}")]
pub struct TuningError {
    /// The variable.
    pub name: &'static str,
    /// What it holds.
    pub value: String,
    /// What would be right.
    pub expected: &'static str,
}

impl Tuning {
    /// Reads the settings; `variable` looks one up. An empty one counts as unset.
    ///
    /// # Errors
    /// The first variable that cannot be read.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Tuning, TuningError> {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let mut tuning = Tuning::default();
        if let Some(value) = set(MAX_ATTEMPTS) {
            let expected = "a whole number of at least 1";
            tuning.attempts = value.parse().map_err(|_| TuningError { name: MAX_ATTEMPTS, value, expected })?;
        }
        let Patience { call, stall } = &mut tuning.patience;
        let Handshake { client, server, label } = &mut tuning.handshake;
        let durations = [
            (RECONNECT_TIMEOUT, &mut tuning.reconnect_window),
            (CALL_TIMEOUT, call),
            (STALL_TIMEOUT, stall),
            (CLIENT_HANDSHAKE_TIMEOUT, client),
            (SERVER_HANDSHAKE_TIMEOUT, server),
            (DEMUX_TIMEOUT, label),
            (ENDPOINT_STALL_TIMEOUT, &mut tuning.endpoint_stall),
            (DRAIN_TIMEOUT, &mut tuning.drain),
        ];
        for (name, duration) in durations {
            let Some(value) = set(name) else { continue };
            let expected = "a duration such as `1m30s`";
            let parsed = value.parse::<SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
            *duration = parsed.ok_or(TuningError { name, value, expected })?;
        }
        if let Some(value) = set(EXTENSIONS) {
            tuning.extensions = match value.as_str() {
                "on" => true,
                "off" => false,
                _ => return Err(TuningError { name: EXTENSIONS, value, expected: "`on` or `off`" }),
            };
        }
        if let Some(value) = set(HOOK_LOG_SIZE) {
            let expected = "a number of bytes";
            tuning.hook_log_bytes = value.parse().map_err(|_| TuningError { name: HOOK_LOG_SIZE, value, expected })?;
        }
        Ok(tuning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Tuning, String> {
        let tuning = Tuning::from_environment(|asked| (asked == name).then(|| value.to_owned()));
        tuning.map_err(|error| error.to_string())
    }

    #[test]
    fn settings_come_from_the_environment_and_nonsense_is_named() {
        assert_eq!(read(MAX_ATTEMPTS, ""), Ok(Tuning::default()));
        assert_eq!(read(MAX_ATTEMPTS, "5").unwrap().attempts.get(), 5);
        assert_eq!(read(RECONNECT_TIMEOUT, "1m30s").unwrap().reconnect_window, Duration::from_secs(90));
        assert_eq!(read(CALL_TIMEOUT, "10m").unwrap().patience.call, Duration::from_secs(600));
        assert_eq!(read(STALL_TIMEOUT, "2h").unwrap().patience.stall, Duration::from_secs(7200));
        assert_eq!(read(CLIENT_HANDSHAKE_TIMEOUT, "3s").unwrap().handshake.client, Duration::from_secs(3));
        assert_eq!(read(SERVER_HANDSHAKE_TIMEOUT, "4s").unwrap().handshake.server, Duration::from_secs(4));
        assert!(read(EXTENSIONS, "on").unwrap().extensions && !read(EXTENSIONS, "off").unwrap().extensions);
        assert!(read(EXTENSIONS, "no").is_err());
        assert_eq!(read(DEMUX_TIMEOUT, "5s").unwrap().handshake.label, Duration::from_secs(5));
        assert_eq!(read(ENDPOINT_STALL_TIMEOUT, "5m").unwrap().endpoint_stall, Duration::from_secs(300));
        assert_eq!(read(DRAIN_TIMEOUT, "0s").unwrap().drain, Duration::ZERO);
        assert!(read(STALL_TIMEOUT, "never").is_err());
        assert_eq!(read(HOOK_LOG_SIZE, "4096").unwrap().hook_log_bytes, 4096);
        assert!(read(HOOK_LOG_SIZE, "1MiB").is_err());
        assert_eq!(
            read(MAX_ATTEMPTS, "-1").unwrap_err(),
            r#"environment variable ZREPL_REPLICATION_MAX_ATTEMPTS="-1" is not a whole number of at least 1"#
        );
        assert!(read(RECONNECT_TIMEOUT, "soon").is_err());
        assert!(read(RECONNECT_TIMEOUT, "-5s").is_err());
    }
}
