//! Steps that are interrupted, and go on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use model::plan::replication::Discard;
use model::protection::ProtectionPolicy;
use model::protection::ProtectionStrategy as Strategy;
use tokio_util::sync::CancellationToken;

use super::faults::{Fault, INJECTED, Side};
use super::rig::{On, Rig, Stage, Table, protection};
use crate::body;
use crate::conformance::{LARGE, full};
use crate::kill::Killer;

pub(super) const CASES: &Table = &[
    ("ReplicationIsResumableFullSend__both_GuaranteeResumability", body!(both_resumability)),
    (
        "ReplicationIsResumableFullSend__initial_GuaranteeIncrementalReplication_incremental_GuaranteeIncrementalReplication",
        body!(both_incremental),
    ),
    (
        "ReplicationIsResumableFullSend__initial_GuaranteeResumability_incremental_GuaranteeIncrementalReplication",
        body!(initial_resumability),
    ),
    ("R4_token_whose_target_is_gone", body!(target_gone)),
    ("R4_token_whose_base_is_gone", body!(base_gone)),
    ("R5_unreadable_token_is_discarded", body!(unreadable_token)),
    ("R6_interrupted_initial_receive_onto_placeholder_resumes", body!(onto_placeholder)),
    ("R16_cancelled_while_planning", body!(cancelled_planning)),
    ("R16_cancelled_in_transfer", body!(cancelled_transfer)),
    ("R16_cancelled_while_pruning", body!(cancelled_pruning)),
    ("Z12_send_is_killed_mid_stream", body!(send_killed)),
    ("Z13_receive_is_killed_while_the_source_stalls", body!(receive_killed)),
    ("stream_errors_and_clean_ends_both_keep_what_arrived", body!(cuts)),
];

/// Runs with partial streams until nothing is left to do; destroys of @1 are tried after each.
async fn resumable(stage: &Stage<'_>, protection: ProtectionPolicy) -> Result<(Vec<bool>, Vec<Discard>)> {
    let rig = stage.push_with(|job| job.protection = protection)?;
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, LARGE, "1").await?;
    let (mut destroyed, mut discards) = (Vec::new(), Vec::new());
    for run in 1..=8 {
        let report = rig.run_with(Fault::CutEnd(400_000)).await;
        discards.extend(report.discards());
        if report.planned_steps() == 0 {
            rig.same(&fs).await?;
            let sender = stage.state(&fs).await?;
            ensure!(sender.ends_with(&["cursor 3".to_owned(), "@3".to_owned()]), "{sender:?}");
            let received = stage.state(&rig.received(&fs)?).await?;
            let expected: &[&str] =
                if destroyed.first() == Some(&true) { &["@2", "@3 last"] } else { &["@1", "@2", "@3 last"] };
            ensure!(received == expected, "{received:?}");
            return Ok((destroyed, discards));
        }
        destroyed.push(match stage.destroy(&fs, "1").await {
            Ok(()) => true,
            Err(error) => {
                ensure!(matches!(error.kind, zfs::ErrorKind::Held), "{error}");
                false
            }
        });
        if run <= 2 {
            stage.snap(&fs, 1000, &format!("{}", run + 1)).await?;
        }
    }
    bail!("it is not done after eight runs")
}

async fn both_resumability(stage: &Stage<'_>) -> Result<()> {
    let (destroyed, discards) = resumable(stage, protection(Strategy::Resumability)).await?;
    ensure!(destroyed.starts_with(&[false, false]) && discards.is_empty(), "{destroyed:?} {discards:?}");
    Ok(())
}

/// zrepl never gets out of this: its token stays, and what it would complete is gone.
async fn both_incremental(stage: &Stage<'_>) -> Result<()> {
    let (destroyed, discards) = resumable(stage, protection(Strategy::Incremental)).await?;
    ensure!(destroyed.first() == Some(&true), "{destroyed:?}");
    ensure!(matches!(&discards[..], [Discard::ToGone { .. }]), "{discards:?}");
    Ok(())
}

async fn initial_resumability(stage: &Stage<'_>) -> Result<()> {
    let policy = ProtectionPolicy { initial: Strategy::Resumability, incremental: Strategy::Incremental };
    let (destroyed, discards) = resumable(stage, policy).await?;
    ensure!(destroyed.starts_with(&[false, false]) && discards.is_empty(), "{destroyed:?} {discards:?}");
    Ok(())
}

const CUT: u64 = 700_000;

