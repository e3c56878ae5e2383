//! Sends: what a stream says about itself, and how it ends.

use anyhow::{Context as _, Result, ensure};
use model::VersionRef;
use tokio::io::AsyncReadExt as _;
use zfs::stream::feature;
use zfs::{SendFlags, Snapshot};

use super::{Body, Ground, LARGE, SMALL, expect, full, incremental, resume, send_args, version};
use crate::body;

pub(super) const CASES: &[(&str, Body)] = &[
    ("send_says_what_it_carries", body!(begin_record)),
    ("send_estimates_its_size", body!(estimates)),
    ("send_that_cannot_start_fails_at_once", body!(send_errors)),
    ("a_snapshot_being_sent_cannot_be_destroyed", body!(send_pins)),
    ("SendStreamCloseAfterBlockedOnPipeWrite", body!(close_while_blocked)),
    ("SendStreamCloseAfterEOFRead", body!(close_after_end)),
    ("SendStreamMultipleCloseAfterEOF", body!(end_stays_the_end)),
    ("SendStreamMultipleCloseBeforeEOF", body!(close_before_end)),
    ("Z4_cancelled_send_leaves_nothing_behind", body!(cancelled_send)),
];

async fn begin_record(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let mark = ground.mark(&fs, &one, "mark").await?;
    let two = ground.write_take(&fs, SMALL, "2").await?;
    let volume = ground.src("vol ume")?;
    ground.world.create_volume(&volume)?;
    let of_volume = ground.take(&volume, "v").await?;
    let flags = SendFlags::default();
    let properties = SendFlags { properties: true, ..flags };
    let backup = SendFlags { backup_properties: true, ..flags };
    let compressed = SendFlags { compressed: true, embedded: true, large_blocks: true, ..flags };
    let raw = SendFlags { raw: true, ..flags };
    let expected: [(_, Option<&VersionRef>, _, _, _, u64); 8] = [
        (&fs, None, &one, flags, false, 0),
        (&fs, Some(&one), &two, flags, false, 0),
        (&fs, Some(&mark), &two, flags, false, 0),
        (&fs, None, &one, properties, true, 0),
        (&fs, Some(&one), &two, backup, true, 0),
        (&fs, None, &one, compressed, false, feature::COMPRESSED | feature::EMBEDDED),
        (&fs, None, &one, raw, false, feature::COMPRESSED | feature::EMBEDDED),
        (&volume, None, &of_volume, flags, false, 0),
    ];
    for (dataset, from, to, flags, compound, features) in expected {
        let begin = ground.zfs().send(&send_args(dataset, from, to, flags)).await?.begin;
        ensure!(begin.to == to.guid && begin.from == from.map(|from| from.guid), "{begin:?}");
        ensure!(begin.to_name == format!("{dataset}@{}", to.name), "{begin:?}");
        ensure!(begin.compound == compound, "{begin:?}");
        let known = feature::COMPRESSED | feature::EMBEDDED | feature::RAW | feature::RESUMING;
        ensure!(begin.features & known == features, "{:#x} with {flags:?}", begin.features);
    }
    Ok(())
}

async fn estimates(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, LARGE, "1").await?;
    let mark = ground.mark(&fs, &one, "mark").await?;
    let two = ground.write_take(&fs, SMALL, "2").await?;
    for (args, least) in
        [(full(&fs, &one), LARGE), (incremental(&fs, &one, &two), SMALL), (incremental(&fs, &mark, &two), SMALL)]
    {
        let estimate = ground.zfs().estimate_send(&args).await?.context("an estimate")?;
        let mut stream = ground.zfs().send(&args).await?;
        let length = tokio::io::copy(&mut stream.bytes, &mut tokio::io::sink()).await?;
        ensure!(length as usize > least, "{length} bytes for {least}");
        ensure!(estimate.abs_diff(length) < length / 5 + 60_000, "estimated {estimate}, sent {length}");
        let expected = stream.expected.get().context("the size is known by now")?;
        ensure!(expected == estimate, "the send announces {expected}, the estimate was {estimate}");
    }
    let missing = VersionRef { name: version("no such")?, ..one.clone() };
    let failed = ground.zfs().estimate_send(&full(&fs, &missing)).await;
    ensure!(super::outcome(&failed) == "NotFound", "{failed:?}");
    Ok(())
}

