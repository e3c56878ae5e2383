//! Runs worlds by seed: `soak --seeds 100000 [--from N] [--jobs N]`, or one of them with everything that
//! happens in it: `soak --seed N`. Whether engine and endpoints run by themselves in a world, or whole
//! daemons, is up to its seed; `--only daemons` (or `engine`) leaves out the others.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use sim::seed::{has_fleet, run_seed};

struct Options {
    from: u64,
    seeds: u64,
    jobs: usize,
    only: Option<u64>,
    /// Worlds with whole daemons, or those without; both if not given.
    fleets: Option<bool>,
}

const USAGE: &str = "usage: soak [--seeds N] [--from N] [--jobs N] [--only daemons|engine] | soak --seed N";

fn options() -> Result<Options, String> {
    let mut options = Options { from: 0, seeds: 10_000, jobs: 1, only: None, fleets: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        if option == "--only" {
            options.fleets = match arguments.next().as_deref() {
                Some("daemons") => Some(true),
                Some("engine") => Some(false),
                _ => return Err("--only needs `daemons` or `engine`".to_owned()),
            };
            continue;
        }
        let mut number = || {
            let value = arguments.next().ok_or_else(|| format!("{option} needs a number"))?;
            value.parse::<u64>().map_err(|error| format!("{option} {value}: {error}"))
        };
        match option.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--jobs" => options.jobs = usize::try_from(number()?).unwrap_or(1).max(1),
            "--seed" => options.only = Some(number()?),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match options() {
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            ExitCode::FAILURE
        }
        Ok(Options { only: Some(seed), .. }) => replay(seed),
        Ok(options) => soak(&options),
    }
}

fn replay(seed: u64) -> ExitCode {
    match run_seed(seed, true) {
        Ok(rest) => {
            println!("seed {seed}: came to rest after {} invocations; {} need a person", rest.invocations, rest.stuck);
            ExitCode::SUCCESS
        }
        Err(failed) => {
            println!("{}", failed.tell(seed));
            ExitCode::FAILURE
        }
    }
}

/// Runs all seeds, and tells the first failures.
fn soak(options: &Options) -> ExitCode {
    let (next, failures) = (AtomicU64::new(options.from), AtomicUsize::new(0));
    let end = options.from.saturating_add(options.seeds);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let wanted = options.fleets.is_none_or(|fleets| fleets == has_fleet(seed));
                    if wanted && let Err(failed) = run_seed(seed, false) {
                        failures.fetch_add(1, Ordering::Relaxed);
                        println!("{}", failed.tell(seed));
                    }
                    let done = seed + 1 - options.from;
                    if done.is_multiple_of(1000) {
                        let rate = done as f64 / started.elapsed().as_secs_f64();
                        println!("{done} of {} seeds, {rate:.0} per second", options.seeds);
                    }
                }
            });
        }
    });
    match failures.into_inner() {
        0 => {
            println!("all {} worlds are safe and come to rest", options.seeds);
            ExitCode::SUCCESS
        }
        failures => {
            println!("{failures} of {} worlds fail; see one with: cargo run -p sim -- --seed N", options.seeds);
            ExitCode::FAILURE
        }
    }
}
