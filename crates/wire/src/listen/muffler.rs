//! Keeps whoever knocks again and again from filling a log.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// The same of one source is told at most so often.
const QUIET: Duration = Duration::from_secs(60);

/// Sources that are told apart. Beyond them the others count as one.
const SOURCES: usize = 1000;

type Key = (String, &'static str);

/// What was told lately.
#[derive(Default)]
pub(super) struct Muffler {
    told: HashMap<Key, Told>,
}

struct Told {
    /// Quiet until then.
    until: Instant,
    /// Not told since.
    untold: u64,
}

impl Muffler {
    /// Whether to tell something of this source now, and how many of it were not told since the last.
    pub(super) fn admit(&mut self, source: &str, kind: &'static str, now: Instant) -> Option<u64> {
        let key = self.key(source, kind, now);
        let told = self.told.entry(key).or_insert(Told { until: now, untold: 0 });
        if now < told.until {
            told.untold += 1;
            return None;
        }
        told.until = now + QUIET;
        Some(std::mem::take(&mut told.untold))
    }

    fn key(&mut self, source: &str, kind: &'static str, now: Instant) -> Key {
        let key = (source.to_owned(), kind);
        if self.told.len() >= SOURCES && !self.told.contains_key(&key) {
            self.told.retain(|_, told| now < told.until);
            if self.told.len() >= SOURCES {
                return (String::new(), kind);
            }
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_is_told_once_a_minute_with_the_number_of_what_was_not() {
        let (mut muffler, start) = (Muffler::default(), Instant::now());
        assert_eq!(muffler.admit("a", "refused", start), Some(0));
        for second in 1..60 {
            assert_eq!(muffler.admit("a", "refused", start + Duration::from_secs(second)), None);
        }
        assert_eq!(muffler.admit("b", "refused", start), Some(0), "another source");
        assert_eq!(muffler.admit("a", "lost", start), Some(0), "another kind");
        assert_eq!(muffler.admit("a", "refused", start + QUIET), Some(59));
        assert_eq!(muffler.admit("a", "refused", start + QUIET * 2), Some(0));
    }

    #[test]
    fn a_scanner_with_many_addresses_takes_neither_memory_nor_the_log() {
        let (mut muffler, start) = (Muffler::default(), Instant::now());
        let told = (0..100_000).filter(|number| muffler.admit(&number.to_string(), "refused", start).is_some());
        assert_eq!(told.count(), SOURCES + 1);
        assert_eq!(muffler.told.len(), SOURCES + 1);
        assert_eq!(muffler.admit("later", "refused", start + QUIET), Some(0));
        assert_eq!(muffler.told.len(), 1, "what is quiet no longer is forgotten");
    }
}
