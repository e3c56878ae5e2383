//! Ever fewer snapshots with age.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use thiserror::Error;

use super::{Judgement, Rejection};
use crate::version::{UnixTime, Version};

/// Buckets of time that lie back to back, going into the past from the youngest matching snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionGrid {
    /// From young to old; never empty.
    intervals: Vec<GridInterval>,
}

/// Some buckets of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GridInterval {
    /// How many buckets; at least 1.
    pub repeat: u64,
    /// The length of each; positive.
    pub length: Duration,
    /// How many snapshots of each bucket are kept, the oldest ones; none for all.
    pub keep: Option<NonZeroU64>,
}

/// Intervals that make no grid. Positions count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GridError {
    /// There are none.
    #[error("a grid needs at least one interval, such as `24x1h`")]
    Empty,
    /// No buckets.
    #[error("grid interval {position} is repeated 0 times: leave it out, or repeat it at least once")]
    NoRepeat {
        /// Which interval.
        position: usize,
    },
    /// Buckets without length.
    #[error("grid interval {position} has no length: give it a positive duration, such as `1h`")]
    NoLength {
        /// Which interval.
        position: usize,
    },
    /// Older buckets are shorter than younger ones.
    #[error(
        "grid interval {position} ({}) is shorter than the one before it ({}): order the intervals from short to \
         long; a shorter one may follow only where all before it are `keep=all`",
        Human(*.length),
        Human(*.previous)
    )]
    Shrinks {
        /// Which interval.
        position: usize,
        /// Its length.
        length: Duration,
        /// That of the one before.
        previous: Duration,
    },
}

impl RetentionGrid {
    /// A grid of these intervals, from young to old.
    ///
    /// # Errors
    /// None at all, one without buckets or length, or one that is shorter than the one before it, unless
    /// all before it keep everything.
    pub fn new(intervals: Vec<GridInterval>) -> Result<Self, GridError> {
        let mut thinned = false;
        let mut previous = Duration::ZERO;
        for (interval, position) in intervals.iter().zip(1..) {
            let length = interval.length;
            if interval.repeat == 0 {
                return Err(GridError::NoRepeat { position });
            }
            if length.is_zero() {
                return Err(GridError::NoLength { position });
            }
            if thinned && length < previous {
                return Err(GridError::Shrinks { position, length, previous });
            }
            thinned |= interval.keep.is_some();
            previous = length;
        }
        if intervals.is_empty() { Err(GridError::Empty) } else { Ok(Self { intervals }) }
    }

    /// From young to old; never empty.
    pub fn intervals(&self) -> &[GridInterval] {
        &self.intervals
    }

    /// Which of these snapshots the grid keeps, by index. Those that are equally old are told apart by
    /// the order in which they are given: the later one counts as older.
    pub(super) fn judge(&self, snapshots: &[&Version]) -> Vec<Judgement> {
        let mut judged = vec![Err(Rejection::BeyondGrid); snapshots.len()];
        let mut order: Vec<(usize, UnixTime)> = snapshots.iter().map(|version| version.creation).enumerate().collect();
        order.sort_by_key(|(_, creation)| std::cmp::Reverse(*creation));
        let Some((_, now)) = order.first().copied() else { return judged };
        let placed: Vec<(usize, Option<Bucket>)> = order
            .into_iter()
            .map(|(index, creation)| (index, self.bucket(u128::from(now.0.abs_diff(creation.0)) * NANOS)))
            .collect();
        for run in placed.chunk_by(|(_, a), (_, b)| a == b) {
            let Some((_, Some(bucket))) = run.first() else { continue };
            let keep = bucket.keep.map_or(run.len(), |keep| usize::try_from(keep.get()).unwrap_or(usize::MAX));
            let too_many = run.len().saturating_sub(keep);
            for (rank, (index, _)) in run.iter().enumerate() {
                if let Some(judged) = judged.get_mut(*index) {
                    *judged = if rank < too_many { Err(Rejection::Crowded) } else { Ok(()) };
                }
            }
        }
        judged
    }

    /// The bucket for an age in nanoseconds; none if all buckets are younger. A bucket's young edge
    /// belongs to it, its old edge to the next. Found by division: a repeat count costs nothing.
    fn bucket(&self, age: u128) -> Option<Bucket> {
        let mut start = 0_u128;
        for (interval, each) in self.intervals.iter().enumerate() {
            let length = each.length.as_nanos().max(1);
            let end = start.saturating_add(length.saturating_mul(u128::from(each.repeat)));
            if age < end {
                return Some(Bucket { interval, number: (age - start) / length, keep: each.keep });
            }
            start = end;
        }
        None
    }
}

const NANOS: u128 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Bucket {
    interval: usize,
    number: u128,
    keep: Option<NonZeroU64>,
}

impl fmt::Display for RetentionGrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, interval) in self.intervals.iter().enumerate() {
            let separator = if index == 0 { "" } else { " | " };
            write!(f, "{separator}{interval}")?;
        }
        Ok(())
    }
}

impl fmt::Display for GridInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.repeat, Human(self.length))?;
        match self.keep {
            None => write!(f, "(keep=all)"),
            Some(keep) if keep.get() == 1 => Ok(()),
            Some(keep) => write!(f, "(keep={keep})"),
        }
    }
}

/// A duration in the largest unit that divides it, as configurations write it.
struct Human(Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if self.0.subsec_nanos() > 0 {
            return write!(f, "{:?}", self.0);
        }
        let (unit, name) = [(86400, "d"), (3600, "h"), (60, "m")]
            .into_iter()
            .find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit))
            .unwrap_or((1, "s"));
        write!(f, "{}{name}", seconds / unit)
    }
}
