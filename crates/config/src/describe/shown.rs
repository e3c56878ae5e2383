//! Defaults as they would be written.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use model::naming::Zone;

use crate::words::Words;

/// A default as it would be written.
pub(crate) trait Shown {
    /// None if leaving the key out cannot be put into words.
    fn shown(&self) -> Option<String>;
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(Shown::shown)
    }
}

impl Shown for bool {
    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Shown for String {
    fn shown(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Shown for NonZeroUsize {
    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// Bytes, in the largest unit that has no fraction.
impl Shown for NonZeroU64 {
    fn shown(&self) -> Option<String> {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"), (0, "B")];
        let (shift, unit) = units.into_iter().find(|(shift, _)| self.trailing_zeros() >= *shift)?;
        Some(format!("{} {unit}", self.get() >> shift))
    }
}

/// In the largest unit that has no fraction.
impl Shown for Duration {
    fn shown(&self) -> Option<String> {
        let nanoseconds = self.as_nanos();
        let units = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1, "ns"),
        ];
        let (length, unit) = units.into_iter().find(|(length, _)| nanoseconds.is_multiple_of(*length))?;
        Some(format!("{}{unit}", nanoseconds / length))
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

impl<T: Words> Shown for T {
    fn shown(&self) -> Option<String> {
        self.word().map(str::to_owned)
    }
}

impl Shown for Zone {
    fn shown(&self) -> Option<String> {
        match self {
            Zone::Utc => Some("UTC".to_owned()),
            Zone::Local(_) => Some("Local".to_owned()),
            Zone::Named(zone) => zone.iana_name().map(str::to_owned),
        }
    }
}
