//! What protects a base, through every kind of ending.

use anyhow::{Context as _, Result, ensure};
use model::protection::ProtectionStrategy as Strategy;
use model::protection::{ProtectionKind, ProtectionPolicy, cursor_name};
use model::{JobName, VersionKind};
use wire::Endpoint as _;

use super::faults::{Fault, INJECTED};
use super::rig::{JOB, Rig, Stage, Table, protection};
use crate::body;
use crate::conformance::{LARGE, SMALL};

pub(super) const CASES: &Table = &[
    ("CreateReplicationCursor", body!(create_cursor)),
    (
        "ReplicationIncrementalCleansUpStaleAbstractionsWithCacheOnSecondReplication",
        body!(stale_objects_for_a_new_daemon),
    ),
    (
        "ReplicationIncrementalCleansUpStaleAbstractionsWithoutCacheOnSecondReplication",
        body!(stale_objects_for_the_same_daemon),
    ),
    (
        "ReplicationIncrementalDestroysStepHoldsIffIncrementalStepHoldsAreDisabledButStepHoldsExist",
        body!(step_holds_of_another_policy),
    ),
    ("ReplicationIncrementalHandlesFromVersionEqTentativeCursorCorrectly", body!(from_tentative_cursor)),
    ("ReplicationStepCompletedLostBehavior__GuaranteeIncrementalReplication", body!(completion_lost_incremental)),
    ("ReplicationStepCompletedLostBehavior__GuaranteeResumability", body!(completion_lost_resumability)),
    ("R7_lost_replies_are_made_up_without_a_new_snapshot", body!(lost_replies)),
    ("E8_protection_kind_switched_mid_step", body!(switched)),
];

async fn create_cursor(stage: &Stage<'_>) -> Result<()> {
    let fs = stage.fs_with("sender fs", &[]).await?;
    let rig = stage.rig(stage.job()?)?;
    let mut snapshots = Vec::new();
    let mut marks = Vec::new();
    for name in ["1 x", "2 x", "3 x"] {
        let snapshot = stage.snap(&fs, 1000, name).await?;
        marks.push(stage.mark(&fs, &snapshot, name).await?);
        snapshots.push(snapshot);
    }
    stage.destroy(&fs, "3 x").await?;
    let ([one, ..], [mark_one, _, mark_three]) = (&snapshots[..], &marks[..]) else { anyhow::bail!("three") };
    let name = cursor_name(one.guid, &JobName::parse(JOB)?)?;
    for source in [one, one, mark_one] {
        stage.zfs().bookmark(&fs, source, &name).await.with_context(|| format!("from {source}"))?;
    }
    let cursor = stage.find(&fs, VersionKind::Bookmark, name.as_str()).await?;
    stage.zfs().bookmark(&fs, &cursor.to_ref(), &name).await.context("from itself")?;

    let view = rig.sender.list().await?;
    let seen = view.filesystems.get(&fs).context("listed")?;
    let newest = seen.protections.iter().filter(|p| p.kind == ProtectionKind::Cursor).max_by_key(|p| p.createtxg);
    let of_one = stage.find(&fs, VersionKind::Snapshot, "1 x").await?;
    ensure!(newest.is_some_and(|p| p.version.guid == one.guid && p.createtxg == of_one.createtxg), "{newest:?}");

    // Since OpenZFS 2.0 a bookmark can be copied, so that a cursor needs no snapshot.
    stage.make_cursor(&fs, mark_three, JOB).await?;
    stage.is(&fs, &["#1 x", "cursor 1 x", "@1 x", "#2 x", "@2 x", "#3 x", "cursor 3 x"]).await
}

async fn stale_objects_for_a_new_daemon(stage: &Stage<'_>) -> Result<()> {
    stale_objects(stage, true).await
}

async fn stale_objects_for_the_same_daemon(stage: &Stage<'_>) -> Result<()> {
    stale_objects(stage, false).await
}

const OTHER: &str = "other-job";

