//! The test machine: a Linux with real OpenZFS that runs as an ordinary program, so that the
//! development of zrepl needs neither ZFS on the host nor root.

mod apt;
mod build;
mod databases;
mod emulator;
mod guest;
mod kernel;
mod linkage;
mod memory;
mod progress;
mod qemu;
pub(crate) mod terminal;
mod tools;
mod uml;
mod userland;
mod version;

pub(crate) use databases::Databases;
pub(crate) use guest::{Guest, Machine, Share, Streams};
pub(crate) use kernel::Kernel;
pub(crate) use linkage::linkage_for;
pub(crate) use version::version;

use anyhow::Result;
use clap::{Args, Subcommand};
use guest::Disk;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Build, run and look into the test machine with real OpenZFS
///
/// Built from Debian packages into ~/.cache/zrepl-dev/machine (about twelve processor minutes),
/// once until its inputs change. Every run boots a pristine guest in about a second.
#[derive(Args)]
#[command(after_help = "Example: cargo xtask machine run -- zfs version")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Args)]
struct Which {
    /// OpenZFS release series, like 2.3
    #[arg(long, global = true)]
    openzfs: Option<String>,
    /// Boot a stock kernel under QEMU instead of user-mode Linux
    #[arg(long, global = true)]
    qemu: bool,
}

impl Which {
    fn machine(&self) -> Result<Machine> {
        let platform = if self.qemu { Kernel::Qemu } else { Kernel::UserMode };
        Machine::ensure(version(self.openzfs.as_deref())?, platform)
    }
}

#[derive(Subcommand)]
enum Action {
    /// Build what is missing
    #[command(after_help = "Example: cargo xtask machine build --qemu")]
    Build(Which),
    /// Boot, run a command as root, and exit with its status
    #[command(after_help = "Example: cargo xtask machine run --share target -- target/debug/zrepl version")]
    Run(RunArguments),
    /// Print the files the machine boots from, one per line
    #[command(after_help = "Example: ls -l $(cargo xtask machine path)")]
    Path(Which),
    /// Boot and open a shell
    #[command(after_help = "Example: cargo xtask machine shell --share .")]
    Shell(ShellArguments),
}

#[derive(Args)]
struct Hardware {
    #[command(flatten)]
    which: Which,
    /// Memory of the guest
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u64,
    /// Folder that the guest sees at the same path, writable (repeatable)
    #[arg(long, value_name = "FOLDER")]
    share: Vec<PathBuf>,
    /// One more block device: a scratch disk of so many MiB, or an image that stays (repeatable)
    #[arg(long, value_name = "MIB|FILE", value_parser = parse_disk)]
    disk: Vec<Disk>,
    /// Keep the kernel's messages in this file
    #[arg(long, value_name = "FILE")]
    console_log: Option<PathBuf>,
}

fn parse_disk(text: &str) -> Result<Disk, std::convert::Infallible> {
    Ok(text.parse().map_or_else(|_| Disk::Image(text.into()), |mib| Disk::Scratch { mib }))
}

#[derive(Args)]
struct RunArguments {
    #[command(flatten)]
    hardware: Hardware,
    /// End the guest after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Set in the command's environment (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_variable)]
    env: Vec<(String, String)>,
    /// What to run, with its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(valid) {
        return Err(format!("{name:?} is no name of a variable"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Args)]
struct ShellArguments {
    #[command(flatten)]
    hardware: Hardware,
}

/// Runs `cargo xtask machine`.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.action {
        Action::Build(which) => {
            print_paths(&which.machine()?);
            Ok(ExitCode::SUCCESS)
        }
        Action::Path(which) => {
            print_paths(&which.machine()?);
            Ok(ExitCode::SUCCESS)
        }
        Action::Run(run) => {
            let machine = run.hardware.which.machine()?;
            let mut guest = run.hardware.guest(&machine);
            guest.timeout = Duration::from_secs(run.timeout);
            guest.environment = run.env;
            guest.run(&run.command, Streams::inherited()).map(ExitCode::from)
        }
        Action::Shell(shell) => {
            let machine = shell.hardware.which.machine()?;
            open_shell(shell.hardware.guest(&machine), &["bash", "-i"])
        }
    }
}

impl Hardware {
    fn guest<'a>(&self, machine: &'a Machine) -> Guest<'a> {
        Guest {
            memory_mib: self.memory,
            shares: self.share.iter().map(Share::write).collect(),
            disks: self.disk.clone(),
            console_log: self.console_log.clone(),
            ..Guest::new(machine)
        }
    }
}

fn print_paths(machine: &Machine) {
    println!("{}\n{}", machine.kernel.display(), machine.root.display());
}

/// Boots `guest` with our terminal, for as long as a person likes.
pub(crate) fn open_shell(mut guest: Guest<'_>, argv: &[&str]) -> Result<ExitCode> {
    guest.timeout = Duration::from_secs(24 * 3600);
    let terminal = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
    guest.environment.push(("TERM".to_owned(), terminal));
    guest.run(argv, Streams::Terminal).map(ExitCode::from)
}

/// Whether `program` is on this host.
pub(crate) fn is_installed(program: &str) -> bool {
    tools::find(program).is_some()
}
