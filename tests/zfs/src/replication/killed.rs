//! `kill -9` at random bytes: of children, and of the whole daemon.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use daemon::World;
use model::DatasetName;
use rustix::process::{Signal, getpid, kill_process};
use zfs::cli::{CliConfig, ZfsCli};

use super::faults::Fault;
use super::resume::idle;
use super::rig::{On, Stage, Table, on_real};
use crate::body;
use crate::case::Case;
use crate::conformance::{LARGE, full, noise};
use crate::jobs::{Stalling, start};
use crate::kill::Killer;

pub(super) const CASES: &Table = &[
    ("zfs_send_is_killed_at_random_bytes", body!(send_killed)),
    ("zfs_receive_is_killed_at_random_bytes", body!(receive_killed)),
];

/// The daemon of the model has no process of its own to kill.
pub(super) fn daemon_case() -> Case {
    let name = "replication::daemon_is_killed_at_random_bytes";
    Case::real(name, |bench| on_real(bench, body!(daemon_killed)))
}

/// More than the pipes between the ends hold, so that most deaths come before the end.
const LEN: usize = 6 * LARGE;

/// Places between the ends of a stream, the same ones in every run.
fn random_bytes(seed: u64, count: usize) -> Vec<u64> {
    let bytes = noise(seed, count * 4);
    bytes.chunks_exact(4).map(|chunk| chunk.iter().fold(0, |n, b| n << 8 | u64::from(*b)) % LEN as u64).collect()
}

/// A snapshot's name, whose length decides what is in its file.
fn name(number: usize) -> String {
    "x".repeat(number + 1)
}

fn kill_at(stage: &Stage<'_>, verb: &'static str, byte: u64) -> Result<Fault> {
    match stage.on {
        On::Fake(world) => {
            let verb = if verb == "send" { zfs::fake::Verb::Send } else { zfs::fake::Verb::Receive };
            let calls = world.faults().calls().get(&verb).copied().unwrap_or_default();
            let dies = zfs::ErrorKind::Killed { command: format!("zfs {verb:?}").to_lowercase(), signal: 9 };
            world.faults().break_stream(verb, calls, byte, zfs::fake::StreamFault::Dies(dies));
            Ok(Fault::None)
        }
        On::Real(_) => {
            let killer = Arc::new(Killer::of(stage)?);
            Ok(Fault::AfterBytes { bytes: byte, hook: Box::new(move || killer.kill(verb)), stalls: false })
        }
    }
}

async fn children_killed(stage: &Stage<'_>, verb: &'static str, seed: u64) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    let places = random_bytes(seed, 6);
    let mut deaths = 0;
    for (number, byte) in places.iter().enumerate() {
        let number = name(number);
        let snapshot = stage.snap(&fs, LEN, &number).await?;
        let whole = stage.stream_len(&full(&fs, &snapshot)).await?;
        let report = rig.run_with(kill_at(stage, verb, *byte)?).await;
        for failure in report.failures() {
            ensure!(failure.contains("was killed by signal 9"), "killed at byte {byte}: {failure}");
        }
        deaths += usize::from(report.summary.errors > 0);
        idle(stage).await?;
        let token = stage.zfs().dataset(&rig.received(&fs)?).await.map(|dataset| dataset.resume_token);
        let rest = rig.ok().await?;
        if token.is_ok_and(|token| token.is_some()) {
            ensure!(rest.action(&fs)?.starts_with("resume"), "{}", rest.action(&fs)?);
            ensure!(rest.summary.bytes < whole, "{} of {whole} bytes were sent again", rest.summary.bytes);
        }
        rig.same(&fs).await?;
        let state = stage.state(&fs).await?;
        ensure!(state.ends_with(&[format!("cursor {number}"), format!("@{number}")]), "{state:?}");
        ensure!(!state.iter().any(|line| line.contains("step")), "{state:?}");
        stage.world.remove_file(&fs, &format!("file {number}"))?;
    }
    ensure!(deaths * 2 > places.len(), "only {deaths} of {} came in time", places.len());
    Ok(())
}

