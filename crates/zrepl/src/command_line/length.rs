//! Lengths of time as all commands take them.

use std::time::Duration;

use config::duration::{DurationError, parse_with};

/// As in the configuration, with years besides: `90s`, `0.5s`, `1h30m`, `1d12h`, `1y`.
///
/// # Errors
/// What is wrong with the text, and how it is written.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    parse_with(text, &[("y", YEAR)]).map_err(|error| match error {
        DurationError::MissingUnit => "it has no unit: write ms, s, m, h, d, w or y after the number".to_owned(),
        DurationError::UnknownUnit(unit) => format!("{unit:?} is no unit: write ms, s, m, h, d, w or y"),
        DurationError::Negative | DurationError::TooLong | DurationError::Malformed => {
            format!("{error}: write it as in 500ms, 1.5h, 1h30m or 2d")
        }
    })
}

/// In nanoseconds; of 365 days.
const YEAR: u64 = 365 * 86_400 * 1_000_000_000;

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
            ("0.5y1w", 16_372_800_000),
            ("0s", 0),
        ] {
            assert_eq!(length(text).map(|length| length.as_millis()), Ok(millis), "{text}");
        }
        assert_eq!(length("1µs"), Ok(Duration::from_micros(1)));
        for text in ["", "s", ".s", "1", "90", "-1s", "1.2.3s", "1q", "1dd", "1s1", "1\u{e9}"] {
            assert!(length(text).is_err(), "{text}");
        }
        for text in ["293y", "99999999999999999999s", "18446744073709551615y", "199y199y"] {
            assert!(length(text).is_err(), "{text}");
        }
    }
}
