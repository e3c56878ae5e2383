//! The text of a retention grid: `1x1h(keep=all) | 24x1h | 14x1d`.

use std::num::NonZeroU64;
use std::time::Duration;

use model::plan::prune::GridInterval;
use thiserror::Error;

use crate::duration::{self, DurationError};

/// A text that is no retention grid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("interval {position} of {count}, `{text}`: {problem}")]
pub(crate) struct GridTextError {
    /// Counts from 1.
    position: usize,
    count: usize,
    text: String,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum Problem {
    #[error("not of the form `24x1h` or `24x1h(keep=2)`")]
    Form,
    #[error("it has to be repeated at least once")]
    NoRepeat,
    #[error("the number of repetitions is too large")]
    TooOften,
    #[error("bad duration: {0}")]
    Duration(#[from] DurationError),
    #[error("the duration must be positive")]
    NoLength,
    #[error("`{0}` is not `keep=` and a number or `all`")]
    Keep(String),
    #[error("`keep={0}` would keep nothing")]
    KeepNothing(i64),
}

/// The intervals, from young to old.
pub(crate) fn parse(text: &str) -> Result<Vec<GridInterval>, GridTextError> {
    let count = text.split('|').count();
    let numbered = text.split('|').zip(1..);
    let intervals = numbered.map(|(part, position)| {
        interval(part).map_err(|problem| {
            let text = crate::suggest::shown(part.trim());
            GridTextError { position, count, text, problem }
        })
    });
    intervals.collect()
}

fn interval(text: &str) -> Result<GridInterval, Problem> {
    let (buckets, keep) = match text.split_once('(') {
        None => (text, Some(NonZeroU64::MIN)),
        Some((buckets, rest)) => (buckets, keep(rest.trim_end().strip_suffix(')').ok_or(Problem::Form)?)?),
    };
    let (repeat, length) = buckets.split_once('x').ok_or(Problem::Form)?;
    let (repeat, length) = (repeat.trim(), length.trim());
    if repeat.is_empty() || length.is_empty() || !repeat.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::Form);
    }
    let repeat = repeat.parse::<i64>().map_err(|_| Problem::TooOften)?.unsigned_abs();
    let length: Duration = duration::parse(length)?;
    if repeat == 0 {
        return Err(Problem::NoRepeat);
    }
    if length.is_zero() {
        return Err(Problem::NoLength);
    }
    Ok(GridInterval { repeat, length, keep })
}

/// `keep=2`, `keep=all`; none for all, as `-1` is.
fn keep(text: &str) -> Result<Option<NonZeroU64>, Problem> {
    let bad = || Problem::Keep(crate::suggest::shown(text.trim()));
    let (key, value) = text.split_once('=').ok_or_else(bad)?;
    if key.trim() != "keep" {
        return Err(bad());
    }
    if value.trim() == "all" {
        return Ok(None);
    }
    match value.trim().parse::<i64>().map_err(|_| bad())? {
        -1 => Ok(None),
        number => u64::try_from(number).ok().and_then(NonZeroU64::new).map(Some).ok_or(Problem::KeepNothing(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;

    fn read(text: &str) -> Vec<(u64, u64, Option<u64>)> {
        let intervals = parse(text).unwrap();
        intervals.iter().map(|one| (one.repeat, one.length.as_secs(), one.keep.map(NonZeroU64::get))).collect()
    }

    #[test]
    fn grids_are_read() {
        assert_eq!(read("1x1h"), [(1, HOUR, Some(1))]);
        assert_eq!(
            read("1x1h(keep=all) | 24x1h | 35x1d | 6x30d"),
            [(1, HOUR, None), (24, HOUR, Some(1)), (35, 24 * HOUR, Some(1)), (6, 720 * HOUR, Some(1))]
        );
        assert_eq!(read("2x1h(keep=3)"), [(2, HOUR, Some(3))]);
        for text in ["1x+1h", " 1 x\t1h ", "1x 1h (keep=1)", "1x1h(keep=+1)", "1x1h( keep = 1 )", "1x1h(keep=1) "] {
            assert_eq!(read(text), [(1, HOUR, Some(1))], "{text}");
        }
        for text in ["1x1h( keep=all)", "1x1h(keep=all )", "1x1h(keep = all)", "1x1h(keep=-1)"] {
            assert_eq!(read(text), [(1, HOUR, None)], "{text}");
        }
        assert_eq!(read("1x1h30m"), [(1, HOUR * 3 / 2, Some(1))]);
        assert_eq!(read("24x1h|1x1h").len(), 2);
    }

    #[test]
    fn what_is_no_grid_is_refused() {
        for text in [
            "-1x1h",
            "1X1h",
            "x1h",
            "1h",
            "",
            "1x1h|",
            "|1x1h",
            "a||b",
            "5",
            "1x1h(keep=1) x",
            "1x1h(keep=1",
            "1x",
            "0x1h",
            "1x0",
            "1x0s",
            "1x-1h",
            "1x1",
            "1x1y",
            "1x1M",
            "1x1mo",
            "1x1h()",
            "1x1h(foo=1)",
            "1x1h(keep=ALL)",
            "1x1h(keep=1,foo=2)",
            "1x1h(keep=1 0)",
            "1x1h(keep=1)(keep=2)",
            "1x1h(keep=0)",
            "1x1h(keep=-2)",
            "99999999999999999999x1h",
            "1x99999999999w",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let message = |text| parse(text).unwrap_err().to_string();
        assert_eq!(message("1x1h | 24 1h"), "interval 2 of 2, `24 1h`: not of the form `24x1h` or `24x1h(keep=2)`");
        assert_eq!(message("1x1h(keep=0)"), "interval 1 of 1, `1x1h(keep=0)`: `keep=0` would keep nothing");
    }
}
