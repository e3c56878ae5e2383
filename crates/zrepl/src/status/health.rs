//! How a job is, in a word.

use std::collections::HashSet;

use jiff::Timestamp;

use super::progress::{Problem, problems};
use super::report::{Job, Kind, Replication};
use super::text::{Role, count};

/// How a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// `ok`, `sending 45%`, `3 errors`, or what it does and then its errors.
    pub(crate) words: Vec<(Role, String)>,
    pub(crate) last_success: Option<Timestamp>,
    pub(crate) next_run: Option<Timestamp>,
    pub(crate) lag: Lag,
    pub(crate) age: Option<Age>,
    pub(crate) problems: Vec<Problem>,
}

/// How far a receiver is behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// How much newer the sender's newest snapshot is than the newest one that both sides have, in seconds, for
    /// the filesystem where that is most.
    pub(crate) behind: Option<i64>,
    /// Filesystems of which the receiver has nothing that the sender has: they were never sent, or what both
    /// had in common is gone.
    pub(crate) without: Group,
    /// Filesystems of which the daemon has not yet seen what the receiver has.
    pub(crate) unknown: Group,
    /// All filesystems that have snapshots.
    pub(crate) all: usize,
}

/// Some filesystems.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) number: usize,
    /// The name of one of them.
    pub(crate) first: String,
}

impl Group {
    fn add(&mut self, name: &str) {
        if self.number == 0 {
            name.clone_into(&mut self.first);
        }
        self.number += 1;
    }
}

/// How old the newest snapshot is, for the filesystem where it is oldest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Age {
    pub(crate) seconds: i64,
    pub(crate) filesystem: String,
    pub(crate) filesystems: usize,
    /// Whether the newest snapshots of all of them are about as old.
    pub(crate) is_of_all: bool,
}

/// Snapshots of one round differ by less, in seconds.
const ROUND: i64 = 60;

impl Health {
    pub(crate) fn of(job: &Job, now: Timestamp) -> Health {
        let problems = problems(&job.body);
        let facts = job.body.health.as_ref();
        let next_snapshot = job.body.snapshotting.as_ref().and_then(|snapshotting| snapshotting.next());
        Health {
            words: words(job, problems.iter().map(|problem| problem.number).sum()),
            last_success: facts.and_then(|facts| facts.last_success),
            next_run: facts.and_then(|facts| facts.next_run).or(next_snapshot),
            lag: if job.kind.replicates() { lag(job) } else { Lag::default() },
            age: age(job, now),
            problems,
        }
    }

    pub(crate) fn is_bad(&self) -> bool {
        !self.problems.is_empty()
    }
}

fn lag(job: &Job) -> Lag {
    let all = || job.body.health.iter().flat_map(|facts| &facts.filesystems);
    // Only to be made if there is a doubt.
    let mut planned: Option<HashSet<&str>> = None;
    let mut lag = Lag::default();
    for ages in all() {
        let Some(newest) = ages.newest else { continue };
        lag.all += 1;
        let Some(replicated) = ages.replicated else {
            let attempts = || job.body.replication.iter().flat_map(|replication| &replication.attempts);
            let names = || attempts().flat_map(|attempt| &attempt.filesystems).map(|one| one.info.name.as_str());
            let planned = planned.get_or_insert_with(|| names().collect());
            let group = if planned.contains(ages.name.as_str()) { &mut lag.without } else { &mut lag.unknown };
            group.add(&ages.name);
            continue;
        };
        lag.behind = lag.behind.max(Some(newest.duration_since(replicated).as_secs().max(0)));
    }
    lag
}

fn age(job: &Job, now: Timestamp) -> Option<Age> {
    let all = job.body.health.iter().flat_map(|facts| &facts.filesystems);
    let known: Vec<(Timestamp, &str)> = all
        .filter_map(|ages| {
            let at = if job.kind == Kind::Sink { ages.replicated } else { ages.newest };
            Some((at?, ages.name.as_str()))
        })
        .collect();
    let (oldest, filesystem) = known.iter().min()?;
    let (newest, _) = known.iter().max()?;
    Some(Age {
        seconds: now.duration_since(*oldest).as_secs(),
        filesystem: (*filesystem).to_owned(),
        filesystems: known.len(),
        is_of_all: newest.duration_since(*oldest).as_secs() < ROUND,
    })
}

/// What is to be said first.
fn words(job: &Job, errors: u64) -> Vec<(Role, String)> {
    let reconnects = job.body.replication.as_ref().is_some_and(Replication::is_reconnecting);
    let role = if reconnects { Role::Warn } else { Role::Busy };
    let mut words: Vec<(Role, String)> = phase(job).map(|phase| (role, phase)).into_iter().collect();
    if errors > 0 {
        words.push((Role::Bad, count(errors, "error")));
    }
    if words.is_empty() {
        words.push(at_rest(job));
    }
    words
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
    match attempt {
        _ if runs && body.replication.as_ref().is_some_and(Replication::is_reconnecting) => {
            Some("reconnecting".to_owned())
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn job(replication: &str, filesystems: &str) -> Job {
        let text = format!(
            r#"{{"type": "push", "push": {{"Replication": {replication}, "Health": {{"Filesystems": [{filesystems}]}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn what_is_not_replicated_is_told_apart_from_what_is_not_known() {
        let now = "2024-05-14T12:00:00Z".parse().unwrap();
        let rows = r#"{"Name": "p/a", "Newest": "2024-05-14T11:00:00Z", "Replicated": "2024-05-14T10:00:00Z"},
            {"Name": "p/b", "Newest": "2024-05-14T11:00:30Z", "Replicated": null},
            {"Name": "p/c", "Newest": "2024-05-14T11:00:30Z", "Replicated": null},
            {"Name": "p/d", "Newest": null, "Replicated": null}"#;
        let group = |number, first: &str| Group { number, first: first.to_owned() };
        let planned = r#"{"Attempts": [{"State": "filesystem-error", "Filesystems": [{"Info": {"Name": "p/c"}}]}]}"#;
        let health = Health::of(&job(planned, rows), now);
        let expected = Lag { behind: Some(3600), without: group(1, "p/c"), unknown: group(1, "p/b"), all: 3 };
        assert_eq!(health.lag, expected);
        let age = Age { seconds: 3600, filesystem: "p/a".to_owned(), filesystems: 3, is_of_all: true };
        assert_eq!(health.age, Some(age));
        let health = Health::of(&job("null", rows), now);
        assert_eq!((health.lag.without, health.lag.unknown), (Group::default(), group(2, "p/b")), "nobody has looked");
    }
}
