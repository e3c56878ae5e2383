//! Running one command in a freshly booted test machine.

use super::build::{Part, ensure, ensure_folder};
use super::kernel::Kernel;
use super::version::OpenZfs;
use super::{memory, qemu, terminal, uml};
use crate::children::{Running, Scratch};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a machine boots from, and on what.
pub(crate) struct Machine {
    pub(crate) kernel: PathBuf,
    pub(crate) root: PathBuf,
    /// The folder of the QEMU to boot on; without it the kernel is a program of its own.
    pub(crate) emulator: Option<PathBuf>,
}

impl Machine {
    /// The machine for `version`, built first if need be.
    pub(crate) fn ensure(version: &OpenZfs, platform: Kernel) -> Result<Self> {
        let root = ensure(version, Part::Userland)?;
        let kernel = ensure(version, Part::Kernel(platform))?;
        let emulator = match platform {
            Kernel::UserMode => None,
            Kernel::Qemu => Some(ensure_folder(version, Part::Emulator)?),
        };
        Ok(Self { kernel, root, emulator })
    }
}

/// A folder of this machine that the guest sees at the same path. FIFOs and sockets in it do not
/// work there.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) path: PathBuf,
    pub(crate) access: Access,
}

/// What a guest may do with a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

impl Share {
    /// A share that the guest can only read.
    pub(crate) fn read(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), access: Access::Read }
    }

    /// A share that the guest can write to.
    pub(crate) fn write(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), access: Access::Write }
    }
}

/// A block device of the guest: `/dev/ubdb`, … under user-mode Linux, `/dev/vdb`, … under QEMU.
#[derive(Clone, Debug)]
pub(crate) enum Disk {
    /// A sparse file of so many MiB that goes away with the guest.
    Scratch { mib: u64 },
    /// An image that stays.
    Image(PathBuf),
}

/// Where the command's input and outputs are.
pub(crate) enum Streams {
    /// No input; outputs go to these, each as it comes.
    Separate { stdout: Box<dyn Write + Send>, stderr: Box<dyn Write + Send> },
    /// The command has a terminal of its own, connected to our stdin and stdout.
    Terminal,
}

impl Streams {
    /// Outputs go where ours go.
    pub(crate) fn inherited() -> Self {
        Self::Separate { stdout: Box::new(io::stdout()), stderr: Box::new(io::stderr()) }
    }
}

/// A guest to boot. Every boot is pristine; only shares and disk images outlive it.
pub(crate) struct Guest<'a> {
    pub(crate) machine: &'a Machine,
    /// Pools on files in the guest's /tmp live in this as well.
    pub(crate) memory_mib: u64,
    pub(crate) shares: Vec<Share>,
    pub(crate) disks: Vec<Disk>,
    pub(crate) environment: Vec<(String, String)>,
    /// The guest is ended after this.
    pub(crate) timeout: Duration,
    /// Where the kernel's messages are kept; without it they are shown if the guest fails.
    pub(crate) console_log: Option<PathBuf>,
}

impl<'a> Guest<'a> {
    /// A guest with one GiB and five minutes.
    pub(crate) fn new(machine: &'a Machine) -> Self {
        Self {
            machine,
            memory_mib: 1024,
            shares: Vec::new(),
            disks: Vec::new(),
            environment: Vec::new(),
            timeout: Duration::from_secs(300),
            console_log: None,
        }
    }

    /// Boots, runs `argv` as root, and returns its exit status.
    ///
    /// The command runs in our current folder if that is shared, else in /root. It is an error
    /// if the guest ends without a status or takes longer than the timeout.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, argv: &[A], streams: Streams) -> Result<u8> {
        let folder = Scratch::new(&std::env::temp_dir(), "zrepl-guest-")?;
        let boot = Boot::prepare(self, folder.path(), &streams)?;
        fs::write(boot.control.join("command"), self.script(argv)?).context("guest command")?;
        let command = match &self.machine.emulator {
            None => uml::command(self, &boot)?,
            Some(emulator) => qemu::command(emulator, self, &boot),
        };
        let ended = attend(with_descriptors(&command, &boot.log), streams, self.timeout)?;
        self.status(&boot, ended)
    }

    fn status(&self, boot: &Boot, ended: Ended) -> Result<u8> {
        if let Ok(text) = fs::read_to_string(boot.control.join("status"))
            && let Ok(status) = text.trim().parse()
        {
            return Ok(status);
        }
        let log = fs::read(&boot.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n");
        match ended {
            Ended::TimedOut => {
                bail!("the guest did not end within {} s\n{end}", self.timeout.as_secs())
            }
            Ended::Status(status) => bail!("the guest ended without a result ({status})\n{end}"),
        }
    }

    /// The bash script that the guest runs.
    fn script<A: AsRef<OsStr>>(&self, argv: &[A]) -> Result<String> {
        let mut script = String::new();
        for (name, value) in &self.environment {
            script += &format!("export {name}={}\n", quoted(OsStr::new(value))?);
        }
        let here = std::env::current_dir().unwrap_or_default();
        let shared = self.shares.iter().any(|share| here.starts_with(&share.path));
        let folder = if shared { here } else { PathBuf::from("/root") };
        script += &format!("cd {} || exit 125\nexec", quoted(folder.as_os_str())?);
        for argument in argv {
            script += " ";
            script += &quoted(argument.as_ref())?;
        }
        Ok(script + "\n")
    }
}

