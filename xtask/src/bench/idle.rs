//! A cycle in which nothing changed, at scale: wall time, processes, memory.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::stand_in::{Scale, StandIn};
use crate::cargo;
use crate::children::{Running, Scratch};

/// The host for which zrepl 0.7 was measured: 97 s, 70,064 processes, 478 MiB.
const SCALE: Scale = Scale { filesystems: 5000, snapshots: 100 };

/// Cycles measured after one that warms up the file cache.
const ROUNDS: usize = 3;

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let scale = match arguments {
        [] => SCALE,
        [filesystems, snapshots] => Scale { filesystems: filesystems.parse()?, snapshots: snapshots.parse()? },
        _ => bail!("bench idle takes the number of filesystems and of snapshots of each, or nothing"),
    };
    let zrepl = build()?;
    let scratch = Scratch::new(&std::env::temp_dir(), "zrepl-bench-")?;
    eprintln!("making {} filesystems with {} snapshots on each side", scale.filesystems, scale.snapshots);
    let host = StandIn::new(scratch.path(), scale)?;
    let mut daemon = Daemon::start(&zrepl, &host, host.config()?)?;
    daemon.cycle()?;
    println!("{:>8} {:>10} {:>12}", "wall", "processes", "peak memory");
    for _ in 0..ROUNDS {
        let (before, start) = (host.processes()?.len(), Instant::now());
        daemon.cycle()?;
        let wall = start.elapsed().as_secs_f64();
        let processes = host.processes()?.len() - before;
        println!("{wall:>6.2} s {processes:>10} {:>8} MiB", daemon.peak_memory_mib()?);
    }
    Ok(())
}

pub(super) fn build() -> Result<PathBuf> {
    let mut command = cargo::cargo(["build", "--release", "--quiet", "--package", "zrepl"]);
    if !crate::children::run(&mut command)?.success() {
        bail!("building zrepl failed");
    }
    Ok(cargo::target_directory()?.join("release/zrepl"))
}

/// A running daemon whose log tells when an invocation has ended.
pub(super) struct Daemon<'a> {
    zrepl: PathBuf,
    config: PathBuf,
    host: &'a StandIn,
    running: Running,
    log: BufReader<ChildStdout>,
}

impl<'a> Daemon<'a> {
    pub(super) fn start(zrepl: &PathBuf, host: &'a StandIn, config: PathBuf) -> Result<Self> {
        let mut command = Command::new(zrepl);
        command.arg("--config").arg(&config).arg("daemon").stdout(Stdio::piped()).stdin(Stdio::null());
        let mut running = Running::start(host.equip(&mut command))?;
        let log = running.child().stdout.take().context("the daemon has no standard output")?;
        Ok(Self { zrepl: zrepl.clone(), config, host, running, log: BufReader::new(log) })
    }

    /// Wakes the job up and waits for the end of its invocation.
    fn cycle(&mut self) -> Result<()> {
        self.signal("wakeup", self.host.push_job())?;
        self.wait_for("invocation finished")
    }

    /// Reads the log up to a line with these words.
    pub(super) fn wait_for(&mut self, words: &str) -> Result<()> {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            if self.log.read_line(&mut line).context("reading the daemon's log")? == 0 {
                bail!("the daemon ended");
            }
            if line.contains("[ERRO]") {
                bail!("the daemon reports: {}", line.trim_end());
            }
        }
        Ok(())
    }

    pub(super) fn signal(&self, operation: &str, job: &str) -> Result<()> {
        // The daemon has just been started: its socket appears within moments.
        for _ in 0..200 {
            let mut command = Command::new(&self.zrepl);
            command.arg("--config").arg(&self.config).args(["signal", operation, job]);
            if command.stderr(Stdio::null()).status().context("starting zrepl signal")?.success() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        bail!("the daemon does not answer on its control socket");
    }

    fn peak_memory_mib(&mut self) -> Result<u64> {
        let child: &mut Child = self.running.child();
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).context("reading /proc")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmHWM")?;
        Ok(kib / 1024)
    }
}
