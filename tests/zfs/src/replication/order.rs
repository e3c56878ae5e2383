//! What waits for what, and what is tried again.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use model::RetryClass;
use wire::CallError;

use super::faults::{Fault, INJECTED, Side, injected};
use super::rig::{Stage, Table, filter};
use crate::body;

pub(super) const CASES: &Table = &[
    ("R2_failed_listing_is_tried_again", body!(listing)),
    ("R3_only_temporary_errors_are_tried_again", body!(mixed)),
    ("R15_deep_hierarchy_arrives_parents_first", body!(deep)),
    ("R15_parent_excluded_by_the_filter", body!(excluded)),
    ("R15_parent_that_is_there_already_holds_up_no_child", body!(diverged_parent)),
];

async fn listing(stage: &Stage<'_>) -> Result<()> {
    for side in [Side::Sender, Side::Receiver] {
        let fs = stage.fs_with(&format!("listed by {side:?}"), &["1"]).await?;
        let only = filter([fs.as_str()])?;
        let rig = match side {
            Side::Sender => stage.push_with(|job| job.attempts = 2)?,
            Side::Receiver => {
                let mut job = stage.job()?;
                job.attempts = 2;
                stage.rig(job)?
            }
        };
        let rig = rig.again(|job| job.filesystems = only)?;
        let calls = AtomicU32::new(0);
        let fault =
            Fault::Listing(Box::new(move |of, _| match of == side && calls.fetch_add(1, Ordering::Relaxed) == 0 {
                true => Err(CallError::Connection(format!("{INJECTED}: timed out"))),
                false => Ok(()),
            }));
        let report = rig.run_with(fault).await;
        report.fails(&["plan: cannot list the", INJECTED])?;
        ensure!(report.summary.errors == 0 && report.summary.steps == 1, "{:?}", report.summary);
        rig.same(&fs).await?;
    }
    Ok(())
}

async fn mixed(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| job.attempts = 2)?;
    let mut names = Vec::new();
    for path in ["a permanent", "b temporary", "c good"] {
        names.push(stage.fs_with(path, &["1"]).await?);
    }
    let [permanent, temporary, good] = &names[..] else { anyhow::bail!("three") };
    let (bad, passing) = (permanent.clone(), temporary.clone());
    let (tries, passed) = (AtomicU32::new(0), AtomicU32::new(0));
    let fault = Fault::BeforeSend(Box::new(move |fs| {
        if *fs == bad && tries.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(injected(RetryClass::Permanent));
        }
        if *fs == passing && passed.fetch_add(1, Ordering::Relaxed) == 0 {
            return Err(injected(RetryClass::Transient));
        }
        Ok(())
    }));
    let report = rig.run_with(fault).await;
    ensure!(report.summary.errors == 1 && report.summary.steps == 2, "{:?}", report.failures());
    ensure!(report.finished() == [good.to_string(), temporary.to_string()], "{:?}", report.finished());
    stage.is(&rig.received(permanent)?, &["missing"]).await?;
    rig.ok().await?;
    for name in &names {
        rig.same(name).await?;
    }
    Ok(())
}

async fn deep(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| job.concurrency = 4)?;
    let mut names = Vec::new();
    let mut path = "level".to_owned();
    for _ in 0..6 {
        names.push(stage.fs(&path)?);
        path.push_str("/l");
    }
    // The deepest snapshot is the oldest, and still has to wait.
    for name in names.iter().rev() {
        stage.snap(name, 1000, "1").await?;
    }
    let report = rig.ok().await?;
    let expected: Vec<String> = names.iter().map(ToString::to_string).collect();
    ensure!(report.finished() == expected, "{:?}", report.finished());
    for name in &names {
        stage.is(&rig.received(name)?, &["@1 last"]).await?;
    }
    Ok(())
}

async fn excluded(stage: &Stage<'_>) -> Result<()> {
    let parent = stage.fs_with("parent fs", &["1"]).await?;
    let child = stage.fs_with("parent fs/child", &["1"]).await?;
    let selected = filter([format!("{parent}<"), format!("!{parent}")])?;
    let rig = stage.push_with(|job| {
        job.filesystems = selected;
        job.placeholders = Some(zfs::PlaceholderEncryption::Inherit);
    })?;
    rig.ok().await?;
    rig.same(&child).await?;
    stage.is(&rig.received(&parent)?, &[]).await?;
    stage.is(&parent, &["@1"]).await
}

async fn diverged_parent(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let parent = stage.fs_with("parent fs", &["1"]).await?;
    rig.ok().await?;
    stage.take(&rig.received(&parent)?, "own").await?;
    stage.snap(&parent, 1000, "2").await?;
    let child = stage.fs_with("parent fs/new child", &["1"]).await?;
    let report = rig.run().await;
    report.fails(&[parent.as_str(), "the receiver's latest snapshot is not present on sender"])?;
    rig.same(&child).await
}
