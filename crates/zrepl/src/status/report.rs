//! The daemon's report as far as it is shown, ours or zrepl 0.7's.
//!
//! Lenient: what is missing, null, unknown or no time is as if it were not there, so that a client and
//! a daemon of different versions understand each other.

mod lenient;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

pub(crate) use lenient::{Destroyed, Snapshots};
use lenient::{or_default, time};

/// All that a daemon tells.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Report {
    pub(crate) jobs: BTreeMap<String, Job>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) global: Global,
}

/// What concerns the daemon itself.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Global {
    #[serde(rename = "ZFSCmds", deserialize_with = "or_default")]
    pub(crate) commands: Commands,
    #[serde(rename = "Envconst", deserialize_with = "or_default")]
    pub(crate) settings: Settings,
    #[serde(rename = "Daemon", deserialize_with = "or_default")]
    pub(crate) daemon: Daemon,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Commands {
    #[serde(deserialize_with = "or_default")]
    pub(crate) active: Vec<Command>,
}

/// A child process.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Command {
    #[serde(deserialize_with = "or_default")]
    pub(crate) path: String,
    /// The program's name first.
    #[serde(deserialize_with = "or_default")]
    pub(crate) args: Vec<String>,
    #[serde(deserialize_with = "time")]
    pub(crate) started_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Settings {
    #[serde(deserialize_with = "or_default")]
    pub(crate) entries: Vec<Setting>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Setting {
    #[serde(deserialize_with = "or_default")]
    pub(crate) var: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) value: String,
}

/// Which process it is; nothing is known of zrepl 0.7's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Daemon {
    #[serde(deserialize_with = "or_default")]
    pub(crate) version: String,
    #[serde(deserialize_with = "time")]
    pub(crate) started_at: Option<Timestamp>,
}

/// A job of whatever type.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Tagged")]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    pub(crate) body: Body,
}

/// A job's type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Internal,
    Push,
    Pull,
    Snap,
    Source,
    Sink,
    /// Of a newer daemon.
    Other(String),
}

impl Kind {
    pub(crate) fn word(&self) -> &str {
        match self {
            Kind::Internal => "internal",
            Kind::Push => "push",
            Kind::Pull => "pull",
            Kind::Snap => "snap",
            Kind::Source => "source",
            Kind::Sink => "sink",
            Kind::Other(word) => word,
        }
    }

    pub(crate) fn replicates(&self) -> bool {
        matches!(self, Kind::Push | Kind::Pull)
    }
}

/// `{"type": "push", "push": {…}}`
#[derive(Deserialize)]
struct Tagged {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(alias = "pull", alias = "snap", alias = "source", alias = "sink", rename = "push", default)]
    body: Option<Body>,
}

impl From<Tagged> for Job {
    fn from(Tagged { kind, body }: Tagged) -> Job {
        let kind = match kind.as_str() {
            "internal" => Kind::Internal,
            "push" => Kind::Push,
            "pull" => Kind::Pull,
            "snap" => Kind::Snap,
            "source" => Kind::Source,
            "sink" => Kind::Sink,
            _ => Kind::Other(kind),
        };
        Job { kind, body: body.unwrap_or_default() }
    }
}

/// The parts that jobs have; each has some of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Body {
    pub(crate) replication: Option<Replication>,
    pub(crate) pruning_sender: Option<Pruning>,
    pub(crate) pruning_receiver: Option<Pruning>,
    /// Of a job with one side.
    pub(crate) pruning: Option<Pruning>,
    #[serde(alias = "Snapper")]
    pub(crate) snapshotting: Option<Snapshotting>,
    pub(crate) invocation: Option<Invocation>,
    pub(crate) protections: Option<Protections>,
    /// Of a sink.
    pub(crate) clients: Option<Vec<Client>>,
    /// Of a job that serves others.
    pub(crate) listener: Option<Listener>,
    pub(crate) health: Option<Facts>,
}

/// Where a job that serves others can be reached.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Listener {
    #[serde(deserialize_with = "or_default")]
    pub(crate) place: String,
    /// Empty if it can be.
    #[serde(deserialize_with = "or_default")]
    pub(crate) error: String,
}

/// Who sends to a sink.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Client {
    #[serde(deserialize_with = "or_default")]
    pub(crate) name: String,
    /// Snapshots under its names.
    #[serde(deserialize_with = "or_default")]
    pub(crate) receiving: Vec<String>,
    pub(crate) received: u64,
    pub(crate) failed: u64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) last: String,
    #[serde(deserialize_with = "time")]
    pub(crate) last_at: Option<Timestamp>,
}

