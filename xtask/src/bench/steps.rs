//! Many small steps: wall time, processor time, and the processes that each side starts for a step.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use super::daemon::{Cpu, Daemon, build};
use super::stand_in::{SMALL, Scale, StandIn};
use crate::children::Scratch;

/// The host for which zrepl 0.7 was measured.
const SCALE: Scale = Scale { filesystems: 1000, snapshots: 1, increments: 5, bytes: SMALL };

/// Processes per step of zrepl 0.7, both sides together.
const ZREPL_PROCESSES: usize = 33;

/// What is promised of a step, the listings of the invocation included.
const MOST_OF_SENDER: f64 = 6.0;
const MOST_OF_RECEIVER: f64 = 5.0;

/// A run with so many steps at a time, and seconds to compare it with.
struct Case {
    concurrency: usize,
    zrepl: f64,
    aim: Option<f64>,
}

const CASES: [Case; 2] =
    [Case { concurrency: 1, zrepl: 330.0, aim: None }, Case { concurrency: 8, zrepl: 149.0, aim: Some(25.0) }];

pub(super) fn run(arguments: &[String]) -> Result<()> {
    let scale = match arguments {
        [] => SCALE,
        [filesystems, increments] => {
            Scale { filesystems: filesystems.parse()?, increments: increments.parse()?, ..SCALE }
        }
        _ => bail!("bench steps takes the number of filesystems and of increments of each, or nothing"),
    };
    let zrepl = build()?;
    println!(
        "{:>11} {:>10} {:>12} {:>10} {:>14} {:>14}",
        "concurrency", "wall", "CPU daemon", "CPU zfs", "sender", "receiver"
    );
    let mut kept = true;
    for case in &CASES {
        let result = measure(&zrepl, scale, case.concurrency)?;
        result.print(case, scale);
        kept &= result.per_step(Side::Sender) <= MOST_OF_SENDER && result.per_step(Side::Receiver) <= MOST_OF_RECEIVER;
    }
    match kept {
        true => Ok(()),
        false => {
            bail!("more than {MOST_OF_SENDER} processes per step of the sender or {MOST_OF_RECEIVER} of the receiver")
        }
    }
}

/// What a run took.
struct Measured {
    steps: usize,
    wall: f64,
    cpu: Cpu,
    /// Number of processes by side and subcommand.
    processes: BTreeMap<(Side, String), usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Sender,
    Receiver,
}

fn measure(zrepl: &Path, scale: Scale, concurrency: usize) -> Result<Measured> {
    let scratch = Scratch::new(&std::env::temp_dir(), "zrepl-bench-")?;
    let host = StandIn::new(scratch.path(), scale)?;
    let mut daemon = Daemon::start(&zrepl.to_owned(), &host, host.config(concurrency)?)?;
    let start = Instant::now();
    daemon.cycle()?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), daemon.cpu()?);
    let (received, expected) = (host.received()?, scale.filesystems * (scale.snapshots + scale.increments));
    if received != expected {
        bail!("the receiver has {received} snapshots instead of {expected}");
    }
    let mut processes = BTreeMap::new();
    for command in host.processes()? {
        let side = if StandIn::is_about_receiver(&command) { Side::Receiver } else { Side::Sender };
        let subcommand = command.split(' ').nth(1).unwrap_or_default().to_owned();
        *processes.entry((side, subcommand)).or_default() += 1;
    }
    Ok(Measured { steps: scale.filesystems * scale.increments, wall, cpu, processes })
}

impl Measured {
    fn per_step(&self, side: Side) -> f64 {
        let count: usize = self.processes.iter().filter(|((of, _), _)| *of == side).map(|(_, count)| count).sum();
        count as f64 / self.steps as f64
    }

    fn print(&self, case: &Case, scale: Scale) {
        let (sender, receiver) = (self.per_step(Side::Sender), self.per_step(Side::Receiver));
        println!(
            "{:>11} {:>8.2} s {:>10.2} s {:>8.2} s {sender:>5.2} per step {receiver:>5.2} per step",
            case.concurrency, self.wall, self.cpu.daemon, self.cpu.children
        );
        let is_known = (scale.filesystems, scale.increments) == (SCALE.filesystems, SCALE.increments);
        if let Some(aim) = case.aim.filter(|_| is_known) {
            println!(
                "{:>11} {aim:>8.2} s {:>12} {:>10} {MOST_OF_SENDER:>5.2} per step {MOST_OF_RECEIVER:>5.2} per step",
                "aim", "", ""
            );
        }
        if is_known {
            println!("{:>11} {:>8.2} s, {ZREPL_PROCESSES} processes per step", "zrepl 0.7", case.zrepl);
        }
        for side in [Side::Sender, Side::Receiver] {
            let kinds: Vec<String> = self
                .processes
                .iter()
                .filter(|((of, _), _)| *of == side)
                .map(|((_, subcommand), count)| format!("{subcommand} {count}"))
                .collect();
            println!("            {side:?}: {}", kinds.join(", "));
        }
    }
}
