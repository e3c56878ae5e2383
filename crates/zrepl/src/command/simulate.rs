//! `zrepl simulate`

mod json;
mod picture;

use std::io::{Write, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use config::types::{Config, Job, Snapshotting};
use jiff::{SignedDuration, Timestamp};
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
    from: Timestamp,
    to: Timestamp,
    timeline: Timeline,
}

/// Plays policies forward and shows what would exist.
pub(crate) fn run(config: Option<&Path>, simulate: &Simulate) -> Result<()> {
    let config = super::load(config)?.config;
    let from = simulate.from.unwrap_or_else(Timestamp::now);
    let mut all = Vec::new();
    for (job, policy) in policies(&config, simulate.job.as_deref())? {
        let played = played(job, &policy, from, simulate.length);
        all.push(only(played.with_context(|| format!("cannot simulate job {job:?}"))?, simulate.side)?);
    }
    let text = match simulate.format {
        SimulateFormat::Json => serde_json::to_string_pretty(&json::document(&all))? + "\n",
        SimulateFormat::Timeline => all.iter().map(picture::draw).collect::<Vec<_>>().join("\n"),
    };
    stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn policies<'a>(config: &'a Config, job: Option<&str>) -> Result<Vec<(&'a str, Policy)>> {
    if let Some(name) = job {
        let job = config.jobs.iter().find(|job| job.name().as_str() == name);
        let job = job.ok_or_else(|| anyhow!("job {name:?} not defined in config"))?;
        let policy = policy(job).ok_or_else(|| {
            anyhow!("job {name:?} takes no snapshots by itself, so that there is nothing to simulate")
        })?;
        return Ok(vec![(job.name().as_str(), policy)]);
    }
    let policies: Vec<(&str, Policy)> =
        config.jobs.iter().filter_map(|job| Some((job.name().as_str(), policy(job)?))).collect();
    if policies.is_empty() {
        bail!("no job takes snapshots by itself, so that there is nothing to simulate");
    }
    Ok(policies)
}

/// None for a job that takes no snapshots by itself.
fn policy(job: &Job) -> Option<Policy> {
    let (snapshotting, keep) = match job {
        Job::Push(job) => {
            let (sender, receiver) = (job.pruning.keep_sender.clone(), job.pruning.keep_receiver.clone());
            (&job.snapshotting, Keep::Replicated { sender, receiver })
        }
        Job::Snap(job) => (&job.snapshotting, Keep::Local(job.keep.clone())),
        // What a source keeps is decided by whoever pulls.
        Job::Sink(_) | Job::Pull(_) | Job::Source(_) => return None,
    };
    let (naming, rhythm) = match snapshotting {
        Snapshotting::Periodic { naming, interval, .. } => (naming, Rhythm::Periodic(*interval)),
        Snapshotting::Cron { naming, cron, .. } => (naming, Rhythm::Cron(cron.clone())),
        Snapshotting::Manual => return None,
    };
    Some(Policy { rhythm, naming: naming.clone(), keep })
}

fn played(job: &str, policy: &Policy, from: Timestamp, length: Duration) -> Result<Played> {
    let to = from.checked_add(length).map_err(|_| anyhow!("it would end after the end of all calendars"))?;
    let samples = samples(from, length);
    let timeline = play(policy, &Horizon { samples, ..Horizon::new(from, length) })?;
    Ok(Played { job: job.to_owned(), from, to, timeline })
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
