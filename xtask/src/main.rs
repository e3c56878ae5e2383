//! Tasks of the project: `cargo xtask help` lists them.
//!
//! Everything here is for developing zrepl; nothing of it ships.

mod bench;
mod cache;
mod cargo;
mod children;
mod demo;
mod fuzz;
mod machine;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Tasks of the zrepl project")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    Demo(demo::Arguments),
    Test(test::Arguments),
    Machine(machine::Arguments),
    Bench(bench::Arguments),
    Fuzz(fuzz::Arguments),
    #[command(hide = true)]
    DemoInside(demo::inside::Arguments),
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Machine(arguments) => machine::run(arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::DemoInside(arguments) => demo::inside::run(&arguments),
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = children::end_with_us().and_then(|()| run(cli.task));
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
