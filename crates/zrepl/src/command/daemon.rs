//! `zrepl daemon`

use std::fmt;
use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use config::types::Config;
use daemon::clock::Clock;
use daemon::events::Events;
use daemon::report::log::{Complaints, Log, Outlet, RemoteLog, StdoutLog, Terminal};
use daemon::report::trace::TraceFile;
use daemon::signals::{Asked, StopSignals};
use daemon::tuning::Tuning;
use daemon::{Daemon, LoadConfig, Reread, ServiceLost, World};
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
    let advice = advice(&loaded.config);
    advice.iter().for_each(|advice| eprintln!("warning: {advice}"));
    if let Err(error) = crate::files::raise_limit() {
        eprintln!("warning: the limit of open files cannot be raised: {error}");
    }
    let tuning = Tuning::from_environment(|name| std::env::var(name).ok())?;
    let key_log = key_log()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime = runtime.context("cannot start the program's runtime")?;
    let logs = logs(&loaded.config);
    let world =
        World { key_log, profiles_at: profiles_at(), load: Some(load_again(config, advice)), ..world(&logs, tuning) };
    if let Some(file) = trace_file()? {
        world.trace.into_file(file);
    }
    let trace = Arc::clone(&world.trace);
    let result = runtime.block_on(serve(loaded.config, world));
    // What was told to stop at once may still be about to.
    runtime.shutdown_timeout(ABORTED);
    if let Some(missing) = daemon::report::log::finish(&logs, LAST_LINES) {
        eprintln!("{missing}");
    }
    trace.close(LAST_LINES);
    result
}

/// A daemon without `zfs` could do nothing but fail, again and again.
pub(super) fn check_zfs(config: &Config) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join("zfs").is_file());
    if !found && !config.jobs.is_empty() {
        bail!(
            "cannot find `zfs` in PATH={} (install OpenZFS, on Debian the package zfsutils-linux; if it is installed, add \
             its directory to PATH, mostly /usr/sbin or /usr/local/sbin)",
            path.display()
        );
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
            config::types::Outlet::Stdout(outlet) => Arc::new(StdoutLog::new(outlet, terminal, &complaints)),
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
    let cli = ZfsCli::new(CliConfig::default());
    let zfs: Arc<dyn Zfs> = Arc::new(cli.clone());
    let outlets = logs.to_vec();
    let lost_lines = move || outlets.iter().map(|log| (log.kind(), log.lost())).collect();
    World {
        job_zfs: Arc::new(move |_, events| Arc::new(cli.with_observer(observer(events.clone())))),
        clock: Clock::system(),
        readers: vec![Arc::new(Log::new(logs.to_vec()))],
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
    // One future for all turns: what else happens does not put off the next sign of life.
    let mut lives = std::pin::pin!(async {
        loop {
            notify.watchdog(async || daemon.answers().await).await;
        }
    });
    let cause = loop {
        tokio::select! {
            asked = signals.asked() => match asked {
                Asked::Stop(signal) => break Cause::Signal(signal),
                // A job that ends slowly must not keep the daemon from stopping.
                Asked::Reload => drop(tokio::spawn(reload(Arc::clone(&daemon), notify.clone()))),
            },
            lost = daemon.lost() => break Cause::Lost(lost),
            () = &mut lives => {}
        }
    };
    check.abort();
    notify.say("STOPPING=1\nSTATUS=waiting for what is under way");
    let told = cause.to_string();
    tokio::select! {
        () = notify.with_more_time(|| true, daemon.drain(&told)) => {}
        again = signals.next() => daemon.note(format!("{again} again: what is under way is cut")),
    }
    notify.say("STATUS=ending jobs");
    tokio::select! {
        stopped = notify.with_more_time(|| daemon.undoes_hooks(), daemon.end()) => stopped?,
        again = signals.next() => bail!("stopped at once by another signal ({again})"),
    }
    match cause {
        Cause::Signal(_) => Ok(()),
        // Whoever started the daemon starts it anew after an error.
        Cause::Lost(lost) => Err(lost.into()),
    }
}

/// Why the daemon stops.
enum Cause {
    Signal(&'static str),
    Lost(ServiceLost),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Signal(name) => f.write_str(name),
            Cause::Lost(lost) => lost.fmt(f),
        }
    }
}

async fn reload(daemon: Arc<Daemon>, notify: Notify) {
    notify.reloading();
    // What came of it is in the log.
    let _ = daemon.reload_from_file().await;
    notify.say("READY=1");
}

/// The same file again, if the daemon began with it, with what a start would warn of.
fn load_again(config: Option<&Path>, advised: Option<String>) -> LoadConfig {
    let path = config.map(Path::to_owned);
    let advised = Mutex::new(advised);
    Arc::new(move || {
        let loaded = config::load(path.as_deref()).map_err(|errors| errors.render(config::Style::Plain))?;
        let files = loaded.check_files(Timestamp::now());
        let mut warnings: Vec<String> =
            loaded.warnings.iter().chain(&files).map(|one| one.render(config::Style::Plain)).collect();
        let advice = advice(&loaded.config);
        let mut before = advised.lock().unwrap_or_else(PoisonError::into_inner);
        // Once is enough.
        if *before != advice {
            warnings.extend(advice.clone());
            *before = advice;
        }
        Ok(Reread { config: loaded.config, warnings })
    })
}

/// What this user must be allowed.
fn advice(config: &Config) -> Option<String> {
    super::privileges::advice(rustix::process::geteuid().as_raw(), config)
}
