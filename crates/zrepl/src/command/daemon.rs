//! `zrepl daemon`

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use config::types::Config;
use daemon::clock::Clock;
use daemon::events::{Events, Reader};
use daemon::report::log::{Complaints, Outlet, RemoteLog, StdoutLog, Terminal};
use daemon::report::trace::TraceFile;
use daemon::signals::{Asked, StopSignals};
use daemon::tuning::Tuning;
use daemon::{Daemon, LoadConfig, World};
use jiff::Timestamp;
use model::event::What;
use wire::tls::KeyLogFile;
use zfs::Zfs;
use zfs::cli::{CliConfig, CommandEvent, CommandRecord, ZfsCli};

use crate::notify::Notify;

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
    if let Some(advice) = super::privileges::advice(rustix::process::geteuid().as_raw(), &loaded.config) {
        eprintln!("{advice}");
    }
    if let Err(error) = crate::files::raise_limit() {
        eprintln!("warning: the limit of open files cannot be raised: {error}");
    }
    let tuning = Tuning::from_environment(|name| std::env::var(name).ok())?;
    let key_log = key_log()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.context("cannot start the program's runtime")?;
    let logs = logs(&loaded.config);
    let world = World { key_log, profiles_at: profiles_at(), load: Some(load_again(config)), ..world(&logs, tuning) };
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

fn logs(config: &Config) -> Vec<Arc<dyn Outlet>> {
    let is_terminal = stdout().is_terminal();
    let terminal = match (is_terminal, super::wants_colors(is_terminal)) {
        (false, _) => Terminal::No,
        (true, false) => Terminal::Plain,
        (true, true) => Terminal::Color,
    };
    let complaints = Complaints::default();
    let outlet = |outlet: &config::types::Outlet| -> Arc<dyn Outlet> {
        match outlet {
            config::types::Outlet::Stdout(outlet) => Arc::new(StdoutLog::new(outlet, terminal)),
            config::types::Outlet::Syslog(outlet) => Arc::new(RemoteLog::syslog(outlet, &complaints)),
            config::types::Outlet::Journald(outlet) => Arc::new(RemoteLog::journald(outlet, &complaints)),
            config::types::Outlet::Tcp(outlet) => Arc::new(RemoteLog::tcp(outlet, terminal, &complaints)),
        }
    };
    let outlets: Vec<Arc<dyn Outlet>> = config.global.logging.iter().map(outlet).collect();
    // Every outlet takes errors, whatever its level.
    if let Some(first) = outlets.first() {
        complaints.go_to(Arc::clone(first));
    }
    outlets
}

fn world(logs: &[Arc<dyn Outlet>], tuning: Tuning) -> World {
    let readers = || logs.iter().map(|log| Arc::clone(log) as Arc<dyn Reader>).collect::<Vec<_>>();
    let cli = ZfsCli::new(CliConfig::default());
    let zfs: Arc<dyn Zfs> = Arc::new(cli.clone());
    let outlets = logs.to_vec();
    let lost_lines = move || outlets.iter().map(|log| (log.kind(), log.lost())).collect();
    World {
        job_zfs: Arc::new(move |_, events| Arc::new(cli.with_observer(observer(events.clone())))),
        clock: Clock::system(),
        readers: readers(),
        lost_lines: Arc::new(lost_lines),
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
            CommandEvent::NotStarted(_) => {
                What::CommandFinished { command, took: Duration::ZERO, used: None, success: false }
            }
            CommandEvent::Finished { status, runtime, used } => What::CommandFinished {
                command,
                took: *runtime,
                used: *used,
                success: status.is_some_and(|status| status.success()),
            },
        });
    })
}

async fn serve(config: Config, world: World) -> Result<()> {
    let mut signals = StopSignals::catch().context("cannot catch signals")?;
    let daemon = Arc::new(Daemon::start(config, world)?);
    let notify = Notify::from_environment();
    notify.say("READY=1\nSTATUS=running");
    let check = tokio::spawn({
        let daemon = Arc::clone(&daemon);
        async move { daemon.check_pools().await }
    });
    let signal = loop {
        tokio::select! {
            asked = signals.asked() => match asked {
                Asked::Stop(signal) => break signal,
                // A job that ends slowly must not keep the daemon from stopping.
                Asked::Reload => drop(tokio::spawn(reload(Arc::clone(&daemon), notify.clone()))),
            },
            () = notify.watchdog() => {}
        }
    };
    check.abort();
    notify.say("STOPPING=1\nSTATUS=waiting for jobs to finish");
    tokio::select! {
        stopped = daemon.stop(signal) => Ok(stopped?),
        again = signals.next() => bail!("stopped at once by a second signal ({again})"),
    }
}

async fn reload(daemon: Arc<Daemon>, notify: Notify) {
    notify.reloading();
    // What came of it is in the log.
    let _ = daemon.reload_from_file().await;
    notify.say("READY=1");
}

/// The same file again, if the daemon began with it.
fn load_again(config: Option<&Path>) -> LoadConfig {
    let path = config.map(Path::to_owned);
    Arc::new(move || {
        let loaded = config::load(path.as_deref()).map_err(|errors| errors.render(config::Style::Plain))?;
        Ok(loaded.config)
    })
}