async fn stale_objects(stage: &Stage<'_>, restart: bool) -> Result<()> {
    let mut rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &[]).await?;
    let one = stage.snap(&fs, 1000, "1").await?;
    let two = stage.snap(&fs, 1000, "2").await?;
    stage.mark(&fs, &two, "2").await?;
    let three = stage.snap(&fs, 1000, "3").await?;
    rig.ok().await?;
    let received = rig.received(&fs)?;
    for job in [JOB, OTHER] {
        stage.make_cursor(&fs, &two, job).await?;
        stage.make_step_hold(&fs, &one, job).await?;
        stage.make_step_hold(&fs, &two, job).await?;
        stage.make_tentative(&fs, &three, job).await?;
    }
    stage.make_last_received(&received, &three, OTHER).await?;
    stage.snap(&fs, 1000, "4").await?;
    stage.snap(&fs, 1000, "5").await?;
    if restart {
        rig = rig.again(|_| {})?;
    }
    rig.ok().await?;
    let sender = [
        "@1 step of other-job",
        "#2",
        "cursor 2 of other-job",
        "@2 step of other-job",
        "tentative 3 of other-job",
        "@3",
        "@4",
        "cursor 5",
        "@5",
    ];
    stage.is(&fs, &sender).await?;
    stage.is(&received, &["@3 last of other-job", "@4", "@5 last"]).await
}

async fn step_holds_of_another_policy(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    stage.snap(&fs, LARGE, "2").await?;
    let received = rig.received(&fs)?;
    let cut = || Fault::CutEnd(400_000);
    ensure!(rig.run_with(cut()).await.summary.errors == 1);
    stage.is(&fs, &["cursor 1", "@1 step", "@2 step"]).await?;
    stage.is(&received, &["@1 last"]).await?;

    let rig = rig.again(|job| job.protection.incremental = Strategy::Incremental)?;
    let mut runs = 0;
    while rig.run_with(cut()).await.summary.errors > 0 {
        runs += 1;
        ensure!(runs < 5, "it makes no progress");
        stage.is(&fs, &["cursor 1", "@1", "tentative 2", "@2"]).await?;
    }
    stage.is(&fs, &["@1", "cursor 2", "@2"]).await?;
    stage.is(&received, &["@1", "@2 last"]).await?;
    rig.same(&fs).await
}

async fn from_tentative_cursor(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| job.protection = protection(Strategy::Incremental))?;
    let fs = stage.fs_with("sender fs", &[]).await?;
    let one = stage.snap(&fs, 1000, "1").await?;
    rig.ok().await?;
    stage.make_tentative(&fs, &one, JOB).await?;
    stage.destroy(&fs, "1").await?;
    stage.zfs().destroy_bookmark(&fs, &cursor_name(one.guid, &JobName::parse(JOB)?)?).await?;
    stage.is(&fs, &["tentative 1"]).await?;
    stage.snap(&fs, 1000, "2").await?;
    let rig = rig.again(|job| job.protection = protection(Strategy::Nothing))?;
    let report = rig.ok().await?;
    ensure!(report.summary.steps == 1);
    let action = report.action(&fs)?;
    ensure!(action.contains("send from #zrepl_CURSORTENTATIVE__G_"), "{action}");
    stage.is(&fs, &["@2"]).await?;
    stage.is(&rig.received(&fs)?, &["@1", "@2"]).await
}

async fn completion_lost(stage: &Stage<'_>, strategy: Strategy) -> Result<()> {
    let rig = stage.push_with(|job| job.protection = protection(strategy))?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    stage.snap(&fs, 1000, "2").await?;
    rig.run_with(Fault::LoseCompletion).await.fails(&[INJECTED])?;
    let received = rig.received(&fs)?;
    stage.is(&received, &["@1", "@2 last"]).await?;
    let held = strategy == Strategy::Resumability;
    for name in ["2", "1"] {
        if name == "1" {
            stage.snap(&fs, 1000, "3").await?;
            stage.destroy(&received, "1").await?;
        }
        match stage.destroy(&fs, name).await {
            Ok(()) => ensure!(!held, "@{name} was destroyed"),
            Err(error) => ensure!(held && matches!(error.kind, zfs::ErrorKind::Held), "@{name}: {error}"),
        }
    }
    rig.ok().await?;
    stage.is(&received, &["@2", "@3 last"]).await?;
    let sender: &[&str] = if held { &["@1", "@2", "cursor 3", "@3"] } else { &["cursor 3", "@3"] };
    stage.is(&fs, sender).await?;
    rig.same(&fs).await
}

