//! Snapshots every so often, in step with those taken before the daemon started.
//!
//! Times are wall-clock times through the job's clock: a suspended machine takes its overdue round
//! when it wakes up. Every round sets the rhythm anew, also one that somebody asked for: the next is
//! due one interval after its start, as it would be after a restart of the daemon, which sees nothing
//! but the snapshots.

use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use model::event::SnapshotterState;
use model::schedule::{next_round, sync_point};

use super::snapshotter::{Rounds, Waited};
use crate::act::snapshotting::{look, selected, some_names};

/// Runs until the daemon stops, which is none.
pub(super) async fn work(rounds: &Rounds, interval: Duration) -> Option<Infallible> {
    let periodic = Periodic { rounds, interval };
    // Somebody who asks for a round meanwhile starts the rhythm instead.
    rounds.wait(periodic.sync_up()).await?;
    loop {
        let planned = rounds.now();
        rounds.enter(SnapshotterState::Planning, None, None);
        let (state, error) = match rounds.take(planned).await? {
            Ok(()) => (SnapshotterState::Waiting, None),
            Err(error) => (SnapshotterState::ErrorWait, Some(error)),
        };
        let next = next_round(rounds.now(), planned, interval);
        rounds.enter(state, Some(next), error);
        match rounds.wait(periodic.sleep_until(next)).await? {
            Waited::For(()) | Waited::Requested => {}
        }
    }
}

struct Periodic<'a> {
    rounds: &'a Rounds,
    interval: Duration,
}

impl Periodic<'_> {
    /// Sleeps until a moment that is at most an interval away, and no longer than that: a clock that is
    /// set back meanwhile would otherwise stop the snapshots until it has caught up.
    async fn sleep_until(&self, moment: Timestamp) {
        let sleep = self.rounds.context.events.clock().sleep_until(moment);
        // Either end is a reason to go on.
        let _ = tokio::time::timeout(self.interval, sleep).await;
    }

    /// Waits for the moment that continues the rhythm of earlier rounds.
    async fn sync_up(&self) {
        let started = self.rounds.now();
        self.rounds.enter(SnapshotterState::SyncUp, None, None);
        let (state, until, error) = match self.sync_point(started).await {
            Ok(at) => (SnapshotterState::SyncUp, at, None),
            Err(error) => {
                let next = next_round(self.rounds.now(), started, self.interval);
                (SnapshotterState::SyncUpErrWait, next, Some(error))
            }
        };
        self.rounds.enter(state, Some(until), error);
        self.sleep_until(until).await;
    }

    async fn sync_point(&self, now: Timestamp) -> Result<Timestamp, String> {
        let Rounds { context, naming, filesystems, .. } = self.rounds;
        let (listing, _) =
            look(&*context.zfs, filesystems, &context.events).await.map_err(|error| error.to_string())?;
        // Listing takes its time, in which snapshots may have been made.
        let now = now.max(self.rounds.now());
        let found = sync_point(now, self.interval, naming.prefix(), selected(&listing, filesystems))
            .map_err(|error| error.to_string())?;
        if !found.from_the_future.is_empty() {
            let names = some_names(found.from_the_future.iter());
            self.rounds.warn(format!("the newest snapshot is from the future, check the clock: {names}"));
        }
        if !found.without_snapshot_until_then.is_empty() {
            let names = some_names(found.without_snapshot_until_then.iter());
            self.rounds.warn(format!("without any snapshot until the next round at {}: {names}", found.at));
        }
        Ok(found.at)
    }
}
