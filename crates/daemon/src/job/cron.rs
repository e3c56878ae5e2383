//! Snapshots at the times of a calendar.
//!
//! There is no sync-up: the first round is at the calendar's first time after the start. A machine
//! that slept over times takes one round when it wakes up, and a time that comes while a round still
//! runs is left out; both are told with their number. A round that somebody asks for changes nothing
//! about the calendar.

use std::convert::Infallible;

use jiff::{SignedDuration, Timestamp};
use model::event::{Missed, SnapshotterState, Snapshotting, What};
use model::schedule::Cron;

use super::snapshotter::{Rounds, Waited};

/// A clock that is set back by less than this is waited for, so that a small correction repeats no
/// round and no name. What is more was a wrong clock, and the calendar is read anew.
const SMALL_CORRECTION: SignedDuration = SignedDuration::from_mins(1);

/// Missed times are counted up to here: a calendar by the second over a month of sleep has millions.
const MISSED_COUNTED: usize = 10_000;

/// Runs until the daemon stops, which is none.
pub(super) async fn work(rounds: &Rounds, cron: &Cron) -> Option<Infallible> {
    let mut error = None;
    loop {
        let due = wait(rounds, cron, error).await?;
        let planned = rounds.now();
        rounds.enter(SnapshotterState::Planning, None, None);
        if let Some(due) = due {
            tell_missed(rounds, cron, Missed::Asleep, due, planned);
        }
        error = rounds.take(planned).await?.err();
        tell_missed(rounds, cron, Missed::RoundRunning, planned, rounds.now());
    }
}

/// Waits for the next time, which is returned, or for a request.
async fn wait(rounds: &Rounds, cron: &Cron, mut error: Option<String>) -> Option<Option<Timestamp>> {
    loop {
        let now = rounds.now();
        let next = cron.next(now);
        if next.is_none() {
            error = Some("the calendar of `cron` has no further time: change it".to_owned());
        }
        let state = if error.is_some() { SnapshotterState::ErrorWait } else { SnapshotterState::Waiting };
        rounds.enter(state, next, error.clone());
        let (earliest, end) = (now.checked_sub(SMALL_CORRECTION), next.unwrap_or(Timestamp::MAX));
        let clock = rounds.context.events.clock();
        let sleep = clock.sleep_within(earliest.unwrap_or(Timestamp::MIN), end);
        match rounds.wait(sleep).await? {
            Waited::Requested => return Some(None),
            Waited::For(()) if rounds.now() >= end => return Some(Some(end)),
            Waited::For(()) => {
                rounds.warn(format!("the clock was set back from about {now} to {}", rounds.now()));
            }
        }
    }
}

/// Tells the times later than `after` that have come by `now`.
fn tell_missed(rounds: &Rounds, cron: &Cron, why: Missed, after: Timestamp, now: Timestamp) {
    let times = std::iter::successors(cron.next(after), |time| cron.next(*time));
    let count = times.take_while(|time| *time <= now).take(MISSED_COUNTED).count();
    if count > 0 {
        rounds.context.events.tell(What::Snapshotting(Snapshotting::Missed { count, why }));
    }
}
