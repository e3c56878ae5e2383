//! The demo's story, told in the guest.

use super::daemon::{self, Daemon, Streams};
use super::ledger::{Ledger, bytes};
use super::status::StepInfo;
use super::world;
use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// Large enough that sending it can be cut in the middle.
const FILM_MIB: u64 = 240;

/// The part of the demo that runs in the test machine
#[derive(Args)]
pub(crate) struct Arguments {
    /// The program to show
    #[arg(long)]
    zrepl: String,
    /// Afterwards, a shell
    #[arg(long)]
    keep: bool,
}

/// Runs the story in this guest.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    ensure!(hostname.trim() == "zrepl-machine", "this makes pools, and only in the test machine: run cargo xtask demo");
    let mut ledger = Ledger::start();
    let outcome = tell(&arguments.zrepl, &mut ledger);
    println!("\n{}", ledger.table());
    match &outcome {
        Ok(()) => println!("All of this happened, on real OpenZFS."),
        Err(error) => {
            println!("The demo failed: {error:#}\nThe end of the daemon's log:\n{}", daemon::log_end());
        }
    }
    if arguments.keep {
        return keep(&arguments.zrepl);
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(zrepl: &str, ledger: &mut Ledger) -> Result<()> {
    ledger.step("two pools on files, src and dst", world::make_pools)?;
    ledger.step("datasets with files in src", world::fill)?;
    ledger.step("a configuration", || daemon::configure(zrepl))?;
    let mut daemon = None;
    ledger.step("zrepl daemon", || {
        daemon = Some(Daemon::start(zrepl)?);
        Ok("answers on its control socket".to_owned())
    })?;
    let mut daemon = daemon.context("no daemon")?;
    ledger.step("first snapshots, full replication", || replicate_all(&mut daemon))?;
    let first = world::snapshots("src/home")?;
    ledger.step("a day of work", world::change)?;
    ledger.step("an hour later: incremental replication", || replicate_changes(&mut daemon))?;
    let mut cut = None;
    ledger.step("an hour later: a transfer killed midway", || {
        let step = cut_transfer(&mut daemon)?;
        let (sent, total) = (bytes(step.bytes_replicated), bytes(step.bytes_expected));
        cut = Some(step);
        Ok(format!("kill -9 of zfs send when {sent} of {total} were sent"))
    })?;
    let cut = cut.context("no cut")?;
    ledger.step("zrepl signal wakeup: the transfer resumed", || resume(&mut daemon, &cut))?;
    ledger.step("an hour later: pruning", || prune(&mut daemon, &first))?;
    ledger.step("SIGTERM to the daemon", || daemon.stop())?;
    ledger.step("common bases and holds", bases)?;
    ledger.step("both sides compared", world::compare)
}

/// Waits until the whole tree is on the other side.
fn replicate_all(daemon: &mut Daemon) -> Result<String> {
    let mut streams = Streams::after(&daemon.status()?);
    daemon.wait_for("the first replication", |daemon| {
        let push = daemon.status()?;
        streams.note(&push);
        Ok((push.is_over() && all_in_common()?).then_some(()))
    })?;
    let full: Vec<_> = streams.iter().filter(|(_, step)| step.from.is_empty()).collect();
    let datasets = world::datasets().count();
    ensure!(full.len() >= datasets, "{} full streams for {datasets} datasets", full.len());
    Ok(format!("{} full streams, {}", full.len(), bytes(full.iter().map(|(_, step)| step.bytes_replicated).sum())))
}

fn all_in_common() -> Result<bool> {
    for dataset in world::datasets() {
        if world::newest_common(dataset)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Waits until snapshots newer than the change are on the other side.
fn replicate_changes(daemon: &mut Daemon) -> Result<String> {
    let before = newest_guids()?;
    world::an_hour_later()?;
    let mut streams = Streams::after(&daemon.status()?);
    daemon.wait_for("the incremental replication", |daemon| {
        let push = daemon.status()?;
        streams.note(&push);
        Ok((push.is_over() && all_newer_in_common(&before)?).then_some(()))
    })?;
    if let Some((dataset, _)) = streams.iter().find(|(_, step)| step.from.is_empty()) {
        bail!("{dataset} was sent in full again");
    }
    let count = streams.iter().count();
    ensure!(count > 0, "no streams were reported");
    Ok(format!("{count} incremental streams, {}", bytes(streams.iter().map(|(_, step)| step.bytes_replicated).sum())))
}

/// The newest snapshot of each dataset, in the order of [`world::datasets`].
fn newest_guids() -> Result<Vec<Option<u64>>> {
    let newest = |dataset| Ok(world::snapshots(dataset)?.last().map(|snapshot| snapshot.guid));
    world::datasets().map(newest).collect()
}

fn all_newer_in_common(before: &[Option<u64>]) -> Result<bool> {
    for (dataset, before) in world::datasets().zip(before) {
        let common = world::newest_common(dataset)?.map(|snapshot| snapshot.guid);
        let snapshots = world::snapshots(dataset)?;
        let position = |guid: Option<u64>| snapshots.iter().position(|found| Some(found.guid) == guid);
        // One that is gone meanwhile is older than all that are there.
        if common.is_none() || position(common) <= position(*before) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Kills the sender of a large stream when a good part has been sent.
fn cut_transfer(daemon: &mut Daemon) -> Result<StepInfo> {
    world::add_film(FILM_MIB)?;
    world::an_hour_later()?;
    daemon.wait_for("a large stream to be cut", |daemon| {
        let push = daemon.status()?;
        let Some(attempt) = push.attempt() else { return Ok(None) };
        for step in attempt.steps("src/media") {
            let (sent, total) = (step.bytes_replicated, step.bytes_expected);
            ensure!(total < (FILM_MIB << 19) || sent < total, "the stream was too fast to be cut");
            if total > (FILM_MIB << 19) && sent > total / 4 && daemon::kill_send("src/media")?.is_some() {
                return Ok(Some(step.clone()));
            }
        }
        Ok(None)
    })
}

/// Waits until the rest has arrived, and counts what was not sent again.
fn resume(daemon: &mut Daemon, cut: &StepInfo) -> Result<String> {
    let mut streams = Streams::after(&daemon.status()?);
    let rest = daemon.wait_for("the resumed transfer", |daemon| {
        let push = daemon.status()?;
        streams.note(&push);
        let mut steps = streams.iter().filter(|(dataset, _)| *dataset == "src/media").map(|(_, step)| step);
        let rest = steps.find(|step| step.to == cut.to && step.resumed).cloned();
        if rest.is_none() && push.is_over() {
            daemon.wake_up()?;
        }
        Ok(rest.filter(|_| push.is_over()))
    })?;
    let spared = cut.bytes_expected.saturating_sub(rest.bytes_replicated);
    ensure!(
        spared > cut.bytes_expected / 10,
        "only {} of {} were not sent again",
        bytes(spared),
        bytes(cut.bytes_expected)
    );
    let arrived = world::newest_common("src/media")?.is_some();
    ensure!(arrived, "src/media has not arrived");
    Ok(format!(
        "{} of {} sent now: {} not sent again",
        bytes(rest.bytes_replicated),
        bytes(cut.bytes_expected),
        bytes(spared)
    ))
}

/// Waits until only what the rules keep is left, and the first snapshots are gone.
fn prune(daemon: &mut Daemon, first: &[world::Snapshot]) -> Result<String> {
    world::an_hour_later()?;
    daemon.wait_for("pruning", |daemon| {
        if !daemon.status()?.is_over() {
            return Ok(None);
        }
        let (mut sender, mut receiver) = (0, 0);
        for dataset in world::datasets() {
            sender = sender.max(world::snapshots(dataset)?.len());
            receiver = receiver.max(world::snapshots(&world::copy_of(dataset))?.len());
        }
        let home = [world::snapshots("src/home")?, world::snapshots(&world::copy_of("src/home"))?];
        let gone = !home.iter().flatten().any(|left| first.iter().any(|old| old.guid == left.guid));
        let few = sender <= daemon::KEPT_SENDER && receiver <= daemon::KEPT_RECEIVER;
        Ok((gone && few).then(|| format!("{sender} snapshots each left in src, {receiver} in dst; the first are gone")))
    })
}

/// That nothing was lost or left behind.
fn bases() -> Result<String> {
    for dataset in world::datasets() {
        let base = world::newest_common(dataset)?;
        ensure!(base.is_some(), "{dataset} has no snapshot on both sides");
    }
    let holds = world::step_holds()?;
    ensure!(holds.is_empty(), "step holds are left: {}", holds.join(", "));
    Ok("every dataset has a common base; no step hold is left".to_owned())
}

/// Becomes a shell, with a daemon at work.
fn keep(zrepl: &str) -> Result<ExitCode> {
    let daemon = Daemon::start(zrepl)?;
    // It goes on beside the shell, until the machine is powered off.
    std::mem::forget(daemon);
    let folder = std::path::Path::new(zrepl).parent().map(|folder| folder.display().to_string());
    println!(
        "\nA shell in the test machine; the daemon runs. Try: zfs list -t all; zrepl --config {0}/zrepl.yml status --mode raw;\n\
         cat {0}/daemon.log. `exit` ends the machine.",
        world::FOLDER
    );
    let path = format!("{}:{}", folder.unwrap_or_default(), std::env::var("PATH").unwrap_or_default());
    Err(Command::new("bash").arg("-i").env("PATH", path).exec()).context("starting bash")
}
