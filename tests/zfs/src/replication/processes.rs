//! How many child processes a cycle takes.

use std::time::Instant;

use anyhow::{Result, ensure};
use model::plan::prune::KeepRule;

use super::rig::{Stage, Table};
use crate::body;

pub(super) const CASES: &Table =
    &[("ProcessCount_idle_cycle_is_constant", body!(idle)), ("ProcessCount_six_filesystems", body!(six))];

async fn idle(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| {
        job.concurrency = 4;
        job.keep_sender =
            vec![KeepRule::NotReplicated { keep_snapshot_at_cursor: true }, KeepRule::LastN { count: 2, regex: None }];
        job.keep_receiver = vec![KeepRule::LastN { count: 10, regex: None }];
    })?;
    let mut counts = Vec::new();
    let mut made = 0;
    for filesystems in [2, 12] {
        while made < filesystems {
            stage.fs_with(&format!("fs {made}"), &["1"]).await?;
            made += 1;
        }
        rig.ok().await?;
        for daemon in [&rig, &rig.again(|_| {})?] {
            let before = stage.world.processes();
            let report = daemon.ok().await?;
            ensure!(report.summary.steps == 0 && report.summary.destroyed == 0);
            ensure!(report.summary.filesystems == filesystems);
            counts.push(stage.world.processes() - before);
        }
    }
    println!("idle cycles with 2, 2, 12 and 12 filesystems start {counts:?} processes");
    counts.dedup();
    ensure!(matches!(counts[..], [1..=10]), "{counts:?}");
    Ok(())
}

async fn six(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| {
        job.keep_sender =
            vec![KeepRule::NotReplicated { keep_snapshot_at_cursor: true }, KeepRule::LastN { count: 5, regex: None }];
        job.keep_receiver = vec![KeepRule::LastN { count: 5, regex: None }];
    })?;
    let mut names = Vec::new();
    for number in 0..6 {
        names.push(stage.fs_with(&format!("fs {number}"), &["1"]).await?);
    }
    for (what, most, next) in [("the first replication", 50, "2"), ("the next increment", 62, "3")] {
        let (before, started) = (stage.world.processes(), Instant::now());
        let report = rig.ok().await?;
        let (count, took) = (stage.world.processes() - before, started.elapsed());
        ensure!(report.summary.steps == names.len());
        match stage.is_fake() {
            true => println!("{what} of six filesystems: {count} commands"),
            false => println!("{what} of six filesystems: {count} commands, {:.1} s", took.as_secs_f64()),
        }
        ensure!(count <= most, "{count} commands");
        for name in &names {
            stage.snap(name, 1000, next).await?;
        }
    }
    Ok(())
}
