//! What the parts of a report mean together: how far things are, and what is wrong.

use super::report::{Attempt, Body, Filesystem, Pruning, Replication, Snapshotting, Taken, TimedError};
use super::text::count;

/// Bytes of steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) done: u64,
    /// Of all steps whose size is known, at least what is done of each.
    pub(crate) expected: u64,
    /// Steps that are not complete and whose size is not known.
    pub(crate) unknown: usize,
}

impl Bytes {
    fn add(self, other: Bytes) -> Bytes {
        Bytes {
            done: self.done.saturating_add(other.done),
            expected: self.expected.saturating_add(other.expected),
            unknown: self.unknown + other.unknown,
        }
    }

    pub(crate) fn left(self) -> u64 {
        self.expected.saturating_sub(self.done)
    }
}

/// A part of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) done: u64,
    pub(crate) all: u64,
}

/// A step, in the parts in which it is counted.
const STEP: u64 = 1000;

impl Share {
    /// From 0 to 100.
    pub(crate) fn percent(self) -> u64 {
        let percent = (u128::from(self.done) * 100).checked_div(u128::from(self.all)).unwrap_or(0);
        u64::try_from(percent.min(100)).unwrap_or(100)
    }

    /// Seconds that the rest takes if what is done took so many; none before much can be said.
    pub(crate) fn left(self, seconds: i64) -> Option<i64> {
        if seconds < LEAST_SECONDS || self.percent() < 1 {
            return None;
        }
        let rest = self.all.saturating_sub(self.done);
        i64::try_from((i128::from(seconds) * i128::from(rest)).checked_div(i128::from(self.done))?).ok()
    }
}

/// In less time the first steps say nothing about the others.
const LEAST_SECONDS: i64 = 5;

/// How a filesystem stands in replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Failed,
    /// Failed, and waits to be tried again.
    FailedForNow,
    Working,
    Waiting,
    Done,
    /// There was nothing to do.
    UpToDate,
}

impl Filesystem {
    pub(crate) fn standing(&self) -> Standing {
        match self.state.as_str() {
            "planning-error" | "step-error" if self.blocked_on == "nothing" || self.blocked_on.is_empty() => {
                Standing::Failed
            }
            "planning-error" | "step-error" => Standing::FailedForNow,
            "done" if self.steps.is_empty() => Standing::UpToDate,
            "done" => Standing::Done,
            _ if self.blocked_on == "nothing" => Standing::Working,
            _ => Standing::Waiting,
        }
    }

    pub(crate) fn is_working(&self) -> bool {
        self.standing() == Standing::Working
    }

    /// For good, or for now.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.standing(), Standing::Failed | Standing::FailedForNow)
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.plan_error.as_ref().or(self.step_error.as_ref()).map(|error| error.err.as_str())
    }

    pub(crate) fn bytes(&self) -> Bytes {
        let complete = self.current_step;
        let step = |(index, step): (usize, &super::report::Step)| {
            let (done, expected) = (step.info.bytes_replicated, step.info.bytes_expected);
            let over = index < complete || self.state == "done";
            Bytes {
                done,
                expected: if over { done } else { expected.max(done) },
                unknown: usize::from(expected == 0 && !over),
            }
        };
        self.steps.iter().enumerate().map(step).fold(Bytes::default(), Bytes::add)
    }
}

impl Attempt {
    pub(crate) fn bytes(&self) -> Bytes {
        self.filesystems.iter().map(Filesystem::bytes).fold(Bytes::default(), Bytes::add)
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state.as_str(), "planning" | "fan-out-filesystems")
    }

    /// How much is done: by bytes if all sizes are known, otherwise by steps, of which those that run count
    /// in part.
    pub(crate) fn share(&self) -> Share {
        let bytes = self.bytes();
        if bytes.unknown == 0 {
            return Share { done: bytes.done, all: bytes.expected };
        }
        let current = |filesystem: &Filesystem| {
            let step = filesystem.steps.get(filesystem.current_step).filter(|_| filesystem.state != "done");
            step.map_or(0, |step| {
                let (done, expected) = (step.info.bytes_replicated, step.info.bytes_expected);
                (u128::from(done.min(expected)) * u128::from(STEP)).checked_div(u128::from(expected)).unwrap_or(0)
            })
        };
        let running: u128 = self.filesystems.iter().map(current).sum();
        let (done, all) = self.steps();
        let running = u64::try_from(running).unwrap_or(u64::MAX);
        Share {
            done: (done as u64).saturating_mul(STEP).saturating_add(running),
            all: (all as u64).saturating_mul(STEP),
        }
    }

    /// Steps done and steps to do.
    pub(crate) fn steps(&self) -> (usize, usize) {
        let all = self.filesystems.iter().map(|filesystem| filesystem.steps.len()).sum();
        let done = |filesystem: &Filesystem| match filesystem.state.as_str() {
            "done" => filesystem.steps.len(),
            _ => filesystem.current_step.min(filesystem.steps.len()),
        };
        (self.filesystems.iter().map(done).sum(), all)
    }
}

