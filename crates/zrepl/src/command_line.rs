//! The words of the command line.

pub(crate) mod abstractions;
mod length;
pub(crate) mod pprof;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod test;
mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum, ValueHint};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use model::DatasetName;

use abstractions::{Migrate, ZfsAbstraction};
use length::length;
use pprof::Pprof;
use shell::{Completion, Gencompletion, Gendoc};
use status::Status;
use test::Test;

use crate::completion;

/// Snapshots ZFS datasets on a schedule, replicates them, and prunes them by policy.
#[derive(Debug, Parser)]
#[command(
    name = "zrepl",
    disable_version_flag = true,
    // As in zrepl the last one counts.
    args_override_self = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  zrepl configcheck                   is the configuration all right?
  zrepl daemon                        run the jobs, in the foreground
  zrepl signal wakeup backup_home     replicate and prune now
  zrepl status                        what the jobs are doing"
)]
pub(crate) struct CommandLine {
    /// Configuration file [default: the first of /etc/zrepl/zrepl.yml, /usr/local/etc/zrepl/zrepl.yml]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl CommandLine {
    /// Reads the words, the program's own name first, in all the forms that zrepl takes.
    ///
    /// # Errors
    /// They make no command, or help was asked for; the words that were understood come with it.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<CommandLine, (clap::Error, Vec<OsString>)> {
        let mut command = CommandLine::command();
        let words = words::plain(&command, words);
        let read = command.try_get_matches_from_mut(&words);
        let read = read.and_then(|matches| CommandLine::from_arg_matches(&matches));
        read.map_err(|error| (error.format(&mut command), words))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the jobs of the configuration, in the foreground, until SIGINT or SIGTERM
    ///
    /// After the first signal nothing new begins, and steps, rounds of snapshots and streams for clients that are
    /// under way may end, for up to 30 seconds (`ZREPL_DAEMON_DRAIN_TIMEOUT`); a second one cuts them, and a third one
    /// ends the daemon at once.
    #[command(after_help = "Example:\n  zrepl --config ./zrepl.yml daemon")]
    Daemon,
    /// Check the configuration; silent if it can be used
    ///
    /// Everything is checked, whatever is printed: all files, jobs and log outlets, and the certificates
    /// and keys that they name.
    #[command(after_help = "\
Examples:
  zrepl configcheck --config ./zrepl.yml && systemctl restart zrepl
  zrepl configcheck --format yaml     the same configuration with every default, in one file")]
    Configcheck(Configcheck),
    /// Show what the daemon is doing, or check that all is well
    ///
    /// On a terminal, a screen with all jobs and their filesystems; `?` shows its keys. Otherwise the same
    /// as text, once. The daemon remembers nothing of an earlier one: last successes, and how old snapshots
    /// are, are what it has seen since its start. `--check` waits two intervals of a job for that.
    #[command(after_help = "\
Examples:
  zrepl status                        look at what happens
  zrepl status --job backup_home | less
  zrepl status --mode raw | jq '.Jobs.backup_home.push.Replication.Attempts[-1]'
  ssh host zrepl status --mode raw > host.json
  zrepl status --from host.json --socket here=/var/run/zrepl/control
                                      two daemons on one screen
  zrepl status --check --max-replication-age 1d
                                      for Nagios, Icinga and the like; the line ends with figures of
                                      each job, and the worst filesystems follow")]
    Status(Status),
    /// Tell a job of the daemon to do something now
    #[command(after_help = "\
Examples:
  zrepl signal wakeup backup_home     replicate and prune now, or after what runs
  zrepl signal wakeup backup_home --wait && zpool export usb
                                      the same, until that has ended; fails unless all of it was done
  zrepl signal reset backup_home      cancel what runs; received data stays and is resumed
  zrepl signal snapshot backup_home   take snapshots now, then replicate and prune; a periodic job
                                      takes the next ones an interval later, a cron job on schedule")]
    Signal(Signal),
    /// Have the daemon read its configuration again, and say which jobs that changes
    ///
    /// Jobs that are as they were go on, with everything that they are at. Those that have changed end and
    /// begin anew. What has changed in `global` takes effect when the daemon is restarted. A configuration
    /// with mistakes changes nothing. What a start would warn of is told. SIGHUP does the same.
    #[command(after_help = "\
Exit code:
  0  the configuration is in use
  1  it cannot be used, or there is no daemon; standard error says why

Examples:
  zrepl reload
  zrepl reload --json | jq -r '.restarted[], .warnings[]'")]
    Reload(Reload),
    /// Show the version of this program and of the daemon
    #[command(after_help = "Example:\n  zrepl version --show client")]
    Version {
        /// Show only one of the two
        #[arg(long, value_enum)]
        show: Option<Side>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve a client that comes by SSH, with the help of the daemon
    ///
    /// This is the forced command of the client's key: it hands its standard input and output to the daemon,
    /// where a job with `serve: {type: stdinserver}` takes the client for CLIENT_IDENTITY.
    #[command(after_help = "\
Exit code:
  0  the daemon has served the client
  1  it has not; standard error says why, and the client is told

Example, in ~root/.ssh/authorized_keys:
  command=\"zrepl stdinserver laptop\",restrict ssh-ed25519 AAAA…")]
    Stdinserver {
        /// Who the client is
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        client_identity: String,
    },
    /// Show what the next invocation of a job would snapshot, send and destroy; changes nothing
    ///
    /// Sends are planned as if the snapshots had been taken, pruning as if the sends had arrived. The
    /// running daemon is asked if there is one. The next round is the one that it waits for, or would
    /// wait for if it started now.
    #[command(after_help = "\