/// Holds and bookmarks that could not be made or removed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Protections {
    pub(crate) failed: u64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) last_error: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Invocation {
    pub(crate) number: u64,
    #[serde(deserialize_with = "time")]
    pub(crate) start_at: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub(crate) finish_at: Option<Timestamp>,
    /// When something of it last moved; none from a daemon that does not tell it.
    #[serde(deserialize_with = "time")]
    pub(crate) progress_at: Option<Timestamp>,
    pub(crate) summary: Option<Summary>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Summary {
    pub(crate) filesystems: u64,
    pub(crate) steps: u64,
    pub(crate) bytes: u64,
    pub(crate) destroyed: u64,
    pub(crate) errors: u64,
    pub(crate) seconds: f64,
    pub(crate) cancelled: bool,
}

/// What is known across invocations.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Facts {
    #[serde(deserialize_with = "time")]
    pub(crate) last_success: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub(crate) next_run: Option<Timestamp>,
    pub(crate) interval_seconds: Option<f64>,
    pub(crate) cron: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) filesystems: Vec<Ages>,
}

/// When the newest versions of a filesystem were taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Ages {
    #[serde(deserialize_with = "or_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "time")]
    pub(crate) newest: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub(crate) replicated: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct TimedError {
    #[serde(deserialize_with = "or_default")]
    pub(crate) err: String,
    #[serde(deserialize_with = "time")]
    pub(crate) time: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Replication {
    #[serde(deserialize_with = "time")]
    pub(crate) wait_reconnect_since: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub(crate) wait_reconnect_until: Option<Timestamp>,
    pub(crate) wait_reconnect_error: Option<TimedError>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Attempt {
    #[serde(deserialize_with = "or_default")]
    pub(crate) state: String,
    #[serde(deserialize_with = "time")]
    pub(crate) start_at: Option<Timestamp>,
    #[serde(deserialize_with = "time")]
    pub(crate) finish_at: Option<Timestamp>,
    pub(crate) plan_error: Option<TimedError>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) filesystems: Vec<Filesystem>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Filesystem {
    #[serde(deserialize_with = "or_default")]
    pub(crate) info: Name,
    #[serde(deserialize_with = "or_default")]
    pub(crate) state: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) blocked_on: String,
    pub(crate) plan_error: Option<TimedError>,
    pub(crate) step_error: Option<TimedError>,
    pub(crate) current_step: usize,
    #[serde(deserialize_with = "or_default")]
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Name {
    #[serde(deserialize_with = "or_default")]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Step {
    #[serde(deserialize_with = "or_default")]
    pub(crate) info: StepInfo,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct StepInfo {
    #[serde(deserialize_with = "or_default")]
    pub(crate) from: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) to: String,
    pub(crate) resumed: bool,
    /// 0 if it is not known.
    pub(crate) bytes_expected: u64,
    pub(crate) bytes_replicated: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Pruning {
    #[serde(deserialize_with = "or_default")]
    pub(crate) state: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) error: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) pending: Vec<Pruned>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) completed: Vec<Pruned>,
}

/// Pruning of one filesystem.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Pruned {
    #[serde(deserialize_with = "or_default")]
    pub(crate) filesystem: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) snapshot_list: Snapshots,
    #[serde(deserialize_with = "or_default")]
    pub(crate) destroy_list: Destroyed,
    #[serde(deserialize_with = "or_default")]
    pub(crate) skip_reason: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) last_error: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Snapshotting {
    pub(crate) periodic: Option<Periodic>,
    pub(crate) cron: Option<Cron>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Periodic {
    pub(crate) state: u64,
    #[serde(deserialize_with = "time")]
    pub(crate) sleep_until: Option<Timestamp>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) error: String,
    #[serde(deserialize_with = "or_default")]
    pub(crate) progress: Vec<Taken>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Cron {
    #[serde(deserialize_with = "or_default")]
    pub(crate) state: String,
    #[serde(deserialize_with = "time")]
    pub(crate) wakeup_time: Option<Timestamp>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) errors: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) progress: Vec<Taken>,
}

/// The snapshot of one filesystem in a round.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Taken {
    #[serde(deserialize_with = "or_default")]
    pub(crate) path: String,
    /// See [`Taken::is_pending`] and its like.
    state: u64,
    #[serde(deserialize_with = "or_default")]
    pub(crate) snap_name: String,
    #[serde(deserialize_with = "time")]
    pub(crate) start_at: Option<Timestamp>,
    #[serde(deserialize_with = "or_default")]
    pub(crate) hooks: String,
    hooks_had_error: bool,
    #[serde(deserialize_with = "time")]
    pub(crate) done_at: Option<Timestamp>,
}

impl Taken {
    pub(crate) fn is_pending(&self) -> bool {
        self.state <= 1
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state == 2
    }

    /// A hook or the snapshot itself failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.state == 8 || self.hooks_had_error
    }
}

#[cfg(test)]
mod tests;
