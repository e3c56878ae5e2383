//! How old what a job protects is, and how old it may be.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use model::schedule::Cron;

use super::{Level, seconds};
use crate::command_line::status::Check;
use crate::status::report::{Ages, Job, Kind, Pruned, Pruning};
use crate::status::text::span;

/// When the newest versions of a filesystem were taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Age<'a> {
    pub(super) name: &'a str,
    pub(super) newest: Option<Timestamp>,
    pub(super) replicated: Option<Timestamp>,
}

/// What the report tells, or what the lists of the last pruning tell if the daemon is zrepl 0.7.
pub(super) fn ages(job: &Job) -> Vec<Age<'_>> {
    let told = job.body.health.as_ref().map_or(&[][..], |facts| &facts.filesystems);
    if !told.is_empty() {
        let ages =
            told.iter().map(|Ages { name, newest, replicated }| Age { name, newest: *newest, replicated: *replicated });
        return ages.collect();
    }
    let mut found: BTreeMap<&str, Age<'_>> = BTreeMap::new();
    let body = &job.body;
    let senders = [&body.pruning_sender, &body.pruning].into_iter().flatten().flat_map(considered);
    for one in senders {
        let age = found.entry(&one.filesystem).or_insert_with(|| Age::unknown(&one.filesystem));
        age.newest = one.snapshot_list.newest;
        age.replicated = one.snapshot_list.newest_replicated;
    }
    // What the receiver has is known better there, as far as the sender knows the filesystem.
    for one in body.pruning_receiver.iter().flat_map(considered) {
        if let Some(age) = found.get_mut(one.filesystem.as_str()) {
            age.replicated = age.replicated.max(one.snapshot_list.newest);
        }
    }
    found.into_values().collect()
}

fn considered(pruning: &Pruning) -> impl Iterator<Item = &Pruned> {
    pruning.completed.iter().chain(&pruning.pending).filter(|one| one.skip_reason.is_empty())
}

impl<'a> Age<'a> {
    fn unknown(name: &'a str) -> Age<'a> {
        Age { name, newest: None, replicated: None }
    }
}

/// From which age on something is wrong, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) warning: i64,
    pub(super) critical: i64,
}

/// Short intervals are late more easily: a run takes its time, whatever the interval.
const WARNING_GRACE: i64 = 600;
const CRITICAL_GRACE: i64 = 1800;

impl Limits {
    /// For snapshots and for what is replicated: from the flags, or from the job's rhythm.
    pub(super) fn of(job: &Job, check: &Check) -> (Option<Limits>, Option<Limits>) {
        let by_rhythm = interval(job).map(|interval| Limits {
            warning: interval.saturating_mul(2).max(interval.saturating_add(WARNING_GRACE)),
            critical: interval.saturating_mul(3).max(interval.saturating_add(CRITICAL_GRACE)),
        });
        // A job that pulls says nothing of how often others take snapshots.
        let snapshot_by_rhythm = by_rhythm.filter(|_| job.kind != Kind::Pull);
        let snapshot = given(check.warn_snapshot_age, check.max_snapshot_age).or(snapshot_by_rhythm);
        let replication = given(check.warn_replication_age, check.max_replication_age).or(by_rhythm);
        // What a sink has was taken elsewhere.
        (snapshot.filter(|_| job.kind != Kind::Sink), replication.filter(|_| has_copies(job)))
    }

    /// Whether the age of what is replicated is measured by the newest snapshot that there is instead of by the
    /// present: how old that may be is not known.
    pub(super) fn measures_lag(job: &Job, check: &Check) -> bool {
        job.kind == Kind::Pull && check.warn_replication_age.is_none() && check.max_replication_age.is_none()
    }

    /// What is exceeded by an age, and the limit.
    pub(super) fn exceeded(&self, age: i64) -> Option<(Level, i64)> {
        match age {
            age if age > self.critical => Some((Level::Critical, self.critical)),
            age if age > self.warning => Some((Level::Warning, self.warning)),
            _ => None,
        }
    }

    /// Which limits hold, for who wonders.
    pub(super) fn explain(
        name: &str,
        job: &Job,
        snapshot: &Option<Limits>,
        replication: &Option<Limits>,
    ) -> Option<String> {
        if matches!(job.kind, Kind::Other(_)) {
            return None;
        }
        let words = |what: &str, limits: &Option<Limits>| match limits {
            None => format!("{what} no limit (the job has no schedule: see --max-{what}-age)"),
            Some(Limits { warning, critical: i64::MAX }) => format!("{what} {}", span(*warning)),
            Some(Limits { warning, critical }) => format!("{what} {}, {}", span(*warning), span(*critical)),
        };
        let of_snapshot = (job.kind != Kind::Sink).then(|| words("snapshot", snapshot));
        let of_replication = has_copies(job).then(|| words("replication", replication));
        let limits: Vec<String> = of_snapshot.into_iter().chain(of_replication).collect();
        Some(format!("limits of {name}: {}", limits.join("; ")))
    }
}

/// What the flags say.
fn given(warning: Option<std::time::Duration>, critical: Option<std::time::Duration>) -> Option<Limits> {
    match (warning.map(seconds), critical.map(seconds)) {
        (None, None) => None,
        (Some(warning), None) => Some(Limits { warning, critical: i64::MAX }),
        (None, Some(critical)) => Some(Limits { warning: critical, critical }),
        (Some(warning), Some(critical)) => Some(Limits { warning, critical }),
    }
}

/// Whether there is a copy whose age counts.
pub(super) fn has_copies(job: &Job) -> bool {
    job.kind.replicates() || job.kind == Kind::Sink
}

/// How often the job runs by itself, in seconds; of a calendar the longest distance in the time to come.
fn interval(job: &Job) -> Option<i64> {
    let facts = job.body.health.as_ref()?;
    if let Some(seconds) = facts.interval_seconds {
        #[allow(clippy::cast_possible_truncation, reason = "an interval of more than i64 seconds does not matter")]
        return Some((seconds.ceil() as i64).max(1));
    }
    longest_distance(facts.cron.as_deref()?)
}

/// Enough times for a calendar by the minute to reach a weekend.
const TIMES: usize = 10_000;
/// A year and a day.
const AHEAD: i64 = 366 * 86_400;

fn longest_distance(cron: &str) -> Option<i64> {
    let cron = Cron::parse(cron, |zone| TimeZone::get(zone).ok(), TimeZone::UTC).ok()?;
    let first = cron.next(Timestamp::now())?;
    let times = std::iter::successors(Some(first), |at| cron.next(*at));
    let near = times.take(TIMES).take_while(|at| at.duration_since(first).as_secs() <= AHEAD);
    let times: Vec<Timestamp> = near.collect();
    let distance = |pair: &[Timestamp]| match pair {
        [a, b] => b.duration_since(*a).as_secs(),
        _ => 0,
    };
    // One that comes once in several years has no second time within a year.
    Some(times.windows(2).map(distance).max().unwrap_or(AHEAD))
}