Exit code:
  0  the plan is complete, also if it has conflicts
  1  a side could not be looked at, or something else could not be planned: what is known is printed,
     and standard error says what is missing

Examples:
  zrepl plan backup_home
  zrepl plan --format summary
  zrepl plan --without-daemon         what would a changed configuration do?
  zrepl plan --format json | jq '.jobs[].total'")]
    Plan(Plan),
    /// Show which snapshots a job's policy would leave in the course of time; changes nothing
    ///
    /// One filesystem is imagined, and a daemon that always runs; the receiver of a push or pull job
    /// gets every snapshot at once. It is empty at first, and no pool is looked at, unless --from-present is given.
    #[command(after_help = "\
Examples:
  zrepl simulate backup_home --for 90d
  zrepl simulate backup_home --for 2w --from 2024-05-14 --side receiver
  zrepl simulate backup_home --for 30d --from-present --filesystem tank/home
  zrepl simulate by_others --for 30d --every 1h --prefix auto_
  zrepl simulate --for 1y --format json")]
    Simulate(Simulate),
    /// Try what a configuration, a mark on a filesystem, or a resume token means
    #[command(subcommand)]
    Test(Test),
    /// List and release the holds and bookmarks by which zrepl protects what replication needs
    ///
    /// Needs no configuration. A daemon that runs sees at its next replication what was released.
    #[command(subcommand)]
    ZfsAbstraction(ZfsAbstraction),
    /// Carry over what earlier versions of zrepl left on disk
    #[command(subcommand)]
    Migrate(Migrate),
    /// Look into the running daemon: where its time goes
    #[command(subcommand)]
    Pprof(Pprof),
    /// Print the script that teaches a shell to complete zrepl's command line, job names included
    ///
    /// The script asks this program, so that it need not be made anew with a new version.
    #[command(after_help = "\
Examples:
  source <(zrepl completion bash)
  zrepl completion fish > ~/.config/fish/completions/zrepl.fish")]
    Completion(Completion),
    /// Write that script to a file
    #[command(subcommand)]
    Gencompletion(Gencompletion),
    /// Write man pages and the reference of the commands
    #[command(subcommand, hide = true)]
    Gendoc(Gendoc),
}

/// How to show what a reload changes.
#[derive(Debug, Args)]
pub(crate) struct Reload {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to tell which job.
#[derive(Debug, Args)]
pub(crate) struct Signal {
    /// What
    pub operation: Operation,
    /// The job's name
    #[arg(add = completion::signalled_job())]
    pub job: String,
    /// After `wakeup`: wait for the invocation, say what it did, and fail if it did not do all
    #[arg(long)]
    pub wait: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to plan, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The job's name [default: all jobs]
    #[arg(add = completion::planned_job())]
    pub job: Option<String>,
    /// How to show it
    #[arg(long, value_enum, default_value_t = PlanFormat::Table)]
    pub format: PlanFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Do not ask ZFS how large the sends would be
    #[arg(long)]
    pub no_estimate: bool,
    /// Plan with the configuration file as it is now, also if a daemon runs, which has the one that it
    /// read last
    #[arg(long)]
    pub without_daemon: bool,
}

/// How to show a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// Every snapshot, send and decision
    Table,
    /// All of it as JSON
    Json,
    /// A line per filesystem
    Summary,
}

/// What to simulate, and how to show it.
#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// The job's name [default: all jobs that prune]
    #[arg(add = completion::planned_job())]
    pub job: Option<String>,
    /// How long, such as 12h, 90d, 6w or 1y
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    pub length: Duration,
    /// When it begins: a date, which begins at midnight UTC, or a time such as 2024-05-14T12:00:00Z
    /// [default: now]
    #[arg(long, value_name = "DATE", value_parser = moment)]
    pub from: Option<Timestamp>,
    /// Begin with the snapshots that a filesystem of the job has now, on both sides, which looks at
    /// the pools once
    #[arg(long, conflicts_with = "from")]
    pub from_present: bool,
    /// Which filesystem, if the job has several
    #[arg(long, value_name = "NAME", requires = "from_present", value_parser = DatasetName::parse)]
    pub filesystem: Option<DatasetName>,
    /// How often others take snapshots for a job that takes none by itself (`type: manual`, or a pull job
    /// whose source is elsewhere), such as 1h
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub every: Option<Duration>,
    /// What the names of those snapshots begin with; rules may ask for it
    #[arg(long, value_name = "TEXT", requires = "every", default_value = "manual_")]
    pub prefix: String,
    /// Show one side of a job that replicates
    #[arg(long, value_enum)]
    pub side: Option<PruneSide>,
    /// How to show it
    #[arg(long, value_enum, default_value_t = SimulateFormat::Timeline)]
    pub format: SimulateFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// A side of a job that replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PruneSide {
    /// The one that sends
    Sender,
    /// The one that receives
    Receiver,
}

