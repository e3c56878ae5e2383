//! The zrepl daemon as a person uses it: its command line and nothing else.

use super::status::{self, Push, StepInfo};
use super::world::{self, output_of};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The push job of [`CONFIG`].
pub(super) const JOB: &str = "demo_push";

/// As a person would write it for two pools of one machine.
pub(super) const CONFIG: &str = r#"jobs:
  - name: demo_push
    type: push
    connect: {type: local, listener_name: demo, client_identity: laptop}
    filesystems: {"src<": true}
    send: {encrypted: false}
    snapshotting: {type: periodic, interval: 1h, prefix: zrepl_}
    pruning:
      keep_sender: [{type: not_replicated}, {type: last_n, count: 2}]
      keep_receiver: [{type: last_n, count: 3}]
  - name: demo_sink
    type: sink
    root_fs: dst/backup
    serve: {type: local, listener_name: demo}
    recv: {placeholder: {encryption: inherit}}
global:
  control: {sockpath: /run/zrepl/control}
"#;

/// Snapshots that the rules above keep on each side.
pub(super) const KEPT_SENDER: usize = 2;
pub(super) const KEPT_RECEIVER: usize = 3;

/// Longer than any part of the story takes on a busy host.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often we look.
const POLL: Duration = Duration::from_millis(100);

/// A running daemon.
pub(super) struct Daemon {
    zrepl: String,
    child: Child,
}

fn configuration() -> String {
    format!("{}/zrepl.yml", world::FOLDER)
}

fn log() -> String {
    format!("{}/daemon.log", world::FOLDER)
}

/// Writes the configuration and has it checked.
pub(super) fn configure(zrepl: &str) -> Result<String> {
    fs::write(configuration(), CONFIG).context("writing the configuration")?;
    output_of(zrepl, &["--config", &configuration(), "configcheck"])?;
    let version = output_of(zrepl, &["version", "--show", "client"])?;
    Ok(format!("configcheck is content; {}", version.trim()))
}

impl Daemon {
    /// Starts it and waits until it answers.
    pub(super) fn start(zrepl: &str) -> Result<Self> {
        let folder = Path::new("/run/zrepl");
        fs::create_dir_all(folder).context("making /run/zrepl")?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).context("/run/zrepl")?;
        let log = File::options().create(true).append(true).open(log()).context("daemon log")?;
        let child = Command::new(zrepl)
            .args(["--config", &configuration(), "daemon"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("daemon log")?)
            .stderr(log)
            .spawn()
            .context("starting zrepl daemon")?;
        let mut daemon = Self { zrepl: zrepl.to_owned(), child };
        daemon.wait_for("the daemon to answer", |daemon| Ok(daemon.status().is_ok().then_some(())))?;
        Ok(daemon)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let configuration = configuration();
        let mut words = vec!["--config", &configuration];
        words.extend(arguments);
        output_of(&self.zrepl, &words)
    }

    /// What the push job says of itself.
    pub(super) fn status(&self) -> Result<Push> {
        status::push(&self.ask(&["status", "--mode", "raw"])?, JOB)
    }

    /// Starts a replication now; a job that is at work already answers that it is awake.
    pub(super) fn wake_up(&self) -> Result<()> {
        match self.ask(&["signal", "wakeup", JOB]) {
            Err(error) if !format!("{error}").contains("already woken up") => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until `look` has found what it looks for.
    pub(super) fn wait_for<T>(
        &mut self,
        what: &str,
        mut look: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait().context("asking after the daemon")? {
                bail!("the daemon ended with {status} while we waited for {what}");
            }
            if Instant::now() > deadline {
                let problems = self.status().map(|push| push.problems()).unwrap_or_default();
                bail!("waited in vain for {what}; {}", problems.join("; "));
            }
            sleep(POLL);
        }
    }

    /// Asks it to stop, as a service manager does.
    pub(super) fn stop(mut self) -> Result<String> {
        let begin = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("stopping the daemon")?;
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().context("waiting for the daemon")? {
                if !status.success() {
                    bail!("the daemon ended with {status}");
                }
                return Ok(format!("exit status 0 after {:.1} s", begin.elapsed().as_secs_f64()));
            }
            sleep(POLL);
        }
        bail!("the daemon does not stop")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The end of the daemon's log, for a story that went wrong.
pub(super) fn log_end() -> String {
    let text = fs::read_to_string(log()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines.get(lines.len().saturating_sub(25)..).unwrap_or_default().join("\n")
}

/// Streams seen in status reports, with the largest count of bytes of each.
pub(super) struct Streams {
    before: BTreeSet<(String, String, bool)>,
    seen: BTreeMap<(String, String, bool), StepInfo>,
}

impl Streams {
    /// Those that are not in `before` already, an earlier report.
    pub(super) fn after(before: &Push) -> Self {
        let mut streams = Self { before: BTreeSet::new(), seen: BTreeMap::new() };
        streams.note(before);
        streams.before = std::mem::take(&mut streams.seen).into_keys().collect();
        streams
    }

    /// Adds what `push` reports.
    pub(super) fn note(&mut self, push: &Push) {
        let Some(attempt) = push.attempt() else { return };
        for dataset in world::datasets() {
            for step in attempt.steps(dataset) {
                let key = (dataset.to_owned(), step.to.clone(), step.resumed);
                if self.before.contains(&key) {
                    continue;
                }
                let known = self.seen.entry(key).or_insert_with(|| step.clone());
                if step.bytes_replicated >= known.bytes_replicated {
                    *known = step.clone();
                }
            }
        }
    }

    /// Each stream with its dataset.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &StepInfo)> {
        self.seen.iter().map(|((dataset, ..), step)| (dataset.as_str(), step))
    }
}

/// Kills the `zfs send` of `dataset`, as the kernel does when memory runs out.
pub(super) fn kill_send(dataset: &str) -> Result<Option<i32>> {
    for entry in fs::read_dir("/proc").context("/proc")? {
        let path = entry.context("/proc")?.path();
        // Processes come and go while we look.
        let Ok(words) = fs::read(path.join("cmdline")) else { continue };
        let pid = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(pid) = pid.filter(|_| is_send_of(&words, dataset)) {
            let target = Pid::from_raw(pid).context("a process number")?;
            kill_process(target, Signal::KILL).context("killing zfs send")?;
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// Whether a command line (words ended by NUL) is `zfs send … DATASET@SNAPSHOT`, not a dry run.
fn is_send_of(words: &[u8], dataset: &str) -> bool {
    let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let zfs = words.first().is_some_and(|program| program.rsplit('/').next() == Some("zfs"));
    let dry = words.iter().any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains('n'));
    let snapshot = words.iter().any(|word| word.split_once('@').is_some_and(|(name, _)| name == dataset));
    zfs && words.get(1).is_some_and(|verb| verb == "send") && snapshot && !dry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_is_told_from_other_commands() {
        let line = |text: &str| text.replace(' ', "\0").into_bytes();
        assert!(is_send_of(&line("/usr/sbin/zfs send -i @a src/media@b "), "src/media"));
        assert!(!is_send_of(&line("zfs send -i @a src/media@b "), "src"));
        assert!(!is_send_of(&line("zfs send -nvP -i @a src/media@b "), "src/media"));
        assert!(!is_send_of(&line("zfs list src/media@b "), "src/media"));
    }
}
