//! A stand-in for `zfs` that answers from plain files at memory speed, for measurements of scale on a
//! host without ZFS. It knows no pools, no resuming, no encryption: it proves nothing about
//! correctness.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const SOURCE: &str = include_str!("../../fakezfs/fakezfs.c");

/// A host with the stand-in on it: two pools, `src` and `dst`.
pub(super) struct StandIn {
    folder: PathBuf,
}

/// How large the host is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    /// Filesystems below `src/data`, all of them replicated.
    pub(super) filesystems: usize,
    /// Snapshots of each, on both sides.
    pub(super) snapshots: usize,
    /// Newer snapshots of each that only the sender has.
    pub(super) increments: usize,
    /// What a send of an increment carries, bytes.
    pub(super) bytes: u64,
}

/// The usual size of an increment, bytes.
pub(super) const SMALL: u64 = 64 * 1024;

/// Filesystems that share a parent.
const GROUP: usize = 1000;

/// Names of the jobs and the client in [`StandIn::config`], on which the names on disk depend.
const PUSH: &str = "push";
const SNAP: &str = "snap";
const SINK: &str = "sink";
pub(super) const CLIENT: &str = "c1";

impl StandIn {
    /// Compiles the stand-in and makes a state in which everything but the increments has been
    /// replicated.
    pub(super) fn new(folder: &Path, scale: Scale) -> Result<Self> {
        let host = Self { folder: folder.to_owned() };
        host.compile()?;
        host.make_state(scale)?;
        Ok(host)
    }

    /// Where `zfs` and `zpool` are.
    pub(super) fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// Gives a command the stand-in as its `zfs`.
    pub(super) fn equip<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.programs().display()))
            .env("FAKEZFS_STATE", self.folder.join("state"))
            .env("FAKEZFS_LOG", self.log())
    }

    /// The command lines of all processes so far.
    pub(super) fn processes(&self) -> Result<Vec<String>> {
        let text = match fs::read_to_string(self.log()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).context("reading the stand-in's log"),
        };
        Ok(text.lines().map(|line| line.splitn(3, '\t').last().unwrap_or(line).replace('\t', " ")).collect())
    }

    /// Writes a configuration with a push job to a local sink, with so many steps at a time, and
    /// returns its path.
    pub(super) fn config(&self, steps: usize) -> Result<PathBuf> {
        let connect = format!("{{type: local, listener_name: bench, client_identity: {CLIENT}}}");
        self.config_over(steps, &connect, "{type: local, listener_name: bench}")
    }

    /// The same with these two ends of a transport.
    pub(super) fn config_over(&self, steps: usize, connect: &str, serve: &str) -> Result<PathBuf> {
        let path = self.folder.join("zrepl.yml");
        let text = format!(
            r#"jobs:
  - name: {PUSH}
    type: push
    connect: {connect}
    filesystems: {{"src/data<": true}}
    snapshotting: {{type: manual}}
    replication: {{concurrency: {{steps: {steps}}}}}
    pruning:
      keep_sender: [{{type: not_replicated}}, {{type: last_n, count: 100000}}]
      keep_receiver: [{{type: last_n, count: 100000}}]
  - name: {SINK}
    type: sink
    root_fs: dst/sink
    serve: {serve}
    recv: {{placeholder: {{encryption: inherit}}}}
global:
  logging: [{{type: stdout, level: info, format: human, time: true, color: false}}]
  control: {{sockpath: {}}}
"#,
            self.folder.join("run/control").display()
        );
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Writes a configuration with a job that snapshots all of them at its start and once a day, and
    /// returns its path. The log tells what is at debug, too.
    pub(super) fn snapshot_config(&self) -> Result<PathBuf> {
        let path = self.folder.join("snapshot.yml");
        let text = format!(
            r#"jobs:
  - name: {SNAP}
    type: snap
    filesystems: {{"src/data<": true}}
    snapshotting: {{type: periodic, interval: 24h, prefix: round_}}
    pruning: {{keep: [{{type: last_n, count: 100000}}]}}
global:
  logging: [{{type: stdout, level: debug, format: human, time: true, color: false}}]
  control: {{sockpath: {socket}}}
"#,
            socket = self.folder.join("run/control").display()
        );
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The name of the job that takes snapshots.
    pub(super) fn snap_job(&self) -> &'static str {
        SNAP
    }

    /// Which side a command line of [`StandIn::processes`] is about.
    pub(super) fn is_about_receiver(command: &str) -> bool {
        command.split([' ', '/']).any(|word| word == "dst")
    }

    /// How many snapshots the receiver has.
    pub(super) fn received(&self) -> Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(self.logs()).context("reading the stand-in's state")? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dst!")) {
                let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                count += text.lines().filter(|line| line.starts_with("S\t")).count();
            }
        }
        Ok(count)
    }

    /// The folder with a file per dataset, whose lines tell of its versions.
    pub(super) fn logs(&self) -> PathBuf {
        self.folder.join("state/fs")
    }

    /// The name of the push job.
    pub(super) fn push_job(&self) -> &'static str {
        PUSH
    }

    fn log(&self) -> PathBuf {
        self.folder.join("processes.log")
    }

    fn compile(&self) -> Result<()> {
        let bin = self.programs();
        fs::create_dir_all(&bin).with_context(|| format!("making {}", bin.display()))?;
        let source = self.folder.join("fakezfs.c");
        fs::write(&source, SOURCE).with_context(|| format!("writing {}", source.display()))?;
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let status = Command::new(&compiler)
            .args(["-O2", "-std=gnu11", "-w", "-static", "-o"])
            .arg(bin.join("zfs"))
            .arg(&source)
            .status()
            .with_context(|| format!("starting {compiler} (install it with `apt-get install gcc`)"))?;
        if !status.success() {
            bail!("compiling the stand-in failed");
        }
        std::os::unix::fs::symlink("zfs", bin.join("zpool")).context("linking zpool")
    }

    fn make_state(&self, scale: Scale) -> Result<()> {
        let state = State::new(&self.folder.join("state"))?;
        let placeholder = "P\tzrepl:placeholder\ton\n";
        let root = format!("dst/sink/{CLIENT}");
        let mut names = Vec::new();
        let plain = ["src", "dst", "dst/sink"];
        let carriers = ["src/data".to_owned(), root.clone(), format!("{root}/src"), format!("{root}/src/data")];
        let groups = (0..scale.filesystems.div_ceil(GROUP)).map(|group| format!("src/data/g{group:03}"));
        let groups = groups.flat_map(|name| [format!("{root}/{name}"), name]);
        for name in plain {
            names.push(state.dataset(name, "")?);
        }
        for name in carriers.into_iter().chain(groups) {
            names.push(state.dataset(&name, placeholder)?);
        }
        for index in 0..scale.filesystems {
            let name = format!("src/data/g{:03}/fs{index:05}", index / GROUP);
            let (sender, receiver) = versions(index, scale);
            names.push(state.dataset(&name, &sender)?);
            names.push(state.dataset(&format!("{root}/{name}"), &receiver)?);
        }
        state.finish(names)
    }
}

