//! A round of snapshots at scale: processes, wall time, and how far apart the snapshots are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::daemon::{Daemon, build};
use super::stand_in::{SMALL, Scale, StandIn};
use crate::children::Scratch;

/// The host for which zrepl 0.7 was measured: 30,005 processes and 67 s, spread over 13 s.
const SCALE: Scale = Scale { filesystems: 5000, snapshots: 1, increments: 0, bytes: SMALL };

/// What is promised of a round on it.
const MOST_PROCESSES: usize = 20;
const LONGEST_SECONDS: f64 = 3.0;

/// Rounds measured after the one at the start of the daemon, which fills the file cache.
const ROUNDS: usize = 3;

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let zrepl = match arguments {
        [] => build()?,
        [program] => Path::new(program).canonicalize().with_context(|| format!("finding {program}"))?,
        _ => bail!("bench snapshot takes nothing but the path of the zrepl program to measure"),
    };
    let scratch = Scratch::new(&std::env::temp_dir(), "zrepl-bench-")?;
    eprintln!("making {} filesystems", SCALE.filesystems);
    let host = StandIn::new(scratch.path(), SCALE)?;
    let mut daemon = Daemon::start(&zrepl, &host, host.snapshot_config()?)?;
    daemon.wait_for("invocation finished")?;
    println!("{:>8} {:>10} {:>10} {:>8} {:>10}", "wall", "processes", "snapshots", "instants", "spread");
    let mut kept = true;
    for _ in 0..ROUNDS {
        // Names tell seconds apart.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        kept &= round(&mut daemon, &host)?;
    }
    println!("zrepl 0.7: 67 s, 30005 processes, spread over 13 s");
    match kept {
        true => Ok(()),
        false => bail!("more than {MOST_PROCESSES} processes, {LONGEST_SECONDS} s or one instant"),
    }
}

/// One round, from the request for it until it is over; whether it kept what is promised.
fn round(daemon: &mut Daemon<'_>, host: &StandIn) -> Result<bool> {
    let (before, start) = (host.processes()?.len(), Instant::now());
    daemon.signal("snapshot", host.snap_job())?;
    daemon.wait_for("round of snapshots finished")?;
    let wall = start.elapsed().as_secs_f64();
    // Those that prune afterwards come after the one that snapshots.
    let processes = host.processes()?;
    let of_round: Vec<&String> = processes.iter().skip(before).collect();
    let count = of_round.iter().rposition(|line| line.contains(" snapshot ")).map_or(0, |last| last + 1);
    let (snapshots, instants, spread) = newest(&host.logs())?;
    println!("{wall:>6.2} s {count:>10} {snapshots:>10} {instants:>8} {spread:>8} s");
    Ok(count <= MOST_PROCESSES && wall <= LONGEST_SECONDS && snapshots >= SCALE.filesystems && instants == 1)
}

/// How many datasets have a newest snapshot of the round, in how many transaction groups, and how many
/// seconds are between the first and the last of them.
fn newest(folder: &PathBuf) -> Result<(usize, usize, u64)> {
    let (mut count, mut groups, mut times) = (0, BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let text = std::fs::read_to_string(entry?.path()).context("reading the stand-in's state")?;
        let Some(line) = text.lines().rev().find(|line| line.starts_with("S\tround_")) else { continue };
        let mut fields = line.split('\t').skip(3);
        let mut number = || fields.next().and_then(|field| field.parse::<u64>().ok()).context("the stand-in's state");
        count += 1;
        groups.insert(number()?);
        times.insert(number()?);
    }
    let spread = times.last().zip(times.first()).map_or(0, |(last, first)| last - first);
    Ok((count, groups.len(), spread))
}
