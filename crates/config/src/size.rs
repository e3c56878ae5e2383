//! Sizes and rates as text: `10 MiB`, `100 Mb`. A small `b` is bits, a large one bytes.

use thiserror::Error;

pub(crate) const UNITS: [(&str, f64); 9] = [
    ("", 1.0),
    ("K", 1e3),
    ("Ki", 1024.0),
    ("M", 1e6),
    ("Mi", 1_048_576.0),
    ("G", 1e9),
    ("Gi", 1_073_741_824.0),
    ("T", 1e12),
    ("Ti", 1_099_511_627_776.0),
];

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SizeError {
    #[error("the unit is missing")]
    MissingUnit,
    #[error("unknown unit {0:?}")]
    UnknownUnit(String),
    #[error("bits have to be a whole number")]
    FractionOfBit,
    #[error("too large")]
    TooLarge,
    #[error("not a size")]
    Malformed,
}

impl SizeError {
    /// What to write instead of `text`.
    pub(crate) fn hint(&self, text: &str) -> String {
        let number: String = text.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let number = if number.is_empty() { "10" } else { &number };
        match self {
            SizeError::MissingUnit if text.trim().starts_with('-') => "write `-1 B` for no limit".to_owned(),
            SizeError::MissingUnit => format!("write `{number} B`, `{number} KiB` or `{number} MiB`"),
            SizeError::UnknownUnit(unit) if unit.ends_with("/s") => {
                format!("leave out the `/s`: `{number} {}`", unit.trim_end_matches("/s"))
            }
            SizeError::UnknownUnit(unit) if unit.ends_with("bit") => {
                format!("bits are `{number} {}b`", unit.trim_end_matches("bit"))
            }
            _ => format!("write such as `{number} MiB` (bytes) or `{number} Mb` (bits)"),
        }
    }
}

/// Whole bytes, negative ones included; a rest of less than a byte is cut off.
pub(crate) fn parse_bytes(text: &str) -> Result<i64, SizeError> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '-' || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
    let value = parse_number(number);
    if unit.is_empty() {
        return Err(if value.is_some() { SizeError::MissingUnit } else { SizeError::Malformed });
    }
    let value = value.ok_or(SizeError::Malformed)?;
    if unit == "bit" && value.fract() != 0.0 {
        return Err(SizeError::FractionOfBit);
    }
    let bytes = value * bits_of(unit).ok_or_else(|| SizeError::UnknownUnit(unit.chars().take(20).collect()))? / 8.0;
    // Beyond this a float and an integer no longer mean the same; it is 8 PiB.
    if bytes.abs() > 9e15 {
        return Err(SizeError::TooLarge);
    }
    Ok(bytes.trunc() as i64)
}

/// The text for no limit.
pub(crate) const UNLIMITED: &str = "-1 B";

/// The text for so many bytes.
pub(crate) fn bytes(count: u64) -> String {
    format!("{count} B")
}

/// Digits with at most one point; the sign comes first.
fn parse_number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.') && digits.contains(|c: char| c.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

fn bits_of(unit: &str) -> Option<f64> {
    let (factor, bits) = match unit {
        "bit" => ("", 1.0),
        unit => unit.strip_suffix('B').map(|factor| (factor, 8.0)).or_else(|| Some((unit.strip_suffix('b')?, 1.0)))?,
    };
    UNITS.iter().find(|(name, _)| *name == factor).map(|(_, scale)| scale * bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes() {
        for (text, bytes) in [
            ("23 bit", 2),
            ("8bit", 1),
            ("1 B", 1),
            ("1 Kb", 125),
            ("1 Kib", 128),
            ("1 Mb", 125_000),
            ("1 Mib", 131_072),
            ("1 Gb", 125_000_000),
            ("1 Gib", 1 << 27),
            ("1 Tb", 125_000_000_000),
            ("1 Tib", 1 << 37),
            ("10MiB", 10 << 20),
            ("10 MiB", 10 << 20),
            ("10  MiB", 10 << 20),
            ("10.5 Kib", 1344),
            ("10.5Kib", 1344),
            (".5 MiB", 1 << 19),
            ("5. MiB", 5 << 20),
            ("10KB", 10_000),
            ("-1 B", -1),
            ("-1B", -1),
            ("0.5 B", 0),
            ("-0 B", 0),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for count in [0, 1, 131_072, 9_000_000_000_000_000 - 1] {
            assert_eq!(parse_bytes(&bytes(count)), Ok(count.cast_signed()));
        }
        assert_eq!(parse_bytes(UNLIMITED), Ok(-1));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        let unknown = |unit: &str| SizeError::UnknownUnit(unit.to_owned());
        for (text, error) in [
            ("1.5 bit", SizeError::FractionOfBit),
            ("10", SizeError::MissingUnit),
            ("-1", SizeError::MissingUnit),
            ("0", SizeError::MissingUnit),
            ("10 K", unknown("K")),
            ("10 kB", unknown("kB")),
            ("10 mb", unknown("mb")),
            ("10MiB/s", unknown("MiB/s")),
            ("10 Mbit", unknown("Mbit")),
            ("10 Mibit", unknown("Mibit")),
            ("1e3 B", unknown("e3 B")),
            ("1_000 B", unknown("_000 B")),
            ("+1 B", SizeError::Malformed),
            ("inf B", SizeError::Malformed),
            (" 10 B", SizeError::Malformed),
            ("10 B ", unknown("B ")),
            ("B", SizeError::Malformed),
            ("- B", SizeError::Malformed),
            ("1-1 B", SizeError::Malformed),
            ("1.1.1 B", SizeError::Malformed),
            ("", SizeError::Malformed),
            ("99999999 TiB", SizeError::TooLarge),
        ] {
            assert_eq!(parse_bytes(text), Err(error), "{text}");
        }
    }
}
