//! Wall-clock time through a handle.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// How often a long sleep looks at the wall clock again, so that a suspended machine or a clock that
/// was set does not oversleep. Ten seconds is zrepl's default.
const RECHECK: Duration = Duration::from_secs(10);

/// Tells the time. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::new(Timestamp::now)
    }

    /// Somebody else's clock.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }

    /// Sleeps until the wall clock shows `deadline`, however often it is set meanwhile.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        self.sleep_within(Timestamp::MIN, deadline).await;
    }

    /// Sleeps until the wall clock shows `deadline` or, because it was set back, less than `earliest`.
    pub async fn sleep_within(&self, earliest: Timestamp, deadline: Timestamp) {
        loop {
            let now = self.now();
            let left = Duration::try_from(deadline.duration_since(now)).unwrap_or(Duration::ZERO);
            if left.is_zero() || now < earliest {
                return;
            }
            tokio::time::sleep(left.min(RECHECK)).await;
        }
    }
}
