//! When a job acts by itself: pure, by what the snapshotters themselves go by.

use std::time::Duration;

use config::types::Snapshotting;
use jiff::Timestamp;
use model::schedule::{next_round as interval_later, sync_point};
use model::view::View;

use super::report::NextRound;

/// What a daemon that started now would wait for.
pub(super) fn next_round(now: Timestamp, how: &Snapshotting, view: Result<&View, &String>) -> NextRound {
    match (how, view) {
        (Snapshotting::Manual, _) => NextRound::OnRequest,
        (Snapshotting::Cron { cron, .. }, _) => match cron.next(now) {
            Some(at) => NextRound::At { at: at.to_string() },
            None => NextRound::Unknown { why: "the calendar of `cron` has no further time".to_owned() },
        },
        (Snapshotting::Periodic { .. }, Err(why)) => NextRound::Unknown { why: why.clone() },
        (Snapshotting::Periodic { naming, interval, .. }, Ok(view)) => {
            let listed = view.filesystems.iter().map(|(name, filesystem)| (name, &*filesystem.versions));
            let found = sync_point(now, *interval, naming.prefix(), listed);
            // Where all snapshots are from the future, an interval is waited.
            let at = found.map_or_else(|_| interval_later(now, now, *interval), |found| found.at);
            NextRound::At { at: at.to_string() }
        }
    }
}

/// When a daemon that started now would fetch for the first time.
pub(super) fn next_fetch(now: Timestamp, interval: Option<Duration>) -> NextRound {
    match interval {
        Some(interval) => NextRound::At { at: interval_later(now, now, interval).to_string() },
        None => NextRound::OnRequest,
    }
}
