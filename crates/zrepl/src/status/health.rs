//! How a job is, in a word.

use jiff::Timestamp;

use super::progress::{Problem, problems};
use super::report::{Job, Kind};
use super::text::{Role, count};

/// How a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// Colour of the word.
    pub(crate) role: Role,
    /// `ok`, `sending 45%`, `3 errors`.
    pub(crate) word: String,
    pub(crate) last_success: Option<Timestamp>,
    pub(crate) next_run: Option<Timestamp>,
    /// How much newer the sender's newest snapshot is than the receiver's, in seconds, for the filesystem
    /// where that is most.
    pub(crate) lag: Option<Lag>,
    /// Age of the newest snapshot in seconds, where it is oldest.
    pub(crate) age: Option<i64>,
    pub(crate) problems: Vec<Problem>,
}

/// How far a receiver is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lag {
    Seconds(i64),
    /// Something was never replicated.
    All,
}

impl Health {
    pub(crate) fn of(job: &Job, now: Timestamp) -> Health {
        let problems = problems(&job.body);
        let (role, word) = word(job, problems.len());
        let facts = job.body.health.as_ref();
        let ages = || facts.iter().flat_map(|facts| &facts.filesystems);
        let next_snapshot = job.body.snapshotting.as_ref().and_then(|snapshotting| snapshotting.next());
        Health {
            role,
            word,
            last_success: facts.and_then(|facts| facts.last_success),
            next_run: facts.and_then(|facts| facts.next_run).or(next_snapshot),
            lag: ages().filter(|_| job.kind.replicates()).filter_map(|ages| lag(ages.newest, ages.replicated)).max(),
            age: ages()
                .filter_map(|ages| if job.kind == Kind::Sink { ages.replicated } else { ages.newest })
                .map(|at| now.duration_since(at).as_secs())
                .max(),
            problems,
        }
    }
}

fn lag(newest: Option<Timestamp>, replicated: Option<Timestamp>) -> Option<Lag> {
    match (newest, replicated) {
        (None, _) => None,
        (Some(_), None) => Some(Lag::All),
        (Some(newest), Some(replicated)) => Some(Lag::Seconds(newest.duration_since(replicated).as_secs().max(0))),
    }
}

/// What is to be said first.
fn word(job: &Job, errors: usize) -> (Role, String) {
    let errors_word = count(u64::try_from(errors).unwrap_or(u64::MAX), "error");
    match (phase(job), errors) {
        (Some(phase), 0) => (Role::Busy, phase),
        (Some(phase), _) => (Role::Bad, format!("{phase}, {errors_word}")),
        (None, 1..) => (Role::Bad, errors_word),
        (None, 0) => at_rest(job),
    }
}

/// What it is doing.
pub(crate) fn phase(job: &Job) -> Option<String> {
    let body = &job.body;
    let attempt = body.replication.as_ref().and_then(|replication| replication.attempts.last());
    let runs = match &body.invocation {
        Some(invocation) => invocation.finish_at.is_none(),
        None => attempt.is_some_and(|attempt| attempt.is_running()),
    };
    let prunes = [&body.pruning, &body.pruning_sender, &body.pruning_receiver];
    if prunes.into_iter().flatten().any(|pruning| pruning.is_running()) {
        return Some("pruning".to_owned());
    }
    let reconnecting = |replication: &super::report::Replication| {
        replication.wait_reconnect_since.is_some() && replication.wait_reconnect_error.is_none()
    };
    match attempt {
        _ if runs && body.replication.as_ref().is_some_and(reconnecting) => Some("reconnecting".to_owned()),
        Some(attempt) if runs && attempt.state == "planning" => Some("planning".to_owned()),
        Some(attempt) if runs && attempt.state == "fan-out-filesystems" => {
            Some(format!("sending {}%", attempt.share().percent()))
        }
        _ if runs => Some("running".to_owned()),
        _ if body.snapshotting.as_ref().is_some_and(|snapshotting| snapshotting.is_running()) => {
            Some("snapshotting".to_owned())
        }
        _ => None,
    }
}

fn at_rest(job: &Job) -> (Role, String) {
    let body = &job.body;
    let faint = |word: &str| (Role::Faint, word.to_owned());
    if body.protections.as_ref().is_some_and(|protections| protections.failed > 0) {
        return (Role::Warn, "look at holds".to_owned());
    }
    match &job.kind {
        Kind::Sink => faint("serves"),
        Kind::Internal => faint("internal"),
        Kind::Other(_) => (Role::Warn, "unknown type".to_owned()),
        _ if body.invocation.as_ref().and_then(|one| one.summary.as_ref()).is_some_and(|one| one.cancelled) => {
            (Role::Warn, "cancelled".to_owned())
        }
        Kind::Source if body.snapshotting.as_ref().is_none_or(|one| one.rows().is_empty()) => faint("serves"),
        Kind::Source => (Role::Good, "ok".to_owned()),
        Kind::Push | Kind::Pull | Kind::Snap => {
            let done = [&body.pruning, &body.pruning_sender, &body.pruning_receiver].into_iter().any(Option::is_some);
            if done || body.replication.is_some() || body.invocation.is_some() {
                (Role::Good, "ok".to_owned())
            } else {
                faint("not run yet")
            }
        }
    }
}
