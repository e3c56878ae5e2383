//! The words of `zrepl status`.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// What to show of which daemons, and how.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// How to show it [default: interactive on a terminal, otherwise dump]
    #[arg(long, value_enum, conflicts_with = "check")]
    pub mode: Option<StatusMode>,
    /// The same as --mode raw, but with --job only that job (--mode raw always has all of them)
    #[arg(long, conflicts_with_all = ["mode", "check"])]
    pub json: bool,
    /// Only this job
    #[arg(long, value_name = "NAME", add = crate::completion::any_job())]
    pub job: Option<String>,
    /// How long to wait between two looks, such as 500ms, 0.5s or 1m30s
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = pause)]
    pub delay: Duration,
    /// A daemon's control socket, instead of the configuration's; may be given several times, then jobs
    /// are called NAME:JOB
    #[arg(long, value_name = "[NAME=]PATH", value_hint = clap::ValueHint::FilePath)]
    pub socket: Vec<String>,
    /// A saved report (`--mode raw`), `-` for standard input; may be given several times
    #[arg(long, value_name = "[NAME=]FILE", value_hint = clap::ValueHint::FilePath)]
    pub from: Vec<String>,
    /// When to use colours; auto is on a terminal unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t = Coloring::Auto, value_name = "WHEN")]
    pub color: Coloring,
    #[command(flatten)]
    pub check: Check,
}

/// What to check.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Check")]
pub(crate) struct Check {
    /// Check as a monitoring plug-in does: one line, exit code 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
    #[arg(long)]
    pub check: bool,
    /// CRITICAL if the newest snapshot of a filesystem is older [default: 3 intervals of the job's schedule,
    /// at least one and 30m]
    #[arg(long, value_name = "TIME", value_parser = super::span, requires = "check")]
    pub max_snapshot_age: Option<Duration>,
    /// WARNING if it is older [default: 2 intervals, at least one and 10m]
    #[arg(long, value_name = "TIME", value_parser = super::span, requires = "check")]
    pub warn_snapshot_age: Option<Duration>,
    /// CRITICAL if the newest snapshot of a filesystem that the receiver has is older [default: as for
    /// snapshots]
    #[arg(long, value_name = "TIME", value_parser = super::span, requires = "check")]
    pub max_replication_age: Option<Duration>,
    /// WARNING if it is older [default: as for snapshots]
    #[arg(long, value_name = "TIME", value_parser = super::span, requires = "check")]
    pub warn_replication_age: Option<Duration>,
    /// WARNING if an invocation runs and nothing of it has moved for longer: no byte, step or phase
    /// [default: 2h]
    #[arg(long, value_name = "TIME", value_parser = super::span, requires = "check")]
    pub max_still_time: Option<Duration>,
    /// WARNING if an invocation runs for longer [default: 1d]
    #[arg(long, value_name = "TIME", value_parser = super::span, requires = "check")]
    pub max_run_time: Option<Duration>,
}

/// How to show the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusMode {
    /// On the whole screen
    Interactive,
    /// As text, once
    Dump,
    /// As JSON, once, on one line
    Raw,
    /// All jobs below each other on the whole screen
    Legacy,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Coloring {
    /// On a terminal
    Auto,
    /// Also into files
    Always,
    /// Never
    Never,
}

/// Shorter pauses keep the daemon busy with reports.
const SHORTEST: Duration = Duration::from_millis(100);

fn pause(text: &str) -> Result<Duration, String> {
    match super::length(text)? {
        pause if pause < SHORTEST => Err(format!("it is shorter than {SHORTEST:?}")),
        pause => Ok(pause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_written_as_in_zrepl() {
        for (text, millis) in [("1s", 1000), ("500ms", 500), ("0.5s", 500), ("1m30s", 90_000), ("1h", 3_600_000)] {
            assert_eq!(pause(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "1", "s", "-1s", "99ms", "0s", "99999999999999999999s", "1s1"] {
            assert!(pause(text).is_err(), "{text}");
        }
    }
}
