//! How fast bytes come, and how long the rest takes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use super::report::Replication;

/// The mean is over so much of the past: longer than the bursts in which disks and networks deliver,
/// short enough to follow what changes.
const WINDOW: Duration = Duration::from_secs(30);

/// Counts of bytes over time. Only reports count, not what is redrawn in between.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Notes how many bytes there were at a time since some beginning.
    pub(crate) fn note(&mut self, at: Duration, bytes: u64) {
        if self.samples.back().is_some_and(|(_, before)| bytes < *before) {
            // Something else is counted now.
            self.samples.clear();
        }
        self.samples.push_back((at, bytes));
        // One that is older stays, so that the window is full.
        while self.samples.get(1).is_some_and(|(second, _)| at.saturating_sub(*second) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes per second; none before there are two counts.
    pub(crate) fn per_second(&self) -> Option<u64> {
        let ((from, first), (to, last)) = (self.samples.front()?, self.samples.back()?);
        let millis = to.checked_sub(*from)?.as_millis();
        let per_second = u128::from(last.checked_sub(*first)?).checked_mul(1000)?.checked_div(millis)?;
        u64::try_from(per_second).ok()
    }

    /// Seconds until `bytes` more have come; none if nothing comes.
    pub(crate) fn left(&self, bytes: u64) -> Option<i64> {
        i64::try_from(bytes.checked_div(self.per_second()?)?).ok()
    }
}

/// The rates of one job, as a whole and of each filesystem that is being sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobRates {
    /// Which attempt the counts are of.
    attempt: Option<Timestamp>,
    pub(crate) total: Rate,
    filesystems: HashMap<String, Rate>,
}

impl JobRates {
    /// Notes what a report says that came at a time since some beginning.
    pub(crate) fn note(&mut self, at: Duration, replication: Option<&Replication>) {
        let Some(attempt) = replication.and_then(|replication| replication.attempts.last()) else {
            *self = JobRates::default();
            return;
        };
        if attempt.start_at != self.attempt {
            *self = JobRates { attempt: attempt.start_at, ..JobRates::default() };
        }
        self.total.note(at, attempt.filesystems.iter().map(|filesystem| filesystem.bytes().done).sum());
        let mut before = std::mem::take(&mut self.filesystems);
        for filesystem in attempt.filesystems.iter().filter(|filesystem| filesystem.is_working()) {
            let name = filesystem.info.name.clone();
            let mut rate = before.remove(&name).unwrap_or_default();
            rate.note(at, filesystem.bytes().done);
            self.filesystems.insert(name, rate);
        }
    }

    pub(crate) fn of(&self, filesystem: &str) -> Option<&Rate> {
        self.filesystems.get(filesystem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_mean_of_the_last_half_minute_counts() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), None);
        rate.note(at(0), 1000);
        assert_eq!(rate.per_second(), None, "one count is no rate");
        rate.note(at(10), 2000);
        assert_eq!((rate.per_second(), rate.left(1000)), (Some(100), Some(10)));
        for second in 11..=60 {
            rate.note(at(second), 2000);
        }
        assert_eq!((rate.per_second(), rate.left(1000)), (Some(0), None), "it stands still");
    }

    #[test]
    fn a_count_that_falls_is_a_new_beginning() {
        let mut rate = Rate::default();
        rate.note(at(0), 1000);
        rate.note(at(1), 5);
        assert_eq!(rate.per_second(), None);
        rate.note(at(1), 5);
        assert_eq!(rate.per_second(), None, "no time has passed");
    }
}
