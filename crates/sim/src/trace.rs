//! What happened in a world, line by line: operations, faults, events, what the user did.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::time::SimTime;

/// The lines so far. A world that is watched prints them as they come.
pub struct Trace {
    time: SimTime,
    print: bool,
    lines: Mutex<Vec<String>>,
}

impl Trace {
    /// An empty trace.
    pub fn new(time: SimTime, print: bool) -> Self {
        Self { time, print, lines: Mutex::default() }
    }

    /// Adds a line, with the time. `who` is a machine's letter, or blank for the world itself.
    pub fn tell(&self, who: impl std::fmt::Display, what: impl std::fmt::Display) {
        let mut line = String::new();
        let elapsed = self.time.elapsed();
        // Writing to a String cannot fail.
        let _ = write!(line, "{:>7}.{:03} {who:1} {what}", elapsed.as_secs(), elapsed.subsec_millis());
        if self.print {
            println!("{line}");
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// All lines.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
