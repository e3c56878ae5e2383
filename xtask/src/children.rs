//! Child processes that end when we do.
//!
//! Every child that runs for long has its own process group, so that a compiler started by make started by us is
//! reached too. SIGINT, SIGTERM and SIGHUP to us kill all groups and remove all scratch folders.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a child may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(2);

struct Registry {
    groups: BTreeSet<u32>,
    scratch: BTreeSet<PathBuf>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { groups: BTreeSet::new(), scratch: BTreeSet::new() });

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Arranges that a signal that ends us ends our children first.
pub(crate) fn end_with_us() -> Result<()> {
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("installing signal handlers")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // The lock is kept until the end: nobody starts another child meanwhile.
            let registry = registry();
            signal_groups(&registry, Signal::TERM);
            std::thread::sleep(Duration::from_millis(300));
            signal_groups(&registry, Signal::KILL);
            for folder in &registry.scratch {
                // Nothing useful can be done about a folder that stays behind.
                let _ = std::fs::remove_dir_all(folder);
            }
            crate::machine::terminal::restore();
            eprintln!("xtask: ended by signal {signal}");
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

fn signal_groups(registry: &Registry, signal: Signal) {
    for group in &registry.groups {
        signal_group(*group, signal);
    }
}

fn signal_group(group: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        // A group that is gone already is what we want.
        let _ = kill_process_group(pid, signal);
    }
}

/// A running child with its process group.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts `command` in a process group of its own.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut registry = registry();
        let child = command
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        registry.groups.insert(child.id());
        Ok(Self { child })
    }

    /// The child, for its pipes.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        self.child.wait().context("waiting for a child")
    }

    /// Waits for the end, at most for `limit`; `None` if the child had to be killed.
    pub(crate) fn wait_at_most(mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let (ended, wait_ended) = std::sync::mpsc::channel::<()>();
        let group = self.child.id();
        std::thread::scope(|scope| {
            let watchdog = scope.spawn(move || {
                let timed_out = wait_ended.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
                if timed_out {
                    signal_group(group, Signal::TERM);
                    if wait_ended.recv_timeout(GRACE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                        signal_group(group, Signal::KILL);
                    }
                }
                timed_out
            });
            let status = self.child.wait().context("waiting for a child");
            drop(ended);
            let timed_out = watchdog.join().unwrap_or(false);
            status.map(|status| (!timed_out).then_some(status))
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = self.child.id();
        // Forget it first: its number may be given to another process once it is reaped.
        registry().groups.remove(&group);
        if matches!(self.child.try_wait(), Ok(None)) {
            signal_group(group, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    Running::start(command)?.wait()
}

/// Runs `command` to its end and returns what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    command.output().with_context(|| format!("starting {}", command.get_program().display()))
}

/// A temporary folder that is removed when dropped, and when a signal ends us.
pub(crate) struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// Makes the folder below `parent`.
    pub(crate) fn new(parent: &Path, prefix: &str) -> Result<Self> {
        let mut registry = registry();
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(parent)
            .with_context(|| format!("making a folder in {}", parent.display()))?;
        registry.scratch.insert(folder.path().to_owned());
        Ok(Self { folder })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        registry().scratch.remove(self.folder.path());
    }
}