/// How to show a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SimulateFormat {
    /// How many snapshots of which age there are over time, and which are left
    Timeline,
    /// All of it as JSON
    Json,
}

/// A length of time that is worth being imagined or compared with.
fn span(text: &str) -> Result<Duration, String> {
    match length(text)? {
        span if (MIN_SPAN..=MAX_SPAN).contains(&span) => Ok(span),
        _ => Err("it is not between 1s and 100y".to_owned()),
    }
}

/// Nothing that is scheduled or checked is shorter.
const MIN_SPAN: Duration = Duration::from_secs(1);
/// Longer than anybody keeps snapshots.
const MAX_SPAN: Duration = Duration::from_secs(100 * 365 * 86_400);

fn moment(text: &str) -> Result<Timestamp, String> {
    let wrong = |_| "it is neither a date such as 2024-05-14 nor a time such as 2024-05-14T12:00:00Z".to_owned();
    match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => date.to_zoned(TimeZone::UTC).map(|at| at.timestamp()).map_err(wrong),
        _ => text.parse().map_err(wrong),
    }
}

/// What to check and to print.
#[derive(Debug, Args)]
pub(crate) struct Configcheck {
    /// Print a JSON Schema of the configuration, for editors, and check nothing
    #[arg(long)]
    pub schema: bool,
    /// Print the configuration as it takes effect
    #[arg(long, value_enum)]
    pub format: Option<ConfigFormat>,
    /// What of it to print, with --format
    #[arg(long, value_enum, default_value_t = ConfigPart::All)]
    pub what: ConfigPart,
    /// Print passwords too, which otherwise become `***`
    #[arg(long)]
    pub show_secrets: bool,
    /// Fail on warnings too: what is legal and probably not meant
    #[arg(long)]
    pub strict: bool,
    /// Print all errors and warnings as JSON, also if there are none
    #[arg(long, conflicts_with_all = ["format", "schema"])]
    pub json: bool,
    /// Do not look at certificates and keys, as on a machine that does not have them
    #[arg(long)]
    pub skip_cert_check: bool,
}

/// How to print a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigFormat {
    /// With every default and all included files; it can be used as a configuration
    Yaml,
    /// The same on one line
    Json,
    /// As the program holds it, always without passwords; changes from version to version
    Pretty,
}

/// What of a configuration to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConfigPart {
    /// Everything
    All,
    /// The same as `all`
    Config,
    /// Only `jobs`
    Jobs,
    /// Only `global.logging`
    Logging,
}

/// What to tell a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// Start an invocation
    Wakeup,
    /// Cancel the invocation that runs
    Reset,
    /// Take a round of snapshots
    Snapshot,
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
    fn of_what_is_said_twice_the_last_counts() {
        let read = |words: &str| CommandLine::read(words.split(' ').map(OsString::from)).map_err(|(error, _)| error);
        let line =
            read("zrepl --config a status --mode raw --mode dump --job x --job=y --config b -d 2s -d 0.5s").unwrap();
        assert_eq!(line.config, Some(PathBuf::from("b")));
        let Command::Status(status) = line.command else { panic!("another command") };
        assert_eq!((status.mode, status.job.as_deref()), (Some(status::StatusMode::Dump), Some("y")));
        assert_eq!(status.delay, Duration::from_millis(500));
        let several = read("zrepl status --socket a --socket b --json --json=true").unwrap();
        let Command::Status(status) = several.command else { panic!("another command") };
        assert_eq!((status.socket.len(), status.json), (2, true), "what may be given several times is");
        assert!(read("zrepl status --json=maybe").is_err());
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

    #[test]
    fn spans_have_units_and_moments_are_dates_or_times() {
        for (text, seconds) in
            [("90d", 7_776_000), ("1s", 1), ("1d12h", 129_600), ("1.5h", 5400), ("100y", 3_153_600_000)]
        {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "90", "d", "0d", "999ms", "-1d", "1q", "101y"] {
            assert!(span(text).is_err(), "{text}");
        }
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(moment("2024-05-14"), Ok(at("2024-05-14T00:00:00Z")));
        assert_eq!(moment("2024-05-14T12:00:00+02:00"), Ok(at("2024-05-14T10:00:00Z")));
        for text in ["", "yesterday", "2024-13-01", "2024-05-14T12:00:00"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
