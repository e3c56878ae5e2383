//! `zrepl simulate`

mod json;
mod picture;

use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use config::types::{Config, Connect, Job, PullJob, Serve, Snapshotting, SourceJob};
use daemon::preview::{Present, present, serve_all};
use jiff::{SignedDuration, Timestamp};
use model::DatasetName;
use model::naming::{SnapshotNaming, TimestampFormat};
use model::plan::prune::PruneSide as Pruned;
use model::simulate::{Horizon, Keep, Policy, Rhythm, Timeline, run as play};

use crate::command_line::{PruneSide, Simulate, SimulateFormat};

/// Most rows of a timeline: what fits on a screen.
const ROWS: u64 = 30;
const DAY: u64 = 86_400;
/// Distances of rows that people count in, in seconds; beyond the last, its multiples.
const STEPS: [u64; 8] = [60, 600, 3600, 6 * 3600, 12 * 3600, DAY, 2 * DAY, 7 * DAY];

/// A played policy.
struct Played {
    job: String,
    /// Whose snapshots it began with.
    filesystem: Option<DatasetName>,
    from: Timestamp,
    to: Timestamp,
    timeline: Timeline,
}

/// Plays policies forward and shows what would exist.
pub(crate) fn run(config: Option<&Path>, simulate: &Simulate) -> Result<()> {
    let config = super::load(config)?.config;
    let jobs = jobs(&config, simulate)?;
    let starts = match simulate.from_present {
        true => super::block_on(starts(&config, simulate, &jobs))?,
        false => jobs.iter().map(|_| Some(Start::default())).collect(),
    };
    let from = simulate.from.unwrap_or_else(now);
    let mut all = Vec::new();
    for ((job, policy), start) in jobs.into_iter().zip(starts) {
        let Some(Start { filesystem, present }) = start else { continue };
        let (initial, initial_receiver) = (present.sender, present.receiver);
        let horizon = Horizon { initial, initial_receiver, ..Horizon::new(from, simulate.length) };
        let job = job.name().as_str();
        let played = played(job, &policy, horizon).with_context(|| format!("cannot simulate job {job:?}"))?;
        all.push(only(Played { filesystem, ..played }, simulate.side)?);
    }
    let text = match simulate.format {
        _ if simulate.json => serde_json::to_string_pretty(&json::document(&all))? + "\n",
        SimulateFormat::Json => serde_json::to_string_pretty(&json::document(&all))? + "\n",
        SimulateFormat::Timeline => all.iter().map(picture::draw).collect::<Vec<_>>().join("\n"),
    };
    stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// In whole seconds, as snapshots are named.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What a simulation begins with.
#[derive(Default)]
struct Start {
    filesystem: Option<DatasetName>,
    present: Present,
}

/// The present of each job; none for one without the filesystem that is wanted, unless it is the only job.
async fn starts(config: &Config, simulate: &Simulate, jobs: &[(&Job, Policy)]) -> Result<Vec<Option<Start>>> {
    let world = super::plan::world(config)?;
    let _served = serve_all(config, &world)?;
    let mut starts = Vec::new();
    for (job, _) in jobs {
        let name = job.name();
        let presents = present(job, &world).await.map_err(|why| anyhow!("job {name}: {why}"))?;
        starts.push(start(name.as_str(), presents, simulate.filesystem.as_ref())?);
    }
    match &simulate.filesystem {
        Some(wanted) if starts.iter().all(Option::is_none) => bail!("no job in question has a filesystem {wanted}"),
        _ => Ok(starts),
    }
}

fn start(
    job: &str,
    mut presents: BTreeMap<DatasetName, Present>,
    wanted: Option<&DatasetName>,
) -> Result<Option<Start>> {
    if let Some(wanted) = wanted {
        let found = presents.remove(wanted);
        return Ok(found.map(|present| Start { filesystem: Some(wanted.clone()), present }));
    }
    let count = presents.len();
    match presents.pop_first() {
        None => bail!("job {job:?} has no filesystem now"),
        Some((filesystem, present)) if count == 1 => Ok(Some(Start { filesystem: Some(filesystem), present })),
        Some((first, _)) => bail!("job {job:?} has {count} filesystems: choose one, such as --filesystem '{first}'"),
    }
}

fn jobs<'a>(config: &'a Config, simulate: &Simulate) -> Result<Vec<(&'a Job, Policy)>> {
    if let Some(name) = simulate.job.as_deref() {
        let job = config.jobs.iter().find(|job| job.name().as_str() == name);
        let job = job.ok_or_else(|| anyhow!("job {name:?} not defined in config"))?;
        return Ok(vec![(job, policy(config, job, simulate)?)]);
    }
    let mut refusals = Vec::new();
    let mut policies = Vec::new();
    for job in &config.jobs {
        match policy(config, job, simulate) {
            Ok(policy) => policies.push((job, policy)),
            Err(refusal) => refusals.push(refusal.to_string()),
        }
    }
    if policies.is_empty() {
        bail!("no job can be simulated: {}", refusals.join("; "));
    }
    Ok(policies)
}

