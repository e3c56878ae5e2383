//! What the report says of the process itself.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use zfs::RunningCommand;

use super::json::time;
use crate::tuning::{
    CALL_TIMEOUT, CLIENT_HANDSHAKE_TIMEOUT, DEMUX_TIMEOUT, DRAIN_TIMEOUT, ENDPOINT_STALL_TIMEOUT, EXTENSIONS,
    HOOK_LOG_SIZE, Handshake, MAX_ATTEMPTS, RECONNECT_TIMEOUT, SERVER_HANDSHAKE_TIMEOUT, STALL_TIMEOUT, Tuning,
};

/// The `Global` object.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Global {
    #[serde(rename = "ZFSCmds")]
    commands: Commands,
    #[serde(rename = "Envconst")]
    settings: Settings,
    #[serde(rename = "OsEnviron")]
    environment: Vec<String>,
    /// Not in zrepl's report.
    #[serde(rename = "Daemon")]
    daemon: Daemon,
}

/// Which process this is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Daemon {
    version: &'static str,
    started_at: String,
}

#[derive(Debug, Clone, Serialize)]
struct Commands {
    #[serde(rename = "Active")]
    active: Option<Vec<Command>>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Command {
    path: String,
    args: Vec<String>,
    started_at: String,
}

#[derive(Debug, Clone, Serialize)]
struct Settings {
    #[serde(rename = "Entries")]
    entries: Vec<Setting>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Setting {
    var: &'static str,
    value: String,
    #[serde(rename = "ValueGoType")]
    kind: &'static str,
}

impl Global {
    pub(super) fn new(started: Option<Timestamp>, running: Vec<RunningCommand>, tuning: &Tuning) -> Global {
        let active: Vec<Command> = running.into_iter().map(Command::from).collect();
        Global {
            commands: Commands { active: (!active.is_empty()).then_some(active) },
            settings: Settings { entries: settings(tuning) },
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
                .filter(|(name, _)| is_shown(name))
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            daemon: Daemon { version: crate::VERSION, started_at: time(started) },
        }
    }
}

/// Taken apart by name, so that a setting that is added elsewhere is missed here by the compiler.
fn settings(tuning: &Tuning) -> Vec<Setting> {
    let Tuning { attempts, reconnect_window, patience, endpoint_stall, drain, handshake, extensions, hook_log_bytes } =
        tuning;
    let Handshake { client, server, label } = handshake;
    let duration = |value: Duration| format!("{}s", value.as_secs_f64());
    vec![
        Setting { var: MAX_ATTEMPTS, value: attempts.to_string(), kind: "int" },
        Setting { var: RECONNECT_TIMEOUT, value: duration(*reconnect_window), kind: "time.Duration" },
        Setting { var: CALL_TIMEOUT, value: duration(patience.call), kind: "time.Duration" },
        Setting { var: STALL_TIMEOUT, value: duration(patience.stall), kind: "time.Duration" },
        Setting { var: CLIENT_HANDSHAKE_TIMEOUT, value: duration(*client), kind: "time.Duration" },
        Setting { var: SERVER_HANDSHAKE_TIMEOUT, value: duration(*server), kind: "time.Duration" },
        Setting { var: DEMUX_TIMEOUT, value: duration(*label), kind: "time.Duration" },
        Setting { var: ENDPOINT_STALL_TIMEOUT, value: duration(*endpoint_stall), kind: "time.Duration" },
        Setting { var: DRAIN_TIMEOUT, value: duration(*drain), kind: "time.Duration" },
        Setting { var: EXTENSIONS, value: if *extensions { "on" } else { "off" }.to_owned(), kind: "string" },
        Setting { var: HOOK_LOG_SIZE, value: hook_log_bytes.to_string(), kind: "int" },
    ]
}

impl From<RunningCommand> for Command {
    fn from(command: RunningCommand) -> Command {
        let started_at = time(Timestamp::try_from(command.started_at).ok());
        Command { path: command.path, args: command.args, started_at }
    }
}

/// The environment of a daemon may hold anything; only what zrepl itself reads is shown.
fn is_shown(name: &str) -> bool {
    const OTHERS: [&str; 10] = [
        "PATH",
        "TZ",
        "LANG",
        "LC_ALL",
        "TERM",
        "NO_COLOR",
        "RUST_BACKTRACE",
        "ZREPL_KEYLOG_FILE",
        "ZREPL_ACTIVITY_TRACE",
        "ZREPL_DAEMON_AUTOSTART_PPROF_SERVER",
    ];
    settings(&Tuning::default()).iter().any(|setting| setting.var == name) || OTHERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_zrepl_reads_is_shown_of_the_environment() {
        assert!(is_shown("ZREPL_REPLICATION_MAX_ATTEMPTS") && is_shown("PATH"));
        assert!(
            !is_shown("ZREPL_DB_PASSWORD") && !is_shown("AWS_SECRET_ACCESS_KEY") && !is_shown("CREDENTIALS_DIRECTORY")
        );
    }
}
