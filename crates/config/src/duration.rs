//! Durations as text: zrepl's `1d` and Go's `1h30m`, each accepted wherever a duration is.

use std::time::Duration;

use thiserror::Error;

pub(crate) const UNITS: [(&str, u64); 10] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
    ("d", 24 * 3600 * SECOND),
    ("w", 7 * 24 * 3600 * SECOND),
];
const SECOND: u64 = 1_000_000_000;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// A number stands alone.
    #[error("the time unit is missing")]
    MissingUnit,
    /// It is below zero.
    #[error("a duration cannot be negative")]
    Negative,
    /// There is no such unit. Of a long one, the beginning.
    #[error("unknown time unit {0:?}")]
    UnknownUnit(String),
    /// Its nanoseconds do not fit 63 bits.
    #[error("longer than 292 years")]
    TooLong,
    /// It is something else.
    #[error("not a duration")]
    Malformed,
}

impl DurationError {
    /// What to write instead of `text`.
    pub(crate) fn hint(&self, text: &str) -> String {
        let number: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
        let number = if number.is_empty() { "10" } else { &number };
        match self {
            DurationError::MissingUnit => format!("write `{number}s`, `{number}m`, `{number}h` or `{number}d`"),
            DurationError::UnknownUnit(unit) if matches!(unit.as_str(), "M" | "min" | "mins" | "minutes") => {
                format!("minutes are `{number}m`")
            }
            DurationError::UnknownUnit(unit) if matches!(unit.as_str(), "D" | "day" | "days") => {
                format!("days are `{number}d`")
            }
            DurationError::Negative => "remove the `-`".to_owned(),
            _ => "write a number and one of `s`, `m`, `h`, `d`, `w`, such as `10m` or `1h30m`".to_owned(),
        }
    }
}

/// Parses a duration as configurations have it.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    parse_with(text, &[])
}

/// Parses a duration: numbers with units from `ns` to `w`, one after the other, as in `90s`, `1.5h` or `1d12h`; `0`
/// needs no unit. There may be other units `besides`, with their nanoseconds.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_with(text: &str, besides: &[(&str, u64)]) -> Result<Duration, DurationError> {
    let (negative, rest) = match text.trim().strip_prefix(['+', '-']) {
        Some(rest) => (text.trim().starts_with('-'), rest),
        None => (false, text.trim()),
    };
    let nanoseconds = parse_unsigned(rest, besides)?;
    if negative && nanoseconds > 0 {
        return Err(DurationError::Negative);
    }
    let nanoseconds = i64::try_from(nanoseconds).map_err(|_| DurationError::TooLong)?;
    Ok(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn parse_unsigned(text: &str, besides: &[(&str, u64)]) -> Result<u128, DurationError> {
    if text == "0" {
        return Ok(0);
    }
    let (mut rest, mut sum) = (text, 0_u128);
    while !rest.is_empty() {
        let (number, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split(after.trim_start(), |c| !c.is_ascii_digit() && c != '.');
        rest = after;
        sum = sum.saturating_add(part(number, unit.trim_end(), besides)?);
    }
    if text.is_empty() { Err(DurationError::Malformed) } else { Ok(sum) }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// One number with its unit, in nanoseconds.
fn part(number: &str, unit: &str, besides: &[(&str, u64)]) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return Err(DurationError::Malformed);
    }
    if unit.is_empty() {
        return Err(DurationError::MissingUnit);
    }
    let unknown = || DurationError::UnknownUnit(unit.chars().take(20).collect());
    let (_, factor) = UNITS.iter().chain(besides).find(|(name, _)| *name == unit).ok_or_else(unknown)?;
    let factor = u128::from(*factor);
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError::TooLong)? };
    // More digits than these are worth less than a nanosecond of the longest unit.
    let fraction = fraction.get(..fraction.len().min(18)).unwrap_or_default();
    let parts = fraction
        .bytes()
        .fold((0_u128, 1_u128), |(sum, scale), digit| (sum * 10 + u128::from(digit.saturating_sub(b'0')), scale * 10));
    Ok(u128::from(whole) * factor + parts.0 * factor / parts.1)
}

/// Days, hours, minutes or seconds, as zrepl writes intervals: `90m`, `1d`. Of what has fractions of a
/// second, as [`sum_of_units`].
pub(crate) fn one_unit(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 || duration.subsec_nanos() > 0 {
        return sum_of_units(duration);
    }
    let (unit, name) = [(86_400, "d"), (3600, "h"), (60, "m")]
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit))
        .unwrap_or((1, "s"));
    format!("{}{name}", seconds / unit)
}

/// Hours and what is shorter, as Go writes durations: `1h30m`, `2s500ms`.
pub(crate) fn sum_of_units(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let nanoseconds = duration.subsec_nanos();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(nanoseconds / 1_000_000), "ms"),
        (u64::from(nanoseconds / 1000 % 1000), "us"),
        (u64::from(nanoseconds % 1000), "ns"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let text: String = parts.map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_they_are_read() {
        for (text, one, sum) in [
            ("0", "0s", "0s"),
            ("90s", "90s", "1m30s"),
            ("90m", "90m", "1h30m"),
            ("1w", "7d", "168h"),
            ("2500ms", "2s500ms", "2s500ms"),
            ("30ns", "30ns", "30ns"),
            ("1h1us", "1h1us", "1h1us"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!((one_unit(duration).as_str(), sum_of_units(duration).as_str()), (one, sum));
            assert_eq!((parse(one), parse(sum)), (Ok(duration), Ok(duration)));
        }
    }

    #[test]
    fn both_syntaxes_are_read() {
        let cases = [
            ("10m", 600_000),
            ("90s", 90_000),
            ("1d", 86_400_000),
            ("1w", 604_800_000),
            (" 10 m ", 600_000),
            ("+1m", 60_000),
            ("007s", 7_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("2500ms", 2_500),
            ("0", 0),
            ("-0s", 0),
            ("1d12h", 129_600_000),
            ("5.s", 5_000),
        ];
        for (text, milliseconds) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(parse("1µs"), Ok(Duration::from_micros(1)));
        assert_eq!(parse("30ns"), Ok(Duration::from_nanos(30)));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let unknown = |unit: &str| DurationError::UnknownUnit(unit.to_owned());
        let cases = [
            ("10", DurationError::MissingUnit),
            ("1h30", DurationError::MissingUnit),
            ("-1m", DurationError::Negative),
            ("10M", unknown("M")),
            ("10min", unknown("min")),
            ("1_0m", unknown("_")),
            ("1y", unknown("y")),
            ("", DurationError::Malformed),
            ("m", DurationError::Malformed),
            ("1.2.3s", DurationError::Malformed),
            (".s", DurationError::Malformed),
            ("293y", unknown("y")),
            ("99999w", DurationError::TooLong),
            ("99999999999999999999999s", DurationError::TooLong),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
