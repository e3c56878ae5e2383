//! Lines of `trace.data`: what begins and ends in a job, and how long it took. They follow what the activity
//! trace draws. Commands are left out, whose own lines say the same.

use std::collections::HashMap;
use std::time::Duration;

use config::types::LogLevel;
use jiff::Timestamp;
use model::JobName;
use model::event::Event;

use super::entry::{Entry, Line, line};
use crate::report::trace::{Mark, Place, Spans};

/// What is open.
#[derive(Default)]
pub(super) struct Phases {
    spans: Spans,
    open: HashMap<Place, Vec<Phase>>,
}

struct Phase {
    at: Timestamp,
    /// As in other lines of that time.
    span: String,
    /// The same with names.
    name: String,
}

impl Phases {
    /// The lines for what an event begins and ends, whose own line has that span.
    pub(super) fn entries(&mut self, event: &Event, span: impl Fn(&JobName) -> String) -> Vec<Entry> {
        // Of the daemon itself there are only commands.
        let Some(job) = &event.job else { return Vec::new() };
        let mut entries = Vec::new();
        for mark in self.spans.follow(event) {
            let told = match mark {
                Mark::Begin(place, at, name, _) => self.begun(job, place, Phase { at, span: span(job), name }),
                Mark::End(place, at, _) => self.ended(place, at),
                Mark::Job(..) | Mark::Lane(..) | Mark::Instant(..) => None,
            };
            entries.extend(told.map(|(span, line)| entry(event, span, line)));
        }
        entries
    }

    fn begun(&mut self, job: &JobName, place: Place, phase: Phase) -> Option<(String, Line)> {
        let around = self.spans.around(place)?;
        let open = self.open.entry(place).or_default();
        let name = match open.last() {
            Some(outer) => format!("{}.{}", outer.name, phase.name),
            None => {
                let names = around.into_iter().chain([phase.name.as_str()]);
                names.fold(format!("zrepl${job}${job}"), |names, name| names + "." + name)
            }
        };
        let told = (phase.span.clone(), line("trace.data", format!("begin span {name}")));
        open.push(Phase { name, ..phase });
        Some(told)
    }

    fn ended(&mut self, place: Place, at: Timestamp) -> Option<(String, Line)> {
        let Phase { at: since, span, name } = self.open.get_mut(&place)?.pop()?;
        // None if the clock was set back.
        let took = Duration::try_from(at.duration_since(since)).unwrap_or_default();
        Some((span, line("trace.data", format!("finished span {name}")).with("duration_s", took)))
    }
}

fn entry(event: &Event, span: String, line: Line) -> Entry {
    let Line { subsystem, message, fields, also } = line;
    let (at, level, job) = (event.at, LogLevel::Debug, event.job.clone());
    Entry { at, level, job, subsystem, span: Some(span), message, fields, also }
}
