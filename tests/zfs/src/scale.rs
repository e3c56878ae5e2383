//! Many filesystems on real pools: what a cycle costs, and how soon it begins to transfer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use model::PropertyName;

use crate::body;
use crate::case::Case;
use crate::replication::faults::{Fault, Side};
use crate::replication::rig::{On, Rig, Stage, filter, on_real};

/// Unless `ZFS_SUITE_FILESYSTEMS` and `ZFS_SUITE_SNAPSHOTS` say otherwise. Each filesystem costs some twenty
/// processes to make and to replicate twice.
const FILESYSTEMS: usize = 300;
const SNAPSHOTS: usize = 20;

/// What is promised: of a cycle without anything to do, and of a step of both sides together.
const MOST_WHEN_IDLE: u64 = 10;
const MOST_PER_STEP: f64 = 11.0;

/// From the last listing to the first transfer, plans of everything included.
const LONGEST_TO_PLAN: Duration = Duration::from_secs(5);

/// What the daemon may need at most, in MiB: some KiB per filesystem and snapshot above a fixed part.
fn most_memory(versions: usize) -> u64 {
    150 + versions as u64 / 1024
}

/// On request: `cargo xtask bench pools`.
pub(crate) fn cases() -> Vec<Case> {
    let name = "scale::R14_many_filesystems_with_many_snapshots";
    let case = Case::real(name, |bench| {
        bench.use_large_pools();
        on_real(bench, body!(many))
    });
    vec![Case { on_request: true, ..case }]
}

fn setting(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
    }
}

/// The most memory that this process ever had.
fn peak_memory_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}

/// What a cycle took.
struct Cycle {
    wall: Duration,
    processes: u64,
    steps: usize,
    /// Until both sides were listed, and from then to the first send.
    listed: Duration,
    planned: Option<Duration>,
}

async fn cycle(stage: &Stage<'_>, rig: &Rig<'_>) -> Result<Cycle> {
    let start = Instant::now();
    let (listed, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::new()));
    let millis = move || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (on_list, on_send) = (Arc::clone(&listed), Arc::clone(&sent));
    let fault = Fault::Watched {
        list: Box::new(move |_: Side| on_list.store(millis(), Ordering::Relaxed)),
        send: Box::new(move || {
            let at = (listed.load(Ordering::Relaxed), millis());
            on_send.get_or_init(|| at);
        }),
    };
    let before = stage.world.processes();
    let report = rig.run_with(fault).await;
    ensure!(report.summary.errors == 0, "{:?}", report.failures());
    let (listed, planned) = match sent.get() {
        None => (0, None),
        Some((listed, sent)) => (*listed, Some(Duration::from_millis(sent.saturating_sub(*listed)))),
    };
    let listed = Duration::from_millis(listed);
    let processes = stage.world.processes() - before;
    Ok(Cycle { wall: start.elapsed(), processes, steps: report.summary.steps, listed, planned })
}

fn show(what: &str, cycle: &Cycle) -> Result<()> {
    let Cycle { wall, processes, steps, listed, planned } = cycle;
    let planned = planned.map_or_else(String::new, |planned| {
        format!(", listed after {:.1} s, first transfer {:.2} s later", listed.as_secs_f64(), planned.as_secs_f64())
    });
    let memory = peak_memory_mib()?;
    println!(
        "{what}: {:.1} s, {steps} steps, {processes} processes, {memory} MiB at most{planned}",
        wall.as_secs_f64()
    );
    Ok(())
}

async fn many(stage: &Stage<'_>) -> Result<()> {
    let On::Real(bench) = stage.on else { bail!("it measures real pools") };
    let filesystems = setting("ZFS_SUITE_FILESYSTEMS", FILESYSTEMS)?;
    let snapshots = setting("ZFS_SUITE_SNAPSHOTS", SNAPSHOTS)?;
    let [source, _] = stage.world.pools();
    let start = Instant::now();
    bench.bash(&format!(
        "for ((i = 0; i < {filesystems}; i++)); do
             ((i % 100)) || zfs create -p -o canmount=off {source}/data/$((i / 100))
             zfs create -u {source}/data/$((i / 100))/$i
         done
         for ((i = 0; i < {snapshots}; i++)); do zfs snapshot -r {source}/data@$i; done"
    ))?;
    println!("{filesystems} filesystems with {snapshots} snapshots made in {:.1} s", start.elapsed().as_secs_f64());
    let only = filter([format!("{source}/data<")])?;
    // To mount one below another would modify the upper one.
    let unmounted = (PropertyName::parse("canmount")?, "off".to_owned());
    let rig = stage.push_with(|job| {
        job.filesystems = only;
        job.set = vec![unmounted];
        job.concurrency = 8;
    })?;
    let all = filesystems + filesystems.div_ceil(100) + 1;
    let first = cycle(stage, &rig).await?;
    show("first replication", &first)?;
    ensure!(first.steps == all, "{} steps instead of {all}", first.steps);
    // A daemon that was started again.
    let rig = rig.again(|_| {})?;
    let idle = cycle(stage, &rig).await?;
    show("steady state", &idle)?;
    ensure!(idle.steps == 0 && idle.processes <= MOST_WHEN_IDLE, "{} processes", idle.processes);
    bench.bash(&format!("zfs snapshot -r {source}/data@new"))?;
    let next = cycle(stage, &rig).await?;
    show("one new snapshot each", &next)?;
    ensure!(next.steps == all, "{} steps instead of {all}", next.steps);
    let per_step = next.processes as f64 / next.steps as f64;
    println!("{per_step:.2} processes per step of both sides");
    ensure!(per_step <= MOST_PER_STEP, "{per_step:.2} processes per step");
    ensure!(next.planned.is_some_and(|planned| planned < LONGEST_TO_PLAN), "{:?}", next.planned);
    let (memory, most) = (peak_memory_mib()?, most_memory(all * snapshots * 2));
    ensure!(memory <= most, "{memory} MiB, {most} were expected at most");
    Ok(())
}
