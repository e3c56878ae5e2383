//! Pools that are full, read-only, or gone.

use anyhow::{Context as _, Result, ensure};
use zfs::fake::PoolState;
use zfs::{PlaceholderEncryption, Scope, Snapshot};

use super::{Body, Ground, LARGE, SMALL, expect, full, into, outcome, resume, tag, version};
use crate::body;

pub(super) const CASES: &[(&str, Body)] = &[
    ("Z6_who_asks_first_for_a_feature_and_gives_up_spoils_it_for_nobody", body!(cancelled_detection)),
    ("Z16_exported_pool", body!(exported)),
    ("Z16_read_only_pool", body!(read_only)),
    ("Z16_out_of_space_keeps_what_fitted", body!(out_of_space)),
    ("Z16_quota_exceeded_keeps_what_fitted", body!(quota)),
];

async fn cancelled_detection(ground: &Ground<'_>) -> Result<()> {
    let (zfs, fs) = (ground.zfs(), ground.fs("a b")?);
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let [_, pool] = ground.world.pools();
    // Polled once, then dropped.
    tokio::select! { biased; _ = zfs.can_resume(pool.as_str()) => {}, () = std::future::ready(()) => {} }
    let (first, second) = futures::join!(zfs.can_resume(pool.as_str()), zfs.can_resume(pool.as_str()));
    ensure!(first? && second?, "the pool has the feature");
    ensure!(zfs.can_resume(pool.as_str()).await?);
    ground.transfer(&full(&fs, &one), &into(&ground.dst("copy")?, "1")?).await?;
    Ok(())
}

async fn exported(ground: &Ground<'_>) -> Result<()> {
    let (zfs, fs) = (ground.zfs(), ground.fs("a b")?);
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let [_, pool] = ground.world.pools();
    let target = ground.dst("target")?;
    ground.transfer(&full(&fs, &one), &into(&target, "1")?).await?;
    ground.world.set_pool_state(&pool, PoolState::Exported)?;
    let listing = zfs.list(&Scope::Trees(ground.world.pools().to_vec())).await?;
    ensure!(listing.missing == [pool.clone()] && listing.datasets.len() == 2, "{listing:?}");
    expect(zfs.dataset(&target).await, "NotFound", &target)?;
    let snapshot = [Snapshot { dataset: target.clone(), name: version("1")? }];
    for result in [zfs.snapshot(&snapshot).await.pop(), zfs.hold(&tag("tag")?, &snapshot).await.pop()] {
        expect(result.context("one result")?, "NotFound", &snapshot[0])?;
    }
    let send = full(&fs, &one);
    let new = ground.dst("new")?;
    expect(ground.transfer(&send, &into(&new, "1")?).await, "NotFound", &new)?;
    let made = zfs.create_placeholder(&new, PlaceholderEncryption::Inherit).await;
    expect(made, "PoolMissing", &new)?;
    let sent = zfs.send(&full(&target, &one)).await.map(|stream| stream.begin);
    ensure!(outcome(&sent) == "NotFound", "{sent:?}");
    ground.world.set_pool_state(&pool, PoolState::Online)?;
    ensure!(ground.versions(&target).await? == ["@1"]);
    Ok(())
}

async fn read_only(ground: &Ground<'_>) -> Result<()> {
    let (zfs, fs) = (ground.zfs(), ground.fs("a b")?);
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let [_, pool] = ground.world.pools();
    let target = ground.dst("target")?;
    ground.transfer(&full(&fs, &one), &into(&target, "1")?).await?;
    ground.world.set_pool_state(&pool, PoolState::ReadOnly)?;
    ensure!(ground.versions(&target).await? == ["@1"], "it can be read");
    let (new, names) = (ground.dst("new")?, [version("1")?]);
    let wanted = [Snapshot { dataset: target.clone(), name: version("2")? }];
    let taken = [Snapshot { dataset: target.clone(), name: version("1")? }];
    for result in [
        zfs.snapshot(&wanted).await.pop().context("one")?,
        zfs.hold(&tag("tag")?, &taken).await.pop().context("one")?,
        zfs.destroy_snapshots(&target, &names).await.pop().context("one")?,
        zfs.set_property(&target, "a:b", "c").await,
        zfs.bookmark(&target, &one, &version("mark")?).await,
        zfs.create_placeholder(&new, PlaceholderEncryption::Inherit).await,
        ground.transfer(&full(&fs, &one), &into(&new, "1")?).await,
    ] {
        ensure!(outcome(&result) == "ReadOnly", "{result:?}");
    }
    zfs.release(&tag("tag")?, &taken).await.pop().context("one")??;
    ensure!(zfs.send(&full(&target, &one)).await?.begin.to == one.guid, "it can be sent");
    ground.world.set_pool_state(&pool, PoolState::Online)?;
    Ok(())
}

async fn out_of_space(ground: &Ground<'_>) -> Result<()> {
    let (fs, copy) = (ground.fs("a b")?, ground.dst("copy")?);
    let one = ground.write_take(&fs, 20 * LARGE, "1").await?;
    ground.world.fill(&ground.world.pools()[1], 6)?;
    let refused = ground.transfer(&full(&fs, &one), &into(&copy, "1")?).await;
    let error = expect(refused, "NoSpace", &copy)?;
    let listed = ground.dataset(&copy).await?.resume_token.context("a token")?;
    if let Some(token) = error.resume_token() {
        ensure!(token == listed);
    }
    let started = ground.zfs().send(&resume(&fs, &listed)).await?.begin;
    ensure!(started.to == one.guid, "it can go on when there is space");
    Ok(())
}

async fn quota(ground: &Ground<'_>) -> Result<()> {
    let (fs, parent) = (ground.fs("a b")?, ground.dst("limited")?);
    let one = ground.write_take(&fs, 20 * LARGE, "1").await?;
    ground.world.create_filesystem(&parent)?;
    ground.zfs().set_property(&parent, "quota", "5000000").await?;
    let copy = ground.dst("limited/copy")?;
    let refused = ground.transfer(&full(&fs, &one), &into(&copy, "1")?).await;
    expect(refused, "QuotaExceeded", &copy)?;
    ensure!(ground.dataset(&copy).await?.resume_token.is_some());
    Ok(())
}
