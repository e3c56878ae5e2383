//! How each stage is run.

use super::tally::{Counted, Tally};
use super::{Arguments, Stage, Zfs, links};
use crate::cargo::{self, cargo};
use crate::children::{self, Running, Scratch};
use crate::machine::{self, Guest, Kernel, Machine, Share, Streams};
use anyhow::{Context as _, Result, bail};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Guests that share the cases: one per processor of a small machine.
const GUESTS: usize = 2;

/// Each with room for the pools of one case.
const GUEST_MEMORY_MIB: u64 = 1536;

/// Far above what the suite needs; a guest that hangs must end some day.
const GUEST_TIMEOUT: Duration = Duration::from_secs(40 * 60);

/// Features that tests ask for, without which clippy would not see them.
const TEST_FEATURES: &[&str] = &["daemon/database-tests"];

/// Runs one stage and counts its tests; an error says in one line what failed.
pub(super) fn run(stage: Stage, arguments: &Arguments, tests: &mut Tally) -> Result<()> {
    let pattern = arguments.pattern.as_deref();
    match stage {
        Stage::Fmt => silent(&mut cargo(["fmt", "--all", "--check"]), "run `cargo fmt`"),
        Stage::Clippy => {
            let features = format!("--features={}", TEST_FEATURES.join(","));
            let mut command = cargo(["clippy", "--quiet", "--workspace", "--all-targets", &features]);
            silent(command.args(["--", "-Dwarnings"]), "see its messages above")
        }
        Stage::Unit => {
            let command = cargo(["test", "--quiet", "--workspace", "--exclude=sim", "--no-fail-fast"]);
            counted(filtered(command, pattern), tests)
        }
        Stage::Sim => {
            let command = cargo(["test", "--quiet", "--package=sim", "--no-fail-fast"]);
            counted(filtered(command, pattern), tests)
        }
        Stage::Fake => {
            let mut command = cargo(["run", "--quiet", "--package=zfs-suite", "--"]);
            command.args(["--backend", "fake"]).args(pattern);
            counted(command, tests)
        }
        Stage::Zfs => real_zfs(arguments, tests),
        Stage::Databases => databases(pattern, tests),
        Stage::Doc => documentation(),
    }
}

fn silent(command: &mut Command, hint: &str) -> Result<()> {
    let status = children::run(command)?;
    if !status.success() {
        bail!("{hint}");
    }
    Ok(())
}

fn filtered(mut command: Command, pattern: Option<&str>) -> Command {
    command.args(pattern);
    command
}

/// Runs a command that runs test programs.
fn counted(mut command: Command, tests: &mut Tally) -> Result<()> {
    let mut running = Running::start(command.stdout(Stdio::piped()))?;
    let mut output = Counted::default();
    if let Some(mut stdout) = running.child().stdout.take() {
        std::io::copy(&mut stdout, &mut output).context("reading a test's output")?;
    }
    let status = running.wait()?;
    *tests += output.tally();
    if !status.success() {
        bail!("see the failures above");
    }
    Ok(())
}

fn databases(pattern: Option<&str>, tests: &mut Tally) -> Result<()> {
    let servers = machine::Databases::unpack()?;
    let mut command = cargo([
        "test",
        "--quiet",
        "--package=daemon",
        "--features=database-tests",
        "--test=databases",
        "--no-fail-fast",
    ]);
    command.env("ZREPL_TEST_DATABASES", servers.path());
    counted(filtered(command, pattern), tests)
}

fn documentation() -> Result<()> {
    let mut command = cargo(["doc", "--quiet", "--no-deps", "--workspace"]);
    silent(command.env("RUSTDOCFLAGS", "-Dwarnings"), "see the messages of rustdoc above")?;
    let broken = links::broken(cargo::workspace())?;
    for link in &broken {
        eprintln!("{link}");
    }
    match broken.len() {
        0 => Ok(()),
        count => bail!("links that lead nowhere: {count}"),
    }
}

fn real_zfs(arguments: &Arguments, tests: &mut Tally) -> Result<()> {
    match arguments.zfs {
        Zfs::Host => on_host(arguments.pattern.as_deref(), tests),
        Zfs::Machine => in_guests(Kernel::UserMode, arguments, tests),
        Zfs::Qemu => in_guests(Kernel::Qemu, arguments, tests),
    }
}

/// The suite's arguments for real ZFS.
fn suite(programs: &Path, work: &Path, pattern: Option<&str>) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec![programs.join("zfs-suite").into()];
    argv.extend(["--backend", "real", "--test-threads", "1", "--work"].map(OsString::from));
    argv.push(work.into());
    argv.extend(pattern.map(OsString::from));
    argv
}

fn on_host(pattern: Option<&str>, tests: &mut Tally) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("--zfs host makes pools, which needs root; without it: --zfs machine");
    }
    for program in ["zfs", "zpool"] {
        if !machine::is_installed(program) {
            bail!("no {program} on this host; without it: --zfs machine");
        }
    }
    let programs = cargo::build_programs(&["zfs-suite"], cargo::Linkage::Dynamic)?;
    let work = Scratch::new(&std::env::temp_dir(), "zfs-suite-")?;
    let argv = suite(&programs, work.path(), pattern);
    let mut command = Command::new(programs.join("zfs-suite"));
    command.args(argv.iter().skip(1));
    counted(command, tests)
}

/// Runs the suite in several guests at once, each with its share of the cases.
fn in_guests(platform: Kernel, arguments: &Arguments, tests: &mut Tally) -> Result<()> {
    let machine = Machine::ensure(machine::version(arguments.openzfs.as_deref())?, platform)?;
    // The program itself is run by the cases of the service.
    let programs = cargo::build_programs(&["zfs-suite", "zrepl"], machine::linkage_for(&machine)?)?;
    let output = Counted::default();
    let ends: Vec<Result<u8>> = std::thread::scope(|scope| {
        let guests: Vec<_> = (1..=GUESTS)
            .map(|number| {
                let streams =
                    Streams::Separate { stdout: Box::new(output.clone()), stderr: Box::new(std::io::stderr()) };
                let mut argv = suite(&programs, Path::new("/tmp/suite"), arguments.pattern.as_deref());
                argv.push(format!("--shard={number}/{GUESTS}").into());
                let guest = Guest {
                    memory_mib: GUEST_MEMORY_MIB,
                    shares: vec![Share::read(&programs)],
                    timeout: GUEST_TIMEOUT,
                    ..Guest::new(&machine)
                };
                scope.spawn(move || guest.run(&argv, streams))
            })
            .collect();
        let join = |guest: std::thread::ScopedJoinHandle<'_, Result<u8>>| match guest.join() {
            Ok(end) => end,
            Err(_) => bail!("a guest's thread ended early"),
        };
        guests.into_iter().map(join).collect()
    });
    *tests += output.tally();
    let mut failed = 0;
    for end in ends {
        failed += usize::from(end? != 0);
    }
    match failed {
        0 => Ok(()),
        _ => bail!("see the failures above"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn clippy_sees_every_test_that_asks_for_a_feature() {
        let mut asked = Vec::new();
        for entry in fs::read_dir(cargo::workspace().join("crates")).unwrap() {
            let folder = entry.unwrap().path();
            let package = folder.file_name().unwrap().to_string_lossy().into_owned();
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let required = manifest.lines().filter_map(|line| line.strip_prefix("required-features = ["));
            for features in required.filter_map(|list| list.strip_suffix(']')) {
                asked.extend(features.split(',').map(|one| format!("{package}/{}", one.trim().trim_matches('"'))));
            }
        }
        assert_eq!(asked, TEST_FEATURES);
    }
}
