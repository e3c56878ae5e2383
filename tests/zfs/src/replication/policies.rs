//! Conflicts that a job resolves by itself because it is configured to.

use anyhow::{Context as _, Result, ensure};
use model::event::{Replication, What};
use model::plan::prune::KeepRule;
use model::plan::replication::InitialReplication;
use model::plan::resolve::{WhenDiverged, WhenNothingInCommon, WhenTokenIsDead};
use model::protection::ProtectionPolicy;
use model::{DatasetName, RetryClass, UnixTime, VersionKind};
use wire::{Endpoint as _, RenameAsideRequest, RollBackRequest};
use zfs::{Scope, Snapshot};

use super::faults::Fault;
use super::rig::{Job, Report, Rig, Stage, Table, filter, refused};
use crate::body;
use crate::conformance::{LARGE, version};

pub(super) const CASES: &Table = &[
    ("policy_rollback_receiver", body!(rolled_back)),
    ("policy_rollback_receiver_with_nothing_to_send", body!(rolled_back_only)),
    ("policy_rollback_receiver_moves_its_own_hold", body!(own_hold)),
    ("policy_rollback_receiver_spares_what_others_need", body!(spared)),
    ("policy_rollback_receiver_destroys_only_what_is_named", body!(only_named)),
    ("policy_rollback_receiver_of_live_changes", body!(live_changes)),
    ("policy_rollback_receiver_after_the_sender_was_rolled_back", body!(sender_rolled_back)),
    ("policy_rename_aside", body!(renamed)),
    ("policy_rename_aside_with_what_is_below", body!(renamed_tree)),
    ("policy_rename_aside_refuses_with_a_base_below", body!(base_below)),
    ("policy_rename_aside_is_cut_in_between", body!(renamed_and_cut)),
    ("policy_rename_aside_moves_only_what_is_named", body!(renames_only_named)),
    ("policy_dead_token_fail", body!(token_kept)),
    ("R12_transaction_groups_decide_and_not_clocks", body!(clocks)),
];

fn rollback(job: &mut Job) {
    job.conflicts.diverged = WhenDiverged::RollbackReceiver;
}

fn aside(job: &mut Job) {
    job.conflicts.no_common = WhenNothingInCommon::RenameAside;
}

/// What was destroyed to resolve conflicts, with the reasons.
fn destroyed(report: &Report) -> Vec<String> {
    let destroyed = |what: &What| match what {
        What::Replication(Replication::DestroyedToResolve { snapshot, reason, .. }) => {
            Some(format!("{snapshot}: {reason}"))
        }
        _ => None,
    };
    report.events.iter().filter_map(destroyed).collect()
}

/// A filesystem that the receiver has, with snapshots there that the sender does not know.
async fn diverged(stage: &Stage<'_>, rig: &Rig<'_>, own: &[&str]) -> Result<(DatasetName, DatasetName)> {
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    let received = rig.received(&fs)?;
    for name in own {
        stage.snap(&received, 1000, name).await?;
    }
    Ok((fs, received))
}

async fn rolled_back(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(rollback)?;
    let (fs, received) = diverged(stage, &rig, &["own", "own 2"]).await?;
    stage.world.write_file(&received, "own file", b"own")?;
    stage.snap(&fs, 1000, "2").await?;
    stage.snap(&fs, 1500, "3").await?;
    let report = rig.ok().await?;
    let action = report.action(&fs)?;
    let planned =
        "roll the receiver back to @1, destroying @own, @own 2 (diverged: rollback_receiver), then send from @1";
    ensure!(action.starts_with(planned), "{action}");
    let why = "newer than @1 (diverged: rollback_receiver)";
    ensure!(destroyed(&report) == [format!("own: {why}"), format!("own 2: {why}")], "{:?}", destroyed(&report));
    ensure!(report.summary.destroyed == 2 && report.summary.steps == 2, "{:?}", report.summary);
    stage.is(&received, &["@1", "@2", "@3 last"]).await?;
    rig.same(&fs).await?;
    ensure!(rig.ok().await?.action(&fs)?.starts_with("nothing to do"));
    Ok(())
}

