//! When to take snapshots, and what to call them. The present moment is always an argument.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::name::DatasetName;
use crate::version::Version;

mod cron;

pub use cron::{Cron, CronError};

/// Waiting longer than this for the first round deserves a warning for filesystems without snapshots.
const WAIT_WORTH_A_WARNING: SignedDuration = SignedDuration::from_secs(1);

/// When the first round after a start is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncPoint {
    /// The moment; the present one if it has passed already.
    pub at: Timestamp,
    /// Filesystems without a snapshot of the job that have to wait noticeably long for their first.
    pub without_snapshot_until_then: Vec<DatasetName>,
    /// Filesystems that were left out because their newest snapshot is from the future.
    pub from_the_future: Vec<DatasetName>,
}

/// No filesystem tells when the next round is due.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the newest snapshot of every filesystem is from the future ({}): check the clock", names(.filesystems))]
pub struct NoSyncPoint {
    /// All of them.
    pub filesystems: Vec<DatasetName>,
}

fn names(filesystems: &[DatasetName]) -> String {
    let shown: Vec<&str> = filesystems.iter().take(5).map(DatasetName::as_str).collect();
    let more = if filesystems.len() > shown.len() { ", …" } else { "" };
    shown.join(", ") + more
}

/// Continues the rhythm of the rounds before the start: one interval after the newest snapshot of the
/// filesystem that was snapshotted longest ago. Only snapshots whose name starts with `prefix` count.
/// Filesystems without any do not hurry the others, unless there are no others.
pub fn sync_point<'a>(
    now: Timestamp,
    interval: Duration,
    prefix: &str,
    filesystems: impl IntoIterator<Item = (&'a DatasetName, &'a [Version])>,
) -> Result<SyncPoint, NoSyncPoint> {
    let mut due: Option<Timestamp> = None;
    let (mut without, mut from_the_future) = (Vec::new(), Vec::new());
    for (name, versions) in filesystems {
        let ours = versions.iter().filter(|version| version.is_snapshot() && version.name.as_str().starts_with(prefix));
        match ours.max_by_key(|version| version.createtxg).map(|newest| newest.creation.to_timestamp()) {
            None => without.push(name.clone()),
            Some(taken) if taken > now => from_the_future.push(name.clone()),
            Some(taken) => {
                let next = later(taken, interval);
                due = Some(due.map_or(next, |due| due.min(next)));
            }
        }
    }
    if due.is_none() && without.is_empty() && !from_the_future.is_empty() {
        return Err(NoSyncPoint { filesystems: from_the_future });
    }
    let at = due.map_or(now, |due| due.max(now));
    if at.duration_since(now) <= WAIT_WORTH_A_WARNING {
        without.clear();
    }
    Ok(SyncPoint { at, without_snapshot_until_then: without, from_the_future })
}

/// When the next round is due: one interval after the last one was planned, or at once if that has
/// passed already. Never later than an interval from now, so that a clock that was set back does not
/// stop the rounds until it has caught up.
pub fn next_round(now: Timestamp, planned: Timestamp, interval: Duration) -> Timestamp {
    later(planned.min(now), interval).max(now)
}

/// The end of time if there is nothing later.
fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}
