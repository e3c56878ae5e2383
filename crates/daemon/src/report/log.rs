//! The log: which events become a line, at which level, in zrepl's formats and field names.

mod describe;
mod earlier;
mod entry;
mod format;
mod level;
mod local;
mod outlet;
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
pub use remote::{Complaints, Outlet, RemoteLog};

/// Puts events into words, once for all outlets.
pub struct Log {
    outlets: Vec<Arc<dyn Outlet>>,
    levels: Vec<LogLevel>,
    earlier: Mutex<Earlier>,
}

impl Log {
    /// A log that these outlets write.
    pub fn new(outlets: Vec<Arc<dyn Outlet>>) -> Log {
        let levels = outlets.iter().map(|outlet| outlet.level()).collect();
        Log { outlets, levels, earlier: Mutex::default() }
    }
}

impl Reader for Log {
    fn read(&self, event: &Event) {
        // Locked until the line is queued: each refers to those before it.
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = earlier.entry(event, &self.levels) {
            self.outlets.iter().for_each(|outlet| outlet.write(&entry));
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
