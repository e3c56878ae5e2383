//! `cargo xtask bench`: measurements. Adding one is a module and an entry in [`BENCHMARKS`].

mod daemon;
mod data;
mod idle;
mod machine;
mod plan;
mod pools;
mod snapshot;
mod stand_in;
mod steps;

use anyhow::{Result, bail};
use clap::Args;
use std::process::ExitCode;

/// A measurement that can be asked for by name.
struct Benchmark {
    name: &'static str,
    about: &'static str,
    /// Gets the arguments after the name.
    run: fn(&[String]) -> Result<()>,
}

const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "data",
        about: "one large stream over each transport: bytes per second, processor time per GiB; steps without bytes",
        run: data::run,
    },
    Benchmark {
        name: "idle",
        about: "a cycle in which nothing changed, 5,000 filesystems with 100 snapshots: time, processes, memory",
        run: idle::run,
    },
    Benchmark {
        name: "machine",
        about: "how fast the test machine is: boot, processes, snapshots, send and receive",
        run: machine::run,
    },
    Benchmark {
        name: "plan",
        about: "the planners over 10,000 filesystems with 100 versions each, and over one with 65,000",
        run: plan::run,
    },
    Benchmark {
        name: "pools",
        about: "300 filesystems with 20 snapshots on real pools, idle and with one new snapshot each",
        run: pools::run,
    },
    Benchmark {
        name: "snapshot",
        about: "a round of snapshots of 5,000 filesystems: time, processes, how far apart they are",
        run: snapshot::run,
    },
    Benchmark {
        name: "steps",
        about: "1,000 filesystems with 5 increments of 64 KiB to send: time, processes per step",
        run: steps::run,
    },
];

/// Measure something; without a name, list what there is
#[derive(Args)]
#[command(after_help = "Example: cargo xtask bench machine")]
pub(crate) struct Arguments {
    /// What to measure
    name: Option<String>,
    /// Passed to the measurement
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs `cargo xtask bench`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Some(name) = &arguments.name else {
        for benchmark in BENCHMARKS {
            println!("{:<10} {}", benchmark.name, benchmark.about);
        }
        return Ok(ExitCode::SUCCESS);
    };
    match BENCHMARKS.iter().find(|benchmark| benchmark.name == name) {
        Some(benchmark) => (benchmark.run)(&arguments.arguments).map(|()| ExitCode::SUCCESS),
        None => bail!("no measurement named {name}; `cargo xtask bench` lists them"),
    }
}