async fn rolled_back_only(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(rollback)?;
    let (fs, received) = diverged(stage, &rig, &["own"]).await?;
    let report = rig.ok().await?;
    ensure!(destroyed(&report).len() == 1, "{:?}", report.events);
    stage.is(&received, &["@1 last"]).await?;
    stage.is(&fs, &["cursor 1", "@1"]).await?;
    rig.same(&fs).await?;
    ensure!(rig.ok().await?.action(&fs)?.starts_with("nothing to do"));
    Ok(())
}

/// The receiver's newest snapshot came from the sender, which has lost it.
async fn own_hold(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(rollback)?;
    let (fs, received) = diverged(stage, &rig, &[]).await?;
    stage.snap(&fs, 1000, "2").await?;
    rig.ok().await?;
    stage.is(&received, &["@1", "@2 last"]).await?;
    stage.world.rollback(&Snapshot { dataset: fs.clone(), name: version("1")? })?;
    stage.snap(&fs, 1500, "3").await?;
    let report = rig.ok().await?;
    ensure!(destroyed(&report).len() == 1, "{:?}", report.events);
    stage.is(&received, &["@1", "@3 last"]).await?;
    rig.same(&fs).await
}

async fn spared(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(rollback)?;
    let (fs, received) = diverged(stage, &rig, &["own", "held", "newest"]).await?;
    stage.snap(&fs, 1000, "2").await?;
    stage.hold("somebody's", &received, "held").await?;
    let expected = ["@1 last", "@own", "@held somebody's", "@newest"];
    let not = "the receiver cannot be rolled back to @1";
    rig.run().await.fails(&[not, "@held is held by somebody else", "nothing was destroyed"])?;
    stage.is(&received, &expected).await?;

    let held = Snapshot { dataset: received.clone(), name: version("held")? };
    stage.zfs().release(&crate::conformance::tag("somebody's")?, &[held]).await.pop().context("one")??;
    let clone = stage.dst("clone")?;
    stage.world.clone_snapshot(&Snapshot { dataset: received.clone(), name: version("own")? }, &clone)?;
    rig.run().await.fails(&["@own", "it has clones", "nothing was destroyed"])?;
    stage.is(&received, &["@1 last", "@own", "@held", "@newest"]).await?;

    stage.zfs().destroy_dataset(&clone).await?;
    let mark = stage.find(&received, VersionKind::Snapshot, "newest").await?.to_ref();
    stage.mark(&received, &mark, "a mark").await?;
    rig.run().await.fails(&[not, "bookmark #a mark is newer"])?;
    stage.zfs().destroy_bookmark(&received, &version("a mark")?).await?;
    rig.ok().await?;
    stage.is(&received, &["@1", "@2 last"]).await?;
    rig.same(&fs).await
}

/// What changed between plan and act is found at the point of use.
async fn only_named(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(rollback)?;
    let (fs, received) = diverged(stage, &rig, &["own", "later"]).await?;
    let find = |name| stage.find(&received, VersionKind::Snapshot, name);
    let (one, own, later) = (find("1").await?.to_ref(), find("own").await?.to_ref(), find("later").await?.to_ref());
    let request = |to: &model::VersionRef, destroy: &[&model::VersionRef]| RollBackRequest {
        filesystem: fs.clone(),
        to: to.clone(),
        destroy: destroy.iter().map(|version| (*version).clone()).collect(),
        discard_partial: false,
        protection: ProtectionPolicy::default(),
    };
    let all = ["@1 last", "@own", "@later"];
    let other = |version: &model::VersionRef| model::VersionRef { guid: model::Guid(7), ..version.clone() };
    for (wrong, says) in [
        (request(&one, &[&own]), "@later is none of what the plan destroys"),
        (request(&one, &[&own, &other(&later)]), "@later is none of what the plan destroys"),
        (request(&other(&one), &[&own, &later]), "it has no such snapshot any more"),
        (request(&own, &[&one, &later]), "@1 is not what is to be destroyed"),
    ] {
        refused(rig.receiver.roll_back(&wrong).await, &[received.as_str(), says])?;
        stage.is(&received, &all).await?;
    }
    stage.hold("somebody's", &received, "own").await?;
    let error = refused(rig.receiver.roll_back(&request(&one, &[&own, &later])).await, &["is held by \"somebody's\""])?;
    ensure!(error.class() == RetryClass::NeedsPerson);
    stage.is(&received, &["@1 last", "@own somebody's", "@later"]).await?;
    // Neither is a sender rolled back, nor a peer that does not know the call.
    let error = refused(rig.sender.roll_back(&request(&one, &[])).await, &["zrepl 0.7", "diverged: fail"])?;
    ensure!(error.class() == RetryClass::NeedsPerson);
    Ok(())
}

