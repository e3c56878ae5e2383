//! The pull job: fetches from a source every so often, and prunes both sides.

use std::sync::Arc;
use std::time::Duration;

use config::types::PullJob;
use jiff::{SignedDuration, Timestamp};
use model::event::What;
use model::schedule::next_round;
use wire::SameProcess;
use wire::control::Role;

use super::transport::connector;
use super::{Context, Replicating, clean_up};
use crate::daemon::Shared;
use crate::dispatch::Slot;
use crate::endpoint::{Receiver, ReceiverConfig};

pub(super) fn start(job: PullJob, shared: &Shared) -> Slot {
    let context = Context::new(&job.name, shared);
    let receiver = Receiver::new(Arc::clone(&context.zfs), context.events.clone(), receiver_config(&job));
    let sender = connector(&job.name, &job.connect, Role::Sender, &shared.world, &context.events);
    if let Some(interval) = job.interval {
        context.spawn("interval", ticks(context.clone(), interval));
    }
    let (cleaned, jobs) = (Arc::clone(&receiver), Arc::clone(&shared.configured_jobs));
    let prepare = clean_up(context.clone(), async move { cleaned.clean_and_warn(&jobs).await });
    let replicating = Replicating {
        sender,
        receiver: Arc::new(SameProcess(receiver)),
        policy: job.replication,
        steps: job.concurrency.steps,
        pruning: job.pruning,
    };
    context.spawn_replicating(prepare, replicating)
}

/// What the job's receiver is made of: everything goes right below `root_fs`.
pub(crate) fn receiver_config(job: &PullJob) -> ReceiverConfig {
    super::receiver_config(&job.name, &job.root_fs, &job.recv)
}

/// Wakes the job every `interval`, for the first time one interval after the start.
async fn ticks(context: Context, interval: Duration) {
    let clock = context.events.clock();
    let mut last = clock.now();
    loop {
        let next = next_round(clock.now(), last, interval);
        context.events.tell(What::SleepsUntil { at: next });
        // No longer than that, should the clock be set back meanwhile.
        let sleep = tokio::time::timeout(interval, clock.sleep_until(next));
        if context.shared.jobs.run_until_cancelled(sleep).await.is_none() {
            return;
        }
        context.shared.dispatch.due(&context.name).await;
        last = after_tick(next, clock.now(), interval);
    }
}

/// From when on the next tick counts: the last one's time, so that ticks do not drift; or now, if the
/// machine slept for so long that the next one has passed as well.
fn after_tick(planned: Timestamp, now: Timestamp, interval: Duration) -> Timestamp {
    let interval = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
    if now.duration_since(planned) < interval { planned } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sleep_is_one_tick() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let minute = Duration::from_secs(60);
        assert_eq!(after_tick(at(60), at(61), minute), at(60), "no drift");
        assert_eq!(after_tick(at(60), at(119), minute), at(60));
        assert_eq!(after_tick(at(60), at(4000), minute), at(4000));
        assert_eq!(after_tick(at(60), at(10), minute), at(60), "the clock was set back");
    }
}
