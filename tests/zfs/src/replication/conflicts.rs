//! Sides that went different ways.

use anyhow::{Result, ensure};
use model::VersionKind;

use super::rig::{Stage, Table};
use crate::body;
use crate::conformance::version;
use zfs::Snapshot;

pub(super) const CASES: &Table = &[
    ("R10_diverged_or_modified_receiver_stops_only_itself", body!(receiver_changed)),
    ("R11_sender_was_rolled_back", body!(rolled_back)),
    ("R13_receiver_lost_all_but_the_held_snapshot", body!(only_held_left)),
];

async fn receiver_changed(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let mut names = Vec::new();
    for path in ["diverged", "modified", "newer snapshot", "untouched"] {
        names.push(stage.fs_with(path, &["1"]).await?);
    }
    rig.ok().await?;
    let [diverged, modified, newer, untouched] = &names[..] else { anyhow::bail!("four") };
    stage.take(&rig.received(diverged)?, "own").await?;
    stage.world.write_file(&rig.received(modified)?, "own file", b"own")?;
    stage.take(&rig.received(newer)?, "own").await?;
    for fs in [diverged, modified, untouched] {
        stage.snap(fs, 1000, "2").await?;
    }
    let report = rig.run().await;
    let failures = report.failures();
    ensure!(failures.len() == 3, "{failures:?}");
    let says = |start: &str, text: &str| failures.iter().any(|f| f.starts_with(start) && f.contains(text));
    let conflict = "the receiver's latest snapshot is not present on sender: last common @1";
    ensure!(says(diverged.as_str(), conflict) && says(diverged.as_str(), "@own"), "{failures:?}");
    ensure!(says(newer.as_str(), conflict), "{failures:?}");
    ensure!(says(modified.as_str(), "has been modified since its most recent snapshot"), "{failures:?}");
    rig.same(untouched).await?;
    // Whatever failed lost nothing of what both have.
    for fs in [diverged, modified, newer] {
        let state = stage.state(fs).await?;
        ensure!(state.contains(&"cursor 1".to_owned()), "{fs} has {state:?}");
        let state = stage.state(&rig.received(fs)?).await?;
        ensure!(state.first() == Some(&"@1 last".to_owned()), "{fs} has {state:?}");
    }
    // A person puts the modified one right.
    stage.world.rollback(&Snapshot { dataset: rig.received(modified)?, name: version("1")? })?;
    ensure!(rig.run().await.failures().len() == 2);
    rig.same(modified).await
}

async fn rolled_back(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1", "2"]).await?;
    rig.ok().await?;
    stage.snap(&fs, 1000, "3").await?;
    // Not behind the cursor: goes on.
    stage.world.rollback(&Snapshot { dataset: fs.clone(), name: version("2")? })?;
    stage.is(&fs, &["@1", "cursor 2", "@2"]).await?;
    stage.snap(&fs, 1500, "4").await?;
    rig.ok().await?;
    rig.same(&fs).await?;
    // Behind it: what the receiver has is nowhere else, and stays. Both sides protect what they have in
    // common.
    stage.world.rollback(&Snapshot { dataset: fs.clone(), name: version("2")? })?;
    stage.is(&fs, &["@1", "@2"]).await?;
    stage.snap(&fs, 1200, "5").await?;
    rig.run().await.fails(&[fs.as_str(), "the receiver's latest snapshot is not present on sender", "@4"])?;
    stage.is(&fs, &["@1", "cursor 2", "@2", "@5"]).await?;
    stage.is(&rig.received(&fs)?, &["@2 last", "@4"]).await
}

async fn only_held_left(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| job.initial = model::plan::replication::InitialReplication::All)?;
    let fs = stage.fs_with("sender fs", &["1", "2", "3"]).await?;
    rig.ok().await?;
    let received = rig.received(&fs)?;
    for name in ["1", "2"] {
        stage.destroy(&received, name).await?;
        stage.destroy(&fs, name).await?;
    }
    let refused = stage.destroy(&received, "3").await;
    ensure!(refused.is_err_and(|error| matches!(error.kind, zfs::ErrorKind::Held)));
    stage.find(&received, VersionKind::Snapshot, "3").await?;
    stage.snap(&fs, 1000, "4").await?;
    let report = rig.ok().await?;
    ensure!(report.action(&fs)?.starts_with("send from @3"), "{}", report.action(&fs)?);
    rig.same(&fs).await
}
