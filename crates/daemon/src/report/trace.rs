//! The activity trace: what begins and ends, in the format of Chrome's trace viewer. A fold of the events,
//! as log and status are. It knows what is open at the moment, and nothing of what has ended.

mod json;
mod outlet;
mod spans;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::event::Event;

pub(super) use self::json::{Mark, Place};
pub(super) use self::spans::Spans;
use crate::events::Reader;
pub use outlet::{TraceFile, TraceStream};

/// Tells spans to whoever wants to know.
#[derive(Default)]
pub struct Trace {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    spans: Spans,
    outlets: Vec<Box<dyn Outlet>>,
}

/// Takes lines of a trace. Must not wait.
trait Outlet: Send {
    /// One event, a JSON object. False once nobody reads any longer.
    fn take(&mut self, line: &str) -> bool;

    /// Nothing comes any longer; returns when everything is written, or after so long.
    fn close(&mut self, _limit: Duration) {}
}

impl Trace {
    /// Writes into a file from now on.
    pub fn into_file(&self, file: TraceFile) {
        self.attach(Box::new(file));
    }

    /// What a client reads from now on, beginning with what is open.
    pub fn stream(&self) -> TraceStream {
        let (outlet, stream) = outlet::stream();
        self.attach(Box::new(outlet));
        stream
    }

    /// Ends the trace: what is written can be read when this returns, which takes no longer than that.
    pub fn close(&self, limit: Duration) {
        let outlets = std::mem::take(&mut self.state().outlets);
        outlets.into_iter().for_each(|mut outlet| outlet.close(limit));
    }

    fn attach(&self, mut outlet: Box<dyn Outlet>) {
        let mut state = self.state();
        let open = state.spans.open();
        if open.iter().all(|line| outlet.take(line)) {
            state.outlets.push(outlet);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader for Trace {
    fn read(&self, event: &Event) {
        let State { spans, outlets } = &mut *self.state();
        let marks = spans.follow(event);
        if outlets.is_empty() {
            return;
        }
        let lines: Vec<String> = marks.iter().map(|mark| mark.to_json().to_string()).collect();
        outlets.retain_mut(|outlet| lines.iter().all(|line| outlet.take(line)));
    }
}

#[cfg(test)]
mod tests;
