//! Data connections that wait for the next request.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::driver::Conversation;

/// How long one is kept without a request: far less than the peer waits.
pub(super) const KEPT_IDLE: Duration = Duration::from_secs(60);

/// Most that are kept. There are never more than steps under way at the same time.
const MOST: usize = 16;

/// Those of one client. They say by themselves that they live, and end with it.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<(Instant, Conversation)>>);

impl Kept {
    fn open(&self) -> MutexGuard<'_, Vec<(Instant, Conversation)>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(since, conversation)| since.elapsed() < KEPT_IDLE && !conversation.is_over());
        kept
    }

    /// The one that was used last.
    pub(super) fn take(&self) -> Option<Conversation> {
        self.open().pop().map(|(_, conversation)| conversation)
    }

    /// Keeps one whose last request is answered.
    pub(super) fn keep(&self, conversation: Conversation) {
        let mut kept = self.open();
        if kept.len() < MOST {
            kept.push((Instant::now(), conversation));
        }
    }
}
