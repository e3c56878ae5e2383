//! Regular expressions, compiled once each: many jobs have the same rules, and a compiled pattern
//! takes more memory than everything else that a job says.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

use crate::dialect::translated;

/// What one compiled pattern may take. Names are short ASCII, and so are the patterns for them.
const MAX_PATTERN_BYTES: usize = 256 << 10;
/// Together with the limit for each, what all of them may take.
const MAX_PATTERNS: usize = 1000;

/// The patterns of one configuration.
#[derive(Default)]
pub(crate) struct Patterns {
    known: RefCell<HashMap<String, Result<Regex, String>>>,
}

impl Patterns {
    /// The compiled pattern, or what is wrong with it.
    pub(crate) fn compile(&self, text: &str) -> Result<Regex, String> {
        let mut known = self.known.borrow_mut();
        if let Some(compiled) = known.get(text) {
            return compiled.clone();
        }
        if known.len() >= MAX_PATTERNS {
            return Err(format!("more than {MAX_PATTERNS} different ones in one configuration"));
        }
        let compiled =
            RegexBuilder::new(&translated(text)).size_limit(MAX_PATTERN_BYTES).build().map_err(|error| cause(&error));
        known.insert(text.to_owned(), compiled.clone());
        compiled
    }
}

/// The library's own excerpt of the pattern would only repeat ours.
fn cause(error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(_) = error {
        return format!("it takes more than {} KiB of memory", MAX_PATTERN_BYTES >> 10);
    }
    let error = error.to_string();
    error.rsplit("error: ").next().unwrap_or(&error).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_people_write_are_within_the_limit() {
        let patterns = Patterns::default();
        for text in [
            "^zrepl_.*",
            r"^zrepl_\d{8}_\d{6}_000$",
            r"^(hourly|daily|weekly)_\d{4}-\d{2}-\d{2}_\d{2}:\d{2}:\d{2}$",
            r"^\w+_\w+-\w+$",
            r"(?i)manual|keep",
        ] {
            assert!(patterns.compile(text).is_ok(), "{text}");
        }
        assert_eq!(patterns.compile(r"\w{200}").unwrap_err(), "it takes more than 256 KiB of memory");
    }

    #[test]
    fn there_is_a_limit_to_different_patterns_and_none_to_equal_ones() {
        let patterns = Patterns::default();
        for number in 0..MAX_PATTERNS {
            assert!(patterns.compile(&number.to_string()).is_ok());
        }
        assert!(patterns.compile("7").is_ok());
        let error = patterns.compile("one more").unwrap_err();
        assert_eq!(error, "more than 1000 different ones in one configuration");
    }
}
