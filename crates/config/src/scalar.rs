//! What plain scalars mean in YAML 1.1, as the files that exist were written for it.

use crate::tree::Scalar;

/// `true`, `yes`, `y`, `on` and their opposites; none for anything else, quoted ones included.
pub(crate) fn as_bool(scalar: &Scalar) -> Option<bool> {
    match scalar.text.as_str() {
        _ if !scalar.plain => None,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "y" | "Y" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "n" | "N" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// A number, and whether it was written in a way that a reader may take for another one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Integer {
    pub(crate) value: i64,
    pub(crate) surprise: Option<&'static str>,
}

/// Decimal, `0x`, `0b`, `0o`, octal by a leading zero, with `_` between digits; a fraction is cut off.
pub(crate) fn as_integer(scalar: &Scalar) -> Option<Integer> {
    if !scalar.plain {
        return None;
    }
    let text = scalar.text.replace('_', "");
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text.as_str()),
    };
    let sign = if negative { "-" } else { "" };
    let plain = |radix, digits: &str| {
        let digits = (!digits.starts_with(['-', '+'])).then(|| format!("{sign}{digits}"))?;
        i64::from_str_radix(&digits, radix).ok()
    };
    let prefixed = |prefixes: [&str; 2], radix| {
        prefixes.into_iter().find_map(|prefix| digits.strip_prefix(prefix)).and_then(|digits| plain(radix, digits))
    };
    let unsurprising = |value| Integer { value, surprise: None };
    let prefixed =
        prefixed(["0x", "0X"], 16).or_else(|| prefixed(["0o", "0O"], 8)).or_else(|| prefixed(["0b", "0B"], 2));
    if let Some(value) = prefixed {
        return Some(unsurprising(value));
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && let Some(value) = plain(8, digits)
    {
        return Some(Integer { value, surprise: (value != 0).then_some("a leading zero makes it octal") });
    }
    plain(10, digits).map(unsurprising).or_else(|| fraction(digits, negative))
}

/// `3.99` is 3, as it is for zrepl.
fn fraction(digits: &str, negative: bool) -> Option<Integer> {
    if !digits.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let value: f64 = digits.parse().ok()?;
    // Beyond 2^53 a float no longer stands for one number.
    let whole = (value.trunc() <= 9e15).then(|| value.trunc() as i64)?;
    let surprise = (value.fract() != 0.0).then_some("the fraction is cut off");
    Some(Integer { value: if negative { -whole } else { whole }, surprise })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true }
    }

    #[test]
    fn integers_are_read_as_zrepl_reads_them() {
        let cases = [
            ("5", 5),
            ("+5", 5),
            ("-5", -5),
            ("0x1f", 31),
            ("0b11", 3),
            ("0o10", 8),
            ("010", 8),
            ("1_0", 10),
            ("3.99", 3),
            ("2.9", 2),
            ("5.0", 5),
            ("08", 8),
            ("0", 0),
            ("-0x10", -16),
        ];
        for (text, value) in cases {
            assert_eq!(as_integer(&plain(text)).map(|integer| integer.value), Some(value), "{text}");
        }
        for wrong in ["1e3", "1:30", "", "-", "x", "99999999999999999999", "0x", "--5", "+-5", "0x-5", "1.2.3", "."] {
            assert_eq!(as_integer(&plain(wrong)), None, "{wrong}");
        }
        assert_eq!(as_integer(&Scalar { text: "5".to_owned(), plain: false }), None, "quoted");
    }

    #[test]
    fn what_may_surprise_is_said() {
        let surprise = |text| as_integer(&plain(text)).and_then(|integer| integer.surprise);
        assert_eq!(surprise("010"), Some("a leading zero makes it octal"));
        assert_eq!(surprise("3.5"), Some("the fraction is cut off"));
        assert_eq!(surprise("5.0"), None);
        assert_eq!(surprise("10"), None);
    }

    #[test]
    fn bools_are_those_of_yaml_1_1() {
        for text in ["true", "Yes", "y", "ON"] {
            assert_eq!(as_bool(&plain(text)), Some(true), "{text}");
        }
        for text in ["FALSE", "no", "N", "off"] {
            assert_eq!(as_bool(&plain(text)), Some(false), "{text}");
        }
        for text in ["tRUE", "1", "0", "", "maybe"] {
            assert_eq!(as_bool(&plain(text)), None, "{text}");
        }
        assert_eq!(as_bool(&Scalar { text: "true".to_owned(), plain: false }), None, "quoted");
    }
}
