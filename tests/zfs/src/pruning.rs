//! What pruning destroys on real pools, and what it never does.

use anyhow::{Context as _, Result, ensure};
use model::DatasetName;
use model::plan::prune::{Decision, KeepRule, PruneSide};
use model::plan::replication::InitialReplication;
use model::protection::{ProtectionStrategy, last_received_tag};
use regex::Regex;
use zfs::Snapshot;

use crate::body;
use crate::case::Case;
use crate::conformance::version;
use crate::replication::faults::Fault;
use crate::replication::rig::{self, Report, Rig, SINK, Stage, Table};

const CASES: &Table = &[
    ("E9_without_protection_rules_that_need_no_cursor_work", body!(unprotected)),
    ("E19_holds_of_other_tools_are_left_alone", body!(foreign_holds)),
    ("R19_cursor_snapshot_was_destroyed_on_the_sender", body!(cursor_snapshot_gone)),
    ("R19_cursor_is_missing", body!(cursor_missing)),
    ("R19_keep_snapshot_at_cursor", body!(at_cursor)),
    ("R19_receiver_without_the_cursor_snapshot_keeps_the_base", body!(receiver_without_cursor_snapshot)),
    ("rules_on_both_sides", body!(both_sides)),
];

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    rig::cases("pruning", &[CASES])
}

fn last_n(count: usize) -> KeepRule {
    KeepRule::LastN { count, regex: None }
}

fn named(pattern: &str) -> Result<KeepRule> {
    Ok(KeepRule::Regex { regex: Regex::new(pattern)?, negate: false })
}

const NOT_REPLICATED: KeepRule = KeepRule::NotReplicated { keep_snapshot_at_cursor: true };

fn decision(report: &Report, side: PruneSide, fs: &DatasetName, snapshot: &str) -> Result<Decision> {
    let plan = report.pruned(side)?;
    let plan = plan.filesystems.iter().find(|plan| plan.name == *fs).context("planned")?;
    let mut decisions = std::iter::zip(plan.versions.iter(), plan.decisions.iter());
    let found = decisions.find(|(version, _)| version.is_snapshot() && version.name.as_str() == snapshot);
    found.map(|(_, decision)| *decision).with_context(|| format!("@{snapshot} was not looked at"))
}

async fn replicated<'a>(stage: &'a Stage<'_>, snapshots: &[&str]) -> Result<(Rig<'a>, DatasetName)> {
    let rig = stage.push_with(|job| job.initial = InitialReplication::All)?;
    let fs = stage.fs_with("sender fs", snapshots).await?;
    rig.ok().await?;
    Ok((rig, fs))
}

async fn unprotected(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| {
        job.initial = InitialReplication::All;
        job.protection = rig::protection(ProtectionStrategy::Nothing);
        job.keep_sender = vec![last_n(1)];
        job.keep_receiver = vec![last_n(2)];
    })?;
    let fs = stage.fs_with("sender fs", &["1", "2", "3"]).await?;
    rig.ok().await?;
    stage.is(&fs, &["@3"]).await?;
    stage.is(&rig.received(&fs)?, &["@2", "@3"]).await?;
    stage.snap(&fs, 1000, "4").await?;
    rig.ok().await?;
    rig.same(&fs).await?;
    stage.is(&fs, &["@4"]).await
}

async fn foreign_holds(stage: &Stage<'_>) -> Result<()> {
    let (rig, fs) = replicated(stage, &["1", "2"]).await?;
    let received = rig.received(&fs)?;
    for (dataset, name) in [(&fs, "1"), (&fs, "2"), (&received, "1"), (&received, "2")] {
        stage.hold("backup tool", dataset, name).await?;
    }
    stage.snap(&fs, 1000, "3").await?;
    stage.hold("backup tool", &fs, "3").await?;
    let rig = rig.again(|job| {
        job.keep_sender = vec![NOT_REPLICATED];
        job.keep_receiver = vec![last_n(1)];
    })?;
    let report = rig.ok().await?;
    ensure!(report.summary.destroyed == 0);
    stage.is(&fs, &["@1 backup tool", "@2 backup tool", "cursor 3", "@3 backup tool"]).await?;
    stage.is(&received, &["@1 backup tool", "@2 backup tool", "@3 last"]).await?;
    for (side, name) in [(PruneSide::Sender, "1"), (PruneSide::Receiver, "1"), (PruneSide::Receiver, "2")] {
        let decision = decision(&report, side, &fs, name)?;
        ensure!(decision == Decision::KeptHeld, "{side} @{name}: {decision:?}");
    }
    // One that was made since the listing.
    let view = stage.dataset(&received).await?;
    let snapshots = view.versions.iter().filter(|version| version.name.as_str() == "1").map(model::Version::to_ref);
    let request = wire::DestroyRequest { filesystem: fs.clone(), snapshots: snapshots.collect() };
    let results = rig.receiver.destroy_snapshots(&[request]).await?;
    let outcome = &results.first().context("one")?.results.first().context("one")?.1;
    ensure!(
        matches!(outcome, wire::DestroyOutcome::Kept(why) if why.contains("backup tool")),
        "who holds it is said: {outcome:?}"
    );
    Ok(())
}

