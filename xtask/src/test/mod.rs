//! `cargo xtask test`: everything that must hold before a change is good.

mod links;
mod stages;
mod tally;

use anyhow::Result;
use clap::{Args, ValueEnum};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tally::Tally;

/// Run the checks: all of them, or those named
///
/// Goes on after a stage that failed, and ends with a table and the number of tests.
#[derive(Args)]
#[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test fmt clippy\n  \
                        cargo xtask test zfs -- resume\n  cargo xtask test --zfs qemu zfs")]
pub(crate) struct Arguments {
    /// Stages to run
    #[arg(value_enum, value_name = "NAME")]
    stages: Vec<Stage>,
    /// Which OpenZFS the real-ZFS stage uses
    #[arg(long, value_enum, default_value_t = Zfs::Machine)]
    zfs: Zfs,
    /// OpenZFS release series of the test machine, like 2.3
    #[arg(long, value_name = "SERIES")]
    openzfs: Option<String>,
    /// Only cases with this in their name, in the stages zfs, databases, fake, unit and sim
    #[arg(last = true, value_name = "PATTERN")]
    pattern: Option<String>,
}

/// A part of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Formatting
    Fmt,
    /// Lints, with warnings as errors
    Clippy,
    /// Unit and documentation tests of all packages but the simulation
    Unit,
    /// Daemons in simulated worlds
    Sim,
    /// The conformance suite against the model of ZFS
    Fake,
    /// The suite against real OpenZFS
    Zfs,
    /// Hooks against PostgreSQL and MariaDB servers
    Databases,
    /// Reference documentation without warnings, and links between pages
    Doc,
}

/// Where real OpenZFS is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Zfs {
    /// In the test machine, a user-mode Linux
    Machine,
    /// On this host, in pools on files (needs root)
    Host,
    /// In the test machine, a stock kernel under QEMU (slow)
    Qemu,
}

/// What one stage came to.
struct Report {
    stage: Stage,
    took: Duration,
    tests: Tally,
    problem: Option<String>,
}

/// Runs `cargo xtask test`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let chosen = match arguments.stages.as_slice() {
        [] => Stage::value_variants(),
        named => named,
    };
    let mut reports = Vec::new();
    for (index, stage) in chosen.iter().enumerate() {
        println!("==> [{}/{}] {}", index + 1, chosen.len(), stage.name());
        let report = run_stage(*stage, arguments);
        println!("{}", closing_line(&report));
        reports.push(report);
    }
    print_summary(&reports);
    let good = reports.iter().all(|report| report.problem.is_none());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_stage(stage: Stage, arguments: &Arguments) -> Report {
    let start = Instant::now();
    let mut tests = Tally::default();
    let mut problem = stages::run(stage, arguments, &mut tests).err().map(|error| format!("{error:#}"));
    if problem.is_some() && stage.is_tests() && tests.failed == 0 {
        // A test program that ended early failed, although no result line says so.
        tests.failed += 1;
    }
    if problem.is_none() && stage.is_tests() && tests.passed == 0 {
        problem = Some("no test ran".to_owned());
    }
    Report { stage, took: start.elapsed(), tests, problem }
}

impl Stage {
    /// Its name on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it runs test programs, which it then must do.
    fn is_tests(self) -> bool {
        matches!(self, Stage::Unit | Stage::Sim | Stage::Fake | Stage::Zfs | Stage::Databases)
    }
}

fn closing_line(report: &Report) -> String {
    let (name, seconds) = (report.stage.name(), report.took.as_secs_f64());
    match &report.problem {
        None => format!("<== {name}: ok, {seconds:.1} s"),
        Some(problem) => format!("<== {name}: FAILED, {seconds:.1} s: {problem}"),
    }
}

fn print_summary(reports: &[Report]) {
    println!("\n{:<9} {:<7} {:>9} {:>7} {:>7}", "stage", "result", "time", "passed", "failed");
    let mut total = Tally::default();
    for report in reports {
        let result = if report.problem.is_none() { "ok" } else { "FAILED" };
        let counts = if report.stage.is_tests() {
            format!(" {:>7} {:>7}", report.tests.passed, report.tests.failed)
        } else {
            String::new()
        };
        let seconds = report.took.as_secs_f64();
        println!("{:<9} {result:<7} {seconds:>7.1} s{counts}", report.stage.name());
        total += report.tests;
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
}
