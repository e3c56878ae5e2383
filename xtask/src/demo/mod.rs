//! `cargo xtask demo`: zrepl at work on real OpenZFS, in the test machine.

pub(crate) mod inside;

mod contents;
mod daemon;
mod ledger;
mod status;
mod world;

use crate::cargo::{self, Linkage};
use crate::machine::{self, Guest, Kernel, Machine, Share, Streams};
use anyhow::{Context as _, Result};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Room for two pools with the demo's files.
const MEMORY_MIB: u64 = 2048;

/// The story takes about a minute and a half.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Watch zrepl snapshot, replicate, resume and prune real ZFS pools
///
/// Needs no ZFS on this host: it happens in the test machine. What it says happened, it has
/// checked; otherwise it fails.
#[derive(Args)]
#[command(after_help = "Example: cargo xtask demo --keep")]
pub(crate) struct Arguments {
    /// Afterwards, a shell in the test machine, with the daemon and both pools
    #[arg(long)]
    keep: bool,
}

/// Runs `cargo xtask demo`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let machine = Machine::ensure(machine::version(None)?, Kernel::UserMode)?;
    let (xtask, zrepl) = programs(machine::linkage_for(&machine)?)?;
    let folders = [&xtask, &zrepl].map(|program| program.parent().map(Share::read));
    let guest = Guest {
        memory_mib: MEMORY_MIB,
        shares: folders.into_iter().flatten().collect(),
        timeout: TIMEOUT,
        ..Guest::new(&machine)
    };
    let (xtask, zrepl) = (path_text(&xtask)?, path_text(&zrepl)?);
    let mut argv = vec![xtask, "demo-inside", "--zrepl", zrepl];
    if arguments.keep {
        argv.push("--keep");
        return machine::open_shell(guest, &argv);
    }
    guest.run(&argv, Streams::inherited()).map(ExitCode::from)
}

/// Ourselves and zrepl, as programs that run in the guest.
fn programs(linkage: Linkage) -> Result<(PathBuf, PathBuf)> {
    eprintln!("building zrepl");
    match linkage {
        Linkage::Dynamic => {
            let folder = cargo::build_programs(&["zrepl"], linkage)?;
            Ok((std::env::current_exe().context("our own program")?, folder.join("zrepl")))
        }
        Linkage::Static => {
            let folder = cargo::build_programs(&["xtask", "zrepl"], linkage)?;
            Ok((folder.join("xtask"), folder.join("zrepl")))
        }
    }
}

fn path_text(path: &std::path::Path) -> Result<&str> {
    path.to_str().with_context(|| format!("not UTF-8: {}", path.display()))
}
