//! What every snapshotter does, whatever its rhythm: rounds, the rounds that somebody asks for, and
//! going on after a panic.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::FilesystemFilter;
use model::event::{SnapshotterState, Snapshotting, What};
use model::naming::SnapshotNaming;
use model::schedule::Cron;

use super::{Context, cron, periodic};
use crate::act::snapshotting::{Failures, plan_round, take_round};
use crate::dispatch::SnapshotRequests;
use crate::hooks::HookRunner;
use crate::limits::SNAPSHOTTER_PAUSE;
use crate::tasks::catch;

/// When rounds come by themselves.
pub(super) enum Rhythm {
    /// Every so often, from the start of one round to that of the next.
    Every(Duration),
    /// At the times of a calendar.
    At(Cron),
}

/// The rounds of one job.
pub(super) struct Rounds {
    /// The job.
    pub context: Context,
    /// What the snapshots are called.
    pub naming: SnapshotNaming,
    /// What is snapshotted, evaluated anew every round.
    pub filesystems: FilesystemFilter,
    /// What runs around snapshots.
    pub hooks: HookRunner,
    /// Where rounds are asked for.
    pub requests: SnapshotRequests,
}

/// Why a wait is over. That the daemon stops is said otherwise.
pub(super) enum Waited<T> {
    /// What was waited for is there.
    For(T),
    /// Somebody wants a round now.
    Requested,
}

/// Runs until the daemon stops.
pub(super) async fn run(rounds: Rounds, rhythm: Rhythm) {
    loop {
        let work = async {
            match &rhythm {
                Rhythm::Every(interval) => periodic::work(&rounds, *interval).await,
                Rhythm::At(cron) => cron::work(&rounds, cron).await,
            }
        };
        match catch::<Option<Infallible>>(work).await {
            Ok(None) => break,
            Ok(Some(never)) => match never {},
            Err(panic) if rounds.pause_after(&panic).await.is_none() => break,
            Err(_) => {}
        }
    }
    rounds.enter(SnapshotterState::Stopped, None, None);
}

impl Rounds {
    /// The time by the job's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.context.events.clock().now()
    }

    /// Tells a change of state.
    pub(super) fn enter(&self, state: SnapshotterState, sleep_until: Option<Timestamp>, error: Option<String>) {
        self.context.events.tell(What::Snapshotting(Snapshotting::State { state, sleep_until, error }));
    }

    /// Tells a warning.
    pub(super) fn warn(&self, message: String) {
        self.context.events.tell(What::Warning { subsystem: "snapshot", message });
    }

    /// Waits for something or for a request; none if the daemon stops first.
    pub(super) async fn wait<T>(&self, something: impl Future<Output = T>) -> Option<Waited<T>> {
        let either = async {
            // In a fixed order, so that a simulation repeats itself.
            tokio::select! {
                biased;
                value = something => Waited::For(value),
                () = self.requests.asked() => Waited::Requested,
            }
        };
        self.context.shared.jobs.run_until_cancelled(either).await
    }

    /// One round, whose error says what went wrong; none if the daemon stops. A panic is an error of
    /// this round alone.
    pub(super) async fn take(&self, planned: Timestamp) -> Option<Result<(), String>> {
        let _running = self.requests.round();
        let Context { name, shared, .. } = &self.context;
        let round = shared.jobs.run_until_cancelled(async {
            let _under_way = shared.drain.of_job(name).enter("round of snapshots").await;
            catch(self.try_take(planned)).await
        });
        let result = round.await?.unwrap_or_else(|panic| Err(format!("the round panicked: {panic}")));
        Some(result)
    }

    async fn try_take(&self, now: Timestamp) -> Result<(), String> {
        let Context { zfs, events, shared, name } = &self.context;
        let zfs = &**zfs;
        let plan = plan_round(zfs, now, &self.naming, &self.filesystems, events).await;
        let plan = plan.map_err(|error| error.to_string())?;
        self.enter(SnapshotterState::Snapshotting, None, None);
        let all = plan.filesystems.len() + plan.impossible.len();
        let Failures { snapshots, hooks } = take_round(zfs, plan, &self.hooks, events).await;
        // What was there before can still be replicated and pruned, so a failed round counts.
        shared.dispatch.round_finished(name).await;
        match (snapshots, hooks) {
            (0, 0) => Ok(()),
            (0, _) => Err(format!("hooks failed around {hooks} of {all} snapshots, which were taken")),
            (_, 0) => Err(format!("{snapshots} of {all} snapshots could not be taken")),
            _ => Err(format!("{snapshots} of {all} snapshots could not be taken, hooks failed around {hooks} more")),
        }
    }

    /// What panicked outside of a round begins anew after a pause; none if the daemon stops.
    async fn pause_after(&self, panic: &str) -> Option<Waited<()>> {
        let pause = SignedDuration::try_from(SNAPSHOTTER_PAUSE).unwrap_or(SignedDuration::MAX);
        let until = self.now().checked_add(pause).unwrap_or(Timestamp::MAX);
        let error = format!("the snapshotter panicked: {panic}; it begins anew after a pause");
        self.enter(SnapshotterState::ErrorWait, Some(until), Some(error));
        self.wait(tokio::time::sleep(SNAPSHOTTER_PAUSE)).await
    }
}