async fn send_killed(stage: &Stage<'_>) -> Result<()> {
    children_killed(stage, "send", 11).await
}

async fn receive_killed(stage: &Stage<'_>) -> Result<()> {
    children_killed(stage, "receive", 12).await
}

/// Runs a push job as a daemon; with a byte, it kills itself when so many of the first stream have passed.
pub(crate) fn daemon(jobs: &Path, dies_at: Option<u64>) -> Result<()> {
    let jobs = std::fs::read_to_string(jobs).with_context(|| jobs.display().to_string())?;
    let mut world = World::new(Arc::new(ZfsCli::new(CliConfig::default())));
    if let Some(bytes) = dies_at {
        // As abrupt as it gets: nothing of this process runs any more.
        let hook = Box::new(|| {
            let _ = kill_process(getpid(), Signal::KILL);
        });
        let fault = Arc::new(Fault::AfterBytes { bytes, hook, stalls: true });
        world.connector = Arc::new(move |_, way| Arc::new(Stalling { way, fault: Arc::clone(&fault) }));
    }
    crate::conformance::block_on(async {
        let daemon = start(&world, &jobs)?;
        let summary = daemon.wakeup_and_wait("pull job").await?.context("the daemon stopped")?;
        println!("{} steps, {} bytes, {} errors", summary.steps, summary.bytes, summary.errors);
        Ok(daemon.stop("it is over").await?)
    })?
}

fn run(jobs: &Path, dies_at: Option<u64>) -> Result<(ExitStatus, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--backend", "real", "--daemon"]).arg(jobs);
    command.args(dies_at.map(|byte| format!("--dies-at={byte}")));
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status, String::from_utf8_lossy(&said).into_owned()))
}

/// A process of its own dies; the children that it leaves behind end by themselves.
async fn daemon_killed(stage: &Stage<'_>) -> Result<()> {
    let On::Real(bench) = stage.on else { bail!("it is no process") };
    let jobs: PathBuf = bench.folder().join("jobs.yml");
    std::fs::write(&jobs, crate::jobs::source_and_pull(stage)?)?;
    let root = stage.dst("pulled")?;
    stage.world.create_filesystem(&root)?;
    let fs = stage.fs("sender fs")?;
    let received = root.join(&fs)?;
    let (mut resumed, places) = (0, random_bytes(13, 5));
    for (number, byte) in places.iter().enumerate() {
        let number = name(number);
        let snapshot = stage.snap(&fs, LEN, &number).await?;
        let whole = stage.stream_len(&full(&fs, &snapshot)).await?;
        let (status, said) = run(&jobs, Some(*byte))?;
        ensure!(status.signal() == Some(9), "it ended with {status}: {said}");
        idle(stage).await?;
        let token = stage.zfs().dataset(&received).await.ok().and_then(|dataset| dataset.resume_token);
        let (status, said) = run(&jobs, None)?;
        ensure!(status.success() && said.contains("1 steps") && said.contains(" 0 errors"), "{status}: {said}");
        if token.is_some() {
            let bytes = said.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).nth(1);
            ensure!(bytes.is_some_and(|bytes| bytes < whole), "of {whole} bytes: {said}");
            resumed += 1;
        }
        agrees(stage, &fs, &received, &number).await?;
        stage.world.remove_file(&fs, &format!("file {number}"))?;
    }
    ensure!(resumed > 0, "no death left anything to resume");
    Ok(())
}

/// Both sides are as after an undisturbed step.
async fn agrees(stage: &Stage<'_>, fs: &DatasetName, received: &DatasetName, number: &str) -> Result<()> {
    stage.same_files_mounted(fs, received)?;
    let state = stage.state_of(fs, "source job").await?;
    ensure!(state == [format!("cursor {number}"), format!("@{number}")], "{state:?}");
    let state = stage.state(received).await?;
    ensure!(state.last() == Some(&format!("@{number} last of pull job")), "{state:?}");
    ensure!(state.iter().filter(|line| line.contains("last")).count() == 1, "{state:?}");
    ensure!(stage.dataset(received).await?.resume_token.is_none(), "{received} has a token");
    Ok(())
}