fn policy(config: &Config, job: &Job, simulate: &Simulate) -> Result<Policy> {
    let name = job.name().as_str();
    let (snapshotting, keep) = match job {
        Job::Push(job) => {
            let (sender, receiver) = (job.pruning.keep_sender.clone(), job.pruning.keep_receiver.clone());
            (&job.snapshotting, Keep::Replicated { sender, receiver })
        }
        Job::Snap(job) => (&job.snapshotting, Keep::Local(job.keep.clone())),
        Job::Pull(job) => {
            let (sender, receiver) = (job.pruning.keep_sender.clone(), job.pruning.keep_receiver.clone());
            // Of a source elsewhere nothing is known; it is one of the others that `--every` is about.
            let snapshotting = source_of(config, job).map_or(&Snapshotting::Manual, |source| &source.snapshotting);
            (snapshotting, Keep::Replicated { sender, receiver })
        }
        Job::Sink(_) => bail!("job {name:?} has no rules of its own: simulate the job that sends to it"),
        Job::Source(_) => bail!("job {name:?} has no rules of its own: simulate the job that pulls from it"),
    };
    let (naming, rhythm) = match (snapshotting, simulate.every) {
        (Snapshotting::Periodic { naming, interval, .. }, _) => (naming.clone(), Rhythm::Periodic(*interval)),
        (Snapshotting::Cron { naming, cron, .. }, _) => (naming.clone(), Rhythm::Cron(cron.clone())),
        (Snapshotting::Manual, Some(every)) => {
            (SnapshotNaming::new(simulate.prefix.clone(), TimestampFormat::dense()), Rhythm::Periodic(every))
        }
        (Snapshotting::Manual, None) => bail!(
            "job {name:?} takes no snapshots by itself: say how often others take them and what they are called, \
             such as --every 1h --prefix auto_"
        ),
    };
    Ok(Policy { rhythm, naming, keep })
}

/// The source of this configuration that a job pulls from.
fn source_of<'a>(config: &'a Config, job: &PullJob) -> Option<&'a SourceJob> {
    let Connect::Local(connect) = &job.connect else { return None };
    config.jobs.iter().find_map(|job| match job {
        Job::Source(source) => match &source.serve {
            Serve::Local(serve) if serve.listener_name == connect.listener_name => Some(source),
            _ => None,
        },
        _ => None,
    })
}

fn played(job: &str, policy: &Policy, horizon: Horizon) -> Result<Played> {
    let (from, length) = (horizon.start, horizon.duration);
    let to = from.checked_add(length).map_err(|_| anyhow!("it would end after the end of all calendars"))?;
    let timeline = play(policy, &Horizon { samples: samples(from, length), ..horizon })?;
    Ok(Played { job: job.to_owned(), filesystem: None, from, to, timeline })
}

/// Moments at a distance that people count in, as many as make a screen; the end comes by itself.
fn samples(from: Timestamp, length: Duration) -> Vec<Timestamp> {
    let seconds = length.as_secs();
    let least = seconds.div_ceil(ROWS);
    let weeks = least.div_ceil(7 * DAY).max(1) * 7 * DAY;
    let step = STEPS.into_iter().find(|step| *step >= least).unwrap_or(weeks);
    let moments = (0..).map(|number: u64| number.saturating_mul(step)).take_while(|after| *after < seconds);
    moments.filter_map(|after| from.checked_add(SignedDuration::from_secs(i64::try_from(after).ok()?)).ok()).collect()
}

/// One side of a timeline.
fn only(mut played: Played, side: Option<PruneSide>) -> Result<Played> {
    let wanted = match side {
        None => return Ok(played),
        Some(PruneSide::Sender) => Pruned::Sender,
        Some(PruneSide::Receiver) => Pruned::Receiver,
    };
    let timeline = &mut played.timeline;
    let Some(index) = timeline.sides.iter().position(|side| side.side == wanted) else {
        bail!("job {:?} does not replicate: it has no {wanted}", played.job);
    };
    timeline.sides = timeline.sides.drain(index..=index).collect();
    for sample in timeline.samples.iter_mut().chain([&mut timeline.end]) {
        sample.existing = sample.existing.drain(index..=index).collect();
    }
    for round in &mut timeline.rounds {
        round.destroyed.retain(|destroyed| destroyed.side == wanted);
    }
    Ok(played)
}
