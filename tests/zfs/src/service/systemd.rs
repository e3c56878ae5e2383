//! A systemd as the first process of namespaces of its own.

use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{told, until};

/// What becomes systemd: with a tree of control groups and a `/run` of its own.
const BOOT: &str = "mount -t cgroup2 cgroup2 /sys/fs/cgroup && mount -t tmpfs -o mode=755 run /run && \
    exec env container=suite /usr/lib/systemd/systemd --unit=multi-user.target --show-status=no";

/// A running systemd. All that it runs ends with it.
pub(super) struct Systemd {
    unshare: Child,
    /// Its number among the processes of the test machine.
    pid: String,
}

impl Systemd {
    /// Starts it with the log's service and nothing else, and waits until it is up.
    pub(super) fn boot() -> Result<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--mount", "--cgroup", "--fork", "--kill-child=SIGKILL", "--mount-proc"]);
        unshare.args(["--propagation", "private", "sh", "-c", BOOT]);
        unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let unshare = unshare.spawn().context("starting unshare")?;
        let mut systemd = Systemd { unshare, pid: String::new() };
        systemd.pid = until("systemd's process", || systemd.child())?;
        until("systemd", || {
            let state = told(&systemd.run("systemctl", &["is-system-running"])?);
            Ok(["running", "degraded"].contains(&state.trim()).then_some(()))
        })?;
        systemd.systemctl(&["start", "systemd-journald.service"])?;
        Ok(systemd)
    }

    /// The process that was made in the namespaces.
    fn child(&self) -> Result<Option<String>> {
        let output = Command::new("pgrep").args(["--parent", &self.unshare.id().to_string()]).output()?;
        let found = told(&output);
        Ok(found.lines().next().map(str::to_owned))
    }

    /// Runs a program where systemd is.
    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &self.pid, "--mount", "--pid", "--cgroup", "--", program]).args(arguments);
        nsenter.output().with_context(|| format!("starting {program}"))
    }

    /// The same, with an error if it fails.
    pub(super) fn checked(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.run(program, arguments)?;
        ensure!(output.status.success(), "{program} {arguments:?}: {}: {}", output.status, told(&output));
        Ok(told(&output))
    }

    pub(super) fn systemctl(&self, arguments: &[&str]) -> Result<String> {
        self.checked("systemctl", arguments)
    }

    /// A property of the service.
    pub(super) fn property(&self, name: &str) -> Result<String> {
        let value = self.systemctl(&["show", "--value", "--property", name, "zrepl.service"])?;
        Ok(value.trim().to_owned())
    }

    /// What the log has on the service, from it and from systemd.
    pub(super) fn journal(&self) -> Result<String> {
        self.checked("journalctl", &["--sync"])?;
        self.checked("journalctl", &["--no-pager", "--output=cat", "--unit=zrepl.service"])
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
    }
}
