//! `zrepl daemon`

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use config::types::{Config, Outlet};
use daemon::clock::Clock;
use daemon::events::{Events, Reader};
use daemon::report::log::{StdoutLog, Terminal};
use daemon::report::trace::TraceFile;
use daemon::signals::StopSignals;
use daemon::tuning::Tuning;
use daemon::{Daemon, World};
use jiff::Timestamp;
use model::event::What;
use wire::tls::KeyLogFile;
use zfs::Zfs;
use zfs::cli::{CliConfig, CommandEvent, CommandRecord, ZfsCli};

/// Where the secrets of TLS connections are written. zrepl's name.
const KEY_LOG: &str = "ZREPL_KEYLOG_FILE";
/// Where the activity trace is written. zrepl's name.
const TRACE: &str = "ZREPL_ACTIVITY_TRACE";
/// Where profiles are served from the start on. zrepl's name.
const PROFILES_AT: &str = "ZREPL_DAEMON_AUTOSTART_PPROF_SERVER";
/// Threads for what is asynchronous. They wait, mostly: the work is done by `zfs` and the kernel.
const THREADS: usize = 2;
/// How long the rest of the log may take to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How long what was aborted may take to end.
const ABORTED: Duration = Duration::from_secs(2);

/// Runs until a signal says stop.
pub(crate) fn run(config: Option<&Path>) -> Result<()> {
    let loaded = super::load(config)?;
    super::warn(&loaded.warnings);
    crate::environment::without_effect(std::env::vars_os()).iter().for_each(|line| eprintln!("warning: {line}"));
    // A job whose certificate has a problem must not keep the others from running.
    super::warn(&loaded.check_files(Timestamp::now()));
    check_zfs(&loaded.config)?;
    let tuning = Tuning::from_environment(|name| std::env::var(name).ok())?;
    let key_log = key_log()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.context("cannot start the program's runtime")?;
    let logs = logs(&loaded.config);
    let world = World { key_log, profiles_at: profiles_at(), ..world(&logs, tuning) };
    if let Some(file) = trace_file()? {
        world.trace.into_file(file);
    }
    let trace = Arc::clone(&world.trace);
    let result = runtime.block_on(serve(loaded.config, world));
    // What was told to stop at once may still be about to.
    runtime.shutdown_timeout(ABORTED);
    logs.iter().for_each(|log| log.flush(LAST_LINES));
    trace.close(LAST_LINES);
    result
}

/// A daemon without `zfs` could do nothing but fail, again and again.
pub(super) fn check_zfs(config: &Config) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join("zfs").is_file());
    if !found && !config.jobs.is_empty() {
        bail!("cannot find `zfs` in PATH={} (install OpenZFS, on Debian the package zfsutils-linux)", path.display());
    }
    Ok(())
}

/// A file for the secrets of TLS connections, if somebody asks for it.
fn key_log() -> Result<Option<Arc<KeyLogFile>>> {
    let Some(path) = std::env::var_os(KEY_LOG).filter(|path| !path.is_empty()) else { return Ok(None) };
    let path = Path::new(&path);
    let file = KeyLogFile::create(path).with_context(|| format!("cannot write {KEY_LOG}={}", path.display()))?;
    Ok(Some(Arc::new(file)))
}

/// A file for the activity trace, if somebody asks for it.
fn trace_file() -> Result<Option<TraceFile>> {
    let Some(path) = std::env::var_os(TRACE).filter(|path| !path.is_empty()) else { return Ok(None) };
    let path = Path::new(&path);
    let file = TraceFile::create(path).with_context(|| format!("cannot write {TRACE}={}", path.display()))?;
    Ok(Some(file))
}

fn profiles_at() -> Option<String> {
    std::env::var(PROFILES_AT).ok().filter(|address| !address.is_empty())
}

fn logs(config: &Config) -> Vec<Arc<StdoutLog>> {
    let is_terminal = stdout().is_terminal();
    let terminal = match (is_terminal, super::wants_colors(is_terminal)) {
        (false, _) => Terminal::No,
        (true, false) => Terminal::Plain,
        (true, true) => Terminal::Color,
    };
    let outlets = config.global.logging.iter().filter_map(|outlet| match outlet {
        Outlet::Stdout(outlet) => Some(Arc::new(StdoutLog::new(outlet, terminal))),
        // With these the daemon does not start.
        Outlet::Syslog(_) | Outlet::Tcp(_) => None,
    });
    outlets.collect()
}

fn world(logs: &[Arc<StdoutLog>], tuning: Tuning) -> World {
    let readers = || logs.iter().map(|log| Arc::clone(log) as Arc<dyn Reader>).collect::<Vec<_>>();
    let cli = ZfsCli::new(CliConfig::default());
    let zfs: Arc<dyn Zfs> = Arc::new(cli.clone());
    World {
        job_zfs: Arc::new(move |_, events| Arc::new(cli.with_observer(observer(events.clone())))),
        clock: Clock::system(),
        readers: readers(),
        tuning,
        ..World::new(zfs)
    }
}

/// Tells every child process as an event.
fn observer(events: Events) -> Arc<dyn Fn(&CommandRecord) + Send + Sync> {
    Arc::new(move |record| {
        let command = record.command.args.join(" ");
        events.tell(match &record.event {
            CommandEvent::Started => What::CommandStarted { command },
            CommandEvent::NotStarted(_) => What::CommandFinished { command, took: Duration::ZERO, success: false },
            CommandEvent::Finished { status, runtime } => What::CommandFinished {
                command,
                took: *runtime,
                success: status.is_some_and(|status| status.success()),
            },
        });
    })
}

async fn serve(config: Config, world: World) -> Result<()> {
    let mut signals = StopSignals::catch().context("cannot catch signals")?;
    let daemon = Daemon::start(config, world)?;
    let signal = signals.next().await;
    tokio::select! {
        stopped = daemon.stop(signal) => Ok(stopped?),
        again = signals.next() => bail!("stopped at once by a second signal ({again})"),
    }
}
