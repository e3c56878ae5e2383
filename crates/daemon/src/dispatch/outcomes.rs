//! What became of invocations, for who waits for them.

use std::collections::VecDeque;

use model::event::InvocationSummary;
use tokio::sync::watch;

use crate::limits::OUTCOMES;

/// An invocation that begins after it was asked for, and how to learn what became of it.
#[derive(Debug)]
pub(crate) struct Followed {
    /// Counts from 1 since the daemon started.
    pub number: u64,
    /// The outcomes of the job.
    pub outcomes: watch::Receiver<Outcomes>,
}

impl Followed {
    /// Waits for the invocation to end; none if that is so long ago that it is forgotten, or never
    /// comes since the job has ended.
    pub(crate) async fn finished(mut self) -> Option<InvocationSummary> {
        let outcomes = self.outcomes.wait_for(|outcomes| outcomes.newest() >= self.number).await.ok()?;
        outcomes.of(self.number)
    }
}

/// What the last invocations of a job did.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// The newest first.
    known: VecDeque<(u64, InvocationSummary)>,
    /// Up to here invocations are those of an earlier job.
    forgotten: u64,
}

impl Outcomes {
    pub(super) fn note(&mut self, number: u64, summary: InvocationSummary) {
        self.known.truncate(OUTCOMES - 1);
        self.known.push_front((number, summary));
    }

    pub(super) fn forget_until(&mut self, number: u64) {
        self.forgotten = number;
    }

    fn newest(&self) -> u64 {
        self.known.front().map_or(self.forgotten, |(number, _)| *number)
    }

    fn of(&self, wanted: u64) -> Option<InvocationSummary> {
        self.known.iter().find(|(number, _)| *number == wanted).map(|(_, summary)| summary.clone())
    }
}
