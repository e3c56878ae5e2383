//! Lengths of time as all commands take them.

use std::time::Duration;

/// Decimal numbers with units, one after the other, as Go's programs take them, with days, weeks and years
/// besides: `90s`, `0.5s`, `1h30m`, `1d12h`.
///
/// # Errors
/// What is wrong with the text, and how it is written.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write it as in 500ms, 1.5h, 1h30m or 2d");
    let (mut rest, mut sum) = (text, 0u128);
    while !rest.is_empty() {
        let end = rest.find(|one: char| !one.is_ascii_digit() && one != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (unit, tail) =
            tail.split_at(tail.find(|one: char| one.is_ascii_digit() || one == '.').unwrap_or(tail.len()));
        let part = times(number, nanoseconds(unit)?).ok_or_else(wrong)?;
        sum = sum.checked_add(part).filter(|sum| *sum <= LONGEST).ok_or_else(wrong)?;
        rest = tail;
    }
    let nanoseconds = if text.is_empty() { None } else { u64::try_from(sum).ok() };
    nanoseconds.map(Duration::from_nanos).ok_or_else(wrong)
}

const SECOND: u128 = 1_000_000_000;
const DAY: u128 = 86_400 * SECOND;
/// Longer than anybody keeps anything, and less than a u64 of nanoseconds.
const LONGEST: u128 = 200 * 365 * DAY;

fn nanoseconds(unit: &str) -> Result<u128, String> {
    Ok(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => SECOND / 1000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "d" => DAY,
        "w" => 7 * DAY,
        "y" => 365 * DAY,
        "" => return Err("it has no unit: write ms, s, m, h, d, w or y after the number".to_owned()),
        _ => return Err(format!("{unit:?} is no unit: write ms, s, m, h, d, w or y")),
    })
}

/// `1`, `1.5`, `.5` or `1.` of a unit. Digits that are less than a nanosecond of any unit are left out.
fn times(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let mut part = 0;
    let mut share = unit;
    for digit in fraction.chars() {
        share /= 10;
        part += u128::from(digit.to_digit(10)?) * share;
    }
    whole.checked_mul(unit)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_units_of_which_there_may_be_several() {
        for (text, millis) in [
            ("1s", 1000),
            ("500ms", 500),
            ("0.5s", 500),
            (".5s", 500),
            ("1.s", 1000),
            ("1.25h", 4_500_000),
            ("1m30s", 90_000),
            ("1h30m", 5_400_000),
            ("1500us", 1),
            ("1d12h", 129_600_000),
            ("2w", 1_209_600_000),
            ("1y", 31_536_000_000),
            ("0s", 0),
        ] {
            assert_eq!(length(text).map(|length| length.as_millis()), Ok(millis), "{text}");
        }
        assert_eq!(length("1µs"), Ok(Duration::from_micros(1)));
        for text in ["", "s", ".s", "1", "90", "-1s", "+1s", "1.2.3s", "1q", "1dd", "1s1", "1 s", "1\u{e9}"] {
            assert!(length(text).is_err(), "{text}");
        }
        for text in ["201y", "99999999999999999999s", "18446744073709551615y", "199y199y"] {
            assert!(length(text).is_err(), "{text}");
        }
    }
}
