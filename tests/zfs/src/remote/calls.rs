//! What zrepl's protocol cannot ask for, asked over the network.

use anyhow::{Context as _, Result, ensure};
use model::aside::is_aside;
use model::{DatasetName, VersionKind};
use zfs::Scope;

use super::{Machine, on_real_time, push_job, sink_machine};
use crate::body;
use crate::conformance::SMALL;
use crate::replication::rig::{JOB, Stage, Table};

pub(super) const CASES: &Table = &[
    ("a_receiver_is_rolled_back_over_tcp", body!(rolled_back)),
    ("a_receiver_s_filesystem_is_renamed_aside_over_tcp", body!(renamed)),
    ("what_a_crash_left_is_confirmed_over_tcp", body!(confirmed)),
];

const RESOLUTION: &str = "    conflict_resolution: {diverged: rollback_receiver, no_common: rename_aside}\n";

/// A sink and a job that pushes a filesystem to it, and where that arrives.
async fn machines(stage: &Stage<'_>, fs: &DatasetName) -> Result<(Machine, Machine, DatasetName)> {
    on_real_time(stage);
    let (there, received) = sink_machine(stage, fs)?;
    let job = push_job(fs, there.port().await?) + RESOLUTION;
    Ok((Machine::start(stage, &job)?, there, received))
}

async fn rolled_back(stage: &Stage<'_>) -> Result<()> {
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let (here, there, received) = machines(stage, &fs).await?;
    ensure!(here.invoke_well(JOB).await?.steps == 1);
    for name in ["own", "own 2"] {
        // Where it is, nothing is mounted.
        stage.take(&received, name).await?;
    }
    stage.snap(&fs, SMALL, "2").await?;
    let summary = here.invoke_well(JOB).await?;
    // Two for the conflict, and one by the rule of the sender.
    ensure!((summary.steps, summary.destroyed) == (1, 3), "{summary:?}");
    stage.is(&fs, &["cursor 2", "@2"]).await?;
    stage.is(&received, &["@1", "@2 last"]).await?;
    stage.same_files_mounted(&fs, &received)?;
    here.stop().await?;
    there.stop().await
}

async fn renamed(stage: &Stage<'_>) -> Result<()> {
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let (here, there, received) = machines(stage, &fs).await?;
    // Something else is in the way.
    let (root, mut missing) = (stage.dst("clients")?, vec![received.clone()]);
    while let Some(parent) = missing.last().and_then(DatasetName::parent).filter(|parent| *parent != root) {
        missing.push(parent);
    }
    for name in missing.iter().rev() {
        stage.world.create_filesystem(name)?;
    }
    stage.snap(&received, SMALL, "own").await?;
    ensure!(here.invoke_well(JOB).await?.steps == 1);
    stage.is(&received, &["@1 last"]).await?;
    stage.same_files_mounted(&fs, &received)?;
    let parent = received.parent().context("a parent")?;
    let listing = stage.zfs().list(&Scope::Trees(vec![parent])).await?;
    let moved: Vec<_> = listing.datasets.iter().map(|dataset| &dataset.name).filter(|name| is_aside(name)).collect();
    let [moved] = moved[..] else { anyhow::bail!("{moved:?}") };
    stage.is(moved, &["@own"]).await?;
    here.stop().await?;
    let told = there.diary.problems();
    ensure!(told.len() == 1 && told[0].starts_with(&format!("renamed {:?}", received.as_str())), "{told:?}");
    there.stop().await
}

async fn confirmed(stage: &Stage<'_>) -> Result<()> {
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    let (here, there, received) = machines(stage, &fs).await?;
    ensure!(here.invoke_well(JOB).await?.steps == 1);
    let one = stage.find(&fs, VersionKind::Snapshot, "1").await?.to_ref();
    stage.make_step_hold(&fs, &one, JOB).await?;
    stage.drop_last_received(&received, "1").await?;
    stage.is(&received, &["@1"]).await?;
    ensure!(here.invoke_well(JOB).await?.steps == 0);
    stage.is(&fs, &["cursor 1", "@1"]).await?;
    stage.is(&received, &["@1 last"]).await?;
    here.stop().await?;
    ensure!(there.diary.problems().is_empty(), "{:?}", there.diary.problems());
    there.stop().await
}
