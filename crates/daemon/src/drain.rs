//! The first part of a stop: what is under way may end, and nothing new begins.

use std::future::pending;

use model::JobName;
use tokio_util::sync::CancellationToken;

use crate::tasks::{Held, Tasks};

/// Whether a daemon ends, and what it lets end first: steps, rounds of snapshots, calls of its jobs that destroy
/// snapshots, streams of peers. All else is cut without loss. Cheap to clone.
#[derive(Clone, Default)]
pub struct Drain {
    begun: CancellationToken,
    under_way: Tasks,
    job: Option<JobName>,
}

/// Something that a stop waits for, until this is dropped.
#[must_use]
pub struct UnderWay {
    _held: Held,
}

impl Drain {
    /// The same, of a job.
    pub(crate) fn of_job(&self, job: &JobName) -> Drain {
        Drain { job: Some(job.clone()), ..self.clone() }
    }

    /// Lets nothing new begin from now on.
    pub fn begin(&self) {
        self.begun.cancel();
    }

    /// Whether nothing new may begin.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Is cancelled when nothing new may begin.
    pub(crate) fn token(&self) -> &CancellationToken {
        &self.begun
    }

    /// Has a stop wait for something of this name, which the caller has made sure may begin.
    pub(crate) fn hold(&self, what: &str) -> UnderWay {
        let _held = match &self.job {
            Some(job) => self.under_way.hold(&format!("{what} (job {job})")),
            None => self.under_way.hold(what),
        };
        UnderWay { _held }
    }

    /// The same for who may be too late, and then waits until it is cut.
    pub(crate) async fn enter(&self, what: &str) -> UnderWay {
        // In this order: a stop that begins in between waits for it.
        let held = self.hold(what);
        if self.has_begun() {
            drop(held);
            return pending().await;
        }
        held
    }

    /// Waits until nothing is under way any more. Comes after [`Drain::begin`].
    pub async fn over(&self) {
        self.under_way.wait().await;
    }

    /// What is under way, in words.
    pub fn under_way(&self) -> Vec<String> {
        self.under_way.alive()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_has_begun_is_waited_for_and_what_is_new_waits_for_ever() {
        let drain = Drain::default();
        let step = drain.enter("step of p/a").await;
        let stream = drain.of_job(&JobName::parse("j").unwrap()).hold("stream of client c");
        drain.begin();
        assert!(drain.enter("late").now_or_never().is_none());
        assert_eq!(drain.under_way(), ["step of p/a", "stream of client c (job j)"]);
        drop(step);
        assert!(drain.over().now_or_never().is_none());
        drop(stream);
        drain.over().await;
        assert!(drain.under_way().is_empty());
    }
}
