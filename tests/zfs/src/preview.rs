//! That the preview of a job changes nothing, and that the job then does what was said.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use daemon::preview::{JobPreview, ReplicationPreview, Side, Size, StepPreview};
use model::event::{Replication, What};
use model::{DatasetName, VersionKind};
use zfs::{PlaceholderEncryption, Scope, Snapshot};

use crate::body;
use crate::case::Case;
use crate::conformance::LARGE;
use crate::deeds::{done, planned};
use crate::invoked::Jobs;
use crate::lab::command;
use crate::replication::faults::Fault;
use crate::replication::rig::{self, JOB, On, Rig, SINK, Stage, Table};

const CASES: &Table = &[("an_invocation_does_what_was_said_and_saying_it_changes_nothing", body!(said_and_done))];

/// Every case, for both backends.
pub(crate) fn cases() -> Vec<Case> {
    rig::cases("preview", &[CASES])
}

/// A push job to a sink, named as those of a rig.
fn push_and_sink(stage: &Stage<'_>, snapshotting: &str) -> String {
    let [source, target] = stage.world.pools();
    format!(
        r#"
  - name: "{JOB}"
    type: push
    connect: {{type: local, listener_name: l, client_identity: me}}
    filesystems: {{"{source}<": true, "{source}": false}}
    snapshotting: {snapshotting}
    pruning: {{keep_sender: [{{type: not_replicated}}, {{type: last_n, count: 1}}], keep_receiver: [{{type: last_n, count: 1}}]}}
  - name: "{SINK}"
    type: sink
    root_fs: "{target}/receiver root"
    serve: {{type: local, listener_name: l}}
    recv: {{placeholder: {{encryption: inherit}}}}
"#
    )
}

/// The usual size of a record.
const RECORD: u64 = 128 << 10;

/// Where an interrupted stream ends.
const CUT: u64 = 400_000;

/// Filesystems in every state that a plan knows.
struct Scene {
    new: DatasetName,
    incremental: DatasetName,
    idle: DatasetName,
    diverged: DatasetName,
    held: DatasetName,
    torn: DatasetName,
    useless: DatasetName,
}

impl Scene {
    async fn set(stage: &Stage<'_>) -> Result<Self> {
        let mut job = stage.job()?;
        job.client = Some("me".to_owned());
        job.placeholders = Some(PlaceholderEncryption::Inherit);
        stage.world.create_filesystem(&job.root)?;
        let rig = stage.rig(job)?;
        let one = async |path: &str| stage.fs_with(path, &["1"]).await;
        let (torn, useless) = (one("torn").await?, one("useless").await?);
        let (incremental, idle) = (one("incremental").await?, one("idle").await?);
        let (diverged, held) = (one("diverged").await?, one("held").await?);
        rig.ok().await?;
        Self::interrupt(stage, &rig, &torn, &useless).await?;
        stage.snap(&incremental, 1000, "2").await?;
        stage.snap(&incremental, LARGE, "3").await?;
        stage.take(&rig.received(&diverged)?, "theirs").await?;
        stage.snap(&diverged, 1000, "2").await?;
        stage.snap(&held, 1000, "2").await?;
        stage.hold("backup tool", &held, "2").await?;
        stage.snap(&held, 1000, "3").await?;
        let new = stage.fs_with("new", &["1"]).await?;
        stage.snap(&new, LARGE, "2").await?;
        Ok(Self { new, incremental, idle, diverged, held, torn, useless })
    }

    /// Leaves two interrupted receives, one of which can only be discarded.
    async fn interrupt(stage: &Stage<'_>, rig: &Rig<'_>, torn: &DatasetName, useless: &DatasetName) -> Result<()> {
        for fs in [torn, useless] {
            stage.snap(fs, LARGE, "2").await?;
        }
        let report = rig.run_with(Fault::CutEnd(CUT)).await;
        ensure!(report.summary.errors == 2, "{:?}", report.failures());
        for fs in [torn, useless] {
            let received = rig.received(fs)?;
            ensure!(stage.dataset(&received).await?.resume_token.is_some(), "{received} has no token");
        }
        stage.drop_step_hold(useless, "2").await?;
        stage.destroy(useless, "2").await?;
        stage.snap(useless, LARGE, "3").await?;
        Ok(())
    }

    /// What a person would expect of the first invocation.
    fn expected(&self) -> BTreeSet<String> {
        let Self { new, incremental, diverged, held, torn, useless, .. } = self;
        let theirs = "last common @1; only on the sender @2; only on the receiver @theirs";
        let remedy = "`zfs rollback -r` the receiver's filesystem to @1, or let the job do so with `conflict_resolution: {diverged: rollback_receiver}`";
        let conflict = format!(
            "the receiver's latest snapshot is not present on sender: {theirs} (if the latter may be lost, {remedy})"
        );
        BTreeSet::from([
            format!("send {new} full => @2"),
            format!("send {incremental} @1 => @2"),
            format!("send {incremental} @2 => @3"),
            format!("send {held} @1 => @2"),
            format!("send {held} @2 => @3"),
            format!("resume {torn} @1 => @2"),
            format!("discard {useless}: {useless}@2 is gone from the sender"),
            format!("send {useless} @1 => @3"),
            format!("conflict {diverged}: {conflict}"),
            format!("destroy sender {new}@1"),
            format!("destroy sender {incremental}@1"),
            format!("destroy sender {incremental}@2"),
            format!("destroy receiver {incremental}@1"),
            format!("destroy receiver {incremental}@2"),
            format!("destroy sender {held}@1"),
            format!("destroy receiver {held}@1"),
            format!("destroy receiver {held}@2"),
            format!("destroy sender {torn}@1"),
            format!("destroy receiver {torn}@1"),
            format!("destroy sender {useless}@1"),
            format!("destroy receiver {useless}@1"),
        ])
    }
}

