//! How many child processes a cycle takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Result, ensure};
use model::plan::prune::KeepRule;
use model::protection::ProtectionStrategy as Strategy;
use zfs::Zfs;
use zfs::cli::{CliConfig, CommandEvent, ZfsCli};

use super::rig::{On, Stage, Table, protection};
use crate::body;

pub(super) const CASES: &Table = &[
    ("ProcessCount_idle_cycle_is_constant", body!(idle)),
    ("ProcessCount_six_filesystems", body!(six)),
    ("ProcessCount_of_a_step_by_protection", body!(by_protection)),
];

async fn idle(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| {
        job.concurrency = 4;
        job.keep_sender =
            vec![KeepRule::NotReplicated { keep_snapshot_at_cursor: true }, KeepRule::LastN { count: 2, regex: None }];
        job.keep_receiver = vec![KeepRule::LastN { count: 10, regex: None }];
    })?;
    let mut counts = Vec::new();
    let mut made = 0;
    for filesystems in [2, 12] {
        while made < filesystems {
            stage.fs_with(&format!("fs {made}"), &["1"]).await?;
            made += 1;
        }
        rig.ok().await?;
        for daemon in [&rig, &rig.again(|_| {})?] {
            let before = stage.world.processes();
            let report = daemon.ok().await?;
            ensure!(report.summary.steps == 0 && report.summary.destroyed == 0);
            ensure!(report.summary.filesystems == filesystems);
            counts.push(stage.world.processes() - before);
        }
    }
    println!("idle cycles with 2, 2, 12 and 12 filesystems start {counts:?} processes");
    counts.dedup();
    ensure!(matches!(counts[..], [1..=10]), "{counts:?}");
    Ok(())
}

async fn six(stage: &Stage<'_>) -> Result<()> {
    let rig = stage.push_with(|job| {
        job.keep_sender =
            vec![KeepRule::NotReplicated { keep_snapshot_at_cursor: true }, KeepRule::LastN { count: 5, regex: None }];
        job.keep_receiver = vec![KeepRule::LastN { count: 5, regex: None }];
    })?;
    let mut names = Vec::new();
    for number in 0..6 {
        names.push(stage.fs_with(&format!("fs {number}"), &["1"]).await?);
    }
    for (what, most, next) in [("the first replication", 50, "2"), ("the next increment", 62, "3")] {
        let (before, started) = (stage.world.processes(), Instant::now());
        let report = rig.ok().await?;
        let (count, took) = (stage.world.processes() - before, started.elapsed());
        ensure!(report.summary.steps == names.len());
        match stage.is_fake() {
            true => println!("{what} of six filesystems: {count} commands"),
            false => println!("{what} of six filesystems: {count} commands, {:.1} s", took.as_secs_f64()),
        }
        ensure!(count <= most, "{count} commands");
        for name in &names {
            stage.snap(name, 1000, next).await?;
        }
    }
    Ok(())
}

/// How often each subcommand was started.
type Counts = BTreeMap<String, u64>;

/// A handle on ZFS that counts what is started through it.
struct Counted {
    zfs: Arc<dyn Zfs>,
    read: Box<dyn Fn() -> Counts>,
}

fn counted(stage: &Stage<'_>) -> Counted {
    match stage.on {
        On::Fake(world) => {
            let zfs = world.host().zfs();
            let faults = zfs.faults().clone();
            let read = move || faults.processes().into_iter().map(|(verb, count)| (verb.to_owned(), count)).collect();
            Counted { zfs: Arc::new(zfs), read: Box::new(read) }
        }
        On::Real(_) => {
            let counts = Arc::<Mutex<Counts>>::default();
            let log = Arc::clone(&counts);
            let zfs = ZfsCli::new(CliConfig::default()).with_observer(Arc::new(move |record| {
                if matches!(record.event, CommandEvent::Started) {
                    let verb = record.command.args.get(1).cloned().unwrap_or_default();
                    *log.lock().unwrap_or_else(PoisonError::into_inner).entry(verb).or_default() += 1;
                }
            }));
            let read = move || counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Counted { zfs: Arc::new(zfs), read: Box::new(read) }
        }
    }
}

/// What was started since, of which `listings` belongs to the cycle and not to its steps.
fn since(now: Counts, before: &Counts, listings: &Counts) -> Counts {
    let more = |(verb, count): (String, u64)| {
        let get = |counts: &Counts| counts.get(&verb).copied().unwrap_or_default();
        let more = count.saturating_sub(get(before)).saturating_sub(get(listings));
        (more > 0).then_some((verb, more))
    };
    now.into_iter().filter_map(more).collect()
}

/// What one step takes of each side beyond the listings of a cycle, after a first one and in a series.
async fn by_protection(stage: &Stage<'_>) -> Result<()> {
    const STEPS: u64 = 4;
    let plain = stage.push()?;
    for (strategy, most_of_sender) in [(Strategy::Resumability, 5), (Strategy::Incremental, 5), (Strategy::Nothing, 1)]
    {
        let fs = stage.fs_with(&format!("sender {strategy:?}"), &["0"]).await?;
        let (sends, receives) = (counted(stage), counted(stage));
        let mut job = plain.job.clone();
        job.filesystems = super::rig::filter([fs.as_str()])?;
        job.protection = protection(strategy);
        let rig = stage.rig_on(job, Arc::clone(&sends.zfs), Arc::clone(&receives.zfs))?;
        rig.ok().await?;
        let before = ((sends.read)(), (receives.read)());
        rig.ok().await?;
        let none = Counts::new();
        let idle = (since((sends.read)(), &before.0, &none), since((receives.read)(), &before.1, &none));
        for number in 1..=STEPS {
            stage.snap(&fs, 1000, &number.to_string()).await?;
        }
        let before = ((sends.read)(), (receives.read)());
        let report = rig.ok().await?;
        ensure!(report.summary.steps == 4, "{:?}", report.summary);
        let sender = since((sends.read)(), &before.0, &idle.0);
        let receiver = since((receives.read)(), &before.1, &idle.1);
        println!("{STEPS} steps with {strategy:?}: sender {sender:?}, receiver {receiver:?}; idle {idle:?}");
        let sum = |counts: &Counts| counts.values().sum::<u64>();
        ensure!(sum(&sender) <= STEPS * most_of_sender, "{strategy:?}: {sender:?} on the sender");
        ensure!(sum(&receiver) <= STEPS * 3, "{strategy:?}: {receiver:?} on the receiver");
        rig.same(&fs).await?;
    }
    Ok(())
}
