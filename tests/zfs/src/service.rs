//! The service files that ship, run as systems run them: the unit under a systemd, the script under OpenRC.
//!
//! Only in the test machine, which forgets what is installed in its `/etc`.

mod openrc;
mod systemd;
mod unit;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::case::Case;
use crate::lab::{Bench, command};
use crate::machine::clock_is_ours;

/// What the service files run, and what they give it to read.
const PROGRAM: &str = "/usr/local/bin/zrepl";
const CONFIGURATION: &str = "/etc/zrepl/zrepl.yml";

/// Far more than anything here takes on a machine that is not busy.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(200);

/// The cases of this module.
pub(crate) fn cases() -> Vec<Case> {
    if !clock_is_ours() {
        return Vec::new();
    }
    vec![
        Case::real("service::under_systemd", unit::lives_under_systemd),
        Case::real("service::under_openrc", openrc::lives_under_openrc),
    ]
}

/// Two pools, the program in its place, and a configuration that pushes from one pool to the other.
struct Place<'a> {
    bench: &'a Bench,
    source: String,
    target: String,
}

impl<'a> Place<'a> {
    fn new(bench: &'a Bench) -> Result<Self> {
        let (source, target) = (bench.pool("source")?, bench.pool("target")?);
        let place = Place { bench, source, target };
        bench.bash(&format!(
            "zfs create {0}/data; zfs create {0}/more; zfs create {1}/backup
             dd if=/dev/urandom of={2}/file bs=1M count=2 status=none",
            place.source,
            place.target,
            bench.mountpoint(&place.sent()).display()
        ))?;
        install_program()?;
        place.configure("")?;
        Ok(place)
    }

    /// The filesystem that is snapshotted and sent.
    fn sent(&self) -> String {
        format!("{}/data", self.source)
    }

    /// Its copy.
    fn received(&self) -> String {
        format!("{}/backup/here/{}", self.target, self.sent())
    }

    /// Where the daemon has to mount the copy.
    fn received_folder(&self) -> PathBuf {
        self.bench.folder().join("received")
    }

    /// A program that the job runs around snapshots: it writes down `$line`, then runs `then`.
    fn add_hook(&self, name: &str, line: &str, then: &str) -> Result<()> {
        let path = self.bench.folder().join(name);
        fs::write(&path, format!("#!/bin/sh\necho \"{line}\" >>\"$0.log\"\n{then}\n"))?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
    }

    /// What a hook has written down.
    fn told_by(&self, hook: &str) -> Result<String> {
        let path = self.bench.folder().join(format!("{hook}.log"));
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// Writes the configuration: a sink, a push job with every hook that was added, and `more`.
    fn configure(&self, more: &str) -> Result<()> {
        let hooks: Vec<String> = ["allowed", "forbidden"]
            .iter()
            .map(|name| self.bench.folder().join(name))
            .filter(|path| path.exists())
            .map(|path| format!("{{type: command, path: {}, timeout: 30s, err_is_fatal: false}}", path.display()))
            .collect();
        let yaml = format!(
            r#"jobs:
- name: sink
  type: sink
  serve: {{type: local, listener_name: here}}
  root_fs: {target}/backup
  recv:
    placeholder: {{encryption: inherit}}
    properties: {{override: {{mountpoint: {folder}, readonly: "on"}}}}
- name: push
  type: push
  connect: {{type: local, listener_name: here, client_identity: here}}
  filesystems: {{{sent}: true}}
  snapshotting: {{type: periodic, prefix: z_, interval: 3s, hooks: [{hooks}]}}
  pruning:
    keep_sender: [{{type: last_n, count: 2}}]
    keep_receiver: [{{type: last_n, count: 3}}]
{more}"#,
            target = self.target,
            folder = self.received_folder().display(),
            sent = self.sent(),
            hooks = hooks.join(", "),
        );
        write(CONFIGURATION, &yaml)
    }

    /// Another job, for [`Place::configure`].
    fn another_job(&self) -> String {
        format!(
            r#"- name: another
  type: snap
  filesystems: {{{}/more: true}}
  snapshotting: {{type: periodic, prefix: z_, interval: 1h}}
  pruning: {{keep: [{{type: last_n, count: 9}}]}}
"#,
            self.source
        )
    }

    /// Waits until the other job has taken its snapshot.
    fn wait_for_another_job(&self) -> Result<()> {
        let more = format!("{}/more", self.source);
        until("a snapshot by the job that was added", || Ok((!snapshots(&more)?.is_empty()).then_some(())))
    }

    /// Waits until a snapshot that is taken from now on has reached the copy, and until what there is now
    /// has been pruned.
    fn wait_for_replication(&self) -> Result<()> {
        let (sent, received) = (self.sent(), self.received());
        let old = until("a first snapshot", || Ok(Some(snapshots(&sent)?).filter(|all| !all.is_empty())))?;
        until("replication and pruning", || {
            let (left, there) = (snapshots(&sent)?, snapshots(&received)?);
            let arrived = there.iter().any(|name| !old.contains(name));
            let pruned = !left.iter().chain(&there).any(|name| old.contains(name));
            Ok((arrived && pruned).then_some(()))
        })
    }

    /// That source and copy have a snapshot in common or a bookmark for one: what the next step begins at.
    fn common_version_is_left(&self) -> Result<()> {
        let versions = |fs: &str| -> Result<Vec<String>> {
            let listed = command("zfs", &["list", "-Hp", "-r", "-t", "snapshot,bookmark", "-o", "guid", fs])?;
            Ok(listed.lines().map(str::to_owned).collect())
        };
        let (here, there) = (versions(&self.sent())?, versions(&self.received())?);
        ensure!(here.iter().any(|guid| there.contains(guid)), "nothing in common: {here:?} {there:?}");
        Ok(())
    }
}

/// The program that was built beside this one, where the service files look for it.
fn install_program() -> Result<()> {
    let built = std::env::current_exe()?.with_file_name("zrepl");
    ensure!(built.is_file(), "no program {} (build the package zrepl as well)", built.display());
    // The folder comes with whatever is installed there, which is nothing yet.
    write(PROGRAM, "")?;
    fs::remove_file(PROGRAM)?;
    symlink(&built, PROGRAM).with_context(|| PROGRAM.to_owned())
}

/// Writes a file with the folders it is in.
fn write(path: &str, text: &str) -> Result<()> {
    let folder = Path::new(path).parent().context("it has a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    fs::write(path, text).with_context(|| path.to_owned())
}

/// Names of a dataset's snapshots, without the dataset's; none if there is no such dataset yet.
fn snapshots(dataset: &str) -> Result<Vec<String>> {
    let output = Command::new("zfs").args(["list", "-H", "-t", "snapshot", "-o", "name", dataset]).output()?;
    let names = told(&output);
    Ok(names.lines().filter_map(|line| line.split_once('@')).map(|(_, name)| name.to_owned()).collect())
}

/// Asks again and again, until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().with_context(|| format!("waiting for {what}"))? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("waited for {what} in vain");
        }
        sleep(POLL);
    }
}

/// What a program wrote, errors last.
fn told(output: &Output) -> String {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    stdout + &stderr
}