/// The stand-in's state folder: a log per dataset, a list of them, and a transaction counter.
struct State {
    folder: PathBuf,
}

impl State {
    fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("fs")).with_context(|| format!("making {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn dataset(&self, name: &str, lines: &str) -> Result<String> {
        let path = self.folder.join("fs").join(name.replace('/', "!"));
        let text = format!("F\t{}\t1\t1600000000\tfilesystem\n{lines}", guid(name.len(), usize::MAX));
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(name.to_owned())
    }

    fn finish(&self, mut names: Vec<String>) -> Result<()> {
        // As `zfs list` sorts: a child directly after its parent.
        names.sort_by_key(|name| name.replace('/', "\u{1}"));
        let list: String = names.iter().map(|name| format!("+\t{name}\n")).collect();
        fs::write(self.folder.join("fslist"), list).context("writing the list of datasets")?;
        fs::write(self.folder.join("txg"), 10_000_000_u64.to_le_bytes()).context("writing the transaction counter")
    }
}

/// The lines of one filesystem on the sender and on the receiver, which lacks the increments.
fn versions(filesystem: usize, scale: Scale) -> (String, String) {
    let (mut sender, mut receiver) = (String::new(), String::new());
    for index in 0..scale.snapshots + scale.increments {
        let (guid, created) = (guid(filesystem, index), 1_700_000_000 + 600 * index);
        let (sender_txg, receiver_txg) = (1000 + index * 10, 2000 + index * 10);
        let bytes = if index < scale.snapshots { 0 } else { scale.bytes };
        let _ = writeln!(sender, "S\tbench_{index:05}\t{guid}\t{sender_txg}\t{created}\t{bytes}");
        if index >= scale.snapshots {
            continue;
        }
        let _ = writeln!(receiver, "S\tbench_{index:05}\t{guid}\t{receiver_txg}\t{created}\t0");
        if index + 1 == scale.snapshots {
            let _ = writeln!(sender, "B\tzrepl_CURSOR_G_{guid:016x}_J_{PUSH}\t{guid}\t{sender_txg}\t{created}");
            let _ = writeln!(receiver, "H\tbench_{index:05}\tzrepl_last_received_J_{SINK}\t{created}");
        }
    }
    (sender, receiver)
}

/// A number that differs for each pair, spread over all 64 bits, never 0.
fn guid(filesystem: usize, snapshot: usize) -> u64 {
    let mut mixed =
        (filesystem as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (snapshot as u64).wrapping_mul(0xD1B5_4A32_D192_ED03);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 27)) | 1
}
