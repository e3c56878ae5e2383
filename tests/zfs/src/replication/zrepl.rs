//! From zrepl 0.7 and back. Names are written out here as zrepl writes them, and not asked of the program.

use anyhow::{Context as _, Result, ensure};
use model::protection::ProtectionStrategy;
use model::{DatasetName, VersionRef};
use zfs::{PlaceholderEncryption, Snapshot};

use super::faults::Fault;
use super::placeholders::{MARK, hash, marked};
use super::rig::{On, Rig, Stage, Table, protection};
use crate::body;
use crate::conformance::{LARGE, full, incremental, into, replacing};
use crate::lab::command;

pub(super) const CASES: &Table = &[
    ("R21_state_that_zrepl_left_is_continued", body!(upgraded)),
    ("R21_state_for_zrepl_to_continue", body!(downgraded)),
];

/// With the names of the jobs of [`Stage::push`].
const STEP_HOLD: &str = "zrepl_STEP_J_push job";
const LAST_RECEIVED: &str = "zrepl_last_received_J_sink job";
const CURSOR_V1: &str = "zrepl_replication_cursor";

fn cursor(of: &VersionRef) -> String {
    format!("zrepl_CURSOR_G_{:016x}_J_push job", of.guid.0)
}

fn tentative(of: &VersionRef) -> String {
    format!("zrepl_CURSORTENTATIVE__G_{:016x}_J_push job", of.guid.0)
}

/// Where interrupted streams end.
const CUT: u64 = 700_000;

/// A filesystem of which the receiver has `@1`, as after a step of zrepl, and a large `@2`.
async fn half_way(stage: &Stage<'_>, rig: &Rig<'_>, path: &str) -> Result<(DatasetName, VersionRef, VersionRef)> {
    let fs = stage.fs_with(path, &["0"]).await?;
    let one = stage.snap(&fs, 1000, "1").await?;
    let received = rig.received(&fs)?;
    stage.transfer(&full(&fs, &one), &into(&received, "1")?).await?;
    stage.hold(LAST_RECEIVED, &received, "1").await?;
    stage.mark(&fs, &one, &cursor(&one)).await?;
    let two = stage.snap(&fs, LARGE, "2").await?;
    Ok((fs, one, two))
}

/// Cut in a step that guarantees to be resumable, beside a cursor from before zrepl 0.3.
async fn resumable(stage: &Stage<'_>, rig: &Rig<'_>) -> Result<DatasetName> {
    let (fs, one, two) = half_way(stage, rig, "cut with holds").await?;
    let zero = stage.find(&fs, model::VersionKind::Snapshot, "0").await?.to_ref();
    stage.mark(&fs, &zero, CURSOR_V1).await?;
    for snapshot in ["1", "2"] {
        stage.hold(STEP_HOLD, &fs, snapshot).await?;
    }
    stage.interrupt(&incremental(&fs, &one, &two), &into(&rig.received(&fs)?, "2")?, CUT).await?;
    Ok(fs)
}

/// Cut in a step that guarantees later ones.
async fn incrementing(stage: &Stage<'_>, rig: &Rig<'_>) -> Result<DatasetName> {
    let (fs, one, two) = half_way(stage, rig, "cut with bookmarks").await?;
    for end in [&one, &two] {
        stage.mark(&fs, end, &tentative(end)).await?;
    }
    stage.interrupt(&incremental(&fs, &one, &two), &into(&rig.received(&fs)?, "2")?, CUT).await?;
    Ok(fs)
}

/// Cut in a first step into a placeholder, which zrepl unmarks before the first byte.
async fn initial(stage: &Stage<'_>, rig: &Rig<'_>) -> Result<DatasetName> {
    let fs = stage.fs("cut at first")?;
    let one = stage.snap(&fs, LARGE, "1").await?;
    stage.hold(STEP_HOLD, &fs, "1").await?;
    let received = rig.received(&fs)?;
    stage.zfs().create_placeholder(&received, PlaceholderEncryption::Inherit).await?;
    stage.world.set_property(&received, MARK, "off")?;
    stage.interrupt(&full(&fs, &one), &replacing(&received, "1")?, CUT).await?;
    Ok(fs)
}

