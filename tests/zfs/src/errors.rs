//! What ends in a clear error that names the object, loses no base, and leaves the rest going on.

use std::process::Command;

use anyhow::{Result, ensure};
use model::DatasetName;
use zfs::PlaceholderEncryption;
use zfs::fake::PoolState;

use crate::body;
use crate::case::Case;
use crate::conformance::LARGE;
use crate::replication::faults::Fault;
use crate::replication::rig::{self, On, Stage, Table, filter};

const CASES: &Table = &[
    ("missing_root_fs", body!(missing_root)),
    ("missing_receiver_pool", body!(missing_receiver_pool)),
    ("missing_sender_pool", body!(missing_sender_pool)),
    ("Z16_pool_exported_mid_run", body!(exported_mid_run)),
    ("Z16_full_receiver", body!(full_receiver)),
    ("Z16_quota_on_the_receiver", body!(quota)),
    ("Z16_read_only_receiver", body!(read_only)),
    ("encryption_key_is_not_loaded", body!(key_not_loaded)),
];

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    rig::cases("errors", &[CASES])
}

async fn missing_root(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.rig(stage.job()?)?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let text = format!("root_fs {:?} does not exist", rig.job.root.as_str());
    rig.run().await.fails(&["cannot list the receiver", &text])?;
    stage.is(&fs, &["@1"]).await?;
    // Nor is it made by a client's first filesystem.
    let client = rig.again(|job| job.client = Some("client".to_owned()))?;
    client.run().await.fails(&[&text])?;
    stage.is(&rig.job.root, &["missing"]).await?;
    stage.push()?.ok().await?;
    rig.same(&fs).await
}

async fn missing_receiver_pool(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    stage.snap(&fs, 1000, "2").await?;
    let [_, pool] = stage.world.pools();
    stage.world.set_pool_state(&pool, PoolState::Exported)?;
    let text = format!("pool {:?} is not imported", pool.as_str());
    rig.run().await.fails(&["cannot list the receiver", &text])?;
    stage.is(&fs, &["cursor 1", "@1", "@2"]).await?;
    stage.world.set_pool_state(&pool, PoolState::Online)?;
    rig.ok().await?;
    rig.same(&fs).await
}

async fn missing_sender_pool(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    let [pool, _] = stage.world.pools();
    stage.world.set_pool_state(&pool, PoolState::Exported)?;
    rig.run().await.fails(&["cannot list the sender", pool.as_str(), "is the pool imported?"])?;
    stage.is(&rig.received(&fs)?, &["@1 last"]).await?;
    stage.world.set_pool_state(&pool, PoolState::Online)?;
    rig.ok().await?;
    rig.same(&fs).await
}

/// Exports a pool from within a run.
fn exporter(stage: &Stage<'_>, pool: &DatasetName) -> Box<dyn Fn() + Send + Sync> {
    let pool = pool.clone();
    match stage.on {
        On::Fake(world) => {
            let host = world.host().clone();
            // A failure shows as a run in which nothing fails.
            Box::new(move || drop(host.set_pool_state(pool.as_str(), PoolState::Exported)))
        }
        On::Real(_) => Box::new(move || drop(Command::new("zpool").args(["export", pool.as_str()]).status())),
    }
}

async fn exported_mid_run(stage: &Stage<'_>) -> Result<()> {
    let [gone, pool] = stage.world.pools();
    let (a, b, c) = (stage.fs("a")?, stage.fs("b")?, stage.dst("c")?);
    stage.world.create_filesystem(&c)?;
    let mut job = stage.job()?;
    job.filesystems = filter([a.as_str(), b.as_str(), c.as_str()])?;
    job.placeholders = Some(PlaceholderEncryption::Inherit);
    stage.world.create_filesystem(&job.root)?;
    let rig = stage.rig(job)?;
    for name in [&a, &b, &c] {
        stage.snap(name, 1000, "1").await?;
    }
    rig.ok().await?;
    for name in [&a, &b, &c] {
        stage.snap(name, 1000, "2").await?;
    }
    let (export, first) = (exporter(stage, &gone), a.clone());
    let fault = Fault::BeforeSend(Box::new(move |filesystem| {
        if *filesystem == first {
            export();
        }
        Ok(())
    }));
    let report = rig.run_with(fault).await;
    let failures = report.failures();
    ensure!(report.finished() == [c.to_string()], "{failures:?}");
    ensure!(failures.len() == 2, "{failures:?}");
    for (failure, name) in std::iter::zip(&failures, [&a, &b]) {
        ensure!(failure.starts_with(&format!("{name}: ")) && failure.contains("is not imported"), "{failure}");
        ensure!(failure.contains(&format!("pool {:?}", gone.as_str())), "{failure}");
    }
    rig.same(&c).await?;
    // What is not imported at the start is an error; the rest goes on.
    stage.snap(&c, 1000, "3").await?;
    let failures = rig.run().await.failures();
    ensure!(failures.len() == 2 && failures.iter().all(|failure| failure.contains("is not imported")), "{failures:?}");
    rig.same(&c).await?;

    stage.world.set_pool_state(&gone, PoolState::Online)?;
    for name in [&a, &b] {
        stage.is(name, &["cursor 1", "@1", "@2"]).await?;
    }
    rig.ok().await?;
    for name in [&a, &b, &c] {
        rig.same(name).await?;
    }
    ensure!(rig.received(&c)?.pool() == pool.as_str());
    Ok(())
}

