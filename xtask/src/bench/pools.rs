//! Many filesystems on real pools, in the test machine: the case of the suite that measures a cycle.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::cargo;
use crate::machine::{Guest, Kernel, Machine, Share, Streams, linkage_for, version};

const CASE: &str = "scale::R14_many_filesystems_with_many_snapshots";

/// Pools on files live in it.
const MEMORY_MIB: u64 = 3 * 1024;

/// Ten thousand filesystems take hours there.
const TIMEOUT: Duration = Duration::from_secs(12 * 60 * 60);

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let names = ["ZFS_SUITE_FILESYSTEMS", "ZFS_SUITE_SNAPSHOTS"];
    if arguments.len() > names.len() || arguments.iter().any(|argument| argument.parse::<usize>().is_err()) {
        bail!("bench pools takes the number of filesystems and of snapshots of each, or nothing");
    }
    let machine = Machine::ensure(version(None)?, Kernel::UserMode)?;
    let programs = cargo::build_programs(&["zfs-suite"], linkage_for(&machine)?)?;
    let program = programs.join("zfs-suite").to_string_lossy().into_owned();
    let guest = Guest {
        memory_mib: MEMORY_MIB,
        shares: vec![Share::read(Path::new(&programs))],
        timeout: TIMEOUT,
        environment: std::iter::zip(names, arguments).map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        ..Guest::new(&machine)
    };
    let argv = [&program, "--backend", "real", "--work", "/tmp/suite", "--exact", CASE, "--nocapture"];
    match guest.run(&argv, Streams::inherited())? {
        0 => Ok(()),
        status => bail!("the measurement ended with status {status}"),
    }
}
