//! Snapshots every so often, in step with those taken before the daemon started.
//!
//! Times are wall-clock times through the job's clock: a suspended machine takes its overdue round
//! when it wakes up.

use std::time::Duration;

use jiff::Timestamp;
use model::FilesystemFilter;
use model::event::{SnapshotterState, Snapshotting, What};
use model::naming::SnapshotNaming;
use model::schedule::{next_round, sync_point};

use super::Context;
use crate::act::snapshotting::{look, plan_round, selected, some_names, take_round};

/// A periodic snapshotter.
pub(super) struct Periodic {
    /// What the snapshots are called.
    pub naming: SnapshotNaming,
    /// From the start of one round to that of the next.
    pub interval: Duration,
    /// What is snapshotted, evaluated anew every round.
    pub filesystems: FilesystemFilter,
}

/// Runs until the daemon stops.
pub(super) async fn run(context: Context, periodic: Periodic) {
    let snapshotter = Snapshotter { context: &context, periodic: &periodic };
    context.shared.jobs.run_until_cancelled(snapshotter.work()).await;
    snapshotter.enter(SnapshotterState::Stopped, None, None);
}

struct Snapshotter<'a> {
    context: &'a Context,
    periodic: &'a Periodic,
}

impl Snapshotter<'_> {
    async fn work(&self) {
        self.sync_up().await;
        loop {
            let planned = self.now();
            let (state, error) = self.round(planned).await;
            let next = next_round(self.now(), planned, self.periodic.interval);
            self.enter(state, Some(next), error);
            self.sleep_until(next).await;
        }
    }

    /// Sleeps until a moment that is at most an interval away, and no longer than that: a clock that is
    /// set back meanwhile would otherwise stop the snapshots until it has caught up.
    async fn sleep_until(&self, moment: Timestamp) {
        let sleep = self.context.events.clock().sleep_until(moment);
        // Either end is a reason to go on.
        let _ = tokio::time::timeout(self.periodic.interval, sleep).await;
    }

    /// Waits for the moment that continues the rhythm of earlier rounds.
    async fn sync_up(&self) {
        let started = self.now();
        self.enter(SnapshotterState::SyncUp, None, None);
        let (state, until, error) = match self.sync_point(started).await {
            Ok(at) => (SnapshotterState::SyncUp, at, None),
            Err(error) => {
                let next = next_round(self.now(), started, self.periodic.interval);
                (SnapshotterState::SyncUpErrWait, next, Some(error))
            }
        };
        self.enter(state, Some(until), error);
        self.sleep_until(until).await;
    }

    async fn sync_point(&self, now: Timestamp) -> Result<Timestamp, String> {
        let Periodic { naming, interval, filesystems } = self.periodic;
        let zfs = &*self.context.zfs;
        let listing = look(zfs, filesystems, &self.context.events).await.map_err(|error| error.to_string())?;
        // Listing takes its time, in which snapshots may have been made.
        let now = now.max(self.now());
        let found = sync_point(now, *interval, naming.prefix(), selected(&listing, filesystems))
            .map_err(|error| error.to_string())?;
        let warn = |message| self.context.events.tell(What::Warning { subsystem: "snapshot", message });
        if !found.from_the_future.is_empty() {
            let names = some_names(found.from_the_future.iter());
            warn(format!("the newest snapshot is from the future, check the clock: {names}"));
        }
        if !found.without_snapshot_until_then.is_empty() {
            let names = some_names(found.without_snapshot_until_then.iter());
            warn(format!("without any snapshot until the next round at {}: {names}", found.at));
        }
        Ok(found.at)
    }

    /// One round, and the state to wait in until the next.
    async fn round(&self, now: Timestamp) -> (SnapshotterState, Option<String>) {
        let Periodic { naming, filesystems, .. } = self.periodic;
        let (zfs, events) = (&*self.context.zfs, &self.context.events);
        self.enter(SnapshotterState::Planning, None, None);
        let plan = match plan_round(zfs, now, naming, filesystems, events).await {
            Ok(plan) => plan,
            Err(error) => return (SnapshotterState::ErrorWait, Some(error.to_string())),
        };
        self.enter(SnapshotterState::Snapshotting, None, None);
        let all = plan.filesystems.len() + plan.impossible.len();
        let failed = take_round(zfs, plan, events).await;
        // What was there before can still be replicated and pruned, so a failed round counts.
        self.context.shared.dispatch.round_finished(&self.context.name).await;
        match failed {
            0 => (SnapshotterState::Waiting, None),
            _ => (SnapshotterState::ErrorWait, Some(format!("{failed} of {all} snapshots could not be taken"))),
        }
    }

    fn enter(&self, state: SnapshotterState, sleep_until: Option<Timestamp>, error: Option<String>) {
        self.context.events.tell(What::Snapshotting(Snapshotting::State { state, sleep_until, error }));
    }

    fn now(&self) -> Timestamp {
        self.context.events.clock().now()
    }
}