/// Fills the receiver in whatever way, lets a large step fail (and a small one pass, if the large one
/// has a limit of its own), makes room, and expects the large one to go on where it was.
async fn no_room(
    stage: &Stage<'_>,
    text: &str,
    only_here: bool,
    fill: impl Fn(&DatasetName) -> Result<()>,
    empty: impl Fn(&DatasetName) -> Result<()>,
) -> Result<()> {
    let rig = stage.push()?;
    let (large, small) = (stage.fs("large")?, stage.fs("small")?);
    for fs in [&large, &small] {
        stage.snap(fs, 1000, "1").await?;
    }
    rig.ok().await?;
    stage.snap(&large, 20 * LARGE, "2").await?;
    stage.snap(&small, 1000, "2").await?;
    let target = rig.received(&large)?;
    fill(&target)?;
    let report = rig.run().await;
    let failures = report.failures();
    ensure!(failures.iter().all(|failure| failure.contains(text)), "{failures:?}");
    let named = failures.iter().filter(|failure| failure.contains(target.as_str()));
    ensure!(named.count() == 1, "{failures:?}");
    if only_here {
        ensure!(report.finished() == [small.to_string()], "{failures:?}");
        rig.same(&small).await?;
    }
    stage.is(&large, &["cursor 1", "@1 step", "@2 step"]).await?;
    stage.is(&target, &["@1 last"]).await?;
    let partial = stage.dataset(&target).await?.resume_token.is_some();
    empty(&target)?;
    let report = rig.ok().await?;
    if partial {
        ensure!(report.summary.bytes < 20 * LARGE as u64, "{} bytes were sent again", report.summary.bytes);
    }
    for fs in [&large, &small] {
        rig.same(fs).await?;
        stage.is(fs, &["@1", "cursor 2", "@2"]).await?;
    }
    Ok(())
}

async fn full_receiver(stage: &Stage<'_>) -> Result<()> {
    let [_, pool] = stage.world.pools();
    no_room(stage, "out of space", false, |_| stage.world.fill(&pool, 8), |_| stage.world.empty(&pool)).await
}

async fn quota(stage: &Stage<'_>) -> Result<()> {
    let set = |target: &DatasetName, value: &str| stage.world.set_property(target, "quota", value);
    no_room(stage, "quota exceeded", true, |target| set(target, "8000000"), |target| set(target, "none")).await
}

async fn read_only(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    stage.snap(&fs, 1000, "2").await?;
    let [_, pool] = stage.world.pools();
    stage.world.set_pool_state(&pool, PoolState::ReadOnly)?;
    let received = rig.received(&fs)?;
    rig.run().await.fails(&[received.as_str(), "the pool is read-only"])?;
    stage.is(&fs, &["cursor 1", "@1 step", "@2 step"]).await?;
    stage.world.set_pool_state(&pool, PoolState::Online)?;
    rig.ok().await?;
    rig.same(&fs).await
}

async fn key_not_loaded(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let secret = stage.src("a secret")?;
    stage.world.create_encrypted(&secret)?;
    let plain = stage.fs("b plain")?;
    for fs in [&secret, &plain] {
        stage.snap(fs, 1000, "1").await?;
    }
    stage.world.set_key_loaded(&secret, false)?;
    rig.run().await.fails(&[secret.as_str(), "its encryption key is not loaded"])?;
    rig.same(&plain).await?;
    stage.world.set_key_loaded(&secret, true)?;
    rig.ok().await?;
    rig.same(&secret).await
}
