//! The words of `zrepl pprof`.

use std::time::Duration;

use clap::{Args, Subcommand};

/// Where the time of the daemon goes.
#[derive(Debug, Subcommand)]
pub(crate) enum Pprof {
    /// Have the daemon serve what it knows about itself by HTTP, or end that
    #[command(subcommand)]
    Listen(Listen),
    /// Write what the daemon does from now on, in the format of Chrome's trace viewer
    ///
    /// Jobs, invocations, filesystems, steps and child processes, each with its beginning and end. To be
    /// opened at <https://ui.perfetto.dev>, or in a Chromium browser at chrome://tracing. The same comes
    /// from the start of the daemon on in the file that its environment variable ZREPL_ACTIVITY_TRACE names.
    #[command(after_help = "\
Examples:
  zrepl pprof activity-trace --for 1m > trace.json
  zrepl pprof activity-trace 127.0.0.1:6060 > trace.json
                                      of a daemon that listens there, see `zrepl pprof listen`")]
    ActivityTrace(ActivityTrace),
}

/// Whether to serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Listen {
    /// Begin to serve; without authentication, so the address should be a local one
    ///
    /// /debug/pprof/ lists what there is. A daemon whose environment variable
    /// ZREPL_DAEMON_AUTOSTART_PPROF_SERVER names an address begins at its start.
    #[command(after_help = "\
Examples:
  zrepl pprof listen on 127.0.0.1:6060
  curl http://127.0.0.1:6060/debug/pprof/")]
    On {
        /// Where: HOST:PORT, or :PORT for this machine only
        address: String,
    },
    /// End it
    #[command(after_help = "Example:\n  zrepl pprof listen off")]
    Off,
}

/// Whose trace, and how long.
#[derive(Debug, Args)]
pub(crate) struct ActivityTrace {
    /// Where the daemon listens, HOST:PORT [default: its control socket]
    pub address: Option<String>,
    /// How long, such as 30s or 5m [default: until this program or the daemon ends]
    #[arg(long = "for", value_name = "TIME", value_parser = super::span)]
    pub length: Option<Duration>,
}
