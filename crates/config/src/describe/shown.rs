//! Defaults as they would be written.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use model::naming::Zone;
use model::plan::replication::InitialReplication;
use model::plan::resolve::{WhenDiverged, WhenNothingInCommon, WhenTokenIsDead};
use model::protection::ProtectionStrategy;

use crate::types::{LogNet, PlaceholderEncryption, SyslogFacility};

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

impl Shown for ProtectionStrategy {
    fn shown(&self) -> Option<String> {
        let word = match self {
            ProtectionStrategy::Resumability => "guarantee_resumability",
            ProtectionStrategy::Incremental => "guarantee_incremental",
            ProtectionStrategy::Nothing => "guarantee_nothing",
        };
        Some(word.to_owned())
    }
}

impl Shown for InitialReplication {
    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Shown for WhenDiverged {
    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Shown for WhenTokenIsDead {
    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Shown for WhenNothingInCommon {
    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Shown for PlaceholderEncryption {
    fn shown(&self) -> Option<String> {
        let word = match self {
            PlaceholderEncryption::Unspecified => "unspecified",
            PlaceholderEncryption::Inherit => "inherit",
            PlaceholderEncryption::Off => "off",
        };
        Some(word.to_owned())
    }
}

impl Shown for LogNet {
    fn shown(&self) -> Option<String> {
        Some(self.word().to_owned())
    }
}

impl Shown for SyslogFacility {
    fn shown(&self) -> Option<String> {
        let names = SyslogFacility::NAMES.into_iter();
        names.filter(|(_, code)| *code == self.code).map(|(name, _)| name.to_owned()).next()
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
