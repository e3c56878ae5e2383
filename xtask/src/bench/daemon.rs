//! The program under measurement: built for release, run as a daemon, watched through its log.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::stand_in::StandIn;
use crate::cargo;
use crate::children::Running;

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
    pub(super) fn cycle(&mut self) -> Result<()> {
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

    pub(super) fn peak_memory_mib(&mut self) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("VmHWM")?;
        Ok(kib / 1024)
    }

    /// Processor time until now.
    pub(super) fn cpu(&mut self) -> Result<Cpu> {
        let stat = self.proc("stat")?;
        // The second field is the program's name in brackets; ours has none in it.
        let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat")?;
        let ticks: Vec<u64> = rest.split_whitespace().skip(11).take(4).filter_map(|field| field.parse().ok()).collect();
        let [user, system, children_user, children_system] = ticks[..] else { bail!("/proc/PID/stat has no times") };
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        Ok(Cpu { daemon: seconds(user + system), children: seconds(children_user + children_system) })
    }

    fn proc(&mut self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.running.child().id());
        std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }
}

/// Processor time in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    /// Of the daemon itself.
    pub(super) daemon: f64,
    /// Of the children that have ended.
    pub(super) children: f64,
}