/// Complete on the receiver, where the older hold is still there, and the sender does not know.
async fn untold(stage: &Stage<'_>, rig: &Rig<'_>) -> Result<DatasetName> {
    let (fs, one, two) = half_way(stage, rig, "untold").await?;
    for snapshot in ["1", "2"] {
        stage.hold(STEP_HOLD, &fs, snapshot).await?;
    }
    let received = rig.received(&fs)?;
    stage.transfer(&incremental(&fs, &one, &two), &into(&received, "2")?).await?;
    stage.hold(LAST_RECEIVED, &received, "2").await?;
    Ok(fs)
}

/// Complete on both sides, but for what goes last.
async fn untidy(stage: &Stage<'_>, rig: &Rig<'_>) -> Result<DatasetName> {
    let (fs, one, two) = half_way(stage, rig, "untidy").await?;
    let received = rig.received(&fs)?;
    stage.transfer(&incremental(&fs, &one, &two), &into(&received, "2")?).await?;
    stage.hold(LAST_RECEIVED, &received, "2").await?;
    stage.mark(&fs, &two, &cursor(&two)).await?;
    stage.mark(&fs, &two, &tentative(&two)).await?;
    stage.hold(STEP_HOLD, &fs, "2").await?;
    Ok(fs)
}

/// A placeholder of zrepl before 0.1 above what was received, for which there is a snapshot now.
async fn old_placeholder(stage: &Stage<'_>, rig: &Rig<'_>) -> Result<[DatasetName; 2]> {
    let parent = stage.fs("old")?;
    let child = stage.fs_with("old/child", &[]).await?;
    let one = stage.snap(&child, 1000, "1").await?;
    let above = rig.received(&parent)?;
    stage.zfs().create_placeholder(&above, PlaceholderEncryption::Inherit).await?;
    stage.world.set_property(&above, MARK, &hash(&above))?;
    let received = rig.received(&child)?;
    stage.transfer(&full(&child, &one), &into(&received, "1")?).await?;
    stage.hold(LAST_RECEIVED, &received, "1").await?;
    stage.mark(&child, &one, &cursor(&one)).await?;
    stage.snap(&parent, 1000, "1").await?;
    Ok([parent, child])
}

async fn upgraded(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let cut = [resumable(stage, &rig).await?, incrementing(stage, &rig).await?, initial(stage, &rig).await?];
    let done = [untold(stage, &rig).await?, untidy(stage, &rig).await?];
    let old = old_placeholder(stage, &rig).await?;

    // As a daemon starts: it cleans, and then replicates.
    rig.clean().await?;
    let report = rig.ok().await?;
    for fs in &cut {
        ensure!(report.action(fs)?.starts_with("resume"), "{fs}: {}", report.action(fs)?);
    }
    ensure!(report.discards().is_empty(), "{:?}", report.discards());
    ensure!(report.summary.steps == 4, "three that were cut, and the parent: {:?}", report.summary);
    let most = 3 * (LARGE as u64 + 200_000 - CUT) + 300_000;
    ensure!(report.summary.bytes < most, "{} bytes were sent", report.summary.bytes);

    let [resumed, incremented, first] = &cut;
    stage.is(resumed, &["#zrepl_replication_cursor", "@0", "@1", "cursor 2", "@2"]).await?;
    stage.is(first, &["cursor 1", "@1"]).await?;
    for fs in [incremented, &done[0], &done[1]] {
        stage.is(fs, &["@0", "@1", "cursor 2", "@2"]).await?;
    }
    for fs in [resumed, incremented, &done[0], &done[1]] {
        stage.is(&rig.received(fs)?, &["@1", "@2 last"]).await?;
    }
    marked(stage, &rig.received(first)?, "off")?;
    let [parent, child] = &old;
    marked(stage, &rig.received(parent)?, "off")?;
    stage.is(&rig.received(child)?, &["@1 last"]).await?;
    for fs in cut.iter().chain(&done).chain(&old) {
        rig.same(fs).await?;
    }
    ensure!(rig.ok().await?.summary.steps == 0, "and nothing is left to do");
    Ok(())
}

/// All bookmarks and holds, with nothing of their names left out.
async fn objects(stage: &Stage<'_>, name: &DatasetName) -> Result<Vec<String>> {
    let dataset = stage.dataset(name).await?;
    let mut found: Vec<String> =
        dataset.versions.iter().filter(|version| !version.is_snapshot()).map(ToString::to_string).collect();
    let snapshots: Vec<Snapshot> = dataset
        .versions
        .iter()
        .filter(|version| version.userrefs > 0)
        .map(|version| Snapshot { dataset: name.clone(), name: version.name.clone() })
        .collect();
    let holds = if snapshots.is_empty() { Vec::new() } else { stage.zfs().holds(&snapshots).await? };
    found.extend(holds.iter().map(|hold| format!("@{} {}", hold.snapshot, hold.tag)));
    found.sort();
    Ok(found)
}