async fn live_changes(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let (fs, received) = diverged(stage, &rig, &[]).await?;
    stage.world.write_file(&received, "own file", b"own")?;
    stage.snap(&fs, 1000, "2").await?;
    let hints = ["has been modified since its most recent snapshot", "zfs rollback", "diverged: rollback_receiver"];
    rig.run().await.fails(&hints)?;
    stage.is(&received, &["@1 last"]).await?;
    let report = rig.again(rollback)?.ok().await?;
    let told = |what: &What| matches!(what, What::Replication(Replication::Resolved { how, .. }) if how.contains("@1"));
    ensure!(report.events.iter().any(told), "{:?}", report.events);
    ensure!(destroyed(&report).is_empty());
    stage.is(&received, &["@1", "@2 last"]).await?;
    rig.same(&fs).await?;

    // Of a step that was interrupted, changes may be noticed only when all of it has arrived.
    stage.snap(&fs, LARGE, "3").await?;
    ensure!(rig.run_with(Fault::CutEnd(500_000)).await.summary.errors == 1);
    stage.world.write_file(&received, "own file", b"own")?;
    let rig = rig.again(|job| {
        rollback(job);
        job.attempts = 3;
    })?;
    rig.ok().await?;
    rig.same(&fs).await
}

/// R11, with the policy that resolves it.
async fn sender_rolled_back(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(rollback)?;
    let fs = stage.fs_with("sender fs", &["1", "2"]).await?;
    rig.ok().await?;
    stage.snap(&fs, 1000, "3").await?;
    stage.snap(&fs, 1000, "4").await?;
    rig.ok().await?;
    stage.world.rollback(&Snapshot { dataset: fs.clone(), name: version("2")? })?;
    stage.snap(&fs, 1200, "5").await?;
    ensure!(destroyed(&rig.ok().await?).len() == 2);
    stage.is(&rig.received(&fs)?, &["@2", "@5 last"]).await?;
    rig.same(&fs).await
}

/// The names that were given to what was moved out of the way of `received`.
async fn asides(stage: &Stage<'_>, received: &DatasetName) -> Result<Vec<DatasetName>> {
    let parent = received.parent().context("a parent")?;
    let listing = stage.zfs().list(&Scope::Trees(vec![parent])).await?;
    let start = format!("{received}.zrepl.aside.");
    Ok(listing
        .datasets
        .into_iter()
        .map(|dataset| dataset.name)
        .filter(|name| name.as_str().starts_with(&start))
        .collect())
}

/// Something else is where a filesystem of the sender is to be received.
async fn unrelated(stage: &Stage<'_>, rig: &Rig<'_>) -> Result<(DatasetName, DatasetName)> {
    let fs = stage.fs_with("sender fs", &["1", "2"]).await?;
    let received = rig.received(&fs)?;
    stage.world.create_filesystem(&received)?;
    stage.snap(&received, 1000, "own").await?;
    Ok((fs, received))
}

