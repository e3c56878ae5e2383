//! The report as text, once.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::look::{Filter, Look, Show};
use super::seen::Seen;
use super::text::{Line, Role};
use super::view;

/// All jobs, or one, one after the other. None if there is no such job.
pub(crate) fn lines(
    all: &[Seen],
    only: Option<&str>,
    show: Show,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<Vec<Line>> {
    let filter = Filter::default();
    let mut lines = Vec::new();
    for seen in all {
        let commands = seen.report.as_ref().map_or(&[][..], |report| &report.global.commands.active);
        for (name, job) in seen.jobs() {
            if only.is_some_and(|only| only != name && only != seen.full_name(name)) {
                continue;
            }
            let rates = seen.rates(name);
            let look = Look { now, zone, filter: &filter, show, rates: &rates };
            if !lines.is_empty() {
                lines.push(Line::default());
            }
            lines.extend(view::job(&seen.full_name(name), job, commands, &look));
        }
    }
    (only.is_none() || !lines.is_empty()).then_some(lines)
}

/// A line as it is written to a terminal.
pub(crate) fn colored(line: &Line) -> String {
    let mut text = String::new();
    for (role, piece) in line.spans() {
        match sequence(role) {
            Some(sequence) if !piece.trim().is_empty() => {
                text.push_str(sequence);
                text.push_str(&piece);
                text.push_str("\u{1b}[0m");
            }
            _ => text.push_str(&piece),
        }
    }
    text.trim_end().to_owned()
}

/// As the screen does.
fn sequence(role: Role) -> Option<&'static str> {
    match role {
        Role::Plain | Role::Label | Role::Good => None,
        Role::Title | Role::Warn => Some("\u{1b}[1m"),
        Role::Busy => Some("\u{1b}[94m"),
        Role::Bad => Some("\u{1b}[1;97;41m"),
        Role::Faint => Some("\u{1b}[2m"),
    }
}