async fn cursor_snapshot_gone(stage: &Stage<'_>) -> Result<()> {
    let (rig, fs) = replicated(stage, &["1", "2", "3"]).await?;
    stage.destroy(&fs, "3").await?;
    stage.snap(&fs, 1000, "4").await?;
    let rig = rig.again(|job| job.keep_sender = vec![NOT_REPLICATED])?;
    // What came before the cursor is replicated although the cursor's snapshot is gone; @4 is not.
    rig.run_with(Fault::RefuseReceive).await.failure()?;
    stage.is(&fs, &["cursor 3", "@4 step"]).await?;
    rig.ok().await?;
    stage.is(&fs, &["cursor 4", "@4"]).await?;
    rig.same(&fs).await
}

async fn cursor_missing(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| {
        job.initial = InitialReplication::Fail;
        job.keep_sender = vec![NOT_REPLICATED, last_n(1)];
    })?;
    let fs = stage.fs_with("sender fs", &["1", "2", "3"]).await?;
    rig.run().await.fails(&["automatic conflict resolution"])?;
    stage.is(&fs, &["@1", "@2", "@3"]).await?;
    // A rule that does not ask for the cursor works without one.
    let rig = rig.again(|job| job.keep_sender = vec![last_n(1)])?;
    rig.run().await.fails(&["automatic conflict resolution"])?;
    stage.is(&fs, &["@3"]).await
}

async fn at_cursor(stage: &Stage<'_>) -> Result<()> {
    let (rig, fs) = replicated(stage, &["1", "2"]).await?;
    let rig = rig.again(|job| job.keep_sender = vec![NOT_REPLICATED])?;
    rig.ok().await?;
    stage.is(&fs, &["cursor 2", "@2"]).await?;
    let rig = rig.again(|job| job.keep_sender = vec![KeepRule::NotReplicated { keep_snapshot_at_cursor: false }])?;
    rig.ok().await?;
    stage.is(&fs, &["cursor 2"]).await?;
    stage.snap(&fs, 1000, "3").await?;
    rig.ok().await?;
    stage.is(&fs, &["cursor 3"]).await?;
    stage.is(&rig.received(&fs)?, &["@1", "@2", "@3 last"]).await
}

async fn receiver_without_cursor_snapshot(stage: &Stage<'_>) -> Result<()> {
    let (rig, fs) = replicated(stage, &["1", "2", "3"]).await?;
    let received = rig.received(&fs)?;
    let tag = last_received_tag(&model::JobName::parse(SINK)?)?;
    let held = Snapshot { dataset: received.clone(), name: version("3")? };
    stage.zfs().release(&tag, &[held]).await.pop().context("one")??;
    stage.destroy(&received, "3").await?;
    let keep_none = named("^nothing is called so$")?;
    let rig = rig.again(|job| job.keep_receiver = vec![keep_none])?;
    rig.run_with(Fault::RefuseReceive).await.failure()?;
    stage.is(&received, &["@2"]).await?;
    stage.world.rollback(&Snapshot { dataset: received.clone(), name: version("2")? })?;
    rig.ok().await?;
    stage.is(&received, &["@3 last"]).await?;
    rig.same(&fs).await
}

async fn both_sides(stage: &Stage<'_>) -> Result<()> {
    let (rig, fs) = replicated(stage, &["1 auto", "2 manual", "3 auto", "4 auto", "5 auto"]).await?;
    let manual = named("manual$")?;
    let rig = rig.again(|job| {
        job.keep_sender = vec![NOT_REPLICATED, manual.clone()];
        job.keep_receiver = vec![last_n(2), manual];
    })?;
    let report = rig.ok().await?;
    ensure!(report.summary.destroyed == 5, "{:?}", report.summary);
    stage.is(&fs, &["@2 manual", "cursor 5 auto", "@5 auto"]).await?;
    stage.is(&rig.received(&fs)?, &["@2 manual", "@4 auto", "@5 auto last"]).await?;
    rig.same(&fs).await
}
