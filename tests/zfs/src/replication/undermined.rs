//! What a plan relied on goes away before, or while, it is acted on.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use model::DatasetName;
use model::protection::ProtectionStrategy as Strategy;
use zfs::fake::PoolState;

use super::faults::Fault;
use super::rig::{On, SINK, Stage, Table, filter, protection};
use crate::body;
use crate::conformance::{LARGE, version};

pub(super) const CASES: &Table = &[
    ("snapshots_destroyed_under_the_feet_of_a_step", body!(destroyed)),
    ("snapshot_cannot_be_destroyed_while_it_is_sent", body!(destroyed_in_transfer)),
    ("pools_are_away_for_a_moment_in_the_middle", body!(pools_away)),
    ("hold_on_the_base_of_an_interrupted_receive_is_not_stale", body!(base_of_partial)),
];

type Deed = Box<dyn Fn() + Send + Sync>;

/// Destroys a snapshot as somebody else would, from within a run. A failure shows as a run that goes well.
fn destroyer(stage: &Stage<'_>, name: &DatasetName, snapshot: &'static str) -> Deed {
    let (zfs, name) = (stage.zfs(), name.clone());
    match stage.on {
        On::Fake(_) => Box::new(move || {
            let Ok(snapshot) = version(snapshot) else { return };
            // The model is ready at once.
            drop(zfs.destroy_snapshots(&name, &[snapshot]).now_or_never());
        }),
        On::Real(_) => Box::new(move || {
            drop(Command::new("zfs").args(["destroy", &format!("{name}@{snapshot}")]).output());
        }),
    }
}

/// Lets something happen right before the first send.
fn before_the_first_send(deed: Deed) -> Fault {
    let calls = AtomicU32::new(0);
    Fault::BeforeSend(Box::new(move |_| {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            deed();
        }
        Ok(())
    }))
}

async fn destroyed(stage: &Stage<'_>) -> Result<()> {
    let all = stage.push()?;
    for strategy in [Strategy::Resumability, Strategy::Incremental, Strategy::Nothing] {
        let fs = stage.fs_with(&format!("sender {strategy:?}"), &["1"]).await?;
        let only = filter([fs.as_str()])?;
        let rig = all.again(|job| {
            job.filesystems = only;
            job.protection = protection(strategy);
        })?;
        rig.ok().await?;
        for snapshot in ["2", "3"] {
            stage.snap(&fs, 1000, snapshot).await?;
        }
        let report = rig.run_with(before_the_first_send(destroyer(stage, &fs, "2"))).await;
        report.fails(&[fs.as_str(), "does not exist"])?;
        stage.is(&rig.received(&fs)?, if strategy == Strategy::Nothing { &["@1"] } else { &["@1 last"] }).await?;
        let report = rig.ok().await?;
        ensure!(report.action(&fs)?.starts_with("send from @1: @1 => @3"), "{}", report.action(&fs)?);
        rig.same(&fs).await?;
        if strategy == Strategy::Nothing {
            // Nobody asked for a base to be left then.
            stage.is(&fs, &["@1", "@3"]).await?;
            continue;
        }
        stage.is(&fs, &["@1", "cursor 3", "@3"]).await?;
        stage.snap(&fs, 1000, "4").await?;
        let report = rig.run_with(before_the_first_send(destroyer(stage, &fs, "3"))).await;
        report.fails(&[fs.as_str(), "does not exist"])?;
        let report = rig.ok().await?;
        ensure!(report.action(&fs)?.starts_with("send from #zrepl_CURSOR_G_"), "{}", report.action(&fs)?);
        stage.is(&fs, &["@1", "cursor 4", "@4"]).await?;
        stage.is(&rig.received(&fs)?, &["@1", "@3", "@4 last"]).await?;
        rig.same(&fs).await?;
    }
    Ok(())
}

async fn destroyed_in_transfer(stage: &Stage<'_>) -> Result<()> {
    let all = stage.push()?;
    for strategy in [Strategy::Resumability, Strategy::Incremental, Strategy::Nothing] {
        let fs = stage.fs(&format!("sender {strategy:?}"))?;
        stage.snap(&fs, 6 * LARGE, "1").await?;
        let only = filter([fs.as_str()])?;
        let rig = all.again(|job| {
            job.filesystems = only;
            job.protection = protection(strategy);
        })?;
        let (tried, deed) = (Arc::new(AtomicU32::new(0)), destroyer(stage, &fs, "1"));
        let count = Arc::clone(&tried);
        let hook = Box::new(move || {
            deed();
            count.fetch_add(1, Ordering::Relaxed);
        });
        let report = rig.run_with(Fault::AfterBytes { bytes: LARGE as u64, hook, stalls: false }).await;
        ensure!(report.summary.errors == 0, "{:?}", report.failures());
        ensure!(tried.load(Ordering::Relaxed) == 1, "nobody tried to destroy it");
        rig.same(&fs).await?;
    }
    Ok(())
}

/// Exports both pools and imports them again, from within a run.
fn exporter(stage: &Stage<'_>) -> Deed {
    let pools = stage.world.pools();
    match stage.on {
        On::Fake(world) => {
            let host = world.host().clone();
            Box::new(move || {
                for state in [PoolState::Exported, PoolState::Online] {
                    for pool in &pools {
                        drop(host.set_pool_state(pool.as_str(), state));
                    }
                }
            })
        }
        On::Real(bench) => {
            let folder = bench.folder().to_string_lossy().into_owned();
            Box::new(move || {
                for pool in pools.iter().map(DatasetName::as_str) {
                    drop(Command::new("zpool").args(["export", pool]).status());
                    let import = ["import", "-o", "cachefile=none", "-d", &folder, pool];
                    drop(Command::new("zpool").args(import).status());
                }
            })
        }
    }
}

async fn pools_away(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let mut names = Vec::new();
    for path in ["a", "b", "c"] {
        names.push(stage.fs_with(path, &["1"]).await?);
    }
    rig.ok().await?;
    for fs in &names {
        stage.snap(fs, LARGE, "2").await?;
        stage.snap(fs, 1000, "3").await?;
    }
    // Between two steps of one filesystem as well.
    let (export, calls) = (exporter(stage), AtomicU32::new(0));
    let fault = Fault::BeforeSend(Box::new(move |_| {
        if calls.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
            export();
        }
        Ok(())
    }));
    let report = rig.run_with(fault).await;
    ensure!(report.summary.errors == 0 && report.summary.steps == 6, "{:?}", report.failures());
    for fs in &names {
        rig.same(fs).await?;
        stage.is(fs, &["@1", "@2", "cursor 3", "@3"]).await?;
        stage.is(&rig.received(fs)?, &["@1", "@2", "@3 last"]).await?;
    }
    Ok(())
}

/// Somebody takes a snapshot there, and it is held like what was received last.
async fn base_of_partial(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    stage.snap(&fs, LARGE, "2").await?;
    ensure!(rig.run_with(Fault::CutEnd(700_000)).await.summary.errors == 1);
    let received = rig.received(&fs)?;
    let own = stage.take(&received, "own").await?;
    stage.make_last_received(&received, &own, SINK).await?;
    let started = rig.again(|_| {})?;
    ensure!(started.clean().await?[1] == 0, "what can be resumed has lost its base");
    stage.is(&received, &["@1 last", "@own last"]).await?;
    stage.zfs().abort_receive(&received).await?;
    ensure!(started.clean().await?[1] == 1);
    stage.is(&received, &["@1", "@own last"]).await
}
