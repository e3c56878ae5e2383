//! What a policy does in the course of time: the planners play round after round over imagined
//! snapshots, so that one can see what will exist before trusting it with real ones.
//!
//! Assumed are one filesystem, a program that always runs, rounds that take no time, and, if the policy
//! replicates, that each round is replicated at once and in full (to an empty receiver: the newest
//! snapshot only). Snapshots are held by nobody but those who held the initial ones.

mod world;

use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use crate::name::{NameError, VersionName};
use crate::naming::SnapshotNaming;
use crate::plan::prune::{Decision, KeepRule, PruneSide, Rejection};
use crate::schedule::Cron;
use crate::version::{UnixTime, Version};

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Policy {
    /// When rounds are due.
    pub rhythm: Rhythm,
    /// What the snapshots are called.
    pub naming: SnapshotNaming,
    /// What stays.
    pub keep: Keep,
}

/// When rounds are due.
#[derive(Debug, Clone)]
pub enum Rhythm {
    /// At a fixed distance, continuing the rhythm of the initial snapshots.
    Periodic(Duration),
    /// By the calendar.
    Cron(Cron),
}

/// Which snapshots stay where.
#[derive(Debug, Clone)]
pub enum Keep {
    /// There is one side only, as in a `snap` job.
    Local(Vec<KeepRule>),
    /// Every round is replicated, then both sides are pruned.
    Replicated {
        /// `keep_sender`
        sender: Vec<KeepRule>,
        /// `keep_receiver`
        receiver: Vec<KeepRule>,
    },
}

/// From when to when, and from what.
#[derive(Debug, Clone)]
pub struct Horizon {
    /// The program starts.
    pub start: Timestamp,
    /// How long it runs; a round at the very end counts.
    pub duration: Duration,
    /// When to look at what exists, in any order. Rounds at that very moment have been done. A moment
    /// before the start shows the initial state, one after the end the last.
    pub samples: Vec<Timestamp>,
    /// What exists on the sender (or the only side) at the start.
    pub initial: Vec<Version>,
    /// What exists on the receiver at the start; ignored for [`Keep::Local`].
    pub initial_receiver: Vec<Version>,
    /// How much is played at most.
    pub limits: Limits,
}

impl Horizon {
    /// From nothing, without samples, with the usual limits.
    pub fn new(start: Timestamp, duration: Duration) -> Self {
        Self {
            start,
            duration,
            samples: Vec::new(),
            initial: Vec::new(),
            initial_receiver: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// Bounds of time and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many rounds.
    pub rounds: u64,
    /// How many snapshots are looked at, over all rounds: what a simulation costs.
    pub looked_at: u64,
}

impl Default for Limits {
    /// 100 000 rounds, 20 million snapshots looked at: a few seconds.
    fn default() -> Self {
        Self { rounds: 100_000, looked_at: 20_000_000 }
    }
}

/// Why there is no timeline.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SimulateError {
    /// [`Limits::rounds`]
    #[error("the simulation has {limit} rounds at {reached}: simulate a shorter time")]
    TooManyRounds {
        /// The limit.
        limit: u64,
        /// When it was reached.
        reached: Timestamp,
    },
    /// [`Limits::looked_at`]
    #[error(
        "the simulation has looked at {limit} snapshots by {reached}, when {existing} exist: \
         simulate a shorter time, or let the rules keep less"
    )]
    TooManySnapshots {
        /// The limit.
        limit: u64,
        /// When it was reached.
        reached: Timestamp,
        /// How many exist then, on both sides together.
        existing: usize,
    },
    /// A round cannot be named.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Rounds without distance.
    #[error("the interval of the snapshots is zero: give it a positive duration, such as `10m`")]
    NoInterval,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// The sides in the order in which all lists have them: the only one, or sender and receiver.
    pub sides: Vec<SideRules>,
    /// All rounds in order.
    pub rounds: Vec<Round>,
    /// One for each of [`Horizon::samples`], in order of time.
    pub samples: Vec<Sample>,
    /// What exists at the end.
    pub end: Sample,
}

/// A side and its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideRules {
    /// Which.
    pub side: PruneSide,
    /// The rules in words; indices in reasons mean these.
    pub rules: Vec<String>,
}

/// One round of snapshots and what was pruned after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// When.
    pub at: Timestamp,
    /// The name of its snapshot.
    pub name: VersionName,
    /// Why the snapshot was not taken; none if it was.
    pub failed: Option<String>,
    /// How many snapshots were received by the receiver.
    pub replicated: usize,
    /// What was destroyed, the sender's first, oldest first.
    pub destroyed: Vec<Destroyed>,
}

/// A snapshot that went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destroyed {
    /// From which side.
    pub side: PruneSide,
    /// Its name.
    pub name: VersionName,
    /// When it had been taken.
    pub creation: UnixTime,
    /// Every rule (by its index) and why it let the snapshot go.
    pub reasons: Vec<(u16, Rejection)>,
}

/// What exists at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When, as asked for.
    pub at: Timestamp,
    /// Per side, in the order of [`Timeline::sides`]: the snapshots, oldest first.
    pub existing: Vec<Vec<Existing>>,
}

/// A snapshot that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Its name.
    pub name: VersionName,
    /// When it was taken.
    pub creation: UnixTime,
    /// What the rules would say now. Some that say [`Decision::Destroy`] will go with the next round.
    pub decision: Decision,
    /// The rules that keep it, by index.
    pub kept_by: Vec<u16>,
}

/// Plays a policy.
///
/// # Errors
/// It would take too long, or a round has no valid name; see [`SimulateError`].
pub fn run(policy: &Policy, horizon: &Horizon) -> Result<Timeline, SimulateError> {
    if matches!(policy.rhythm, Rhythm::Periodic(interval) if interval.is_zero()) {
        return Err(SimulateError::NoInterval);
    }
    let end = horizon.start.checked_add(horizon.duration).unwrap_or(Timestamp::MAX);
    let mut wanted = horizon.samples.clone();
    wanted.sort();
    let mut wanted = wanted.into_iter().peekable();
    let mut world = world::World::new(policy, horizon)?;
    let (mut rounds, mut samples) = (Vec::new(), Vec::new());
    let mut due = world.first(horizon.start).filter(|at| *at <= end);
    while let Some(at) = due {
        while let Some(sample) = wanted.next_if(|sample| *sample < at) {
            samples.push(world.look(sample)?);
        }
        rounds.push(world.round(at)?);
        due = world.next(at).filter(|at| *at <= end);
    }
    for sample in wanted {
        samples.push(world.look(sample)?);
    }
    Ok(Timeline { sides: world.sides(), rounds, samples, end: world.look(end)? })
}