async fn target_gone(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    for (number, strategy) in [Strategy::Resumability, Strategy::Incremental, Strategy::Nothing].into_iter().enumerate()
    {
        let fs = stage.fs_with(&format!("sender {number}"), &["1"]).await?;
        let rig = rig.again(|job| job.protection = protection(strategy))?;
        rig.ok().await?;
        stage.snap(&fs, LARGE, "2").await?;
        ensure!(rig.run_with(Fault::CutEnd(CUT)).await.summary.errors == 1);
        let received = rig.received(&fs)?;
        ensure!(stage.dataset(&received).await?.resume_token.is_some());
        if strategy == Strategy::Resumability {
            stage.drop_step_hold(&fs, "2").await?;
        }
        stage.destroy(&fs, "2").await?;
        stage.snap(&fs, LARGE, "3").await?;
        let report = rig.ok().await?;
        ensure!(matches!(&report.discards()[..], [Discard::ToGone { .. }]), "{:?}", report.discards());
        rig.same(&fs).await?;
        let received = stage.state(&received).await?;
        let expected = if strategy == Strategy::Nothing { ["@1", "@3"] } else { ["@1", "@3 last"] };
        ensure!(received == expected, "{received:?}");
    }
    Ok(())
}

async fn base_gone(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    rig.ok().await?;
    stage.snap(&fs, LARGE, "2").await?;
    ensure!(rig.run_with(Fault::CutEnd(CUT)).await.summary.errors == 1);
    // The cursor is enough to complete the step.
    stage.drop_step_hold(&fs, "1").await?;
    stage.destroy(&fs, "1").await?;
    let report = rig.ok().await?;
    ensure!(report.discards().is_empty() && report.summary.bytes < CUT, "{:?}", report.summary);
    stage.is(&fs, &["cursor 2", "@2"]).await?;
    rig.same(&fs).await?;

    // Without it nothing is; the receiver's data stays for a person to decide about.
    let two = stage.find(&fs, model::VersionKind::Snapshot, "2").await?;
    stage.snap(&fs, LARGE, "3").await?;
    ensure!(rig.run_with(Fault::CutEnd(CUT)).await.summary.errors == 1);
    stage.drop_step_hold(&fs, "2").await?;
    stage.destroy(&fs, "2").await?;
    let name = model::protection::cursor_name(two.guid, &model::JobName::parse(super::rig::JOB)?)?;
    stage.zfs().destroy_bookmark(&fs, &name).await?;
    rig.run().await.fails(&[fs.as_str(), "no common snapshot or suitable bookmark"])?;
    stage.is(&rig.received(&fs)?, &["@1", "@2 last"]).await
}

async fn unreadable_token(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, LARGE, "1").await?;
    ensure!(rig.run_with(Fault::CutEnd(CUT)).await.summary.errors == 1);
    let garble = Fault::Listing(Box::new(|side, view| {
        for view in view.filesystems.values_mut().filter(|_| side == Side::Receiver) {
            if let Some(partial) = &mut view.partial {
                partial.contents = Err("its version \"2\" is unknown".to_owned());
            }
        }
        Ok(())
    }));
    let report = rig.run_with(garble).await;
    ensure!(report.summary.errors == 0, "{:?}", report.failures());
    ensure!(matches!(&report.discards()[..], [Discard::Unreadable(_)]), "{:?}", report.discards());
    ensure!(report.summary.bytes > CUT, "it was sent from its beginning");
    rig.same(&fs).await
}

async fn onto_placeholder(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| job.placeholders = Some(zfs::PlaceholderEncryption::Inherit))?;
    let parent = stage.fs("sender fs")?;
    let child = stage.fs_with("sender fs/child", &["1"]).await?;
    rig.run().await.fails(&[parent.as_str(), "no snapshots"])?;
    let received = rig.received(&parent)?;
    let mark = stage.world.property(&received, "zrepl:placeholder")?;
    ensure!(mark == Some(("on".to_owned(), "local")), "{mark:?}");
    stage.snap(&parent, LARGE, "1").await?;
    ensure!(rig.run_with(Fault::CutEnd(700_000)).await.summary.errors == 1);
    let rig = rig.again(|_| {})?;
    let report = rig.ok().await?;
    ensure!(report.action(&parent)?.starts_with("resume"), "{}", report.action(&parent)?);
    ensure!(report.summary.bytes < 700_000, "{} bytes were sent again", report.summary.bytes);
    rig.same(&parent).await?;
    rig.same(&child).await
}

/// How long killed children may take to be gone.
const REAPED: Duration = Duration::from_secs(10);

