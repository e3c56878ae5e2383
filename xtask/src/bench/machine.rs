//! How fast the test machine is on this host.

use crate::machine::{Guest, Kernel, Machine, Streams, version};
use anyhow::{Result, bail};
use std::time::Instant;

const STEPS: &str = include_str!("machine.sh");

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let platform = match arguments {
        [] => Kernel::UserMode,
        [only] if only == "--qemu" => Kernel::Qemu,
        _ => bail!("bench machine takes nothing but --qemu"),
    };
    let machine = Machine::ensure(version(None)?, platform)?;
    let guest = Guest::new(&machine);
    let start = Instant::now();
    guest.run(&["true"], Streams::inherited())?;
    println!("{:<28} {:>7.2} s", "boot, true, power off", start.elapsed().as_secs_f64());
    match guest.run(&["bash", "-c", STEPS], Streams::inherited())? {
        0 => Ok(()),
        status => bail!("the measurement ended with status {status}"),
    }
}
