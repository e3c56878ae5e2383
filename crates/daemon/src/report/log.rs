//! The log: which events become a line, at which level, in zrepl's formats and field names.

mod describe;
mod earlier;
mod entry;
mod format;
mod level;
mod local;
mod outlet;
mod phases;
mod remote;
mod running;
mod span;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::types::LogLevel;
use jiff::Timestamp;
use model::event::Event;

use crate::events::Reader;
use earlier::Earlier;
pub use entry::{Entry, Value};
pub use format::{Layout, Metadata};
pub(crate) use level::level_of;
pub use outlet::{StdoutLog, Terminal};
use phases::Phases;
pub use remote::{Complaints, Outlet, RemoteLog};

/// Puts events into words, once for all outlets.
pub struct Log {
    outlets: Vec<Arc<dyn Outlet>>,
    levels: Vec<LogLevel>,
    fold: Mutex<Fold>,
}

#[derive(Default)]
struct Fold {
    earlier: Earlier,
    /// None if nobody reads what is only of interest for debugging.
    phases: Option<Phases>,
}

impl Log {
    /// A log that these outlets write.
    pub fn new(outlets: Vec<Arc<dyn Outlet>>) -> Log {
        let levels: Vec<LogLevel> = outlets.iter().map(|outlet| outlet.level()).collect();
        let phases = levels.contains(&LogLevel::Debug).then(Phases::default);
        Log { outlets, levels, fold: Mutex::new(Fold { phases, ..Fold::default() }) }
    }

    fn write(&self, entry: &Entry) {
        self.outlets.iter().for_each(|outlet| outlet.write(entry));
    }
}

impl Reader for Log {
    fn read(&self, event: &Event) {
        // Locked until the lines are queued: each refers to those before it.
        let Fold { earlier, phases } = &mut *self.fold.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = earlier.entry(event, &self.levels) {
            self.write(&entry);
        }
        for entry in phases.iter_mut().flat_map(|phases| phases.entries(event, |job| earlier.span(job, event))) {
            self.write(&entry);
        }
    }
}

/// Waits until the outlets have written everything, each at most so long. What is left out of one is told by the
/// first one; the answer is what is left out of that, for a person.
pub fn finish(outlets: &[Arc<dyn Outlet>], limit: Duration) -> Option<String> {
    let missing = |outlet: &Arc<dyn Outlet>| {
        let left = outlet.flush(limit);
        let kind = outlet.kind();
        (left > 0).then(|| format!("the last {left} log lines are missing in the {kind} outlet, which was too slow"))
    };
    let (first, others) = outlets.split_first()?;
    for message in others.iter().filter_map(missing) {
        first.write(&Entry::of_the_log(Timestamp::now(), message));
    }
    missing(first)
}

#[cfg(test)]
mod fields_tests;
#[cfg(test)]
mod tests;
