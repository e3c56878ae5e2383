//! The words of the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Snapshots ZFS datasets on a schedule, replicates them, and prunes them by policy.
#[derive(Debug, Parser)]
#[command(
    name = "zrepl",
    disable_version_flag = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  zrepl configcheck                   is the configuration all right?
  zrepl daemon                        run the jobs, in the foreground
  zrepl signal wakeup backup_home     replicate and prune now
  zrepl status --mode raw             what the jobs are doing, as JSON"
)]
pub(crate) struct CommandLine {
    /// Configuration file [default: the first of /etc/zrepl/zrepl.yml, /usr/local/etc/zrepl/zrepl.yml]
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the jobs of the configuration, in the foreground, until SIGINT or SIGTERM
    ///
    /// The first signal ends what runs in an orderly way, a second one at once.
    #[command(after_help = "Example:\n  zrepl --config ./zrepl.yml daemon")]
    Daemon,
    /// Check the configuration; silent if it can be used
    #[command(after_help = "Example:\n  zrepl configcheck --config ./zrepl.yml && systemctl restart zrepl")]
    Configcheck {
        /// Print a JSON Schema of the configuration, for editors, and check nothing
        #[arg(long)]
        schema: bool,
    },
    /// Show what the daemon is doing
    #[command(
        after_help = "Example:\n  zrepl status --mode raw | jq '.Jobs.backup_home.push.Replication.Attempts[-1]'"
    )]
    Status {
        /// How to show it
        #[arg(long, value_enum, default_value_t = StatusMode::Interactive)]
        mode: StatusMode,
    },
    /// Tell a job of the daemon to do something now
    #[command(after_help = "\
Examples:
  zrepl signal wakeup backup_home     replicate and prune now, or after what runs
  zrepl signal reset backup_home      cancel what runs; received data stays and is resumed")]
    Signal {
        /// What
        operation: Operation,
        /// The job's name
        job: String,
    },
    /// Show the version of this program and of the daemon
    #[command(after_help = "Example:\n  zrepl version --show client")]
    Version {
        /// Show only one of the two
        #[arg(long, value_enum)]
        show: Option<Side>,
    },
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
    /// As text, again and again
    Legacy,
}

/// What to tell a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// Start an invocation
    Wakeup,
    /// Cancel the invocation that runs
    Reset,
}

/// Whose version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// This program's
    Client,
    /// The daemon's
    Daemon,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        <CommandLine as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn the_configuration_may_be_named_before_and_after_the_command() {
        for words in [["zrepl", "--config", "x", "daemon"], ["zrepl", "daemon", "--config", "x"]] {
            assert_eq!(CommandLine::try_parse_from(words).unwrap().config, Some(PathBuf::from("x")), "{words:?}");
        }
    }

    #[test]
    fn unknown_and_surplus_words_fail() {
        for words in [
            &["zrepl", "dance"][..],
            &["zrepl", "daemon", "now"],
            &["zrepl", "signal", "wakeup"],
            &["zrepl", "signal", "kick", "j"],
            &["zrepl", "signal", "wakeup", "a", "b"],
            &["zrepl", "status", "--mode", "loud"],
        ] {
            assert!(CommandLine::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