async fn left(stage: &Stage<'_>, name: &DatasetName, expected: &[String]) -> Result<()> {
    let (found, mut expected) = (objects(stage, name).await?, expected.to_vec());
    expected.sort();
    ensure!(found == expected, "{name} has {found:?}, not {expected:?}");
    Ok(())
}

/// Whatever is set on a dataset itself.
fn local_properties(name: &DatasetName) -> Result<Vec<String>> {
    let lines = command("zfs", &["get", "-Hp", "-s", "local", "-o", "property,value", "all", name.as_str()])?;
    let mut lines: Vec<String> = lines.lines().map(|line| line.replace('\t', "=")).collect();
    lines.sort();
    Ok(lines)
}

async fn downgraded(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| job.placeholders = Some(PlaceholderEncryption::Inherit))?;
    let parent = stage.fs("carrier")?;
    let fs = stage.fs_with("carrier/sender fs", &[]).await?;
    let one = stage.snap(&fs, 1000, "1").await?;
    let only = super::rig::filter([fs.as_str()])?;
    let rig = rig.again(|job| job.filesystems = only)?;
    rig.ok().await?;
    let (received, above) = (rig.received(&fs)?, rig.received(&parent)?);
    let held = |snapshot: &str| format!("@{snapshot} {LAST_RECEIVED}");
    let step = |snapshot: &str| format!("@{snapshot} {STEP_HOLD}");
    let mark = |name: String| format!("#{name}");
    left(stage, &fs, &[mark(cursor(&one))]).await?;
    left(stage, &received, &[held("1")]).await?;
    marked(stage, &above, "on")?;
    if let On::Real(_) = stage.on {
        let found = local_properties(&above)?;
        ensure!(found == ["mountpoint=none", "zrepl:placeholder=on"], "{found:?}");
        // An ordinary target has no mark, as with zrepl.
        ensure!(local_properties(&received)?.is_empty(), "{:?}", local_properties(&received)?);
    }

    // In the middle of a step of either kind, after it, and when the sender was not told.
    let two = stage.snap(&fs, LARGE, "2").await?;
    ensure!(rig.run_with(Fault::CutEnd(CUT)).await.summary.errors == 1);
    left(stage, &fs, &[mark(cursor(&one)), step("1"), step("2")]).await?;
    left(stage, &received, &[held("1")]).await?;
    // zrepl sends what the token says, which must be what its policy would send.
    let token = stage.dataset(&received).await?.resume_token.context("a token")?;
    let token = zfs::token::decode(&token)?;
    ensure!((token.from, token.to) == (Some(one.guid), two.guid) && !token.flags.raw, "{token:?}");
    ensure!(token.to_name == format!("{fs}@2"), "{token:?}");
    rig.ok().await?;
    left(stage, &fs, &[mark(cursor(&two))]).await?;
    left(stage, &received, &[held("2")]).await?;

    let rig = rig.again(|job| job.protection = protection(ProtectionStrategy::Incremental))?;
    let three = stage.snap(&fs, LARGE, "3").await?;
    ensure!(rig.run_with(Fault::CutEnd(CUT)).await.summary.errors == 1);
    left(stage, &fs, &[mark(cursor(&two)), mark(tentative(&three))]).await?;
    ensure!(rig.run_with(Fault::LoseCompletion).await.summary.errors == 1);
    left(stage, &fs, &[mark(cursor(&two)), mark(tentative(&three))]).await?;
    left(stage, &received, &[held("3")]).await?;

    // What stood for a filesystem and was replaced has the mark `off`, or zrepl would roll it back.
    let everything = stage.job()?.filesystems;
    let rig = rig.again(|job| job.filesystems = everything)?;
    stage.snap(&parent, LARGE, "1").await?;
    ensure!(rig.run_with(Fault::CutEnd(CUT)).await.summary.errors == 1);
    ensure!(stage.dataset(&above).await?.resume_token.is_some(), "nothing was kept");
    rig.ok().await?;
    marked(stage, &above, "off")?;
    rig.same(&parent).await?;
    rig.same(&fs).await
}