async fn completion_lost_incremental(stage: &Stage<'_>) -> Result<()> {
    completion_lost(stage, Strategy::Incremental).await
}

async fn completion_lost_resumability(stage: &Stage<'_>) -> Result<()> {
    completion_lost(stage, Strategy::Resumability).await
}

async fn lost_replies(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["0"]).await?;
    rig.ok().await?;
    let faults = [
        (Fault::LoseCompletion, "1", "0"),
        (Fault::LoseReceiveReply, "2", "1"),
        (Fault::LoseCompletionReply, "3", "2"),
    ];
    for (fault, snapshot, before) in faults {
        stage.snap(&fs, 1000, snapshot).await?;
        let told = matches!(fault, Fault::LoseCompletionReply);
        rig.run_with(fault).await.fails(&[INJECTED])?;
        let state = stage.state(&fs).await?;
        let cursor = if told { snapshot } else { before };
        ensure!(state.contains(&format!("cursor {cursor}")), "{state:?}");
        let report = rig.ok().await?;
        ensure!(report.summary.steps == 0 && report.summary.bytes == 0, "nothing is sent again");
        let state = stage.state(&fs).await?;
        ensure!(state.ends_with(&[format!("cursor {snapshot}"), format!("@{snapshot}")]), "{state:?}");
        ensure!(!state.iter().any(|line| line.contains("step") || line.contains("tentative")), "{state:?}");
        let received = stage.state(&rig.received(&fs)?).await?;
        ensure!(received.iter().filter(|line| line.contains("last")).count() == 1, "{received:?}");
        ensure!(received.last() == Some(&format!("@{snapshot} last")), "{received:?}");
    }
    Ok(())
}

async fn switched(stage: &Stage<'_>) -> Result<()> {
    let all = [Strategy::Resumability, Strategy::Incremental, Strategy::Nothing];
    let rig = stage.push_with(|job| job.protection = ProtectionPolicy::default())?;
    let fs = stage.fs_with("sender fs", &["0"]).await?;
    rig.ok().await?;
    let pairs = all.iter().flat_map(|from| all.iter().filter(move |to| *to != from).map(move |to| (*from, *to)));
    for (number, (before, after)) in pairs.enumerate() {
        let snapshot = format!("{}", number + 1);
        stage.snap(&fs, 3 * SMALL, &snapshot).await?;
        let cut = rig.again(|job| job.protection = protection(before))?;
        ensure!(cut.run_with(Fault::CutEnd(2 * SMALL as u64)).await.summary.errors == 1);
        let rig: Rig<'_> = rig.again(|job| job.protection = protection(after))?;
        let report = rig.ok().await?;
        ensure!(report.discards().is_empty(), "{before:?} to {after:?}: {:?}", report.discards());
        let state = stage.state(&fs).await?;
        let traces: Vec<&String> = state.iter().filter(|line| !line.starts_with('@') || line.contains(' ')).collect();
        let cursor = format!("cursor {snapshot}");
        let (cursors, holds) = if after == Strategy::Nothing { (vec![], 0) } else { (vec![&cursor], 1) };
        ensure!(traces == cursors, "{before:?} to {after:?}: {state:?}");
        let received = stage.state(&rig.received(&fs)?).await?;
        ensure!(received.iter().filter(|line| line.contains(' ')).count() == holds, "{received:?}");
        rig.same(&fs).await?;
    }
    Ok(())
}
