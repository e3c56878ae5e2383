//! Regular expressions as zrepl takes them, in the words of the library that we have.
//!
//! The two mean the same by nearly everything. Where ours would take a text for something else or
//! refuse it, the text is escaped here: `\Q…\E`, characters by their octal number, braces that repeat
//! nothing, and the set operations that ours knows in classes.

use std::fmt::Write as _;

/// The same expression for our library. What is wrong stays wrong.
pub(crate) fn translated(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        rest = match first {
            '\\' => escape(after, &mut out),
            '[' => class(after, &mut out),
            '{' if !repeats(after) => literal(first, after, &mut out),
            _ => plain(first, after, &mut out),
        };
    }
    out
}

fn plain<'a>(character: char, after: &'a str, out: &mut String) -> &'a str {
    out.push(character);
    after
}

fn literal<'a>(character: char, after: &'a str, out: &mut String) -> &'a str {
    out.push('\\');
    plain(character, after, out)
}

/// What follows a `\`; gives back what comes after it.
fn escape<'a>(after: &'a str, out: &mut String) -> &'a str {
    let mut characters = after.chars();
    match characters.next() {
        Some('Q') => {
            let quoted = characters.as_str();
            let (quoted, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(quoted));
            rest
        }
        // Edges of words for us, nothing but themselves for zrepl.
        Some(angle @ ('<' | '>')) => plain(angle, characters.as_str(), out),
        Some(named @ ('p' | 'P' | 'x')) => {
            let _ = write!(out, "\\{named}");
            braces(characters.as_str(), out)
        }
        Some(other) => match octal(after) {
            Some((number, rest)) => {
                let _ = write!(out, "\\x{{{number:x}}}");
                rest
            }
            None => literal(other, characters.as_str(), out),
        },
        None => plain('\\', "", out),
    }
}

/// Up to three octal digits after `\`, which are the number of a character. One alone is a reference
/// back, which there are none of, except for a zero.
fn octal(digits: &str) -> Option<(u32, &str)> {
    let length = digits.bytes().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
    let (number, rest) = digits.split_at_checked(length)?;
    if length == 1 && number != "0" {
        return None;
    }
    Some((u32::from_str_radix(number, 8).ok()?, rest))
}

/// `{Greek}` after `\p`, `{41}` after `\x`: not a repetition, and not to be escaped.
fn braces<'a>(after: &'a str, out: &mut String) -> &'a str {
    match after.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
        Some((name, rest)) => {
            let _ = write!(out, "{{{name}}}");
            rest
        }
        None => after,
    }
}

/// Whether `{` and this are `{2}`, `{2,}` or `{2,3}`.
fn repeats(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else { return false };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

/// What follows the `[` of a class; gives back what comes after its `]`.
fn class<'a>(after: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let mut rest = after;
    if let Some(inside) = rest.strip_prefix('^') {
        rest = plain('^', inside, out);
    }
    let mut is_first = true;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        rest = match first {
            ']' if !is_first => return plain(']', after, out),
            '\\' => escape(after, out),
            '[' if after.starts_with(':') && after.contains(":]") => named(after, out),
            // The first of two at the beginning is itself, and the second makes a range; elsewhere
            // the second is the end of one.
            '-' if is_first && after.starts_with('-') => literal('-', after, out),
            '-' if out.ends_with('-') && !out.ends_with("\\-") => literal('-', after, out),
            ']' | '[' | '&' | '~' => literal(first, after, out),
            _ => plain(first, after, out),
        };
        is_first = false;
    }
    rest
}

/// `[:alpha:]` in a class.
fn named<'a>(after: &'a str, out: &mut String) -> &'a str {
    let (name, rest) = after.split_once(":]").unwrap_or((after, ""));
    let _ = write!(out, "[{name}:]");
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_to_zrepl() {
        for (text, matching, other) in [
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^\Qa.b", "a.b", "axb"),
            ("^a{$", "a{", "a"),
            ("^a{x}$", "a{x}", "ax"),
            ("^{a}$", "{a}", "a"),
            ("^a{,2}$", "a{,2}", "aa"),
            ("^a{2}$", "aa", "a{2}"),
            ("^a{2,}$", "aaa", "a"),
            ("^a{2,3}$", "aaa", "aaaa"),
            ("^[[]$", "[", "a"),
            ("^[a[]$", "[", "b"),
            ("^[a&&b]$", "&", "c"),
            ("^[a&&b]$", "a", "c"),
            ("^[a~~b]$", "~", "c"),
            ("^[]a]$", "]", "b"),
            ("^[^]a]$", "b", "]"),
            ("^[--a]$", "A", "b"),
            ("^[+--]$", ",", "."),
            ("^[a-]$", "-", "b"),
            ("^[[:alpha:]_]$", "_", "1"),
            (r"^\<$", "<", ""),
            (r"^\x{41}\x42$", "AB", "ab"),
            (r"^\p{Greek}?a$", "a", "b"),
            (r"^[\p{Greek}\]a]$", "]", "b"),
            (r"^[\d_]+$", "1_", "a"),
            (r"^\123\60$", "S0", "123"),
            (r"^\1234$", "S4", "S"),
            (r"^\12$", "\n", "12"),
            (r"^\08$", "\08", "8"),
            (r"^\0$", "\0", "0"),
            (r"^\777$", "\u{1ff}", "?7"),
            (r"^[\101-\103]+$", "ABC", "D"),
            (r"^a\101*$", "aAA", "a101"),
        ] {
            let regex = regex::Regex::new(&translated(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(regex.is_match(matching), "{text} {matching}");
            assert!(!regex.is_match(other), "{text} {other}");
        }
    }

    #[test]
    fn what_is_wrong_stays_wrong() {
        for text in [
            "(", "[", "[a", "*", "\\", "a{2,1}", "[b-a]", "[a--b]", "a)", r"\1", r"\8", r"\19", r"[\7]", r"\p{No",
            "[[:alpha",
        ] {
            assert!(regex::Regex::new(&translated(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn ordinary_expressions_stay_as_they_are() {
        for text in ["^zrepl_.*", r"^zrepl_\d{8}_\d{6}_000$", "(a|b)+[a-z0-9_-]", "(?i)manual", "ä"] {
            assert_eq!(translated(text), text);
        }
    }
}
