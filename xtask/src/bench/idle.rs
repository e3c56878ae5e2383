//! A cycle in which nothing changed, at scale: wall time, processes, memory.

use std::time::Instant;

use anyhow::{Result, bail};

use super::daemon::{Daemon, build};
use super::stand_in::{SMALL, Scale, StandIn};
use crate::children::Scratch;

/// The host for which zrepl 0.7 was measured: 97 s, 70,064 processes, 478 MiB.
const SCALE: Scale = Scale { filesystems: 5000, snapshots: 100, increments: 0, bytes: SMALL };

/// Cycles measured after one that warms up the file cache.
const ROUNDS: usize = 3;

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let scale = match arguments {
        [] => SCALE,
        [filesystems, snapshots] => {
            Scale { filesystems: filesystems.parse()?, snapshots: snapshots.parse()?, increments: 0, bytes: SMALL }
        }
        _ => bail!("bench idle takes the number of filesystems and of snapshots of each, or nothing"),
    };
    let zrepl = build()?;
    let scratch = Scratch::new(&std::env::temp_dir(), "zrepl-bench-")?;
    eprintln!("making {} filesystems with {} snapshots on each side", scale.filesystems, scale.snapshots);
    let host = StandIn::new(scratch.path(), scale)?;
    let mut daemon = Daemon::start(&zrepl, &host, host.config(1)?)?;
    daemon.cycle()?;
    println!("{:>8} {:>10} {:>12}", "wall", "processes", "peak memory");
    for _ in 0..ROUNDS {
        let (before, start) = (host.processes()?.len(), Instant::now());
        daemon.cycle()?;
        let wall = start.elapsed().as_secs_f64();
        let processes = host.processes()?.len() - before;
        println!("{wall:>6.2} s {processes:>10} {:>8} MiB", daemon.peak_memory_mib()?);
    }
    Ok(())
}