impl Replication {
    /// Whether it waits for the connection that was lost.
    pub(crate) fn is_reconnecting(&self) -> bool {
        self.wait_reconnect_since.is_some() && self.wait_reconnect_error.is_none()
    }

    /// Why nothing could be planned, unless the reason why the connection was given up says so already.
    pub(crate) fn plan_error(&self) -> Option<&TimedError> {
        let error = self.attempts.last()?.plan_error.as_ref()?;
        let given_up = self.wait_reconnect_error.as_ref();
        Some(error).filter(|error| given_up.is_none_or(|last| !last.err.ends_with(&error.err)))
    }
}

impl Pruning {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state.as_str(), "Plan" | "Exec")
    }

    /// Snapshots that are gone, and all that are to go.
    pub(crate) fn destroyed(&self) -> (usize, usize) {
        let sum = |list: &[super::report::Pruned]| list.iter().map(|one| one.destroy_list.count).sum::<usize>();
        (sum(&self.completed), sum(&self.completed) + sum(&self.pending))
    }
}

impl Snapshotting {
    pub(crate) fn rows(&self) -> &[Taken] {
        match (&self.periodic, &self.cron) {
            (Some(periodic), _) => &periodic.progress,
            (None, Some(cron)) => &cron.progress,
            (None, None) => &[],
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        match (&self.periodic, &self.cron) {
            (Some(periodic), _) => matches!(periodic.state, 4 | 8),
            (None, Some(cron)) => cron.state == "running",
            (None, None) => false,
        }
    }

    /// When the next round is; none while one runs.
    pub(crate) fn next(&self) -> Option<jiff::Timestamp> {
        match (&self.periodic, &self.cron) {
            (Some(periodic), _) => periodic.sleep_until,
            (None, Some(cron)) => cron.wakeup_time,
            (None, None) => None,
        }
        .filter(|_| !self.is_running())
    }

    fn errors(&self) -> impl Iterator<Item = &str> {
        let periodic = self.periodic.iter().map(|periodic| periodic.error.as_str());
        let cron = self.cron.iter().flat_map(|cron| cron.errors.iter().map(String::as_str));
        periodic.chain(cron).filter(|error| !error.is_empty())
    }
}

/// Something that went wrong in the last invocation, or since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// A filesystem, or what was tried.
    pub(crate) place: String,
    pub(crate) what: String,
    /// Errors that it stands for.
    pub(crate) number: u64,
}

/// Whether a line about a hook says that it failed.
pub(crate) fn is_cause(line: &str) -> bool {
    line.contains("[Err ")
}

