//! What runs in a job at the moment, as its events say.

use model::event::{Replication, SnapshotterState, Snapshotting, What};

/// What runs in a job.
#[derive(Default)]
pub(super) struct Running {
    /// Jobs of that name: one that takes long to end may go on beside what has replaced it.
    lives: u64,
    /// Its number.
    pub(super) invocation: Option<u64>,
    /// Counts from 1 in each invocation.
    pub(super) attempt: Option<u64>,
    attempts: u64,
    /// The round of snapshots, which counts from 1 since the daemon started.
    pub(super) round: Option<u64>,
    rounds: u64,
    /// The state of the snapshotter.
    pub(super) snapshotter: Option<SnapshotterState>,
    unplanned: bool,
    failed: bool,
}

/// Nothing.
pub(super) const NOTHING_RUNS: &Running = &Running {
    lives: 0,
    invocation: None,
    attempt: None,
    attempts: 0,
    round: None,
    rounds: 0,
    snapshotter: None,
    unplanned: false,
    failed: false,
};

impl Running {
    /// Before the line of what happened is written.
    pub(super) fn begin(&mut self, what: &What) {
        match what {
            What::JobStarted => self.lives += 1,
            What::InvocationStarted { number } => {
                (self.invocation, self.attempt, self.attempts) = (Some(*number), None, 0);
            }
            What::Replication(Replication::AttemptStarted) => {
                self.attempts += 1;
                (self.attempt, self.unplanned, self.failed) = (Some(self.attempts), false, false);
            }
            What::Replication(Replication::PlanFailed { .. }) => self.unplanned = true,
            What::Replication(Replication::StepFailed { will_retry: false, .. } | Replication::Conflicted { .. }) => {
                self.failed = true
            }
            What::Snapshotting(Snapshotting::RoundStarted { .. }) => {
                self.rounds += 1;
                self.round = Some(self.rounds);
            }
            _ => {}
        }
    }

    /// After it.
    pub(super) fn end(&mut self, what: &What) {
        match what {
            What::InvocationFinished { .. } => (self.invocation, self.attempt) = (None, None),
            What::Replication(Replication::AttemptFinished) => self.attempt = None,
            What::Snapshotting(Snapshotting::RoundFinished) => self.round = None,
            What::Snapshotting(Snapshotting::State { state, .. }) => self.snapshotter = Some(*state),
            _ => {}
        }
    }

    /// The job has ended, and may begin again; whether nothing runs under its name now.
    pub(super) fn stop(&mut self) -> bool {
        self.lives = self.lives.saturating_sub(1);
        let over = self.lives == 0;
        if over {
            *self = Self { rounds: self.rounds, ..Self::default() };
        }
        over
    }

    /// The attempt that runs, or the last one of the invocation.
    pub(super) fn latest_attempt(&self) -> Option<u64> {
        (self.attempts > 0).then_some(self.attempts)
    }

    /// What zrepl calls the end of such an attempt.
    pub(super) fn ends_as(&self) -> &'static str {
        match (self.unplanned, self.failed) {
            (true, _) => "planning-error",
            (false, true) => "filesystem-error",
            (false, false) => "done",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_ends_late_takes_nothing_from_what_has_replaced_it() {
        let mut running = Running::default();
        for number in [1, 2] {
            running.begin(&What::JobStarted);
            running.begin(&What::InvocationStarted { number });
        }
        assert!(!running.stop());
        assert_eq!(running.invocation, Some(2));
        assert!(running.stop());
        assert_eq!(running.invocation, None);
    }
}
