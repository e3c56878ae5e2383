//! The world's time: tokio's paused clock, plus the jumps of the wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daemon::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use model::UnixTime;
use tokio::time::Instant;

/// Where the wall clock stands when a world begins: 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// Reads and sets the clock. Clones are the same clock.
#[derive(Clone)]
pub struct SimTime {
    start: Instant,
    jumped_millis: Arc<AtomicI64>,
}

impl SimTime {
    /// A clock that starts now. Only within a tokio runtime whose time is paused.
    pub fn start() -> Self {
        Self { start: Instant::now(), jumped_millis: Arc::default() }
    }

    /// How long the world exists, whatever the wall clock says.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        let jumped = SignedDuration::from_millis(self.jumped_millis.load(Ordering::Relaxed));
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap_or_default();
        START.saturating_add(elapsed + jumped).unwrap_or(START)
    }

    /// The wall clock in the unit of ZFS.
    pub fn unix(&self) -> UnixTime {
        UnixTime(self.now().as_second())
    }

    /// Sets the wall clock forward or back.
    pub fn jump(&self, by: SignedDuration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(0);
        self.jumped_millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// The handle for the daemon.
    pub fn clock(&self) -> Clock {
        let time = self.clone();
        Clock::new(move || time.now())
    }
}
