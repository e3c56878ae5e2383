//! What a retention grid leaves after months, against what the simulation says it would.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use daemon::act::{LocalInvocation, prune_local, snapshotting};
use daemon::clock::Clock;
use daemon::endpoint::{SendPolicy, Sender, SenderConfig};
use daemon::events::Events;
use daemon::hooks::HookRunner;
use jiff::Timestamp;
use model::naming::{SnapshotNaming, TimestampFormat};
use model::plan::prune::{GridInterval, KeepRule, RetentionGrid};
use model::plan::snapshot::plan_snapshots;
use model::simulate::{self, Horizon, Keep, Policy, Rhythm};
use model::{DatasetName, JobName, UnixTime, Version};
use regex::Regex;
use tokio_util::sync::CancellationToken;
use zfs::Snapshot;

use crate::body;
use crate::case::Case;
use crate::conformance::version;
use crate::machine::clock_is_ours;
use crate::replication::rig::{Stage, both, filter};

const DAYS: i64 = 90;
const HOUR: i64 = 3600;

/// Both backends; the real one only where the clock is nobody else's, and on request: two thousand rounds
/// of real processes take ten minutes.
pub(crate) fn cases() -> Vec<Case> {
    let [fake, real] = both("retention", "hourly_for_90_days_is_what_was_simulated", body!(ninety_days));
    let real = Case { on_request: true, ..real };
    if clock_is_ours() { vec![fake, real] } else { vec![fake] }
}

/// A day of hourly snapshots, a month of daily ones, a year of monthly ones; what others made stays.
/// Buckets begin on the half hour: the simulation knows no delays, and on a busy machine a snapshot is
/// made a second or two late.
fn rules() -> Result<Vec<KeepRule>> {
    let interval =
        |repeat, minutes: u64, keep| GridInterval { repeat, length: Duration::from_secs(minutes * 60), keep };
    let intervals = vec![
        interval(1, 90, None),
        interval(24, 120, NonZeroU64::new(1)),
        interval(30, 24 * 60, NonZeroU64::new(1)),
        interval(12, 30 * 24 * 60, NonZeroU64::new(1)),
    ];
    let grid = RetentionGrid::new(intervals)?;
    Ok(vec![
        KeepRule::Grid { grid, regex: Regex::new("^auto_")? },
        KeepRule::Regex { regex: Regex::new("^auto_")?, negate: true },
    ])
}

/// A snap job whose rounds are made to happen when the case says so.
struct SnapJob<'a> {
    stage: &'a Stage<'a>,
    filesystem: DatasetName,
    naming: SnapshotNaming,
    rules: Vec<KeepRule>,
    /// What the job takes for the present.
    now: Arc<Mutex<Timestamp>>,
    events: Events,
    sender: Arc<Sender>,
}

impl<'a> SnapJob<'a> {
    fn new(stage: &'a Stage<'a>, start: Timestamp) -> Result<Self> {
        let filesystem = stage.fs("kept")?;
        let now = Arc::new(Mutex::new(start));
        let clock = Arc::clone(&now);
        let clock = Clock::new(move || *clock.lock().unwrap_or_else(PoisonError::into_inner));
        let events = Events::new(clock, Vec::new());
        let config = SenderConfig {
            job: JobName::parse("snap job")?,
            filesystems: filter([filesystem.as_str()])?,
            send: SendPolicy::default(),
            bandwidth: Default::default(),
        };
        let sender = Sender::new(stage.zfs(), events.clone(), config);
        let naming = SnapshotNaming::new("auto_".to_owned(), TimestampFormat::dense());
        Ok(Self { stage, filesystem, naming, rules: rules()?, now, events, sender })
    }

    /// One snapshot, and the pruning after it.
    async fn round(&self, at: Timestamp) -> Result<()> {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = at;
        self.snapshot_at(at).await?;
        let invocation = LocalInvocation {
            number: 1,
            events: self.events.clone(),
            endpoint: Arc::clone(&self.sender) as _,
            keep: self.rules.clone(),
            attempts: daemon::limits::ATTEMPTS,
            patience: daemon::act::Patience::default(),
            drain: daemon::Drain::default(),
            cancel: CancellationToken::new(),
        };
        let summary = prune_local(invocation).await;
        ensure!(summary.errors == 0, "pruning at {at} failed");
        Ok(())
    }

    /// Planned without a listing: what is there is known, and there are two thousand rounds.
    async fn snapshot_at(&self, at: Timestamp) -> Result<()> {
        let filter = filter([self.filesystem.as_str()])?;
        let plan = plan_snapshots(at, &self.naming, &filter, [(&self.filesystem, &[][..])])?;
        ensure!(plan.filesystems == [self.filesystem.clone()], "planned {plan:?}");
        self.stage.world.set_clock(UnixTime(at.as_second()))?;
        let hooks = HookRunner::new(Vec::new(), self.events.clone());
        let failed = snapshotting::take_round(&*self.stage.zfs(), plan, &hooks, &self.events).await;
        ensure!(failed.snapshots == 0, "the snapshot of {at} was not taken");
        Ok(())
    }

    /// One that no rule of the grid is about.
    async fn snapshot_of_a_person(&self, at: Timestamp) -> Result<Version> {
        self.stage.world.set_clock(UnixTime(at.as_second() - HOUR))?;
        let snapshot = Snapshot { dataset: self.filesystem.clone(), name: version("by_hand")? };
        self.stage.zfs().snapshot(&[snapshot]).await.pop().context("one result")??;
        let dataset = self.stage.dataset(&self.filesystem).await?;
        dataset.versions.first().cloned().context("just taken")
    }

    /// What the simulation says is left after the last round.
    fn simulated(&self, start: Timestamp, by_hand: Version) -> Result<BTreeSet<String>> {
        let policy = Policy {
            rhythm: Rhythm::Periodic(Duration::from_secs(HOUR.unsigned_abs())),
            naming: self.naming.clone(),
            keep: Keep::Local(self.rules.clone()),
        };
        let duration = Duration::from_secs(((DAYS * 24 - 1) * HOUR).unsigned_abs());
        let horizon = Horizon { initial: vec![by_hand], ..Horizon::new(start, duration) };
        let timeline = simulate::run(&policy, &horizon)?;
        ensure!(timeline.rounds.len() == usize::try_from(DAYS * 24)?, "{} rounds simulated", timeline.rounds.len());
        let existing = timeline.end.existing.first().context("one side")?;
        Ok(existing.iter().map(|one| one.name.to_string()).collect())
    }

    async fn left(&self) -> Result<BTreeSet<String>> {
        let dataset = self.stage.dataset(&self.filesystem).await?;
        Ok(dataset.versions.iter().map(|version| version.name.to_string()).collect())
    }
}

async fn ninety_days(stage: &Stage<'_>) -> Result<()> {
    let start = Timestamp::from_second((Timestamp::now().as_second() / HOUR + 1) * HOUR)?;
    let job = SnapJob::new(stage, start)?;
    let by_hand = job.snapshot_of_a_person(start).await?;
    for hour in 0..DAYS * 24 {
        job.round(start + Duration::from_secs((hour * HOUR).unsigned_abs())).await?;
    }
    let left = job.left().await?;
    let simulated = job.simulated(start, by_hand)?;
    ensure!(left == simulated, "left {left:#?}, simulated {simulated:#?}");
    Ok(())
}