async fn renamed(stage: &Stage<'_>) -> Result<()> {
    let everything = || KeepRule::LastN { count: 1, regex: None };
    let rig = stage.push_with(|job| {
        aside(job);
        job.keep_receiver = vec![everything()];
    })?;
    let (fs, received) = unrelated(stage, &rig).await?;
    let report = rig.ok().await?;
    let action = report.action(&fs)?;
    let planned = "rename the receiver's filesystem, whose newest snapshot is @own, aside (no_common: rename_aside)";
    ensure!(action.starts_with(planned), "{action}");
    rig.same(&fs).await?;
    let moved = asides(stage, &received).await?;
    let [moved] = &moved[..] else { anyhow::bail!("{moved:?}") };
    stage.is(moved, &["@own"]).await?;

    // It is nobody's business from now on: not pruned, not received into, not sent.
    stage.take(moved, "own 2").await?;
    stage.snap(&fs, 1500, "3").await?;
    rig.ok().await?;
    stage.is(moved, &["@own", "@own 2"]).await?;
    let [_, target] = stage.world.pools();
    let everything = filter([format!("{target}<")])?;
    let onwards = rig.again(|job| job.filesystems = everything)?;
    let listed = onwards.sender.list().await?;
    ensure!(listed.filesystems.contains_key(&received) && !listed.filesystems.contains_key(moved));
    let name = moved.strip_root(&rig.job.root).context("below the root")?;
    let request = RenameAsideRequest {
        filesystem: name.clone(),
        newest: stage.find(moved, VersionKind::Snapshot, "own 2").await?.to_ref(),
        below: Vec::new(),
    };
    refused(rig.receiver.rename_aside(&request).await, &["moved out of the way"])?;
    let view = rig.receiver.list().await?;
    ensure!(!view.filesystems.contains_key(&name) && view.filesystems.contains_key(&fs));
    Ok(())
}

async fn renamed_tree(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(aside)?;
    let (fs, received) = unrelated(stage, &rig).await?;
    let kid = stage.fs_with("sender fs/kid", &["k"]).await?;
    for path in ["kid", "empty"] {
        stage.world.create_filesystem(&DatasetName::parse(&format!("{received}/{path}"))?)?;
    }
    stage.snap(&DatasetName::parse(&format!("{received}/kid"))?, 1000, "own").await?;
    let report = rig.ok().await?;
    ensure!(report.action(&fs)?.contains("with 2 below it"), "{}", report.action(&fs)?);
    ensure!(report.finished() == [fs.as_str(), kid.as_str()], "{:?}", report.finished());
    rig.same(&fs).await?;
    rig.same(&kid).await?;
    let moved = asides(stage, &received).await?;
    let [moved, empty, moved_kid] = &moved[..] else { anyhow::bail!("{moved:?}") };
    stage.is(moved, &["@own"]).await?;
    stage.is(empty, &[]).await?;
    stage.is(moved_kid, &["@own"]).await
}

async fn base_below(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(aside)?;
    let (fs, received) = unrelated(stage, &rig).await?;
    let kid = stage.fs_with("sender fs/kid", &["k"]).await?;
    let only_kid = filter([kid.as_str()])?;
    rig.again(|job| job.filesystems = only_kid.clone())?.ok().await?;
    stage.snap(&kid, 1000, "k 2").await?;
    let report = rig.run().await;
    report.fails(&[fs.as_str(), "cannot be renamed", "sender fs/kid has snapshots in common with the sender"])?;
    rig.same(&kid).await?;
    stage.is(&received, &["@own"]).await?;
    ensure!(asides(stage, &received).await?.is_empty());
    // A job that does not know what is below cannot tell whether it is a base.
    let only_fs = filter([fs.as_str()])?;
    let report = rig.again(|job| job.filesystems = only_fs)?.run().await;
    report.fails(&["cannot be renamed", "sender fs/kid is not this job's"])?;
    stage.is(&received, &["@own"]).await
}

async fn renamed_and_cut(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(aside)?;
    let (fs, received) = unrelated(stage, &rig).await?;
    ensure!(rig.run_with(Fault::RefuseReceive).await.summary.errors == 1);
    stage.is(&received, &["missing"]).await?;
    let report = rig.ok().await?;
    ensure!(report.action(&fs)?.starts_with("send in full"), "{}", report.action(&fs)?);
    rig.same(&fs).await?;
    ensure!(asides(stage, &received).await?.len() == 1);
    Ok(())
}

