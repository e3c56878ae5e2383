//! The figures behind the bar: `'label'=value;warning;critical;min`.

use std::fmt::Write as _;

use super::ages::Limits;
use crate::status::text::span;

/// Figures of all jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    text: String,
    oldest_snapshot: Option<i64>,
    oldest_replicated: Option<i64>,
}

impl Figures {
    /// How many things went wrong.
    pub(super) fn errors(&mut self, job: &str, number: usize) {
        let _ = write!(self.text, " '{}_errors'={number};;;0", label(job));
    }

    /// The largest age in seconds, with its limits.
    pub(super) fn age(&mut self, job: &str, what: &str, seconds: i64, limits: Option<&Limits>) {
        let limit = |value: Option<i64>| match value {
            None | Some(i64::MAX) => String::new(),
            Some(value) => value.to_string(),
        };
        let (warning, critical) =
            (limit(limits.map(|limits| limits.warning)), limit(limits.map(|limits| limits.critical)));
        let _ = write!(self.text, " '{}_{what}_age'={seconds}s;{warning};{critical};0", label(job));
        let oldest = if what == "snapshot" { &mut self.oldest_snapshot } else { &mut self.oldest_replicated };
        *oldest = (*oldest).max(Some(seconds));
    }

    /// The oldest of all, for a line of good news.
    pub(super) fn words(&self) -> String {
        let words = |what: &str, age: Option<i64>| age.map(|age| format!(", {what} at most {} old", span(age)));
        let snapshots = words("newest snapshots", self.oldest_snapshot).unwrap_or_default();
        snapshots + &words("replicated ones", self.oldest_replicated).unwrap_or_default()
    }

    /// Behind the bar, which is left out if there are none.
    pub(super) fn line(&self) -> String {
        if self.text.is_empty() { String::new() } else { format!(" |{}", self.text) }
    }
}

/// Without what labels must not have.
fn label(job: &str) -> String {
    job.replace(['=', '\'', '|'], "_")
}