async fn send_errors(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let two = ground.write_take(&fs, SMALL, "2").await?;
    let mark = ground.mark(&fs, &two, "mark").await?;
    let (missing, no_fs) = (VersionRef { name: version("no such")?, ..one.clone() }, ground.src("missing fs")?);
    let missing_mark = VersionRef { name: version("no such")?, ..mark.clone() };
    for (args, expected) in [
        (full(&fs, &missing), "NotFound"),
        (full(&no_fs, &one), "NotFound"),
        (incremental(&fs, &missing, &two), "NotFound"),
        (incremental(&fs, &missing_mark, &two), "NotFound"),
        (incremental(&fs, &two, &one), "Failed"),
        (incremental(&fs, &two, &two), "Failed"),
        (incremental(&fs, &mark, &one), "Failed"),
        (incremental(&fs, &mark, &two), "Failed"),
        (resume(&fs, "garbage"), "BadResumeToken"),
        (resume(&fs, "1-2-3-4"), "BadResumeToken"),
    ] {
        let result = ground.zfs().send(&args).await.map(|stream| stream.begin);
        ensure!(super::outcome(&result) == expected, "{args:?}: {expected} was expected, got {result:?}");
    }
    Ok(())
}

async fn send_pins(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    // Longer than the pipes hold, or the send would be over.
    let one = ground.write_take(&fs, 8 * LARGE, "1").await?;
    let stream = ground.zfs().send(&full(&fs, &one)).await?;
    expect(ground.destroy(&fs, "1").await, "Held", format!("{fs}@1"))?;
    drop(stream);
    destroyed_soon(ground, &fs).await
}

/// A dropped send ends in the background; its snapshot is free soon after.
async fn destroyed_soon(ground: &Ground<'_>, fs: &model::DatasetName) -> Result<()> {
    for _ in 0..200 {
        if ground.destroy(fs, "1").await.is_ok() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    ground.destroy(fs, "1").await.context("the send is over")
}

async fn close_while_blocked(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, 16 * LARGE, "1").await?;
    let stream = ground.zfs().send(&full(&fs, &one)).await?;
    ensure!(!ground.zfs().running().is_empty());
    drop(stream);
    destroyed_soon(ground, &fs).await?;
    idle_soon(ground).await
}

async fn idle_soon(ground: &Ground<'_>) -> Result<()> {
    for _ in 0..10_000 {
        if ground.zfs().running().is_empty() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    anyhow::bail!("still running: {:?}", ground.zfs().running())
}

async fn close_after_end(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let mut stream = ground.send(&full(&fs, &one)).await?;
    let length = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    ensure!(length as usize > SMALL, "{length} bytes");
    drop(stream);
    idle_soon(ground).await
}

async fn end_stays_the_end(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let mut stream = ground.send(&full(&fs, &one)).await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    for _ in 0..2 {
        ensure!(stream.read(&mut [0; 10]).await? == 0);
    }
    Ok(())
}

async fn close_before_end(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, 8 * LARGE, "1").await?;
    for bytes in [0, 128, LARGE] {
        let mut stream = ground.send(&full(&fs, &one)).await?;
        let mut begin = vec![0; bytes];
        stream.read_exact(&mut begin).await?;
        drop(stream);
    }
    idle_soon(ground).await
}

async fn cancelled_send(ground: &Ground<'_>) -> Result<()> {
    let fs = ground.fs("a b")?;
    let one = ground.write_take(&fs, SMALL, "1").await?;
    let snapshot = [Snapshot { dataset: fs.clone(), name: one.name.clone() }];
    let zfs = ground.zfs();
    let (args, tag) = (full(&fs, &one), super::tag("tag")?);
    // Polled once, then dropped: the children are gone, and nothing says that it is done.
    tokio::select! { biased; _ = zfs.send(&args) => {}, () = std::future::ready(()) => {} }
    tokio::select! { biased; _ = zfs.hold(&tag, &snapshot) => {}, () = std::future::ready(()) => {} }
    tokio::select! { biased; _ = zfs.release(&tag, &snapshot) => {}, () = std::future::ready(()) => {} }
    idle_soon(ground).await?;
    zfs.release(&tag, &snapshot).await.pop().context("one result")??;
    ensure!(zfs.holds(&snapshot).await?.is_empty());
    Ok(())
}
