//! Counts how connections have ended, for the metrics of the process.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How the data connections of this process have ended, on whichever side of them it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shutdowns {
    /// How many.
    pub ended: u64,
    /// From when an end was wanted until the connection was gone, all together.
    pub took: Duration,
    /// The part of it in which the peer was waited for.
    pub drained_for: Duration,
    /// What still arrived in that time, without what a stream's owner took.
    pub drained_bytes: u64,
    /// Dropped because the peer did not end in time, or was silent or stuck.
    pub unfinished: u64,
    /// The last frame could not be written.
    pub write_errors: u64,
    /// The connection could not be closed.
    pub close_errors: u64,
}

static ALL: Mutex<Shutdowns> = Mutex::new(Shutdowns {
    ended: 0,
    took: Duration::ZERO,
    drained_for: Duration::ZERO,
    drained_bytes: 0,
    unfinished: 0,
    write_errors: 0,
    close_errors: 0,
});

/// Those so far.
pub fn shutdowns() -> Shutdowns {
    *ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one, or a part of one.
pub(super) fn count(more: &Shutdowns) {
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    all.ended += more.ended;
    all.took += more.took;
    all.drained_for += more.drained_for;
    all.drained_bytes += more.drained_bytes;
    all.unfinished += more.unfinished;
    all.write_errors += more.write_errors;
    all.close_errors += more.close_errors;
}