/// The line that says what failed, among those of hooks that did not.
fn cause(hooks: &str) -> String {
    let line = hooks.lines().find(|line| is_cause(line)).or(hooks.lines().next()).unwrap_or_default();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// All that the report says went wrong, most important first.
pub(crate) fn problems(body: &Body) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |place: &str, what: &str| {
        found.push(Problem { place: place.to_owned(), what: what.to_owned(), number: 1 });
    };
    if let Some(listener) = body.listener.as_ref().filter(|listener| !listener.error.is_empty()) {
        add("nobody can connect", &format!("cannot listen on {}: {}", listener.place, listener.error));
    }
    if let Some(replication) = &body.replication {
        replication.wait_reconnect_error.iter().for_each(|error| add("connection", &error.err));
        replication.plan_error().iter().for_each(|error| add("planning replication", &error.err));
        if let Some(attempt) = replication.attempts.last() {
            for filesystem in &attempt.filesystems {
                filesystem.error().iter().for_each(|error| add(&filesystem.info.name, error));
            }
        }
    }
    if let Some(snapshotting) = &body.snapshotting {
        let failed: Vec<&Taken> = snapshotting.rows().iter().filter(|row| row.has_failed()).collect();
        for row in &failed {
            add(&row.path, &format!("snapshot {}: {}", row.snap_name, cause(&row.hooks)));
        }
        // The error of a round is often a summary of these.
        if failed.is_empty() {
            snapshotting.errors().for_each(|error| add("snapshotting", error));
        }
    }
    let sides = [
        ("pruning the sender", &body.pruning_sender),
        ("pruning the receiver", &body.pruning_receiver),
        ("pruning", &body.pruning),
    ];
    for (side, pruning) in sides {
        let Some(pruning) = pruning else { continue };
        if !pruning.error.is_empty() {
            add(side, &pruning.error);
        }
        for one in pruning.completed.iter().chain(&pruning.pending).filter(|one| !one.last_error.is_empty()) {
            add(&one.filesystem, &format!("{side}: {}", one.last_error));
        }
    }
    let summary = body.invocation.as_ref().and_then(|invocation| invocation.summary.as_ref());
    if let Some(summary) = summary.filter(|summary| summary.errors > 0 && found.is_empty()) {
        let what = format!("{}, see the daemon's log", count(summary.errors, "error"));
        found.push(Problem { place: "last invocation".to_owned(), what, number: summary.errors });
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attempt(steps: &[(usize, &[(u64, u64)])]) -> Attempt {
        let step =
            |(done, expected): &(u64, u64)| json!({"Info": {"BytesReplicated": done, "BytesExpected": expected}});
        let filesystem = |(current, steps): &(usize, &[(u64, u64)])| {
            let state = if *current == steps.len() { "done" } else { "stepping" };
            json!({"State": state, "CurrentStep": current, "BlockedOn": "nothing",
                "Steps": steps.iter().map(step).collect::<Vec<_>>()})
        };
        let filesystems: Vec<_> = steps.iter().map(filesystem).collect();
        serde_json::from_value(json!({"State": "fan-out-filesystems", "Filesystems": filesystems})).unwrap()
    }

    #[test]
    fn known_sizes_are_counted_in_bytes_and_unknown_ones_in_steps() {
        let known = attempt(&[(1, &[(100, 90)]), (0, &[(50, 300)])]);
        assert_eq!(known.bytes(), Bytes { done: 150, expected: 400, unknown: 0 }, "what is done is as large as it was");
        assert_eq!(known.share().percent(), 37);
        let unknown = attempt(&[(1, &[(100, 90), (30, 60), (0, 0)]), (0, &[(0, 0)])]);
        assert_eq!(unknown.bytes().unknown, 2);
        assert_eq!(unknown.share(), Share { done: 1500, all: 4000 });
        assert_eq!(attempt(&[]).share().percent(), 0);
    }

    #[test]
    fn a_connection_that_was_given_up_is_one_problem_also_if_planning_failed_for_it() {
        let body = |given_up: &str| -> Body {
            let error = |text: &str| json!({"Err": text, "Time": "2024-05-14T10:00:00Z"});
            let attempt = json!({"State": "planning-error", "PlanError": error("nobody listens")});
            serde_json::from_value(
                json!({"Replication": {"WaitReconnectError": error(given_up), "Attempts": [attempt]}}),
            )
            .unwrap()
        };
        let places = |body: &Body| problems(body).into_iter().map(|problem| problem.place).collect::<Vec<_>>();
        assert_eq!(places(&body("giving up after 1s: nobody listens")), ["connection"]);
        assert_eq!(places(&body("the time is over")), ["connection", "planning replication"]);
    }

    #[test]
    fn the_rest_takes_as_long_as_what_is_done() {
        let share = Share { done: 1, all: 4 };
        assert_eq!((share.left(10), share.left(4)), (Some(30), None));
        assert_eq!(Share { done: 1, all: 1000 }.left(100), None, "too little is done");
    }
}
