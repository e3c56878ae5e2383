//! The suite that runs against real OpenZFS, and as far as it fits against the model of ZFS.
//!
//! `cargo xtask test zfs` runs it in the test machine, `cargo xtask test fake` on this host.

#![allow(clippy::indexing_slicing, reason = "a test program: a panic fails its case")]

mod abstractions;
mod backend;
mod case;
#[cfg(test)]
mod catalogue;
mod children;
mod conformance;
#[path = "../../../crates/daemon/tests/shell/deeds.rs"]
mod deeds;
mod differential;
mod endpoint;
mod errors;
mod hooks;
mod invoked;
mod jobs;
mod kill;
mod lab;
mod language;
mod machine;
mod metrics;
mod preview;
mod programs;
mod pruning;
mod remote;
mod replication;
mod retention;
mod scale;
mod service;
mod tokens;

use anyhow::{Result, bail};
use case::{Backend, Case, Run};
use clap::Parser;
use lab::Lab;
use libtest_mimic::{Failed, Trial};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Parser)]
struct Cli {
    /// What the cases run against
    #[arg(long, value_enum)]
    backend: Backend,
    /// Folder for the images of pools; needs room for a few hundred MiB
    #[arg(long)]
    work: Option<PathBuf>,
    /// Run every Nth of the selected cases, from the Kth on
    #[arg(long, value_name = "K/N", default_value = "1/1", value_parser = parse_shard)]
    shard: (usize, usize),
    /// Runs these jobs once, instead of cases
    #[arg(long, hide = true, value_name = "JOBS")]
    daemon: Option<PathBuf>,
    /// Kills itself when so many bytes of a stream have passed
    #[arg(long, hide = true, value_name = "BYTE")]
    dies_at: Option<u64>,
    #[command(flatten)]
    harness: libtest_mimic::Arguments,
}

fn parse_shard(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((k, n)) if (1..=n).contains(&k) => Ok((k, n)),
        _ => Err("expected K/N with 1 <= K <= N".to_owned()),
    }
}

/// Every case of every module, in the order they are shown.
fn cases() -> Vec<Case> {
    let areas = [
        machine::cases(),
        conformance::cases(),
        children::cases(),
        programs::cases(),
        language::cases(),
        tokens::cases(),
        differential::cases(),
        replication::cases(),
        endpoint::cases(),
        abstractions::cases(),
        pruning::cases(),
        errors::cases(),
        jobs::cases(),
        metrics::cases(),
        remote::cases(),
        retention::cases(),
        preview::cases(),
        hooks::cases(),
        scale::cases(),
        service::cases(),
    ];
    areas.into_iter().flatten().collect()
}

fn main() -> ExitCode {
    if let Some(code) = remote::stand_in() {
        return code;
    }
    let arguments = Cli::parse();
    if let Some(jobs) = &arguments.daemon {
        return match replication::killed::daemon(jobs, arguments.dies_at) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("zfs-suite: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    match trials(&arguments) {
        Ok(trials) => libtest_mimic::run(&arguments.harness, trials).exit_code(),
        Err(error) => {
            eprintln!("zfs-suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The cases that this process is to run.
fn trials(arguments: &Cli) -> Result<Vec<Trial>> {
    let lab = match arguments.backend {
        Backend::Real => Some(Arc::new(Lab::open(arguments.work.as_deref())?)),
        Backend::Fake => None,
    };
    let (first, step) = arguments.shard;
    let mut trials = Vec::new();
    let asked = |case: &Case| !case.on_request || arguments.harness.filter.is_some();
    for case in cases().into_iter().filter(|case| selected(&case.name, &arguments.harness) && asked(case)) {
        match (case.run, &lab) {
            (Run::Fake(run), None) => trials.push(Trial::test(case.name, move || report(run()))),
            (Run::Real(run), Some(lab)) => {
                let lab = Arc::clone(lab);
                trials.push(Trial::test(case.name, move || report(lab.with_bench(run))));
            }
            // Meant for the other backend.
            (Run::Fake(_), Some(_)) | (Run::Real(_), None) => {}
        }
    }
    if let Some(twice) = first_duplicate(&trials) {
        bail!("two cases are called {twice}");
    }
    if trials.is_empty() {
        bail!("no case has such a name (`--list` shows them)");
    }
    Ok(trials.into_iter().skip(first - 1).step_by(step).collect())
}

/// Whether the harness will run a case of this name: the cases are shared out among those.
fn selected(name: &str, harness: &libtest_mimic::Arguments) -> bool {
    match &harness.filter {
        Some(filter) if harness.exact => name == filter,
        Some(filter) => name.contains(filter.as_str()),
        None => true,
    }
}

fn first_duplicate(trials: &[Trial]) -> Option<String> {
    let mut names = std::collections::BTreeSet::new();
    trials.iter().find(|trial| !names.insert(trial.name())).map(|trial| trial.name().to_owned())
}

fn report(outcome: Result<()>) -> Result<(), Failed> {
    outcome.map_err(|error| format!("{error:?}").into())
}
