//! What a person wants to see of a report, and how times are written.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use regex::Regex;

use super::rate::JobRates;
use super::text::span;

/// How to look at a job.
pub(crate) struct Look<'a> {
    pub(crate) now: Timestamp,
    pub(crate) zone: &'a TimeZone,
    pub(crate) filter: &'a Filter,
    pub(crate) show: Show,
    pub(crate) rates: &'a JobRates,
}

/// Which filesystems to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Show {
    /// Those that something is or was done for; the others are counted.
    #[default]
    Relevant,
    All,
    /// Those with something wrong.
    Problems,
}

impl Look<'_> {
    /// The time of day, with the date unless that is today's.
    pub(crate) fn time(&self, at: Timestamp) -> String {
        let (then, today) = (at.to_zoned(self.zone.clone()), self.now.to_zoned(self.zone.clone()));
        let form = if then.date() == today.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        then.strftime(form).to_string()
    }

    /// Seconds since then.
    pub(crate) fn since(&self, at: Timestamp) -> i64 {
        self.now.duration_since(at).as_secs()
    }

    /// `3m 4s ago`, `in 2h`.
    pub(crate) fn relative(&self, at: Timestamp) -> String {
        match self.since(at) {
            0 => "now".to_owned(),
            past @ 1.. => format!("{} ago", span(past)),
            future => format!("in {}", span(-future)),
        }
    }

    /// Whether more than what is relevant is wanted.
    pub(crate) fn wants_all(&self) -> bool {
        self.show == Show::All || (self.show == Show::Relevant && !self.filter.is_empty())
    }
}

/// Which names to look at: a regular expression, or what is none taken literally.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    text: String,
    pattern: Option<Regex>,
    problem: Option<String>,
}

impl Filter {
    pub(crate) fn new(text: &str) -> Filter {
        if text.is_empty() {
            return Filter::default();
        }
        match Regex::new(text) {
            Ok(pattern) => Filter { text: text.to_owned(), pattern: Some(pattern), problem: None },
            Err(error) => Filter { text: text.to_owned(), pattern: None, problem: Some(reason(&error)) },
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Why it is no regular expression.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.pattern.as_ref().map_or_else(|| name.contains(&self.text), |pattern| pattern.is_match(name))
    }
}

/// The last line says what is wrong, the others point at it.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_expression_is_looked_for_literally() {
        let filter = Filter::new("home|mail$");
        assert!(filter.matches("p/home/a") && filter.matches("p/mail") && !filter.matches("p/mail/x"));
        let filter = Filter::new("a(b");
        assert_eq!(filter.problem(), Some("unclosed group"));
        assert!(filter.matches("xa(b") && !filter.matches("ab"));
        assert!(Filter::new("").matches("anything"));
    }
}