async fn renames_only_named(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(aside)?;
    let (fs, received) = unrelated(stage, &rig).await?;
    let own = stage.find(&received, VersionKind::Snapshot, "own").await?.to_ref();
    let request = |newest: &model::VersionRef, below: &[&DatasetName]| RenameAsideRequest {
        filesystem: fs.clone(),
        newest: newest.clone(),
        below: below.iter().map(|name| (*name).clone()).collect(),
    };
    let other = model::VersionRef { guid: model::Guid(7), ..own.clone() };
    refused(rig.receiver.rename_aside(&request(&other, &[])).await, &["its newest snapshot has changed"])?;
    let kid = DatasetName::parse(&format!("{received}/kid"))?;
    stage.world.create_filesystem(&kid)?;
    refused(rig.receiver.rename_aside(&request(&own, &[])).await, &[kid.as_str(), "has appeared"])?;
    stage.is(&received, &["@own"]).await?;
    let named = DatasetName::parse(&format!("{fs}/kid"))?;
    let moved = rig.receiver.rename_aside(&request(&own, &[&named])).await?;
    stage.is(&moved, &["@own"]).await?;
    stage.is(&DatasetName::parse(&format!("{moved}/kid"))?, &[]).await?;
    let error = refused(rig.sender.rename_aside(&request(&own, &[])).await, &["zrepl 0.7", "no_common: fail"])?;
    ensure!(error.class() == RetryClass::NeedsPerson);
    Ok(())
}

async fn token_kept(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| job.conflicts.dead_token = WhenTokenIsDead::Fail)?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    stage.snap(&fs, LARGE, "2").await?;
    ensure!(rig.run_with(Fault::CutEnd(500_000)).await.summary.errors == 1);
    let received = rig.received(&fs)?;
    let token = stage.dataset(&received).await?.resume_token.context("a token")?;
    stage.drop_step_hold(&fs, "2").await?;
    stage.destroy(&fs, "2").await?;
    stage.snap(&fs, LARGE, "3").await?;
    for _ in 0..2 {
        let report = rig.run().await;
        report.fails(&["cannot be resumed", "@2 is gone from the sender", "dead_token: fail", "`zfs receive -A"])?;
        ensure!(report.discards().is_empty());
        ensure!(stage.dataset(&received).await?.resume_token.as_ref() == Some(&token));
    }
    // What the message says.
    stage.zfs().abort_receive(&received).await?;
    rig.ok().await?;
    rig.same(&fs).await
}

/// The clock goes back a day, and stands still.
async fn clocks(stage: &Stage<'_>) -> Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let now = i64::try_from(now)?;
    let taken = async {
        let fs = stage.fs_with("sender fs", &["1"]).await?;
        stage.world.set_clock(UnixTime(now + 86_400))?;
        stage.snap(&fs, 1000, "2").await?;
        stage.world.set_clock(UnixTime(now - 86_400))?;
        for name in ["3", "4"] {
            stage.snap(&fs, 1000, name).await?;
        }
        anyhow::Ok(fs)
    };
    let taken = taken.await;
    stage.world.set_clock(UnixTime(now))?;
    let fs = taken?;
    let creation = |version: &model::Version| version.creation.0;
    let listed = stage.dataset(&fs).await?;
    ensure!(!listed.versions.is_sorted_by_key(creation), "{:?}", listed.versions);

    let newest = stage.push()?;
    newest.ok().await?;
    stage.is(&newest.received(&fs)?, &["@4 last"]).await?;
    let root = stage.dst("another root")?;
    let all = newest.again(|job| {
        job.name = "another job".to_owned();
        job.initial = InitialReplication::All;
        job.root = root.clone();
        job.placeholders = Some(zfs::PlaceholderEncryption::Inherit);
    })?;
    stage.world.create_filesystem(&root)?;
    all.ok().await?;
    stage.is(&all.received(&fs)?, &["@1", "@2", "@3", "@4 last"]).await?;
    stage.snap(&fs, 1000, "5").await?;
    let report = newest.ok().await?;
    ensure!(report.action(&fs)?.starts_with("send from @4: @4 => @5"), "{}", report.action(&fs)?);
    newest.same(&fs).await
}