async fn said_and_done(stage: &Stage<'_>) -> Result<()> {
    let scene = Scene::set(stage).await?;
    let jobs = Jobs::new(stage, &push_and_sink(stage, "{type: manual}"))?;
    let said = preview_that_changes_nothing(stage, &jobs).await?;
    ensure!(planned(&said) == scene.expected(), "{:#?}, not {:#?}", planned(&said), scene.expected());
    ensure!(verdict(&said, Side::Sender, &scene.held, "2")?.contains("held"), "{said:#?}");
    ensure!(verdict(&said, Side::Receiver, &scene.diverged, "1")?.contains("base"), "{said:#?}");
    let events = jobs.wake_up(JOB).await?;
    ensure!(done(&events) == planned(&said), "{:#?}, not {:#?}", done(&events), planned(&said));
    sizes_fit(&said, &events)?;

    // The same with a round of snapshots before.
    stage.world.write_file(&scene.idle, "news", b"news")?;
    let jobs = Jobs::new(stage, &push_and_sink(stage, "{type: periodic, prefix: z_, interval: 1h}"))?;
    let said = preview_that_changes_nothing(stage, &jobs).await?;
    ensure!((said.total.snapshots, said.total.sends, said.total.blocked) == (7, 6, 1), "{:?}", said.total);
    let events = jobs.round().await?;
    ensure!(done(&events) == planned(&said), "{:#?}, not {:#?}", done(&events), planned(&said));

    // Nothing is left but what waits for a person.
    let jobs = Jobs::new(stage, &push_and_sink(stage, "{type: manual}"))?;
    let said = preview_that_changes_nothing(stage, &jobs).await?;
    let left = planned(&said);
    ensure!(left.len() == 1 && left.iter().all(|deed| deed.starts_with("conflict ")), "{left:#?}");
    Ok(())
}

async fn preview_that_changes_nothing(stage: &Stage<'_>, jobs: &Jobs) -> Result<JobPreview> {
    let before = everything(stage).await?;
    let said = jobs.preview(JOB).await?;
    ensure!(said.problems.is_empty(), "{:?}", said.problems);
    let after = everything(stage).await?;
    ensure!(before == after, "before {before:#?}, after {after:#?}");
    Ok(said)
}

/// All that is in the two pools; on real ZFS also what their history says.
async fn everything(stage: &Stage<'_>) -> Result<Vec<String>> {
    let zfs = stage.zfs();
    let pools = stage.world.pools();
    let listing = zfs.list(&Scope::Trees(pools.to_vec())).await?;
    let mut all: Vec<String> = listing.datasets.iter().map(|dataset| format!("{dataset:?}")).collect();
    let mut held = Vec::new();
    for dataset in &listing.datasets {
        let versions = dataset.versions.iter().filter(|one| one.kind == VersionKind::Snapshot && one.userrefs > 0);
        held.extend(versions.map(|one| Snapshot { dataset: dataset.name.clone(), name: one.name.clone() }));
    }
    all.extend(zfs.holds(&held).await?.iter().map(|hold| format!("{hold:?}")));
    if let On::Real(_) = stage.on {
        for pool in &pools {
            all.push(command("zpool", &["history", "-i", pool.as_str()])?);
        }
    }
    Ok(all)
}

/// Why a side keeps or destroys a snapshot.
fn verdict(job: &JobPreview, side: Side, filesystem: &DatasetName, name: &str) -> Result<String> {
    let found = job.filesystems.iter().find(|one| one.filesystem == filesystem.as_str());
    let mut sides = found.context("previewed")?.pruning.iter().filter(|pruning| pruning.side == side);
    let mut verdicts = sides.next().context("pruned")?.snapshots.iter();
    Ok(verdicts.find(|verdict| verdict.name == name).context("looked at")?.why.clone())
}

/// Every size is known, and near what was sent.
fn sizes_fit(said: &JobPreview, events: &[What]) -> Result<()> {
    let mut compared = 0;
    for what in events {
        let What::Replication(Replication::StepFinished { filesystem, step, bytes, .. }) = what else { continue };
        let found = said.filesystems.iter().find(|one| one.filesystem == filesystem.as_str());
        let Some(ReplicationPreview::Send { steps, .. }) = found.and_then(|one| one.replication.as_ref()) else {
            anyhow::bail!("{filesystem} was sent, and nothing was said of it");
        };
        let StepPreview { size, resumes, .. } = steps.get(*step).context("said")?;
        let Size::Bytes(estimate) = size else { anyhow::bail!("the size of {filesystem} was not known: {size:?}") };
        // What goes on after a cut begins with the record that was cut.
        let near = bytes / 10 + 10_000 + if *resumes { RECORD } else { 0 };
        ensure!(estimate.abs_diff(*bytes) <= near, "{filesystem}, step {step}: {estimate} said, {bytes} sent");
        compared += 1;
    }
    ensure!(compared == said.total.sends, "{compared} steps of {}", said.total.sends);
    Ok(())
}