/// Waits until no child of a case is left.
pub(super) async fn idle(stage: &Stage<'_>) -> Result<()> {
    let (zfs, killer) = (stage.zfs(), Killer::of(stage)?);
    let gone = async {
        while !zfs.running().is_empty() || killer.none_runs().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(REAPED, gone).await {
        Ok(()) => Ok(()),
        Err(_) => bail!("still running: {:?}", zfs.running()),
    }
}

async fn cancelled_planning(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs_with("sender fs", &["1"]).await?;
    for side in [Side::Sender, Side::Receiver] {
        let cancel = CancellationToken::new();
        let trigger = cancel.clone();
        let fault = Fault::Listing(Box::new(move |of, _| {
            if of == side {
                trigger.cancel();
            }
            Ok(())
        }));
        let report = rig.run_until(fault, cancel).await;
        ensure!(report.summary.cancelled && report.summary.steps == 0, "{:?}", report.summary);
        idle(stage).await?;
    }
    stage.is(&fs, &["@1"]).await?;
    rig.ok().await?;
    rig.same(&fs).await
}

async fn cancelled_transfer(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, 6 * LARGE, "1").await?;
    let cancel = CancellationToken::new();
    let trigger = cancel.clone();
    // More than what the pipes to the receiving child hold, which is lost with it.
    let fault = Fault::AfterBytes { bytes: 5_000_000, hook: Box::new(move || trigger.cancel()), stalls: true };
    let report = rig.run_until(fault, cancel).await;
    ensure!(report.summary.cancelled && report.summary.steps == 0, "{:?}", report.summary);
    idle(stage).await?;
    stage.is(&fs, &["@1 step"]).await?;
    let rest = rig.ok().await?;
    ensure!(rest.summary.bytes < 6 * LARGE as u64, "{} bytes were sent again", rest.summary.bytes);
    rig.same(&fs).await
}

async fn cancelled_pruning(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| {
        job.initial = model::plan::replication::InitialReplication::All;
        job.keep_sender = vec![model::plan::prune::KeepRule::LastN { count: 1, regex: None }];
    })?;
    let fs = stage.fs_with("sender fs", &["1", "2", "3"]).await?;
    let cancel = CancellationToken::new();
    let trigger = cancel.clone();
    let report = rig.run_until(Fault::BeforeDestroy(Box::new(move || trigger.cancel())), cancel).await;
    ensure!(report.summary.cancelled && report.summary.steps == 3, "{:?}", report.summary);
    idle(stage).await?;
    rig.ok().await?;
    stage.is(&fs, &["cursor 3", "@3"]).await?;
    rig.same(&fs).await
}

/// A fault that kills the child of a kind in the middle of the first stream.
fn kill_in_stream(stage: &Stage<'_>, verb: &'static str, stalls: bool) -> Result<Fault> {
    match stage.on {
        On::Fake(world) => {
            let verb = if verb == "send" { zfs::fake::Verb::Send } else { zfs::fake::Verb::Receive };
            let calls = world.faults().calls().get(&verb).copied().unwrap_or_default();
            let dies = zfs::ErrorKind::Killed { command: format!("zfs {verb:?}").to_lowercase(), signal: 9 };
            world.faults().break_stream(verb, calls, 500_000, zfs::fake::StreamFault::Dies(dies));
            let nothing = Box::new(|| {});
            Ok(Fault::AfterBytes { bytes: if stalls { 700_000 } else { u64::MAX }, hook: nothing, stalls })
        }
        On::Real(_) => {
            let killer = Arc::new(Killer::of(stage)?);
            let hook = Box::new(move || killer.kill(verb));
            Ok(Fault::AfterBytes { bytes: 500_000, hook, stalls })
        }
    }
}

async fn killed(stage: &Stage<'_>, verb: &'static str, stalls: bool, texts: &[&str]) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, 3 * LARGE, "1").await?;
    let whole =
        stage.stream_len(&full(&fs, &stage.find(&fs, model::VersionKind::Snapshot, "1").await?.to_ref())).await?;
    let fault = kill_in_stream(stage, verb, stalls)?;
    let started = std::time::Instant::now();
    let report = rig.run_with(fault).await;
    ensure!(started.elapsed().as_secs() < 20, "it took {:?}", started.elapsed());
    report.fails(&[fs.as_str()])?;
    report.fails(texts)?;
    idle(stage).await?;
    stage.is(&fs, &["@1 step"]).await?;
    let token = stage.zfs().dataset(&rig.received(&fs)?).await.map(|dataset| dataset.resume_token);
    let rest = rig.ok().await?;
    if token.is_ok_and(|token| token.is_some()) {
        ensure!(rest.summary.bytes < whole, "{} of {whole} bytes were sent again", rest.summary.bytes);
    }
    rig.same(&fs).await?;
    stage.is(&fs, &["cursor 1", "@1"]).await
}

async fn send_killed(stage: &Stage<'_>) -> Result<()> {
    killed(stage, "send", false, &["killed by signal 9"]).await
}

async fn receive_killed(stage: &Stage<'_>) -> Result<()> {
    killed(stage, "receive", true, &["killed by signal 9"]).await
}

async fn cuts(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push()?;
    let fs = stage.fs("sender fs")?;
    stage.snap(&fs, LARGE, "1").await?;
    let run = async |rig: &Rig<'_>, fault, text: &str| rig.run_with(fault).await.fails(&[fs.as_str(), text]);
    run(&rig, Fault::CutError(400_000), INJECTED).await?;
    run(&rig, Fault::CutEnd(400_000), "the stream ended early; it can be resumed").await?;
    let report = rig.ok().await?;
    ensure!(report.summary.bytes < 700_000, "{} bytes were sent again", report.summary.bytes);
    rig.same(&fs).await
}