/// `text` as one word of a shell script.
fn quoted(text: &OsStr) -> Result<String> {
    let text = text.to_str().with_context(|| format!("not UTF-8: {}", text.display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// Files of one boot.
pub(super) struct Boot {
    /// Folder of the boot, removed afterwards.
    pub(super) folder: PathBuf,
    /// Folder that the guest sees as /guest.
    pub(super) control: PathBuf,
    /// Console output.
    pub(super) log: PathBuf,
    /// Shares with the name of each in the guest's mount table.
    pub(super) shares: Vec<(String, Share)>,
    pub(super) disks: Vec<PathBuf>,
    pub(super) interactive: bool,
    /// Where user-mode Linux keeps the guest's memory.
    pub(super) memory: PathBuf,
}

impl Boot {
    fn prepare(guest: &Guest<'_>, folder: &Path, streams: &Streams) -> Result<Self> {
        let control = folder.join("control");
        fs::create_dir(&control).context("guest control folder")?;
        let log = match &guest.console_log {
            Some(path) => std::path::absolute(path)?,
            None => folder.join("console.log"),
        };
        File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let interactive = matches!(streams, Streams::Terminal);
        if interactive {
            let (rows, columns) = terminal::size();
            fs::write(control.join("terminal"), format!("{rows} {columns}\n"))?;
        }
        let shares = tagged(&guest.shares)?;
        fs::write(control.join("shares"), share_table(&shares)).context("guest shares")?;
        Ok(Self {
            folder: folder.to_owned(),
            control,
            log,
            shares,
            disks: disk_files(&guest.disks, folder)?,
            interactive,
            memory: memory::place(guest.memory_mib)?,
        })
    }
}

fn tagged(shares: &[Share]) -> Result<Vec<(String, Share)>> {
    let mut tagged = Vec::new();
    for (number, share) in shares.iter().enumerate() {
        let path = share.path.canonicalize();
        let path = path.with_context(|| format!("cannot share {}", share.path.display()))?;
        if path.to_str().is_none_or(|text| text.contains([',', '\n', '\\'])) {
            bail!("cannot share {}: a comma, backslash or newline in its name", path.display());
        }
        tagged.push((format!("share{number}"), Share { path, access: share.access }));
    }
    Ok(tagged)
}

fn share_table(shares: &[(String, Share)]) -> String {
    let line = |(tag, share): &(String, Share)| {
        let mode = match share.access {
            Access::Read => "ro",
            Access::Write => "rw",
        };
        format!("{tag} {mode} {}\n", share.path.display())
    };
    shares.iter().map(line).collect()
}

fn disk_files(disks: &[Disk], folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for (number, disk) in disks.iter().enumerate() {
        files.push(match disk {
            Disk::Image(path) => path.canonicalize().with_context(|| format!("disk {}", path.display()))?,
            Disk::Scratch { mib } => {
                let path = folder.join(format!("disk{number}"));
                File::create(&path).and_then(|file| file.set_len(mib << 20)).context("disk")?;
                path
            }
        });
    }
    Ok(files)
}

/// `command` with its console output in `log`, our pipes as descriptors 3 (the guest's stdout),
/// 4 (its stderr) and 6 (its input), and the log once more as 5. It ends when we end.
fn with_descriptors(command: &Command, log: &Path) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "sh", "-c"]);
    wrapped.arg(r#"exec "$@" 3>&1 4>&2 6<&0 5>>"$GUEST_LOG" >>"$GUEST_LOG" 2>&1 </dev/null"#);
    wrapped.arg("guest").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    wrapped.env("GUEST_LOG", log);
    wrapped
}

enum Ended {
    Status(std::process::ExitStatus),
    TimedOut,
}

/// Runs the guest, passing on what it writes. Always through pipes: user-mode Linux makes its
/// descriptors non-blocking, which must not happen to those that we share with others.
fn attend(mut command: Command, streams: Streams, timeout: Duration) -> Result<Ended> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let raw = match &streams {
        Streams::Separate { .. } => {
            command.stdin(Stdio::null());
            None
        }
        Streams::Terminal => {
            command.stdin(Stdio::piped());
            Some(terminal::Raw::enter())
        }
    };
    let mut running = Running::start(&mut command)?;
    let child = running.child();
    let input = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (to_stdout, to_stderr): (Box<dyn Write + Send>, Box<dyn Write + Send>) = match streams {
        Streams::Separate { stdout, stderr } => (stdout, stderr),
        Streams::Terminal => (Box::new(io::stdout()), Box::new(io::stderr())),
    };
    if let Some(input) = input {
        // Not awaited: it waits for somebody to type.
        std::thread::spawn(move || terminal::relay(input));
    }
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| stdout.map(|from| pass_on(from, to_stdout)));
        scope.spawn(|| stderr.map(|from| pass_on(from, to_stderr)));
        running.wait_at_most(timeout)
    })?;
    drop(raw);
    Ok(ended.map_or(Ended::TimedOut, Ended::Status))
}

fn pass_on(mut from: impl io::Read, mut to: Box<dyn Write + Send>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let written = to.write_all(buffer.get(..count).unwrap_or_default());
        if written.and_then(|()| to.flush()).is_err() {
            // Nobody reads any more; the guest must not wait for them.
            let _ = io::copy(&mut from, &mut io::sink());
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted(OsStr::new("a b")).unwrap(), "'a b'");
        assert_eq!(quoted(OsStr::new("it's")).unwrap(), r"'it'\''s'");
    }

    #[test]
    fn shares_are_listed_one_per_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let shares = tagged(&[Share::read(&path), Share::write("/")]).unwrap();
        assert_eq!(share_table(&shares), format!("share0 ro {}\nshare1 rw /\n", path.display()));
    }

    #[test]
    fn a_folder_that_cannot_be_shared_is_named() {
        let error = tagged(&[Share::read("/no/such")]).unwrap_err().to_string();
        assert_eq!(error, "cannot share /no/such");
    }
}
