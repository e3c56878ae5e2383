//! How long to wait before trying again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::clock::Clock;
use crate::limits::{BACK_OFF_FIRST, BACK_OFF_MAX};

/// The wait before try number `tries + 1`: doubles each time up to a cap, less up to a half of it, so
/// that jobs which failed together do not come back together. The clock is the only randomness, so
/// that a simulation that owns it repeats itself.
pub(super) fn back_off(tries: u32, clock: &Clock) -> Duration {
    let doubled = BACK_OFF_FIRST.saturating_mul(1u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
    let wait = doubled.min(BACK_OFF_MAX);
    let mut hash = DefaultHasher::new();
    (clock.now().as_nanosecond(), tries).hash(&mut hash);
    let part = u32::try_from(hash.finish() % 1000).unwrap_or(0);
    wait - wait / 2 * part / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[test]
    fn waits_double_up_to_a_cap() {
        let clock = Clock::new(|| Timestamp::UNIX_EPOCH);
        for (tries, most) in [(1, 2), (2, 4), (3, 8), (5, 32), (6, 60), (40, 60), (u32::MAX, 60)] {
            let most = Duration::from_secs(most);
            let wait = back_off(tries, &clock);
            assert!(wait <= most && wait >= most / 2, "{tries}: {wait:?}");
        }
    }
}
