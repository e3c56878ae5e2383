//! Data connections that wait for the next request: those that have served one, and those that were opened
//! ahead.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::client::take_leave;
use super::driver::Conversation;

/// How long one is kept without a request. The peer waits for twice as long, if it hears heartbeats.
pub(super) const KEPT_IDLE: Duration = Duration::from_secs(60);

/// Most that are kept. There are never more than steps under way at the same time.
const MOST: usize = 16;

/// Those of one client. They say by themselves that they live, and end with it.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<Waiting>>);

/// A connection on which nothing is asked.
pub(super) struct Waiting {
    pub(super) conversation: Conversation,
    /// Since when it waits, if it serves one request after the other. One that was opened ahead is for the
    /// step that follows, however long the one before takes.
    pub(super) kept: Option<Instant>,
}

impl Waiting {
    fn is_useful(&self) -> bool {
        self.kept.is_none_or(|since| since.elapsed() < KEPT_IDLE) && !self.conversation.is_over()
    }
}

impl Kept {
    fn open(&self) -> MutexGuard<'_, Vec<Waiting>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(Waiting::is_useful);
        kept
    }

    /// The one that was used last.
    pub(super) fn take(&self) -> Option<Waiting> {
        self.open().pop()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.open().is_empty()
    }

    /// Keeps one for the next request.
    pub(super) fn keep(&self, waiting: Waiting) {
        let mut kept = self.open();
        if kept.len() < MOST {
            kept.push(waiting);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        for Waiting { conversation, .. } in self.open().drain(..).filter(|waiting| waiting.kept.is_none()) {
            runtime.spawn(take_leave(conversation));
        }
    }
}
