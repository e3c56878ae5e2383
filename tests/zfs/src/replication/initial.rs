//! What is sent first, and to whom.

use anyhow::{Result, ensure};
use model::PropertyName;
use model::plan::replication::InitialReplication;

use super::faults::{Fault, INJECTED};
use super::rig::{Stage, Table};
use crate::body;

pub(super) const CASES: &Table = &[
    ("ReplicationInitialAll", body!(all)),
    ("ReplicationInitialMostRecent", body!(most_recent)),
    ("ReplicationInitialFail", body!(fail)),
    ("ReplicationIncrementalIsPossibleIfCommonSnapshotIsDestroyed", body!(common_destroyed)),
    ("ReplicationFailingInitialParentProhibitsChildReplication", body!(failing_parent)),
    ("ReplicationReceiverErrorWhileStillSending", body!(receiver_error)),
    ("ReplicationPropertyReplicationWorks", body!(properties)),
    ("R8_sender_with_bookmarks_only", body!(bookmarks_only)),
    ("R9_sender_without_versions", body!(no_versions)),
];

async fn three(stage: &Stage<'_>, initial: InitialReplication) -> Result<()> {
    let rig = stage.push_with(|job| job.initial = initial)?;
    let fs = stage.fs_with("sender fs", &["3 x", "2 x", "1 x"]).await?;
    let received = rig.received(&fs)?;
    let report = rig.run().await;
    match initial {
        InitialReplication::All => {
            ensure!(report.summary.errors == 0, "{:?}", report.failures());
            stage.is(&received, &["@3 x", "@2 x", "@1 x last"]).await?;
            stage.is(&fs, &["@3 x", "@2 x", "cursor 1 x", "@1 x"]).await?;
            rig.same(&fs).await?;
        }
        InitialReplication::MostRecent => {
            ensure!(report.summary.errors == 0, "{:?}", report.failures());
            stage.is(&received, &["@1 x last"]).await?;
            rig.same(&fs).await?;
        }
        InitialReplication::Fail => {
            report
                .fails(&[fs.as_str(), "automatic conflict resolution for initial replication is disabled in config"])?;
            stage.is(&received, &["missing"]).await?;
        }
    }
    Ok(())
}

async fn all(stage: &Stage<'_>) -> Result<()> {
    three(stage, InitialReplication::All).await
}

async fn most_recent(stage: &Stage<'_>) -> Result<()> {
    three(stage, InitialReplication::MostRecent).await
}

async fn fail(stage: &Stage<'_>) -> Result<()> {
    three(stage, InitialReplication::Fail).await
}

async fn common_destroyed(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    stage.destroy(&fs, "1").await?;
    stage.is(&fs, &["cursor 1"]).await?;
    stage.snap(&fs, 1000, "2").await?;
    rig.ok().await?;
    stage.is(&rig.received(&fs)?, &["@1", "@2 last"]).await?;
    stage.is(&fs, &["cursor 2", "@2"]).await?;
    rig.same(&fs).await
}

async fn failing_parent(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let mut names = Vec::new();
    for path in ["sender a", "sender a/child", "sender aa"] {
        names.push(stage.fs_with(path, &["initial"]).await?);
    }
    let report = rig.run_with(Fault::RefuseReceive).await;
    ensure!(report.planned_steps() == 3 && report.summary.steps == 0 && report.summary.errors == 3);
    let mut failures = report.failures();
    failures.sort();
    let [a, child, aa] = &names[..] else { anyhow::bail!("three") };
    let expected = [
        format!("{child}: parent(s) failed during initial replication: [{a}]"),
        format!("{a}: {INJECTED}"),
        format!("{aa}: {INJECTED}"),
    ];
    for expected in &expected {
        ensure!(failures.contains(expected), "{expected:?} is not among {failures:?}");
    }
    ensure!(failures.len() == expected.len(), "{failures:?}");
    rig.ok().await?;
    rig.same(child).await
}

async fn receiver_error(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    stage.fs_with("sender fs", &["1"]).await?;
    let report = rig.run_with(Fault::Endless).await;
    ensure!(report.planned_steps() == 1);
    report.fails(&[INJECTED])
}

async fn properties(stage: &Stage<'_>) -> Result<()> {
    let (ignored, overridden) = (PropertyName::parse("zrepl:ignored")?, PropertyName::parse("zrepl:overridden")?);
    let rig = stage.push_with(|job| {
        job.send.flags.properties = true;
        job.inherit = vec![ignored];
        job.set = vec![(overridden, "overridden value".to_owned())];
    })?;
    for path in ["sender a", "sender a/child"] {
        let fs = stage.fs_with(path, &[]).await?;
        for property in ["zrepl:ignored", "zrepl:replicate", "zrepl:overridden"] {
            stage.world.set_property(&fs, property, &format!("original of {path}"))?;
        }
        stage.snap(&fs, 1000, "1").await?;
    }
    rig.ok().await?;
    for path in ["sender a", "sender a/child"] {
        let received = rig.received(&stage.src(path)?)?;
        let ignored = stage.world.property(&received, "zrepl:ignored")?;
        ensure!(ignored.is_none(), "{ignored:?}");
        let replicated = stage.world.property(&received, "zrepl:replicate")?;
        ensure!(replicated == Some((format!("original of {path}"), "received")), "{replicated:?}");
        let overridden = stage.world.property(&received, "zrepl:overridden")?;
        ensure!(overridden == Some(("overridden value".to_owned(), "local")), "{overridden:?}");
    }
    Ok(())
}

async fn bookmarks_only(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &[]).await?;
    let one = stage.snap(&fs, 1000, "1").await?;
    stage.mark(&fs, &one, "mark of 1").await?;
    stage.destroy(&fs, "1").await?;
    for initial in [InitialReplication::MostRecent, InitialReplication::All, InitialReplication::Fail] {
        let report = rig.again(|job| job.initial = initial)?.run().await;
        report.fails(&[fs.as_str(), "no snapshots available on sender side"])?;
    }
    stage.is(&rig.received(&fs)?, &["missing"]).await
}

async fn no_versions(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let empty = stage.fs("a without versions")?;
    let good = stage.fs_with("b", &["1"]).await?;
    let report = rig.run().await;
    report.fails(&[empty.as_str(), "no snapshots available on sender side"])?;
    rig.same(&good).await?;

    // Another one is destroyed when it was listed already.
    stage.snap(&good, 1000, "2").await?;
    let (source, ghost) = (good.clone(), stage.src("a ghost")?);
    let doomed = ghost.clone();
    let report = rig
        .run_with(Fault::Listing(Box::new(move |side, view| {
            if side == super::faults::Side::Sender
                && let Some(seen) = view.filesystems.get(&source).cloned()
            {
                view.filesystems.insert(doomed.clone(), seen);
                view.filesystems.retain(|name, _| name.as_str() != empty.as_str());
            }
            Ok(())
        })))
        .await;
    report.fails(&[ghost.as_str(), "does not exist"])?;
    rig.same(&good).await
}
